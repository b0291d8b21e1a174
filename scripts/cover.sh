#!/usr/bin/env bash
# Prints the statement coverage of every package, lowest first, and fails when one that holds logic is under the
# limit. A statement counts when a test of its own module runs it, or, of the shared packages, one of a service that
# stands on them; not what a whole platform comes by in the end-to-end tests. Packages without logic of their own are
# listed in scripts/cover.exclude, each with its reason.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=${COVER_LIMIT:-80}
rm -rf coverage
mkdir coverage

while read -r dir; do
	[[ $dir != "$PWD/test" ]] || continue # nothing but end-to-end tests
	name=${dir#"$PWD"/}
	packages=./...
	[[ $name != services/* ]] || packages+=,github.com/agentflow/agentflow/pkg/...
	echo "cover $name" >&2
	profile=$PWD/coverage/${name//\//-}
	# The output goes to a file first: the exit code of go test counts, not that of a pipe.
	if ! (cd "$dir" && go test -timeout 20m -coverpkg="$packages" -coverprofile="$profile.txt" ./...) >"$profile.log"; then
		grep -v '^ok' "$profile.log" >&2 || true
		exit 1
	fi
done < <(go list -m -f '{{.Dir}}')

awk -v limit="$limit" '
	FILENAME ~ /exclude$/ { sub(/#.*/, ""); if ($1 != "") excluded[$1] = 1; next }
	/^mode:/ || /_easyjson.go:/ { next } # generated
	# file:from,to statements runs
	{ statements[$1] = $2; if ($3 > 0) run[$1] = 1 }
	END {
		for (block in statements) {
			name = block
			sub(/^github.com\/agentflow\/agentflow\//, "", name)
			sub(/\/[^\/]*$/, "", name)
			all[name] += statements[block]
			if (block in run) covered[name] += statements[block]
		}
		for (name in all) {
			percent = 100 * covered[name] / all[name]
			skip = 0
			for (pattern in excluded) if (name ~ ("^" pattern "$")) skip = 1
			verdict = skip ? "excluded" : percent < limit ? "UNDER " limit "%" : "ok"
			printf "%6.1f%%  %-55s %s\n", percent, name, verdict | "sort -n"
			if (verdict ~ /^UNDER/) low++
			seen++
		}
		close("sort -n")
		if (!seen) { print "cover: no coverage in the profiles" > "/dev/stderr"; exit 1 }
		if (low) { printf "cover: %d package(s) under %d%%\n", low, limit > "/dev/stderr"; exit 1 }
	}
' scripts/cover.exclude coverage/*.txt
