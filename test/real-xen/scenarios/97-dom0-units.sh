# the systemd units of dom0 serve a guest through a restart and a SIGKILL: nothing is lost, nobody has to do anything
# limit: 500 s
[ -d /run/systemd/system ] || fail 'the first process of dom0 is not systemd'
UNIT=xenchannel-daemon.service
BINDIR=/usr/local/bin sh /opt/xenchannel/scripts/dom0/install.sh || fail 'install.sh'
trap 'systemctl --no-pager status $UNIT xenchannel-daemon.socket; journalctl --no-pager -o cat -u $UNIT -n 40' EXIT
systemctl enable --now $UNIT || fail 'the unit does not start'
for unit in $UNIT xenchannel-daemon.socket xen.service; do equal "$unit" "$(systemctl is-active $unit)" active; done
systemctl show -P After $UNIT | grep -qw xen.service || fail 'not ordered behind what starts xenstored here'
small_guest g
gx g 'dmesg -c > /dev/null; seq -w 0 1048575 | head -n 262144 > /tmp/records'
xenchannel attach g org.example.unit --persist --wait 60 || fail 'attach'
S=$(socket_of g org.example.unit)
python3 "$HERE/client.py" "$S" --receive 16777216 --records 262144 --reconnect --seconds 400 > /root/result & CLIENT=$!
GX_LIMIT=400 gx g "$RAW; raw hvc1; cat /tmp/records >&3" & WRITER=$!
wait_until 60 'the client is there' status_has '"connected":true'
sleep 1
systemctl restart $UNIT || fail 'restart'
wait_until 60 'the client is back after the restart' status_has '"connected":true'
sleep 1
systemctl kill --signal=KILL --kill-whom=main $UNIT
wait $WRITER || fail 'the guest could not write'
wait_until 60 'the client is back after the kill' status_has '"connected":true'
wait_until 200 'the client has it all' status_has '"spoolBytes":0'
sleep 1
kill -TERM $CLIENT
wait $CLIENT
cat /root/result
equal 'records missing' "$(field missing < /root/result)" 0
repeated=$(field repeated < /root/result)
[ "$repeated" -le 8192 ] || fail "$repeated records repeated"
equal 'starts again after a death' "$(systemctl show -P NRestarts $UNIT)" 1
equal 'records of wanted channels' "$(find /var/lib/xenchannel -type f | wc -l)" 1
xenchannel detach g org.example.unit || fail 'detach'
xl destroy g
systemctl disable --now $UNIT xenchannel-daemon.socket || fail 'the unit does not stop'
[ ! -e $RUN/control.sock ] || fail 'the control socket is still there'
trap - EXIT
