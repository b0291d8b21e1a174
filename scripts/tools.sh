#!/usr/bin/env bash
# Prints the path of a development tool in its pinned version, building it into .tools/bin when it is not at hand:
#
#   "$(scripts/tools.sh golangci-lint)" run ./...
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:?name of a tool} in
golangci-lint) module=github.com/golangci/golangci-lint/v2/cmd/golangci-lint version=v2.15.0 ;;
govulncheck) module=golang.org/x/vuln/cmd/govulncheck version=v1.9.0 ;;
*) echo "tools: unknown tool $1" >&2 && exit 2 ;;
esac

# The version is in the name: a new pin is a new file, and an old one is never taken for it.
tool=$PWD/.tools/bin/$1-$version
if [[ ! -x $tool ]]; then
	# One that is installed already will do, if the toolchain says it is the same.
	installed=$(command -v "$1" || echo "$(go env GOPATH)/bin/$1")
	if [[ -x $installed && $(go version -m "$installed" | awk '$1 == "mod" { print $3 }') == "$version" ]]; then
		echo "$installed"
		exit 0
	fi
	echo "tools: building $1 $version, once" >&2
	building=$(mktemp -d)
	trap 'rm -rf "$building"' EXIT
	# Outside the workspace: the tool's dependencies are its own.
	GOWORK=off GOFLAGS='' GOBIN=$building go install "$module@$version" >&2
	mkdir -p "${tool%/*}"
	mv "$building/$1" "$tool"
fi
echo "$tool"
