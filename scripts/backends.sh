#!/usr/bin/env bash
# Installs the stores that the tests and the single-process mode need, where they are missing, and libfaketime, with
# which a test moves the clock of one (on Linux alone):
#
#   scripts/backends.sh [postgres] [redis] [mariadb] [faketime]      all when none is named
#
# It starts nothing: tests and `agentflow up` run their own, in folders and on ports of their own.
set -euo pipefail

# have says whether the server itself is there; client packages bring pg_config without it.
have() {
	case $1 in
	postgres)
		command -v postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' ||
			[[ -x $(pg_config --bindir)/postgres ]]
		;;
	redis) command -v redis-server ;;
	mariadb) command -v mariadbd || command -v mysqld || [[ -x /usr/sbin/mariadbd ]] ;;
	faketime) [[ $(uname) != Linux ]] || compgen -G '/usr/lib/*/faketime/libfaketime.so.1' ;;
	esac >/dev/null 2>&1
}

as_root() {
	if [[ $(id -u) -eq 0 ]]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		echo "backends: run this as root: $*" >&2
		return 1
	fi
}

stores=("$@")
if [[ ${#stores[@]} -eq 0 ]]; then
	stores=(postgres redis mariadb faketime)
fi

declare -A package=([postgres]=postgresql [redis]=redis-server [mariadb]=mariadb-server [faketime]=libfaketime)
packages=()
for store in "${stores[@]}"; do
	if [[ -z ${package[$store]:-} ]]; then
		echo "backends: unknown store $store; there are ${!package[*]}" >&2
		exit 2
	fi
	have "$store" || packages+=("${package[$store]}")
done
if [[ ${#packages[@]} -eq 0 ]]; then
	exit 0
fi

echo "backends: installing ${packages[*]}" >&2
if ! command -v apt-get >/dev/null; then
	echo "backends: no apt-get here; install ${packages[*]} with this system's package manager" >&2
	exit 1
fi
as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 update
as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
	install -y --no-install-recommends "${packages[@]}" >&2

for store in "${stores[@]}"; do
	have "$store" || {
		echo "backends: $store is still missing" >&2
		exit 1
	}
done
