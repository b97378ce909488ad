#!/usr/bin/env bash
# Builds the programs into bin/ and prints nothing but progress.
. "$(dirname "$0")/lib.sh"
say "building the agent, podinit and the simulated host into bin/"
hack/agent.sh
go build -trimpath -ldflags='-s -w' -o "$bin/clusterip" ./cmd/clusterip
go build -trimpath -ldflags='-s -w' -o "$bin/podinit-linux" ./cmd/podinit
rm -rf "$bin/brand"
cp -r zones/brand "$bin/brand"
go build -trimpath -o "$bin/host" ./hack/host/cmd/host
go build -trimpath -o "$bin/images" ./hack/images/cmd/images
go build -trimpath -ldflags='-s -w' -o "$bin/web" ./hack/images/web
go build -trimpath -o "$bin/demo" ./hack/demo
go build -trimpath -o "$bin/demohost" ./hack/demohost
go build -trimpath -o "$bin/bench" ./hack/bench
