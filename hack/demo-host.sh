#!/usr/bin/env bash
# Joins a simulated illumos host to the cluster of KUBECONFIG until Ctrl-C. NODE_IP is the address of this machine
# by which that cluster's API server reaches it (default: the address that leads there); NODE is the node's name.
. "$(dirname "$0")/lib.sh"
[ -n "${KUBECONFIG:-}" ] || die "KUBECONFIG is not set: name the kubeconfig of a cluster in which you may approve certificates (KUBECONFIG=… make demo-host)"
need_packages
need_lab "make demo-host"
hack/build.sh
server=$("$bin/demohost" --kubeconfig "$KUBECONFIG" --server)
host=${server%:*} port=${server##*:}
host=${host#[} host=${host%]}
if [ -z "${NODE_IP:-}" ]; then
  NODE_IP=$(ip -o route get "$(getent ahosts "$host" | head -n1 | cut -d' ' -f1)" | sed -n 's/.* src \([^ ]*\).*/\1/p')
fi
case $NODE_IP in
127.* | "") die "the API server at $host cannot reach this machine by ${NODE_IP:-no address}: set NODE_IP to an address of this machine that it can reach, port 10250" ;;
esac
dir=$(mktemp -d /tmp/reddwarf-demo-host.XXXXXX)
say "joining a simulated illumos host to $server; the API server reaches it at $NODE_IP:10250 (files and logs in $dir, removed at the end)"
REDDWARF_BIN=$bin REDDWARF_BED=$dir \
  exec "$bin/host" lab run --temporary --dir "$dir" --relay-out "198.51.100.1:$port=$server" --publish "$NODE_IP:10250=198.51.100.11:10250" -- \
  "$bin/demohost" --kubeconfig "$KUBECONFIG" --relay "198.51.100.1:$port" --node-ip "$NODE_IP" --node-name "${NODE:-illumos1}"
