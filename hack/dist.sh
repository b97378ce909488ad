#!/usr/bin/env bash
# Builds what an illumos host needs into one archive, to be unpacked in /opt.
. "$(dirname "$0")/lib.sh"
archive=$out/reddwarf-illumos-amd64.tar.gz
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
version=$(git describe --always --dirty 2>/dev/null || echo dev)
say "building $version for illumos into ${archive#"$top"/}"
mkdir -p "$dir"/reddwarf/{bin,lib}
build() { # GOOS OUTPUT PACKAGE
  GOOS=$1 GOARCH=amd64 CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o "$dir/reddwarf/$2" "$3"
}
GOOS=illumos GOARCH=amd64 hack/agent.sh "$dir/reddwarf/bin/reddwarf" "-X main.version=$version"
build illumos lib/podinit ./cmd/podinit
build linux lib/podinit-linux ./cmd/podinit
cp -r zones/brand "$dir/reddwarf/brand"
cp -r smf LICENSE "$dir/reddwarf/"
tar -C "$dir" --owner=0 --group=0 -czf "$archive" reddwarf
