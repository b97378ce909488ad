#!/bin/bash
# Builds the dev cluster's binary once per version and source, and prints its path.
#
#   hack/cluster.sh build     build it if needed; print the path of devcluster
#   hack/cluster.sh path      print the path without building
#
# The binaries are kept in ${REDDWARF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reddwarf}, outside the tree.
set -euo pipefail
cd "$(dirname "$0")/cluster"

cache=${REDDWARF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reddwarf}
version=$(sed -n 's#^\tk8s.io/kubernetes \(v[0-9.]*\)$#\1#p' go.mod)
# Tests do not change the binary; the compiler does.
sources=$({ go env GOVERSION; find . \( -name '*.go' ! -name '*_test.go' -o -name go.mod -o -name go.sum \) -print0 |
	LC_ALL=C sort -z | xargs -0 sha256sum; } | sha256sum | cut -c1-12)
dir=$cache/devcluster-$version-$sources
binary=$dir/devcluster

say() { printf 'cluster.sh: %s\n' "$*" >&2; }

# build_locked runs with the lock held: another call may have built meanwhile.
build_locked() {
	[[ -x $binary ]] && return
	local log=$dir/build.log temp started=$SECONDS pid next=30 status=0
	temp=$(mktemp -d "$dir/build-XXXXXX")
	trap 'rm -rf "$temp"' RETURN
	say "building Kubernetes $version into one binary: about 15 minutes on two cores the first time, under a minute later"
	say "log: $log"
	nice go build -v -trimpath -o "$temp/devcluster" ./cmd/devcluster >"$log" 2>&1 &
	pid=$!
	trap 'kill "$pid" 2>/dev/null || :; rm -rf "$temp"; exit 1' INT TERM
	while kill -0 "$pid" 2>/dev/null; do
		sleep 1
		if ((SECONDS - started >= next)); then
			say "$((SECONDS - started)) s, $(grep -vc '^go: ' "$log" || :) packages compiled, last: $(tail -n 1 "$log")"
			next=$((next + 30))
		fi
	done
	wait "$pid" || status=$?
	trap - INT TERM
	if ((status != 0)); then
		tail -n 20 "$log" >&2
		say "build failed; log: $log"
		return 1
	fi
	ln -s devcluster "$temp/kubectl"
	mv -T "$temp/kubectl" "$dir/kubectl"
	mv -T "$temp/devcluster" "$binary" # last: it says that all is there
	say "built in $((SECONDS - started)) s"
}

case ${1:-} in
build)
	if [[ ! -x $binary ]]; then
		mkdir -p "$dir"
		exec 9>"$dir/lock"
		flock -n 9 || { say "waiting for another build of the same; log: $dir/build.log" && flock 9; }
		build_locked 9>&-
	fi
	echo "$binary"
	;;
path)
	echo "$binary"
	;;
*)
	sed -n "2,7s/^# \{0,1\}//p" ../cluster.sh >&2
	exit 2
	;;
esac
