#!/usr/bin/env bash
# Runs gofmt, go vet and golangci-lint; the linter is built once into the cache.
. "$(dirname "$0")/lib.sh"
version=v2.15.0
linter=$cache/tools/golangci-lint-$version/golangci-lint
if ! [ -x "$linter" ]; then
  say "building golangci-lint $version once into $cache (3 to 6 minutes)"
  GOBIN=$(dirname "$linter") GOFLAGS=-mod=mod go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
fi
say "gofmt"
bad=$(gofmt -l cmd provider zones network storage probes hack)
[ -z "$bad" ] || die "not formatted: $bad"
say "golangci-lint"
"$linter" run ./...
