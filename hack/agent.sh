#!/usr/bin/env bash
# Builds the agent into FILE (bin/reddwarf), for this machine or for GOOS and GOARCH: hack/agent.sh [FILE [LDFLAGS]]
#
# A linker drops the methods that nobody calls, unless something asks a type for its methods by number. Two things would:
# golang.org/x/net/trace, which the tag leaves out of gRPC, and go-cmp, by which virtual-kubelet compares pods, when it
# names an interface that has no name, in a text that nobody reads here. So the agent is linked with a copy of go-cmp that
# takes that name from reflect. What `go build ./cmd/reddwarf` makes does the same, but is 27 MB larger and needs 14 MiB more memory.
. "$(dirname "$0")/lib.sh"
file=${1:-$bin/reddwarf}
compare=github.com/google/go-cmp
go mod download "$compare"
source=$(go list -m -f '{{.Dir}}' "$compare") # empty where go list fails: then this ends here
lean=$cache/go-cmp-$(go list -m -f '{{.Version}}' "$compare")-$(sha256sum <hack/agent.sh | cut -c1-12)
if ! [ -d "$lean" ]; then
  temp=$(mktemp -d "$cache/.go-cmp.XXXXXX")
  cp -r --no-preserve=mode "$source/." "$temp"
  sed -i '/^\tcase reflect.Interface:$/,/^\tdefault:$/c\	case reflect.Interface:\n\t\tb = append(b, t.String()...)\n\tdefault:' "$temp/cmp/internal/value/name.go"
  ! grep -q 't\.Method(' "$temp/cmp/internal/value/name.go" || die "go-cmp is another one than hack/agent.sh knows: $temp"
  mv -T "$temp" "$lean" 2>/dev/null || rm -rf "$temp" # another build was faster
fi
mod=$(mktemp -d "$out/agent.XXXXXX")
trap 'rm -rf "$mod"' EXIT
cp go.mod go.sum "$mod"
go mod edit -replace "$compare=$lean" "$mod/go.mod"
go build -modfile="$mod/go.mod" -trimpath -tags grpcnotrace -ldflags="-s -w ${2:-}" -o "$file" ./cmd/reddwarf
