#!/usr/bin/env bash
# Asks the Go vulnerability database about everything the modules call.
set -euo pipefail
cd "$(dirname "$0")/.."

checker=$(scripts/tools.sh govulncheck)
failed=0
while read -r dir; do
	[[ -n $(go list "$dir/..." 2>/dev/null) ]] || continue
	echo "vuln: ${dir#"$PWD"/}"
	(cd "$dir" && "$checker" ./...) || failed=1
done < <(go list -m -f '{{.Dir}}')
exit "$failed"
