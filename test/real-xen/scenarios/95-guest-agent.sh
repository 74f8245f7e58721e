# the unmodified qemu-guest-agent service of a Debian guest with systemd answers over a hot-plugged channel
# limit: 900 s
ensure_daemon
xl domid g > /dev/null 2>&1 && xl destroy g
cat > /root/d.cfg << 'X'
name = "d"
type = "pv"
kernel = "/guest/vmlinux"
ramdisk = "/guest/early-initrd"
extra = "console=hvc0 loglevel=6 lab.root=/dev/xvda lab.init=/sbin/init lab.product=/dev/xvdb"
memory = 512
vcpus = 1
disk = [ "phy:/dev/disk/by-id/virtio-debian,xvda,w", "phy:/dev/disk/by-id/virtio-product,xvdb,r" ]
X
xl create /root/d.cfg > "$LOGS/xl-create-d.txt" 2>&1 || fail "xl create d: $(tail -1 "$LOGS/xl-create-d.txt")"
gx --wait d 300 || fail 'guest d did not come up'
D=$(xl domid d)
gx d 'BINDIR=/usr/local/bin sh /opt/xenchannel/udev/install.sh' || fail 'install.sh'
inspect() {
  echo "--- $1"
  gx d 'ls -l /dev/xenchannel /dev/virtio-ports 2>&1
    systemctl --no-pager --plain list-units "xenchannel*" "qemu-guest*" "*console*"
    journalctl --no-pager -o cat -u "xenchannel*" -u qemu-guest-agent -n 60'
}
trap 'inspect end' EXIT
start=$(now)
xenchannel attach d org.qemu.guest_agent.0 --wait 30 || fail 'attach'
wait_until 120 'the guest has opened the channel' bash -c ". ./lib.sh; [ \"\$(xenstore-read \$(frontend d 1)/xenchannel-guest-open)\" = 1 ]"
echo "linked in the guest, raw and said so, after $(awk -v s="$start" '{ print $1 - s }' /proc/uptime) s"
wait_until 120 'qemu-guest-agent runs' gx d 'systemctl is-active qemu-guest-agent && pidof qemu-ga'
timeout 100 python3 qga.py "$(socket_of d org.qemu.guest_agent.0)" guest-info || fail 'guest-info'
timeout 100 python3 qga.py "$(socket_of d org.qemu.guest_agent.0)" guest-get-osinfo | tee /root/osinfo
grep -q '"id": "debian"' /root/osinfo || fail 'guest-get-osinfo'
xenchannel detach d org.qemu.guest_agent.0 || fail 'detach'
nothing_left "$D" 1
wait_until 60 'the link goes' gx d '[ ! -e /dev/xenchannel/org.qemu.guest_agent.0 ]'
xenchannel attach d org.qemu.guest_agent.0 --wait 30 || fail 'attach again'
wait_until 120 'qemu-guest-agent runs again' gx d '[ -e /dev/xenchannel/org.qemu.guest_agent.0 ] && systemctl is-active qemu-guest-agent && pidof qemu-ga'
timeout 100 python3 qga.py "$(socket_of d org.qemu.guest_agent.0)" guest-ping || fail 'guest-ping after the second attach'
xl destroy d
trap - EXIT
exit 0
