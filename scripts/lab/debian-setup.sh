#!/bin/bash
# Prepares the tree of the Debian guest (argument: the directory): as a stock installation would be, apart from a root
# shell on hvc0 in place of the login prompt, which gx drives from dom0.
set -euo pipefail
tree=$1
echo debian > "$tree/etc/hostname"
printf '/dev/xvda / ext4 rw,noatime 0 0\n' > "$tree/etc/fstab"
mkdir -p "$tree/opt/xenchannel" "$tree/etc/systemd/system/multi-user.target.wants"
printf '#!/bin/sh\nexec node /opt/xenchannel/dist/src/cli/main.js "$@"\n' > "$tree/usr/local/bin/xenchannel"
chmod 755 "$tree/usr/local/bin/xenchannel"
cat > "$tree/etc/systemd/system/lab-shell.service" << 'U'
[Unit]
Description=Root shell on hvc0 for the lab
Conflicts=serial-getty@hvc0.service getty@hvc0.service
[Service]
ExecStart=/bin/sh -c 'while :; do setsid sh -c "exec sh < /dev/hvc0 > /dev/hvc0 2>&1"; sleep 0.2; done'
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C TERM=dumb PAGER=cat SYSTEMD_PAGER=cat
IgnoreSIGPIPE=no
# An interactive shell ignores SIGTERM, and a reboot would wait for it.
KillSignal=SIGKILL
[Install]
WantedBy=multi-user.target
U
ln -sf ../lab-shell.service "$tree/etc/systemd/system/multi-user.target.wants/lab-shell.service"
for unit in serial-getty@hvc0.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service; do
  ln -sf /dev/null "$tree/etc/systemd/system/$unit"
done
