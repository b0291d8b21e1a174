#!/usr/bin/env bash
# Makes the Secrets that the manifests refer to, of what `credentials` has written:
#
#   go run ./deploy/credentials --out keys --host nats --host nats.agentflow.svc
#   kubectl apply -f deploy/k8s/base/namespace.yaml
#   deploy/k8s/secrets.sh keys | kubectl apply -f -
#
# It prints them; nothing is kept. For Postgres and Redis elsewhere, write your URLs into keys/migrate/database-url,
# keys/catalog/database-url and keys/limiter/redis-url first.
set -euo pipefail

keys=${1:?folder that credentials has written}
namespace=${2:-agentflow}
for name in nats gateway catalog executor limiter migrate postgres redis; do
	kubectl create secret generic "agentflow-$name" --namespace "$namespace" --from-file="$keys/$name" --dry-run=client --output=yaml
	echo ---
done
