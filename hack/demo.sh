#!/usr/bin/env bash
# The main job, from nothing: a cluster, a simulated illumos host, and a Deployment whose pods are zones.
# It stays up for your own kubectl until Ctrl-C; ONCE=1 ends when all was seen.
. "$(dirname "$0")/lib.sh"
need_packages
need_lab "make demo"
devcluster=$(hack/cluster.sh build)
hack/build.sh
dir=$(mktemp -d /tmp/reddwarf-demo.XXXXXX)
say "starting the demo (files and logs in $dir, removed at the end)"
# exec: the lab ends with make, even if make is killed.
REDDWARF_BIN=$bin REDDWARF_DEVCLUSTER=$devcluster REDDWARF_BED=$dir \
  exec "$bin/host" lab run --temporary --dir "$dir" --relay "127.0.0.1:${PORT:-6443}=198.51.100.1:6443" -- \
  "$bin/demo" ${ONCE:+--once} --relay "127.0.0.1:${PORT:-6443}"
