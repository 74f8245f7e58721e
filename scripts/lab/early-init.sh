#!/bin/busybox sh
# shellcheck shell=dash
# First process of dom0 and of the Debian guest: loads what the root disk needs, mounts it, goes on there.
# Kernel command line: lab.root=DEVICE, lab.init=PROGRAM, lab.product=DEVICE (to mount read-only at /opt/xenchannel).
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
root=/dev/vda init=/sbin/lab-init product=
for word in $(cat /proc/cmdline); do
  case $word in lab.root=*) root=${word#*=} ;; lab.init=*) init=${word#*=} ;; lab.product=*) product=${word#*=} ;; esac
done
case $root in /dev/xvd*) modules='xen-blkfront' ;; *) modules='virtio_pci virtio_blk' ;; esac
for module in $modules crc32c_generic ext4; do modprobe $module; done
wait_for() {
  tries=0
  while [ ! -e "$1" ] && [ $tries -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
}
wait_for "$root"
mount -t ext4 -o rw,noatime "$root" /newroot || exec sh
if [ -n "$product" ]; then
  wait_for "$product"
  mount -t ext4 -o ro "$product" /newroot/opt/xenchannel
fi
umount /sys /proc
mount --move /dev /newroot/dev
exec switch_root /newroot "$init"
