#!/usr/bin/env bash
# Builds the image of the chart's programs for illumos and pushes it: hack/chart-image.sh REPOSITORY:TAG
# Passwords are taken from ~/.docker/config.json.
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || die "usage: hack/chart-image.sh REPOSITORY:TAG"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
version=$(git describe --always --dirty 2>/dev/null || echo dev)
say "building clusterip and reddwarf for illumos"
export GOOS=illumos GOARCH=amd64
go build -trimpath -ldflags="-s -w -X main.version=$version" -o "$dir/clusterip" ./cmd/clusterip
hack/agent.sh "$dir/reddwarf" "-X main.version=$version"
unset GOOS GOARCH
go run ./hack/images/cmd/images push --os illumos --arch amd64 --clusterip "$dir/clusterip" --reddwarf "$dir/reddwarf" "$1"
