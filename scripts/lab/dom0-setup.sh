#!/bin/bash
# Prepares the tree of dom0 (argument: the directory) for being booted by systemd, as a stock installation is: the Xen
# daemons come from Debian's own xen.service, and the job is a service after them.
set -euo pipefail
tree=$1
echo dom0 > "$tree/etc/hostname"
printf '/dev/vda / ext4 rw,noatime 0 0\n' > "$tree/etc/fstab"
printf '%s\n' xen-privcmd xen-gntalloc xen-gntdev xen-evtchn xen-blkback > "$tree/etc/modules-load.d/lab.conf"
mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
cat > "$tree/etc/systemd/system/lab-job.service" << 'U'
[Unit]
Description=The job of the lab
After=xen.service
[Service]
ExecStart=/sbin/lab-job
StandardOutput=tty
StandardError=tty
TTYPath=/dev/hvc0
KillMode=none
U
ln -sf ../lab-job.service "$tree/etc/systemd/system/multi-user.target.wants/lab-job.service"
for unit in serial-getty@hvc0.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer fstrim.timer \
  e2scrub_all.timer e2scrub_reap.service xendomains.service; do
  ln -sf /dev/null "$tree/etc/systemd/system/$unit"
done
