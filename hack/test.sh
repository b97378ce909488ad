#!/usr/bin/env bash
# Everything that has to hold before a change lands. Each part can be run alone: hack/test.sh PART ...
# Without root the tests that make namespaces themselves are skipped, and say so; the end-to-end tests run in a lab in
# a user namespace, but for those of caps and quotas.
. "$(dirname "$0")/lib.sh"
if [ "$(id -u)" = 0 ]; then need_packages race user; else need_packages race; fi
need_lab "make test"

lint() {
  hack/lint.sh
  hack/chart.sh
}
cross() {
  say "cross-build for illumos"
  local -x GOFLAGS="-trimpath ${GOFLAGS:-}" # as dist.sh builds, so that nothing is compiled twice
  GOOS=illumos GOARCH=amd64 CGO_ENABLED=0 go build ./cmd/... ./provider/... ./zones/... ./network/... ./storage/... ./probes/...
  hack/dist.sh
  GOOS=illumos GOARCH=amd64 CGO_ENABLED=0 go vet ./zones/... ./network/... ./storage/...
}
unit() {
  say "unit tests and the simulated host"
  go test -timeout 10m ./...
  # The flags of the build, so that Kubernetes is compiled once; vet would take longer than the tests.
  (cd hack/cluster && go test -trimpath -vet=off -timeout 10m ./...)
}
race() {
  say "unit tests with the race detector"
  CGO_ENABLED=1 go test -race -timeout 15m ./provider/... ./zones/... ./network/... ./storage/... ./probes/... ./hack/host/...
}
services() {
  say "Services beside kube-proxy"
  (cd hack/kubeproxy && go test -trimpath -vet=off -timeout 20m ./...)
}
e2e() { hack/e2e.sh; }
conformance() {
  if [ "$(id -u)" = 0 ]; then hack/conformance.sh sample; else say "skipped: the conformance sample needs root, for caps and quotas"; fi
}
# The same as an ordinary user, who has it all in e2e already.
user() { [ "$(id -u)" != 0 ] || hack/user.sh; }

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(lint cross unit race services e2e user conformance)
for part in "${parts[@]}"; do
  start=$SECONDS
  "$part"
  say "$part passed in $((SECONDS - start)) s"
done
