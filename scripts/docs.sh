#!/usr/bin/env bash
# Writes docs/configuration.md: what each service says about its variables when asked for --help.
set -euo pipefail
cd "$(dirname "$0")/.."

page=docs/configuration.md
{
	cat <<'END'
# Configuration

Every service reads its configuration from the environment, checks all of it at once, and lists every problem before
it exits with code 2. An empty variable counts as not set unless its help says otherwise. `make docs` writes this page
from the binaries.
END
	for service in gateway catalog executor limiter; do
		[[ -x bin/$service ]] || continue
		echo
		echo "## $service"
		echo
		echo '```'
		# From the variables on: the lines before carry a version, which changes with every commit.
		"bin/$service" --help | sed -n '/^Environment:/,$p'
		echo '```'
	done
} >"$page.new"
mv "$page.new" "$page"
echo "docs: wrote $page"
