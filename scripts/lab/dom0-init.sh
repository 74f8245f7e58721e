#!/bin/bash
# First process of dom0 in the lab: starts the Xen daemons as Debian's own init script does, runs the job that the host
# left in /share, writes its exit status and the logs there, powers off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
mount -t proc proc /proc; mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs -o mode=755 tmpfs /run; mount -t tmpfs tmpfs /tmp
mkdir -p /run/lock
ln -sfn /proc/self/fd /dev/fd; ln -sfn /proc/self/fd/0 /dev/stdin
ln -sfn /proc/self/fd/1 /dev/stdout; ln -sfn /proc/self/fd/2 /dev/stderr
uptime_s() { read -r up _ < /proc/uptime; echo "$up"; }
hostname dom0; ip link set lo up
modprobe 9pnet_virtio; modprobe 9p
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none share /share || echo 'lab: no share'
for module in xen-privcmd xen-gntalloc xen-gntdev xen-evtchn xen-blkback; do modprobe $module; done
/lib/systemd/systemd-udevd --daemon
udevadm trigger --type=all; udevadm settle --timeout=60
[ -r /share/job.env ] && . /share/job.env
[ -e /dev/disk/by-id/virtio-product ] && mount -o ro /dev/disk/by-id/virtio-product /opt/xenchannel
[ -n "$XENSTORED" ] && echo "XENSTORED=$XENSTORED" >> /etc/default/xen
/etc/init.d/xen start
echo "lab: dom0 ready at $(uptime_s)s: $(pgrep -al 'xenstored|xenconsoled|qemu' | tr '\n' ';')"
status=127
if [ -e /share/run ]; then
  cd /share/files 2> /dev/null || cd /root || exit
  setsid -w /share/run > /share/output 2>&1 < /dev/null; status=$?
  echo "lab: the script ended with $status at $(uptime_s)s"
fi
echo "$status" > /share/status
dmesg > /share/logs/dom0-dmesg.txt; xl dmesg > /share/logs/xl-dmesg.txt 2>&1
cp -r /var/log/xen/. /share/logs/ 2> /dev/null
sync
[ -n "$LAB_SHELL" ] && setsid bash -i < /dev/hvc0 > /dev/hvc0 2>&1
umount /share
echo o > /proc/sysrq-trigger
sleep 60
