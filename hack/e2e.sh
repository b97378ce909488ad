#!/usr/bin/env bash
# Runs the end-to-end tests in a lab of their own: a real API server, scheduler and controller manager, a
# simulated illumos host, and the agent.
. "$(dirname "$0")/lib.sh"
need_packages
need_lab "the end-to-end test"
devcluster=$(hack/cluster.sh build)
coredns=$(hack/coredns.sh)
hack/build.sh
helm=$(hack/helm.sh)
go test -c -o "$bin/e2e.test" ./hack/e2e
dir=$(mktemp -d /tmp/reddwarf-e2e.XXXXXX)
say "end-to-end tests (files in $dir, removed when they pass)"
REDDWARF_HELM=$helm REDDWARF_CHART=$top/charts/reddwarf REDDWARF_COREDNS=$coredns REDDWARF_BIN=$bin REDDWARF_DEVCLUSTER=$devcluster REDDWARF_BED=$dir \
  "$bin/host" lab run --dir "$dir/lab" -- "$bin/e2e.test" -test.v -test.timeout 25m ${E2E_RUN:+-test.run "$E2E_RUN"}
rm -rf "$dir"
