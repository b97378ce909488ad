# Everything here is done by a script in hack/, which can be run by itself too.
.DEFAULT_GOAL := help
.PHONY: help build dist demo demo-host test test-services e2e-vk conformance lint bench clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: ## the programs, into bin/
	@hack/build.sh

dist: ## what a host needs, for illumos, as _out/reddwarf-illumos-amd64.tar.gz
	@hack/dist.sh

demo: ## a cluster, a simulated illumos host and pods in zones; ONCE=1 ends by itself
	@hack/demo.sh

demo-host: ## a simulated illumos host for the cluster of your KUBECONFIG
	@hack/demo-host.sh

test: ## lint, unit, race, cross-build, simulated-host and end-to-end tests
	@hack/test.sh

test-services: ## 1000 random clusters given to kube-proxy and to us: who reaches what must be the same
	@hack/test.sh services

e2e-vk: ## the virtual-kubelet project's own end-to-end tests, against the simulated host
	@hack/e2e-vk.sh

conformance: ## Kubernetes' own end-to-end tests (hours; goes on where it was stopped); FOCUS=REGEXP runs a part, ARGS adds flags
	@hack/conformance.sh $(if $(FOCUS),--focus '$(FOCUS)') $(ARGS)

lint: ## the linters alone
	@hack/lint.sh

bench: ## pod start times, memory and CPU on the simulated host
	@hack/bench.sh

clean: ## what was built in the tree (the cache outside stays)
	rm -rf bin _out
