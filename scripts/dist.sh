#!/usr/bin/env bash
# Builds release archives for every platform, with checksums, in dist/. Same source, same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${VERSION:?} revision=${REVISION:?}
daemon=github.com/agentflow/agentflow/pkg/daemon
# Archives carry the time of the commit, not of the build.
stamp=@$(git log -1 --format=%ct 2>/dev/null || echo 0)

rm -rf dist
mkdir -p dist
for platform in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do
	os=${platform%/*} arch=${platform#*/}
	name=agentflow_${version}_${os}_${arch}
	for main in cmd/agentflow services/{gateway,catalog,executor,limiter}/cmd/{gateway,catalog,executor,limiter}; do
		[[ -f $main/main.go ]] || continue
		CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -trimpath -buildvcs=false -tags grpcnotrace \
			-ldflags "-s -w -X $daemon.version=$version -X $daemon.commit=$revision" -o "dist/$name/" "./$main"
	done
	cp LICENSE "dist/$name/"
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="$stamp" -C dist -cf - "$name" | gzip -n >"dist/$name.tar.gz"
	rm -rf "dist/${name:?}"
done
(cd dist && sha256sum -- *.tar.gz >SHA256SUMS && cat SHA256SUMS)
