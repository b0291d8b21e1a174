# One image per service: docker build --build-arg SERVICE=gateway .
#
# SERVICE is gateway, catalog, executor, limiter, agentflow (the command line, for migrations) or credentials.
# The same source, VERSION and REVISION give the same binary, on whatever machine.

ARG GO_IMAGE=golang:1.26.8-bookworm
ARG BASE_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
COPY . .
ARG SERVICE
ARG VERSION=dev
ARG REVISION=unknown
ARG TARGETOS=linux
ARG TARGETARCH=amd64
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    case "$SERVICE" in \
      gateway|catalog|executor|limiter) main=./services/$SERVICE/cmd/$SERVICE ;; \
      agentflow) main=./cmd/agentflow ;; \
      credentials) main=./deploy/credentials ;; \
      *) echo "SERVICE must be gateway, catalog, executor, limiter, agentflow or credentials, not '$SERVICE'" >&2; exit 2 ;; \
    esac && \
    daemon=github.com/agentflow/agentflow/pkg/daemon && \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOTOOLCHAIN=local \
      go build -trimpath -buildvcs=false -tags grpcnotrace -ldflags "-s -w -X $daemon.version=$VERSION -X $daemon.commit=$REVISION" \
      -o /out/service "$main"

# No shell and no package manager; the user is 65532, and nothing is ever written.
FROM ${BASE_IMAGE}
ARG SERVICE
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="AgentFlow ${SERVICE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/service /service
USER 65532:65532
ENTRYPOINT ["/service"]
