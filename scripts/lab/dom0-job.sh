#!/bin/bash
# Runs in dom0 when the machine is ready: the script that the host left in /share. Writes its exit status and the logs
# there, powers off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
uptime_s() { read -r up _ < /proc/uptime; echo "$up"; }
modprobe 9pnet_virtio; modprobe 9p
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none share /share || echo 'lab: no share'
[ -r /share/job.env ] && . /share/job.env
[ -e /dev/disk/by-id/virtio-product ] && mount -o ro /dev/disk/by-id/virtio-product /opt/xenchannel
[ -n "$XENSTORED" ] && echo "XENSTORED=$XENSTORED" >> /etc/default/xen
# systemd has started them.
[ -d /run/systemd/system ] || /etc/init.d/xen start
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
