#!/usr/bin/env bash
# Builds helm once into the cache and prints where it is.
. "$(dirname "$0")/lib.sh"
version=v3.22.0
helm=$cache/tools/helm-$version/helm
if ! [ -x "$helm" ]; then
  say "building helm $version once into $cache (2 to 5 minutes)"
  GOBIN=$(dirname "$helm") GOFLAGS=-mod=mod go install "helm.sh/helm/v3/cmd/helm@$version" >&2
fi
echo "$helm"
