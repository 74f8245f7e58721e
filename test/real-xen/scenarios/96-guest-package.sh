# in a Debian guest each link leads to its channel: at boot, hot-plugged, replugged in random order, after a restore, with and without Node
# limit: 2400 s
ensure_daemon; ensure_debian
trap 'inspect_debian end' EXIT
OURS='org.example.a org.example.b org.example.c org.example.d'
path_of() { case $1 in *.atboot) echo "$DEBIAN_LIBXL" ;; *) echo "/run/d-$1.sock" ;; esac; }
proved() { # WHEN NAME...
  local when=$1 pairs=() name; shift
  for name; do pairs+=("$name=$(path_of "$name")"); done
  prove d "$when" "${pairs[@]}"
}
unplug() { shuf -e "$@" | sed 's/^/detach d /' | commands || fail 'detach'; }
plug() {
  local name
  for name in $(shuf -e "$@"); do echo "attach d $name --persist --path $(path_of "$name") --wait 60"; done | commands || fail 'attach'
}
replug() { # WHEN NAME...: off in random order, on again in another
  local when=$1; shift
  unplug "$@"
  await_links d gone "$@"
  plug "$@"
  proved "$when" org.example.atboot $OURS
}

plug org.example.a org.example.b
proved 'hot-plugged' org.example.a org.example.b
D=$(xl domid d)
gx d '(sleep 1; systemctl reboot) > /dev/null 2>&1 &'
wait_until 300 'the old domain goes' bash -c "! xenstore-exists /local/domain/$D"
wait_until 120 'the new one comes' xl domid d
gx --wait d 300 || fail 'guest is not back'
proved 'there at boot' org.example.atboot org.example.a org.example.b
start=$(now)
plug org.example.c
wait_until 180 'the link stands' has_opened "$(xl domid d)" 4
echo "from attach to /dev/xenchannel/org.example.c: $(awk -v s="$start" '{ print $1 - s }' /proc/uptime) s"
plug org.example.d
proved 'more hot-plugged' org.example.atboot $OURS

# Not after the channels have been plugged anew: Linux 6.1 would then close the event channels of its disks (README.md,
# "Channels that come back").
xl save d /root/d.save > "$LOGS/xl-save-d.txt" 2>&1 || fail 'xl save'
xl restore /root/d.save > "$LOGS/xl-restore-d.txt" 2>&1 || fail 'xl restore'
rm /root/d.save
gx --wait d 120 || fail 'guest is not back'
proved 'restored' org.example.atboot $OURS
replug 'agent: all replugged' $OURS
replug 'agent: two replugged' $(shuf -n 2 -e $OURS)

echo '--- without Node: the shell helper takes over'
gx d 'mv /usr/local/bin/xenchannel /usr/local/bin/xenchannel.away' || fail 'the file system of the guest does not answer'
gx d 'systemctl stop xenchannel-agent' || fail 'the agent does not stop'
gx d 'systemctl start xenchannel-link; systemctl is-active xenchannel-link' || fail 'the helper does not start'
proved 'helper: taken over' org.example.atboot $OURS
replug 'helper: all replugged' $OURS
replug 'helper: two replugged' $(shuf -n 2 -e $OURS)
gx d 'systemctl stop xenchannel-link; mv /usr/local/bin/xenchannel.away /usr/local/bin/xenchannel; systemctl start xenchannel-agent'
proved 'agent: taken over' org.example.atboot $OURS

gx d 'systemctl --no-pager --plain list-units "serial-getty@hvc*"; systemctl is-active "serial-getty@hvc[1-7]*"' && fail 'a login prompt on a channel'
equal 'failed units' "$(gx d 'systemctl --no-pager --plain --no-legend --failed list-units "xenchannel*" "qemu*" "*getty*"')" ''
unplug $OURS
equal 'records' "$(ls /var/lib/xenchannel)" ''
xl destroy d
trap - EXIT
