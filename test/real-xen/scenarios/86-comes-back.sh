# a recorded channel is back after a restore and after a reboot, at the same path, and the guest has no dead device
# limit: 700 s
ensure_daemon; ensure_guest g
x attach g org.example.back --persist --path /run/back.sock --wait 30 || fail 'attach'
ends_meet() { # LINE N: there the guest takes what a client sends
  head -c 20000 /dev/urandom > /root/in
  guest_receives g "$1" 20000 "$2"
  client /run/back.sock --send /root/in || fail 'sending'
  equal 'sha256' "$(guest_received g)" "$(sha /root/in)"
}
connected_at() { [ "$(states g "$1" 2> /dev/null)" = 4/4 ]; }
restore() {
  xl save g /root/g.save > "$LOGS/xl-save-back.txt" 2>&1 || fail 'xl save'
  "$@"
  xl restore /root/g.save > "$LOGS/xl-restore-back.txt" 2>&1 || fail 'xl restore'
  rm /root/g.save
  gx --wait g 60 || fail 'guest is not back'
}

echo 'The daemon runs: the nodes are there before the guest goes on, and its old device takes them.'
restore true
wait_until 60 'device 1 is connected' connected_at 1
equal 'devices' "$(gx g 'ls /sys/bus/xen/devices | grep console-')" console-1
ends_meet hvc1 1

echo 'The daemon comes when the guest has gone on: the old device is dead, the channel gets another id, the dead one goes.'
restore stop_daemon
ensure_daemon
wait_until 200 'device 2 is connected' connected_at 2
wait_until 20 'the guest forgets the old device' gx g '[ ! -e /sys/bus/xen/devices/console-1 ]'
gx g 'ls -l /dev/hvc1 /dev/hvc2; dmesg | tail -60'

echo 'A reboot: the id stays.'
D=$(xl domid g)
gx g '(sleep 1; reboot -f) > /dev/null 2>&1 &'
wait_until 300 'the old domain goes' bash -c "! xenstore-exists /local/domain/$D"
gx --wait g 240 || fail 'guest is not back'
wait_until 200 'device 2 is connected' connected_at 2
ends_meet hvc1 2
x detach g org.example.back || fail 'detach'
equal 'records' "$(ls /var/lib/xenchannel)" ''
