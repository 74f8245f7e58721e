#!/bin/busybox sh
# shellcheck shell=dash
# First process of the small guest: udev, a record of its events from the start, and a plain shell on hvc0, which gx
# drives from dom0. Everything else is up to the test.
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LANG=C TERM=dumb PAGER=cat SYSTEMD_PAGER=cat
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /run; mkdir -p /run/udev
modprobe xenfs; mkdir -p /proc/xen; mount -t xenfs xenfs /proc/xen 2> /dev/null
for module in xen-evtchn xen-gntdev xen-privcmd; do modprobe $module; done
/lib/systemd/systemd-udevd --daemon
udevadm monitor --property --kernel --udev > /tmp/udev-events.txt 2>&1 &
udevadm trigger --type=all --action=add; udevadm settle --timeout=60
hostname guest
dmesg -n 1
while :; do
  setsid sh -c 'exec sh < /dev/hvc0 > /dev/hvc0 2>&1'
  sleep 0.2
done
