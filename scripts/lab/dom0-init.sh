#!/bin/bash
# First process of dom0 in the lab, unless systemd was asked for: gets the machine ready and starts the Xen daemons as
# Debian's own init script does, then runs the job.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
mount -t proc proc /proc; mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs -o mode=755 tmpfs /run; mount -t tmpfs tmpfs /tmp
mkdir -p /run/lock
ln -sfn /proc/self/fd /dev/fd; ln -sfn /proc/self/fd/0 /dev/stdin
ln -sfn /proc/self/fd/1 /dev/stdout; ln -sfn /proc/self/fd/2 /dev/stderr
hostname dom0; ip link set lo up
for module in xen-privcmd xen-gntalloc xen-gntdev xen-evtchn xen-blkback; do modprobe $module; done
/lib/systemd/systemd-udevd --daemon
udevadm trigger --type=all; udevadm settle --timeout=60
exec /sbin/lab-job
