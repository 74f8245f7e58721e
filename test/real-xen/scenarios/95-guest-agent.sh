# the unmodified qemu-guest-agent service of a Debian guest with systemd answers over a hot-plugged channel
# limit: 900 s
ensure_daemon; ensure_debian
D=$(xl domid d)
trap 'inspect_debian end' EXIT
start=$(now)
x attach d org.qemu.guest_agent.0 --device-id 2 --wait 30 || fail 'attach'
wait_until 120 'the guest has opened the channel' has_opened "$D" 2
echo "linked in the guest, raw and said so, after $(awk -v s="$start" '{ print $1 - s }' /proc/uptime) s"
wait_until 120 'qemu-guest-agent runs' gx d 'systemctl is-active qemu-guest-agent && pidof qemu-ga'
timeout 100 python3 qga.py "$(socket_of d org.qemu.guest_agent.0)" guest-info || fail 'guest-info'
timeout 100 python3 qga.py "$(socket_of d org.qemu.guest_agent.0)" guest-get-osinfo | tee /root/osinfo
grep -q '"id": "debian"' /root/osinfo || fail 'guest-get-osinfo'
x detach d org.qemu.guest_agent.0 || fail 'detach'
nothing_left "$D" 2
wait_until 60 'the link goes' gx d '[ ! -e /dev/xenchannel/org.qemu.guest_agent.0 ]'
x attach d org.qemu.guest_agent.0 --device-id 2 --wait 30 || fail 'attach again'
wait_until 120 'qemu-guest-agent runs again' gx d '[ -e /dev/xenchannel/org.qemu.guest_agent.0 ] && systemctl is-active qemu-guest-agent && pidof qemu-ga'
timeout 100 python3 qga.py "$(socket_of d org.qemu.guest_agent.0)" guest-ping || fail 'guest-ping after the second attach'
x detach d org.qemu.guest_agent.0 || fail 'detach at the end'
trap - EXIT
