#!/usr/bin/env bash
# Measures our Services beside kube-proxy's, with the same objects; see docs/performance.md.
#   hack/bench-services.sh [-services N] [-changes N]
. "$(dirname "$0")/lib.sh"
need_root "measuring Services"
need_packages
say "building kube-proxy's proxier and the controller"
go build -trimpath -ldflags='-s -w' -o "$bin/clusterip" ./cmd/clusterip
go build -C hack/kubeproxy -trimpath -o "$bin/bench-services" ./bench
"$bin/bench-services" -clusterip "$bin/clusterip" "$@"
