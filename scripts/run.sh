#!/usr/bin/env bash
# Starts the platform, runs a sample workflow through the REST API, and serves until Ctrl-C.
#
#   ONCE=1     stop after the sample
#   SAMPLE=F   workflow file to run, default examples/chat.json
#   DATA=DIR   data folder, default .run/data
#   HTTP=ADDR  address to listen on, default 127.0.0.1:8000
set -euo pipefail
cd "$(dirname "$0")/.."

sample=${SAMPLE:-examples/chat.json}
mkdir -p .run
log=.run/up.log

args=(up --json --data "${DATA:-.run/data}")
if [[ -n ${HTTP:-} ]]; then args+=(--http "$HTTP"); fi

# A process group of its own (set -m): Ctrl-C reaches this script alone, which then asks for an orderly end, once.
ready=$(mktemp -u .run/ready.XXXXXX)
mkfifo "$ready"
set -m
bin/agentflow "${args[@]}" >"$ready" 2>"$log" &
pid=$!
set +m

stopping=0
stop() {
	if [[ $stopping -eq 0 ]]; then
		stopping=1
		kill -TERM "$pid" 2>/dev/null || true
	fi
	local code=0
	wait "$pid" || code=$?
	rm -f "$ready"
	return "$code"
}
trap 'echo; echo "stopping"; trap "" INT TERM HUP; stop; exit' INT TERM HUP
trap 'stop || true' EXIT

# One line of JSON when everything stands; nothing when it could not start.
exec 3<"$ready"
if ! read -r -t "${START_TIMEOUT:-180}" line <&3; then
	echo "run: the platform did not start; the end of $log:" >&2
	tail -n 20 "$log" >&2
	exit 1
fi
field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" <<<"$line"; }
url=$(field url)
key=$(field api_key)

echo "running $sample"
if command -v curl >/dev/null; then
	printf '{"workflow":%s,"initial_state":{"user_input":"Hello, AgentFlow!"}}' "$(<"$sample")" |
		curl -sS --fail-with-body "$url/workflows/execute" -H "X-API-Key: $key" -H 'Content-Type: application/json' -d @-
	echo
else
	bin/agentflow run "$sample" --url "$url" --key "$key" --set 'user_input=Hello, AgentFlow!'
fi

cat <<END

AgentFlow is up.

  API        $url
  docs       $url/docs
  tenant     $(field tenant)
  API key    $key
  admin key  $(field admin_key)
  NATS       $(field nats_url)
  Postgres   $(field database_url)
  Redis      $(field redis_url)
  log        $log

  curl -s $url/workflows -H 'X-API-Key: $key'

END

if [[ ${ONCE:-} == 1 ]]; then
	trap - EXIT
	stop
	exit
fi
echo "Ctrl-C stops it."
wait "$pid"
