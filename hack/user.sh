#!/usr/bin/env bash
# Shows, as root, that a lab needs no root: an ordinary user of no standing runs a pod in a lab in a user namespace,
# and nothing is left when that is killed. The user exists in a mount namespace of this script only.
. "$(dirname "$0")/lib.sh"
need_root "hack/user.sh" "it becomes another user"
need_packages user
devcluster=$(hack/cluster.sh build)
hack/build.sh
go test -c -o "$bin/e2e.test" ./hack/e2e
dir=$(mktemp -d /tmp/reddwarf-user.XXXXXX)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"/{etc,work,bin,cluster,home/bed}
id=64123
chmod 755 "$dir"
chown "$id:$id" "$dir/home" "$dir/home/bed"
export dir id bin devcluster
export E2E_RUN=${E2E_RUN:-'^(TestDeployment|TestRestartHasAFreshRoot|TestTwoContainersShareTheZone|TestExec)$'}
say "a pod in a lab of an ordinary user"
unshare --mount --propagation private bash -euc '
  mount -t overlay etc -o "lowerdir=/etc,upperdir=$dir/etc,workdir=$dir/work" /etc
  echo "labuser:x:$id:$id::$dir/home:/bin/sh" >>/etc/passwd
  echo "labuser:x:$id:" >>/etc/group
  echo "labuser:3000000:65536" | tee -a /etc/subuid >>/etc/subgid
  mount --bind "$bin" "$dir/bin"
  mount --bind "$(dirname "$devcluster")" "$dir/cluster"
  cd "$dir/home"
  lab() { setpriv --reuid "$id" --regid "$id" --clear-groups env -i PATH="$PATH" HOME="$dir/home" \
    REDDWARF_BIN="$dir/bin" REDDWARF_DEVCLUSTER="$dir/cluster/devcluster" REDDWARF_BED="$dir/home/bed" \
    "$dir/bin/host" lab "$@"; }
  lab check
  lab run --dir "$dir/home/lab" -- "$dir/bin/e2e.test" -test.v -test.timeout 10m -test.run "$E2E_RUN"

  # Killed, it leaves nothing: neither processes nor files, which belong to users that only the namespace has.
  lab run --temporary --dir "$dir/home/lab2" -- sh -c "$dir/bin/host up h1 && touch $dir/home/up && sleep 1000" &
  for _ in $(seq 600); do [ -e "$dir/home/up" ] && break; sleep 0.1; done
  [ -e "$dir/home/up" ]
  pkill -9 -u "$id" -o -x host
  for _ in $(seq 600); do pgrep -u "$id" >/dev/null || break; sleep 0.1; done
  if pgrep -u "$id" -a; then echo "processes are left" >&2; exit 1; fi
  for _ in $(seq 600); do [ -e "$dir/home/lab2" ] || break; sleep 0.1; done
  if [ -e "$dir/home/lab2" ]; then echo "files are left" >&2; exit 1; fi
'
