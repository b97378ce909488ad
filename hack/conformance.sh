#!/usr/bin/env bash
# Runs Kubernetes' own end-to-end tests against the agent on a simulated host, in a lab, and writes docs/conformance.md.
#
#   hack/conformance.sh build      build the tests and what their images need
#   hack/conformance.sh sample     run the tests of hack/conformance/sample.txt; all must pass
#   hack/conformance.sh [--focus REGEXP] [--again | --afresh] [--parallel N] [--limit DURATION]
#
# Results are kept in hack/conformance/results.json, so that a run goes on where the one before was stopped.
. "$(dirname "$0")/lib.sh"

version=$(sed -n 's#^require k8s.io/kubernetes \(v[0-9.]*\)$#\1#p; s#^\tk8s.io/kubernetes \(v[0-9.]*\)$#\1#p' hack/conformance/suite/go.mod | head -n 1)
suite=$cache/conformance-$version-$(cat hack/conformance/suite/{suite.go,go.mod,go.sum} <(go env GOVERSION) | sha256sum | cut -c1-12)

# build_suite compiles the tests and the programs of their images, once; what is there already is not made again.
build_suite() {
  local kubernetes
  mkdir -p "$suite"
  exec 9>"$suite/lock"
  flock 9
  make_one nnp go build ./test/images/nonewprivs
  make_one agnhost go build ./test/images/agnhost
  # vet alone would take a quarter of an hour.
  make_one e2e.test go test -c -vet=off ./test/e2e
  if ! [ -d "$suite/images" ]; then
    # What the images have beside their programs.
    kubernetes=$(cd hack/conformance/suite && go list -m -f '{{.Dir}}' k8s.io/kubernetes)
    mkdir -p "$suite/images.new/agnhost" "$suite/images.new/kitten"
    cp -r --no-preserve=mode "$kubernetes/test/images/agnhost/porter" "$suite/images.new/agnhost/"
    cp -r --no-preserve=mode "$kubernetes/test/images/kitten/html" "$suite/images.new/kitten/"
    mv "$suite/images.new" "$suite/images"
  fi
  if ! [ -d "$suite/tools" ]; then
    say "taking programs for the images from Debian packages (log: $suite/tools.log)"
    hack/conformance/tools.sh "$suite/tools" >"$suite/tools.log" 2>&1 9>&- || die "that failed; see $suite/tools.log"
  fi
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

# run_tests starts the program with its cluster in a lab. A run may take hours, so it gets programs of its own: a build
# meanwhile does not change what it runs.
run_tests() {
  local dir devcluster coredns commit status=0
  devcluster=$(hack/cluster.sh build)
  coredns=$(hack/coredns.sh)
  hack/build.sh
  go build -trimpath -o "$bin/conformance" ./hack/conformance
  commit=$(git rev-parse --short HEAD)
  git diff --quiet HEAD -- cmd provider zones network storage probes go.mod || commit+=-dirty
  dir=$(mktemp -d /tmp/reddwarf-conformance.XXXXXX)
  cp -r "$bin" "$dir/bin"
  mkdir -p "$out/conformance"
  say "conformance tests (logs in $dir and $out/conformance)"
  REDDWARF_COREDNS=$coredns REDDWARF_BIN=$dir/bin REDDWARF_DEVCLUSTER=$devcluster REDDWARF_BED=$dir \
    "$dir/bin/host" lab run --dir "$dir/lab" -- "$dir/bin/conformance" --suite "$suite" \
    --work "$out/conformance" --commit "$commit" "$@" || status=$?
  rm -rf "$dir/cluster" "$dir/bin"
  [ "$status" = 0 ] && rm -rf "$dir"
  return "$status"
}

main() {
  need_root "the conformance run" "caps and quotas are part of it"
  need_packages
  build_suite
  case ${1:-} in
  build) ;;
  sample) run_tests --sample hack/conformance/sample.txt "${@:2}" ;;
  *) run_tests --results hack/conformance/results.json --page docs/conformance.md "$@" ;;
  esac
}

main "$@"
