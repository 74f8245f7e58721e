# Fetches and builds what scripts/conformance and scripts/bench compare us with. Sourced, after setup.sh.

peers_cache=${XDG_CACHE_HOME:-$HOME/.cache}/xenchannel-peers
conformance_build=$PWD/node_modules/.cache/conformance

# fetch_peers: Debian's xenstore daemons and tools of Xen 4.17, unpacked into the cache and not installed.
fetch_peers() {
  [ -e "$peers_cache/root/.complete" ] && return 0
  command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 ||
    fail "the genuine daemons come as Debian packages: apt-get and dpkg-deb are needed"
  local packages=(xen-utils-4.17 xen-utils-common libxenmisc4.17 libxencall1 libxenevtchn1 libxengnttab1
    libxenforeignmemory1 libxendevicemodel1 libxenhypfs1 libxentoollog1 libxen-dev libyajl2 libxenstore4
    libxentoolcore1 xenstore-utils)
  say "fetching the genuine xenstore daemons (Xen 4.17, about 3 MB) into $peers_cache"
  mkdir -p "$peers_cache/debs" "$peers_cache/root"
  (cd "$peers_cache/debs" && { apt-get download -qq "${packages[@]}" 2>/dev/null ||
    { as_root apt-get update -qq >/dev/null 2>&1 && apt-get download -qq "${packages[@]}" 2>/dev/null; }; }) ||
    fail "apt-get cannot download Xen 4.17; it is in Debian 12 (bookworm)"
  local deb
  for deb in "$peers_cache"/debs/*.deb; do dpkg-deb -x "$deb" "$peers_cache/root"; done
  touch "$peers_cache/root/.complete"
}

# fetch_pyxs: the source of pyxs with its tests, and Debian's pytest to run them; unpacked, not installed. Fails where they
# cannot be had.
fetch_pyxs() {
  [ -e "$peers_cache/pyxs/.complete" ] && return 0
  say "fetching the tests of pyxs"
  local folder=$peers_cache/pyxs-source
  mkdir -p "$folder/lists/partial" "$peers_cache/pytest" "$peers_cache/pyxs"
  # Lists of their own, because few machines have the source packages in theirs.
  echo "deb-src http://deb.debian.org/debian bookworm main" >"$folder/sources.list"
  local options=(-qq -o "Dir::Etc::sourcelist=$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$folder/lists")
  (cd "$folder" && apt-get "${options[@]}" update && apt-get "${options[@]}" source --download-only --tar-only python-pyxs &&
    apt-get download -qq python3-pytest python3-pluggy python3-iniconfig python3-packaging python3-attr python3-py) \
    >/dev/null 2>&1 || { say "apt-get cannot download the source of pyxs and pytest"; return 1; }
  tar -xf "$folder"/python-pyxs_*.orig.tar.gz -C "$peers_cache/pyxs" --strip-components=1 || return 1
  local deb
  for deb in "$folder"/*.deb; do dpkg-deb -x "$deb" "$peers_cache/pytest" || return 1; done
  rm -rf "$folder/lists"
  touch "$peers_cache/pyxs/.complete"
}

# compile SOURCE PRODUCT OPTION...: unless the product is newer than every source in that folder.
compile() {
  local source=$1 product=$2
  shift 2
  [ -e "$product" ] && [ -z "$(find "$(dirname "$source")" -name '*.[ch]' -newer "$product" -print -quit)" ] && return 0
  # Beside the old one and then in its place: others may be running it.
  gcc -O2 -Wall "$@" -o "$product.$$" "$source"
  mv "$product.$$" "$product"
}

# build_peers: the hypervisor made of files and the guest's end of the ring.
build_peers() {
  need_program gcc gcc
  [ -e /usr/include/stdio.h ] || missing_packages="${missing_packages:-} libc6-dev"
  install_missing
  compile test/conformance/peers/hypervisor.c "$peers_cache/hypervisor.so" \
    -Wno-nonnull-compare -Wno-unused-parameter -shared -fPIC -I"$peers_cache/root/usr/include"
  compile test/conformance/peers/ring-guest.c "$peers_cache/ring-guest"
}

# build_conformance: the runner as JavaScript, beside the installed packages.
build_conformance() {
  mkdir -p "$conformance_build"
  printf '{"type":"module"}\n' >"$conformance_build/package.json"
  npx --no-install tsc -p test/conformance/tsconfig.json 2>/dev/null ||
    npx --no-install tsc -p test/conformance/tsconfig.json
}
