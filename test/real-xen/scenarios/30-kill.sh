# a killed daemon comes back to its channels; what was on the way is repeated by at most one batch
# limit: 900 s
ensure_daemon; ensure_guest g
xenchannel attach g org.example.kill --wait 30 || fail 'attach'
S=$(socket_of g org.example.kill)
gx g 'seq -w 0 1048575 > /tmp/records'
client "$S" --receive 8388608 --records --reconnect --seconds 600 > /root/result & CLIENT=$!
GX_LIMIT=600 gx g "$RAW; raw hvc1; cat /tmp/records >&3" & WRITER=$!
for i in 1 2 3; do
  sleep 1
  stop_daemon KILL
  start_daemon
  echo "killed $i at $(now)"
  wait_until 30 'daemon answers' xenchannel status
done
wait $WRITER || fail 'the guest could not write'
wait $CLIENT
cat /root/result
equal 'records missing' "$(field missing < /root/result)" 0
repeated=$(field repeated < /root/result)
# a batch is at most 64 KiB: 8192 records, three kills
[ "$repeated" -le $((3 * 8192)) ] || fail "$repeated records repeated"
equal 'states' "$(states g 1)" 4/4
gx g 'dmesg | grep -iE "warn|bug:|oops"' && fail 'the guest kernel complains'
xenchannel detach g org.example.kill || fail 'detach'
