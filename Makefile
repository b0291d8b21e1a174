# AgentFlow: every routine of this repository. `make` lists them.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

SERVICES := gateway catalog executor limiter
MODULES   = $(shell go list -m -f '{{.Dir}}')

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
REVISION ?= $(shell git rev-parse -q --verify HEAD 2>/dev/null || echo unknown)

daemon    := github.com/agentflow/agentflow/pkg/daemon
LDFLAGS    = -s -w -X $(daemon).version=$(VERSION) -X $(daemon).commit=$(REVISION)
# -buildvcs=false: the linker is told version and commit, and a clone that belongs to another user still builds.
# grpcnotrace: gRPC, which SDKs bring along, then has no debug pages, whose templates would keep every method linked.
GOBUILD    = CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags grpcnotrace -ldflags '$(LDFLAGS)'

# Seconds a whole test binary may take before its stacks are printed.
TEST_TIMEOUT ?= 10m
BENCH ?= .
BENCH_ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##### build and run

.PHONY: build
build: ## build bin/agentflow and a binary per service, static
	@for main in cmd/agentflow $(foreach s,$(SERVICES),services/$(s)/cmd/$(s)); do \
		if [[ -f $$main/main.go ]]; then echo "build bin/$${main##*/}"; $(GOBUILD) -o bin/ ./$$main; \
		else echo "skip $$main: it has no main.go" >&2; fi; \
	done

.PHONY: run
run: ## install what is missing, start the platform, run a sample workflow, serve until Ctrl-C (ONCE=1: stop after the sample)
	@scripts/backends.sh postgres redis
	@$(MAKE) --no-print-directory build
	@exec scripts/run.sh

##### test

.PHONY: test
test: ## all tests of all modules, with real Postgres, Redis and NATS
	@scripts/backends.sh
	go test -timeout $(TEST_TIMEOUT) -shuffle=on work
	cd deploy/k8s && GOWORK=off go test ./...

.PHONY: race
race: ## all tests under the race detector
	@scripts/backends.sh
	go test -race -timeout 20m -shuffle=on work

.PHONY: cover
cover: ## statement coverage of every package; fails when one that holds logic is under 80 %
	@scripts/backends.sh
	scripts/cover.sh

.PHONY: e2e
e2e: build ## end to end: real processes, two of each service, roll-outs, a NATS cluster
	@scripts/backends.sh
	go test -tags e2e -timeout 20m -count=1 -v ./test/e2e/... ./test/fleet/... ./deploy/...

.PHONY: chaos
chaos: build ## kill -9 and cut lines under load; nothing accepted is lost
	@scripts/backends.sh
	go test -tags chaos -timeout 30m -count=1 -v ./test/chaos/...

.PHONY: soak
soak: build ## ten minutes of load with checks for leaks
	@scripts/backends.sh
	AGENTFLOW_TEST_BINARIES='$(CURDIR)/bin' go test -tags soak -timeout 30m -count=1 -v ./test/load/...

.PHONY: bench
bench: microbench build ## micro-benchmarks, then the load benchmark (BENCH=regexp, BENCH_ARGS='--clients 64')
	@scripts/backends.sh postgres redis
	bin/agentflow bench $(BENCH_ARGS)

.PHONY: microbench
microbench: ## micro-benchmarks only (BENCH=regexp)
	go test -run '^$$' -bench '$(BENCH)' -benchmem work

##### quality

.PHONY: lint
lint: vet ## vet, golangci-lint with the formatters, tidy go.mod files, shell scripts
	@scripts/lint.sh
	@scripts/tidy.sh check

.PHONY: openapi-lint
openapi-lint: ## read the OpenAPI document with Redocly's linter (needs node and the npm registry)
	npx --yes @redocly/cli@2 lint --config services/gateway/redocly.yaml services/gateway/internal/api/assets/openapi.json

.PHONY: vet
vet: ## go vet, also for the tagged test suites
	go vet work
	go vet -tags e2e,chaos,soak work

.PHONY: fmt
fmt: ## format the code in place
	@scripts/lint.sh fmt

.PHONY: vuln
vuln: ## known vulnerabilities in what is called (needs the network)
	@scripts/vuln.sh

.PHONY: tidy
tidy: ## tidy every go.mod
	@scripts/tidy.sh write

##### the rest

.PHONY: docs
docs: build ## write docs/configuration.md from what the binaries say about themselves
	@scripts/docs.sh

.PHONY: dist
dist: ## archives with checksums for a release, in dist/
	@VERSION='$(VERSION)' REVISION='$(REVISION)' scripts/dist.sh

IMAGES := $(SERVICES) agentflow credentials

.PHONY: image
image: ## container images of every service, the command line and credentials (needs Docker; IMAGE_PREFIX=agentflow/)
	@for name in $(IMAGES); do \
		docker build --build-arg SERVICE=$$name --build-arg VERSION='$(VERSION)' --build-arg REVISION='$(REVISION)' \
			--tag "$(or $(IMAGE_PREFIX),agentflow/)$$name:$(VERSION)" .; \
	done

.PHONY: sbom
sbom: build ## what is in every binary, as CycloneDX, in dist/
	@mkdir -p dist
	@for name in $(SERVICES) agentflow; do go run ./deploy/sbom "bin/$$name" >"dist/$$name.cdx.json"; echo "dist/$$name.cdx.json"; done

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist coverage .run
