#!/usr/bin/env bash
# Runs golangci-lint over every module of the workspace, and checks the shell scripts.
#
#   scripts/lint.sh [fmt]      fmt: rewrite files instead of complaining
set -euo pipefail
cd "$(dirname "$0")/.."

linter=$(scripts/tools.sh golangci-lint)

# ./... stops at module borders, so each module of go.work is named.
patterns=()
while read -r dir; do
	dir=.${dir#"$PWD"}
	# A module without packages yet is no reason to fail.
	if [[ -n $(go list "$dir/..." 2>/dev/null) ]]; then
		patterns+=("$dir/...")
	fi
done < <(go list -m -f '{{.Dir}}')

if [[ ${1:-} == fmt ]]; then
	exec "$linter" fmt "${patterns[@]}"
fi

bash -n scripts/*.sh deploy/k8s/*.sh .ci/run
if command -v shellcheck >/dev/null; then
	shellcheck scripts/*.sh deploy/k8s/*.sh .ci/run
fi
"$linter" config verify
"$linter" run "${patterns[@]}"
# Not in the workspace: see its go.mod.
(cd deploy/k8s && GOWORK=off "$linter" run ./...)
