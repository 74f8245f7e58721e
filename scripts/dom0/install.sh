#!/bin/sh
# Installs (or with --uninstall removes) the systemd units of dom0. A running daemon goes on until it is restarted.
# Environment: DESTDIR (default none), PREFIX (default /usr), BINDIR (where `xenchannel` is, default PREFIX/bin).

set -eu
cd "$(dirname "$0")"

prefix=${PREFIX:-/usr}
destdir=${DESTDIR:-}
bindir=${BINDIR:-$prefix/bin}
unitdir=$prefix/lib/systemd/system
units='xenchannel-daemon.service xenchannel-daemon.socket'

# Only in the running system.
reload() {
  [ -z "$destdir" ] || return 0
  if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
}

case ${1-} in
'')
  mkdir -p "$destdir$unitdir"
  for unit in $units; do
    sed -e "s|@BINDIR@|$bindir|g" "$unit" >"$destdir$unitdir/$unit.new"
    chmod 0644 "$destdir$unitdir/$unit.new"
    mv -f "$destdir$unitdir/$unit.new" "$destdir$unitdir/$unit"
  done
  reload
  ;;
--uninstall)
  for unit in $units; do rm -f "$destdir$unitdir/$unit"; done
  reload
  ;;
*)
  echo 'usage: [DESTDIR=D] [PREFIX=/usr] install.sh [--uninstall]' >&2
  exit 2
  ;;
esac
