# make demo       build everything and show it (Go, make and the Go module proxy are all that it needs)
# make test       the tests, as whoever runs them
# make check      what must pass before a change is sent: formatting, vet, staticcheck, tests with -race, examples
# make help       the other targets

GO        ?= go
OUT       ?= out
PREFIX    ?= /usr/local
FUZZTIME  ?= 30s
BENCH     ?= .
BENCHTIME ?= 3x

export CGO_ENABLED = 0

# Tools run from the module proxy at fixed versions; nothing is installed.
GOTESTSUM    = $(GO) run gotest.tools/gotestsum@v1.13.0
GOFUMPT      = $(GO) run mvdan.cc/gofumpt@v0.12.0
STATICCHECK  = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCILINT = $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

BUILD   = $(GO) build -trimpath -ldflags '-s -w'
TOOLBOX = examples/toolbox
DISTRIBUTION = github.com/distribution/distribution/v3/cmd/registry@v3.0.0
DIRS    = build cache cmd examples executor image parser registry

.PHONY: help demo build toolbox registries test test-levels check fmt vet staticcheck lint race conformance conformance-buildkit test-examples test-debian bench bench-peers fuzz install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: build toolbox ## build the examples in a store under out/, and show what came of them
	@OCIBUILD=bin/ocibuild OUT=$(OUT) sh examples/demo.sh

build: ## bin/ocibuild, one static binary
	$(BUILD) -o bin/ocibuild ./cmd/ocibuild

toolbox: ## the program of the examples' base image
	cd $(TOOLBOX) && $(BUILD) -o toolbox .

test: ## every test, with a summary that names what was skipped and why
	@mkdir -p $(OUT)
	$(GOTESTSUM) --format pkgname --jsonfile $(OUT)/test.json ./... -- -timeout 25m
	@sh .ci/counted $(OUT)/test.json

check: fmt vet staticcheck race test-examples demo ## everything that must pass before a change is sent

fmt: ## no file differs from what gofumpt makes of it
	@unformatted=$$($(GOFUMPT) -l $(DIRS)) && if [ -n "$$unformatted" ]; then \
		echo "not formatted (gofumpt -w them):"; echo "$$unformatted"; exit 1; fi

vet: ## go vet, both modules
	$(GO) vet ./...
	cd $(TOOLBOX) && $(GO) vet ./...

staticcheck: ## staticcheck, both modules
	$(STATICCHECK) ./...
	cd $(TOOLBOX) && $(STATICCHECK) ./...

lint: ## golangci-lint with the budgets of .golangci.yml (slow the first time)
	$(GOLANGCILINT) run ./...

race: ## every test under the race detector
	@mkdir -p $(OUT)
	CGO_ENABLED=1 $(GOTESTSUM) --format pkgname --jsonfile $(OUT)/race.json ./... -- -race -timeout 25m
	@sh .ci/counted $(OUT)/race.json

test-levels: ## steps at every isolation level (root): by static programs, which -race does not make
	CGO_ENABLED=0 $(GOTESTSUM) --format pkgname -- -run '^Test(As|Attacks|Become|Claim)' ./executor
	CGO_ENABLED=0 $(GOTESTSUM) --format pkgname -- -run '^TestScripts$$/^(isolation|shell|secret|mount)' ./cmd/ocibuild

test-examples: ## the examples' own tests
	cd $(TOOLBOX) && $(GO) test ./...

test-debian: build ## a Debian base from mmdebstrap, apt-get install gcc in it: at every isolation level
	OCIBUILD=bin/ocibuild OUT=$(OUT) bash examples/debian/test.sh

registries: bin/distribution-v3 ## the registry that tests run beside Debian's (a minute, the Go module proxy)

bin/distribution-v3:
	GOBIN=$(CURDIR)/bin $(GO) install $(DISTRIBUTION)
	mv bin/registry $@

conformance: ## what BuildKit and buildah, where they are here, make of the cases in cmd/ocibuild/testdata/conformance
	@OUT=$(OUT) sh .ci/conformance

conformance-buildkit: ## the same with a BuildKit built for it (root, the Go module proxy, runc)
	@OUT=$(OUT) sh .ci/conformance buildkit

bench: ## whole builds and their floors, BENCHTIME (3x) turns each, then the parts; BENCH=Regexp chooses
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -timeout 4h ./build/bench
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $$($(GO) list ./... | grep -v /build/bench)

bench-peers: ## whole builds beside those of buildkit, buildah, podman and docker, where they are in the PATH (root)
	BENCH_PEERS=1 $(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -timeout 8h ./build/bench

fuzz: ## every fuzz target for FUZZTIME (30s)
	@sh .ci/fuzz $(FUZZTIME)

install: build ## bin/ocibuild to $(DESTDIR)$(PREFIX)/bin
	install -D -m 0755 bin/ocibuild $(DESTDIR)$(PREFIX)/bin/ocibuild

clean: ## remove bin/, the demo's store and what else is under out/
	@if [ -x bin/ocibuild ] && [ -d $(OUT)/demo/store ]; then bin/ocibuild --root $(OUT)/demo/store prune --force --all; fi
	rm -rf bin $(OUT) $(TOOLBOX)/toolbox
