#!/usr/bin/env bash
# Builds CoreDNS, from its Go module and with a cluster's plugins only, once into the cache and prints where it is.
. "$(dirname "$0")/lib.sh"
version=$(sed -n 's#^require github.com/coredns/coredns \(v[0-9.]*\)$#\1#p' hack/coredns/go.mod)
dir=$cache/coredns-$version-$(cat hack/coredns/{main.go,go.mod,go.sum} <(go env GOVERSION) | sha256sum | cut -c1-12)
if ! [ -x "$dir/coredns" ]; then
  mkdir -p "$dir"
  exec 9>"$dir/lock"
  flock 9
  if ! [ -x "$dir/coredns" ]; then # another may have built it meanwhile
    say "building CoreDNS $version once into $cache (2 to 5 minutes; log: $dir/build.log)"
    (cd hack/coredns && nice go build -trimpath -ldflags='-s -w' -o "$dir/coredns.new" .) >"$dir/build.log" 2>&1 9>&- ||
      { tail -n 20 "$dir/build.log" >&2; die "CoreDNS could not be built; see $dir/build.log"; }
    mv "$dir/coredns.new" "$dir/coredns"
  fi
  exec 9>&-
fi
echo "$dir/coredns"
