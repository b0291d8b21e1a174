#!/usr/bin/env bash
# Prints the statement coverage of every package, lowest first, and fails when one that holds logic is under the
# limit. Packages without logic of their own are listed in scripts/cover.exclude, each with its reason.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=${COVER_LIMIT:-80}
mkdir -p coverage
report=coverage/report.txt

# The output goes to a file first: the exit code of go test counts, not that of a pipe.
if ! go test -timeout 20m -cover work >"$report"; then
	grep -v '^ok' "$report" >&2 || true
	exit 1
fi

awk -v limit="$limit" '
	FNR == NR {
		sub(/#.*/, "")
		if ($1 != "") excluded[$1] = 1
		next
	}
	match($0, /coverage: [0-9.]+%/) {
		percent = substr($0, RSTART + 10, RLENGTH - 11) + 0
		name = $1 == "ok" || $1 == "?" ? $2 : $1
		sub(/^github.com\/agentflow\/agentflow\//, "", name)
		skip = 0
		for (pattern in excluded) if (name ~ ("^" pattern "$")) skip = 1
		verdict = skip ? "excluded" : percent < limit ? "UNDER " limit "%" : "ok"
		printf "%6.1f%%  %-55s %s\n", percent, name, verdict | "sort -n"
		if (verdict ~ /^UNDER/) low++
		seen++
	}
	END {
		close("sort -n")
		if (!seen) { print "cover: no coverage in the report" > "/dev/stderr"; exit 1 }
		if (low) { printf "cover: %d package(s) under %d%%\n", low, limit > "/dev/stderr"; exit 1 }
	}
' scripts/cover.exclude "$report"
