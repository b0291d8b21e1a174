#!/usr/bin/env bash
# Tidies the go.mod of every module, or checks that they are tidy:
#
#   scripts/tidy.sh check|write
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:?check or write} in
check) args=(-diff) ;;
write) args=() ;;
*) echo "tidy: check or write, not $1" >&2 && exit 2 ;;
esac

failed=0
while read -r dir; do
	# GOWORK=off: a module must stand on its own requirements, not on its neighbours'.
	if ! (cd "$dir" && GOWORK=off go mod tidy "${args[@]}"); then
		echo "tidy: ${dir#"$PWD"/} is not tidy; run make tidy" >&2
		failed=1
	fi
done < <(go list -m -f '{{.Dir}}' && echo "$PWD/deploy/k8s") # which is not in the workspace
exit "$failed"
