# Shared by the scripts of this folder: where things are, and how to say what is going on.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
out=$top/_out
bin=$top/bin
cache=${REDDWARF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reddwarf}
mkdir -p "$out" "$bin" "$cache" 2>/dev/null || true # need_lab says why that failed
PATH=$PATH:/usr/sbin:/sbin # which users do not have in theirs
export CGO_ENABLED="${CGO_ENABLED:-0}"

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need_root says in one sentence why the user is not enough.
need_root() {
  [ "$(id -u)" = 0 ] || die "$1 needs root${2:+: $2}; run it as root (sudo -E ...)"
}

# need_lab is for what runs in a lab: root's own, or one in a user namespace. It says in one sentence what is missing.
need_lab() {
  local why
  [ "$(id -u)" = 0 ] && return
  [ -w "$out" ] && [ -w "$bin" ] || die "$top cannot be written to: use a checkout of your own"
  say "no root: looking whether a user namespace can be had"
  go build -trimpath -o "$bin/host" ./hack/host/cmd/host
  why=$("$bin/host" lab check 2>&1) || die "$1: ${why#host: }"
}

# need_packages installs the Debian packages whose programs are missing, or names them where the user is not root. The
# word race asks also for what the race detector needs, and user for what a lab without root does.
need_packages() {
  local missing=() what
  for what in "$@"; do
    case $what in
    race) command -v gcc >/dev/null || missing+=(gcc libc6-dev) ;;
    user) command -v newuidmap >/dev/null || missing+=(uidmap) ;;
    esac
  done
  [ "$(id -u)" != 0 ] || command -v mkfs.btrfs >/dev/null || missing+=(btrfs-progs)
  command -v nft >/dev/null || missing+=(nftables)
  command -v ip >/dev/null || missing+=(iproute2)
  command -v wget >/dev/null || missing+=(wget)
  command -v pgrep >/dev/null || missing+=(procps)
  if ! [ -x /bin/busybox ] || ldd /bin/busybox >/dev/null 2>&1; then missing+=(busybox-static); fi
  [ ${#missing[@]} = 0 ] && return
  [ "$(id -u)" = 0 ] || die "these packages are missing, and only root can install them: apt-get install ${missing[*]}"
  command -v apt-get >/dev/null || die "these programs are missing: ${missing[*]}; install them with your package manager"
  say "installing ${missing[*]} (log: $out/apt.log)"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$out/apt.log" 2>&1 ||
    die "apt-get could not install ${missing[*]}; see $out/apt.log"
}
