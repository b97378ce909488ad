# Shared by the scripts of this folder: where things are, and how to say what is going on.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
out=$top/_out
bin=$top/bin
cache=${REDDWARF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/reddwarf}
mkdir -p "$out" "$bin" "$cache" 2>/dev/null || true # need_root says why that failed
export CGO_ENABLED="${CGO_ENABLED:-0}"

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need_root says in one sentence what is missing.
need_root() {
  [ "$(id -u)" = 0 ] || die "$1 needs root: the simulated host takes loop devices, cgroups and the users of images, which a user namespace does not give; run it as root (sudo -E make ...)"
}

# need_packages installs the Debian packages whose programs are missing; with the word race also what the race
# detector needs.
need_packages() {
  local missing=()
  if [ "${1:-}" = race ]; then
    command -v gcc >/dev/null || missing+=(gcc libc6-dev)
  fi
  command -v mkfs.btrfs >/dev/null || missing+=(btrfs-progs)
  command -v nft >/dev/null || missing+=(nftables)
  command -v ip >/dev/null || missing+=(iproute2)
  command -v wget >/dev/null || missing+=(wget)
  command -v pgrep >/dev/null || missing+=(procps)
  if ! [ -x /bin/busybox ] || ldd /bin/busybox >/dev/null 2>&1; then missing+=(busybox-static); fi
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "these programs are missing: ${missing[*]}; install them with your package manager"
  say "installing ${missing[*]} (log: $out/apt.log)"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$out/apt.log" 2>&1 ||
    die "apt-get could not install ${missing[*]}; see $out/apt.log"
}
