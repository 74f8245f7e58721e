# shellcheck shell=bash disable=SC2034
# Settings and small functions that build.sh and boot.sh share. Sourced, never run.
# Everything large is kept in $LAB and can be deleted at any time.
LAB=${XENCHANNEL_LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/xenchannel-lab}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROJECT=$(cd "$HERE/../.." && pwd)
XEN_VERSION=4.17
SUITE=bookworm
IMAGES=$LAB/images

say() { printf 'xen-lab: %s\n' "$*" >&2; }
die() { say "$*"; exit 8; }

# need COMMAND=PACKAGE...: installs what is missing, with apt
need() {
  local pair missing=()
  for pair in "$@"; do command -v "${pair%%=*}" > /dev/null || missing+=("${pair#*=}"); done
  [ ${#missing[@]} -eq 0 ] && return
  [ "$(id -u)" = 0 ] || die "missing packages: ${missing[*]}; install them, or run as root"
  say "installing ${missing[*]}"
  { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } > "$LAB/apt.log" 2>&1 ||
    die "apt-get could not install ${missing[*]}, see $LAB/apt.log"
}
