# an orderly daemon restart under load loses and repeats nothing, and the guest does not notice
# limit: 900 s
ensure_daemon; ensure_guest g
x attach g org.example.restart --wait 30 || fail 'attach'
S=$(socket_of g org.example.restart)
gx g 'seq -w 0 1048575 > /tmp/records; ls -l /tmp/records'
client "$S" --receive 8388608 --records 1048576 --reconnect --seconds 600 > /root/result & CLIENT=$!
GX_LIMIT=600 gx g "$RAW; raw hvc1; cat /tmp/records >&3" & WRITER=$!
for i in 1 2 3; do
  sleep 1
  stop_daemon TERM
  start_daemon
  echo "restart $i at $(now)"
  wait_until 120 'daemon answers' daemon_answers
done
wait $WRITER || fail 'the guest could not write'
wait $CLIENT || fail "receiving: $(cat /root/result)"
cat /root/result
equal 'records missing' "$(field missing < /root/result)" 0
equal 'records repeated' "$(field repeated < /root/result)" 0
equal 'lines garbled' "$(field garbled < /root/result)" 0
equal 'states' "$(states g 1)" 4/4
x detach g org.example.restart || fail 'detach'
