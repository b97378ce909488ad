#!/usr/bin/env bash
# Fills a directory with the programs that Kubernetes' test images have beside their own, taken from Debian packages:
# curl, dig, nc, getent, hostname, nginx with what they load, and a static bash.
#
#   hack/conformance/tools.sh DIR
#
# Nothing is installed on this machine.
. "$(dirname "$0")/../lib.sh"

packages=(bash-static bind9-dnsutils curl hostname libc-bin netcat-openbsd nginx)
programs=(usr/bin/dig usr/bin/curl bin/hostname usr/bin/getent bin/nc.openbsd usr/sbin/nginx)
files=(bin/bash-static usr/share/nginx/html/index.html etc/nginx/mime.types)

target=${1:?usage: tools.sh DIR}
temp=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$temp"' EXIT
mkdir -p "$temp/debs/partial" "$temp/all" "$temp/tree"

# With an empty status file apt believes that nothing is installed, and so brings all that the programs need.
: >"$temp/status"
apt-get -o Dir::State::status="$temp/status" -o Dir::Cache::archives="$temp/debs" -o Debug::NoLocking=1 -o APT::Sandbox::User=root \
  --no-install-recommends --yes --download-only install "${packages[@]}"
for deb in "$temp"/debs/*.deb; do
  dpkg-deb -x "$deb" "$temp/all"
done

# copy takes over a file, and what it links to.
copy() {
  local name=${1#/} link
  [ -e "$temp/tree/$name" ] && return
  mkdir -p "$temp/tree/$(dirname "$name")"
  cp -P "$temp/all/$name" "$temp/tree/$name"
  if link=$(readlink "$temp/all/$name"); then
    case $link in
    /*) copy "$link" ;;
    *) copy "$(dirname "$name")/$link" ;;
    esac
  fi
}

loader=$(cd "$temp/all" && ls lib*/ld-linux-*.so.* | head -n 1)
libraries=$(cd "$temp/all" && find lib usr/lib -maxdepth 2 -name '*.so.*' -printf "$temp/all/%h\n" | sort -u | paste -sd:)
copy "$loader"
for name in "${programs[@]}" "${files[@]}"; do
  copy "$name"
done
for name in "${programs[@]}"; do
  "$temp/all/$loader" --library-path "$libraries" --list "$temp/all/$name" | sed -n "s#.*=> $temp/all/\([^ ]*\) .*#\1#p"
done | sort -u | while read -r library; do copy "$library"; done
# Its module for plug-ins needs none of them; the C library loads this one by itself.
for name in $(cd "$temp/all" && ls lib/*/libnss_dns.so.2 lib/*/libnss_files.so.2 lib/*/libresolv.so.2); do copy "$name"; done

rm -rf "$target"
mv "$temp/tree" "$target"
