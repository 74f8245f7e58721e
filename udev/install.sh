#!/bin/sh
# Installs (or with --uninstall removes) the guest side of xenchannel: udev rules, systemd units, the shell helper.
# Environment: DESTDIR (default none), PREFIX (default /usr), BINDIR (where `xenchannel` is, default PREFIX/bin).

set -eu
cd "$(dirname "$0")"

prefix=${PREFIX:-/usr}
destdir=${DESTDIR:-}
bindir=${BINDIR:-$prefix/bin}
libexecdir=$prefix/lib/xenchannel
unitdir=$prefix/lib/systemd/system
rulesdir=$prefix/lib/udev/rules.d

files="$rulesdir/60-xenchannel.rules
$libexecdir/xenchannel-link
$unitdir/xenchannel-agent.service
$unitdir/xenchannel-link.service
$unitdir/xenchannel@.service
$unitdir/qemu-guest-agent.service.d/xenchannel.conf"

# Source of an installed file, below this directory.
source_of() {
  case $1 in
  */qemu-guest-agent.service.d/*) echo "qemu-guest-agent.service.d/${1##*/}" ;;
  *) echo "${1##*/}" ;;
  esac
}

install_file() {
  mode=0644
  case $1 in */xenchannel-link) mode=0755 ;; esac
  mkdir -p "$(dirname "$destdir$1")"
  sed -e "s|@BINDIR@|$bindir|g" -e "s|@LIBEXECDIR@|$libexecdir|g" "$(source_of "$1")" >"$destdir$1.new"
  chmod "$mode" "$destdir$1.new"
  mv -f "$destdir$1.new" "$destdir$1"
}

# Only in the running system, and only what is there.
reload() {
  [ -z "$destdir" ] || return 0
  if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
  if [ -S /run/udev/control ]; then
    udevadm control --reload
    udevadm trigger --subsystem-match=xen --subsystem-match=tty --action=add
  fi
  # systemd looks at what a device wants only when the device is new to it.
  if [ -d /run/systemd/system ] && [ -z "${1-}" ] && [ -e /sys/bus/xen/devices ]; then
    systemctl start --no-block xenchannel-agent.service xenchannel-link.service
  fi
}

case ${1-} in
'')
  for file in $files; do install_file "$file"; done
  reload
  ;;
--uninstall)
  for file in $files; do rm -f "$destdir$file"; done
  rmdir "$destdir$libexecdir" "$destdir$unitdir/qemu-guest-agent.service.d" 2>/dev/null || :
  reload removed
  ;;
*)
  echo 'usage: [DESTDIR=D] [PREFIX=/usr] install.sh [--uninstall]' >&2
  exit 2
  ;;
esac
