#!/usr/bin/env bash
# Runs the virtual-kubelet project's own end-to-end tests against the agent on a simulated host, in a lab.
. "$(dirname "$0")/lib.sh"
need_packages
need_lab "the virtual-kubelet end-to-end test"
devcluster=$(hack/cluster.sh build)
hack/build.sh
go test -c -o "$bin/e2evk.test" ./hack/e2evk
dir=$(mktemp -d /tmp/reddwarf-e2e-vk.XXXXXX)
say "virtual-kubelet's end-to-end tests (files in $dir, removed when they pass)"
REDDWARF_BIN=$bin REDDWARF_DEVCLUSTER=$devcluster REDDWARF_BED=$dir \
  "$bin/host" lab run --dir "$dir/lab" -- "$bin/e2evk.test" -test.v -test.timeout 25m
rm -rf "$dir"
