#!/usr/bin/env bash
# Measures pod starts, memory and CPU on one simulated host; see hack/bench/README.md for what is printed.
. "$(dirname "$0")/lib.sh"
need_root "make bench" "it measures with real cgroups and a btrfs pool"
need_packages
devcluster=$(hack/cluster.sh build)
hack/build.sh
dir=$(mktemp -d /tmp/reddwarf-bench.XXXXXX)
REDDWARF_BIN=$bin REDDWARF_DEVCLUSTER=$devcluster REDDWARF_BED=$dir \
  exec "$bin/host" lab run --temporary --dir "$dir" -- "$bin/bench" "$@"
