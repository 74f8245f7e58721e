# the unmodified qemu-guest-agent service of a Debian guest answers over a hot-plugged channel
# limit: 400 s
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
gx --wait d 240 || fail 'guest d did not come up'
gx d 'ls -l /opt/xenchannel /opt/xenchannel/udev'
