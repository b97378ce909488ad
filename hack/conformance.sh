#!/usr/bin/env bash
# Runs Kubernetes' own end-to-end tests against the agent on a simulated host, in a lab, and writes docs/conformance.md.
#
#   hack/conformance.sh [--focus REGEXP] [--again] [--parallel N] [--limit DURATION]
#
# Results are kept, so that a run goes on where the one before was stopped.
. "$(dirname "$0")/lib.sh"

version=$(sed -n 's#^require k8s.io/kubernetes \(v[0-9.]*\)$#\1#p; s#^\tk8s.io/kubernetes \(v[0-9.]*\)$#\1#p' hack/conformance/suite/go.mod | head -n 1)
suite=$cache/conformance-$version-$(cat hack/conformance/suite/{suite.go,go.mod,go.sum} <(go env GOVERSION) | sha256sum | cut -c1-12)

# build_suite compiles the tests and the programs of their images, once; what is there already is not made again.
build_suite() {
  mkdir -p "$suite"
  exec 9>"$suite/lock"
  flock 9
  make_one nnp go build ./test/images/nonewprivs
  make_one agnhost go build ./test/images/agnhost
  # vet alone would take a quarter of an hour.
  make_one e2e.test go test -c -vet=off ./test/e2e
  exec 9>&-
}

# make_one builds one program: its name, the go command, and the package below k8s.io/kubernetes.
make_one() {
  local name=$1 package=${*: -1}
  local command=("${@:2:$#-2}")
  [ -x "$suite/$name" ] && return
  say "building $name of Kubernetes $version (e2e.test takes 10 to 30 minutes on two cores; log: $suite/$name.log)"
  (cd hack/conformance/suite && nice -n 19 "${command[@]}" -trimpath -ldflags='-s -w' -o "$suite/$name.new" "k8s.io/kubernetes/${package#./}") >"$suite/$name.log" 2>&1 9>&- ||
    { tail -n 20 "$suite/$name.log" >&2; die "$name could not be built; see $suite/$name.log"; }
  mv "$suite/$name.new" "$suite/$name"
}

need_root "the conformance run"
need_packages
build_suite
[ "${1:-}" = build ] && exit
devcluster=$(hack/cluster.sh build)
hack/build.sh
go build -trimpath -o "$bin/conformance" ./hack/conformance
dir=$(mktemp -d /tmp/reddwarf-conformance.XXXXXX)
trap 'rm -rf "$dir/cluster"' EXIT
say "conformance tests (logs in $dir and $out/conformance)"
mkdir -p "$out/conformance"
REDDWARF_BIN=$bin REDDWARF_DEVCLUSTER=$devcluster REDDWARF_BED=$dir \
  "$bin/host" lab run --dir "$dir/lab" -- "$bin/conformance" --suite "$suite" \
  --results hack/conformance/results.json --page docs/conformance.md --work "$out/conformance" "$@"
