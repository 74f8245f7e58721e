# a killed daemon comes back to its channels: nothing that the guest has said is lost, at most one batch comes twice, and it says so
# limit: 900 s
ensure_daemon; ensure_guest g
x attach g org.example.kill --wait 30 || fail 'attach'
S=$(socket_of g org.example.kill)
gx g 'seq -w 0 1048575 > /tmp/records'
# Python itself, not a shell around it: it will be sent a signal. It waits for more than there is: some may come twice.
python3 "$HERE/client.py" "$S" --receive 16777216 --records 1048576 --reconnect --seconds 600 > /root/result & CLIENT=$!
GX_LIMIT=600 gx g "$RAW; raw hvc1; cat /tmp/records >&3" & WRITER=$!
SAID='the guest lost nothing by the death of a daemon'
reports=$(grep -c "$SAID" "$LOGS/daemon.log")
for i in 1 2 3; do
  # Not the host-open key: that one still says what the dead daemon wrote.
  wait_until 120 'the client is back' status_has '"connected":true'
  sleep 1
  stop_daemon KILL
  start_daemon
  echo "killed $i at $(now)"
  wait_until 120 'daemon answers' daemon_answers
done
wait $WRITER || fail 'the guest could not write'
wait_until 300 'the client has it all' status_has '"spoolBytes":0'
sleep 1
kill -TERM $CLIENT
wait $CLIENT
cat /root/result
equal 'records missing' "$(field missing < /root/result)" 0
# what comes twice may begin in the middle of a line
[ "$(field garbled < /root/result)" -le 6 ] || fail 'garbled'
repeated=$(field repeated < /root/result)
# a batch is at most 64 KiB: 8192 records, three kills
[ "$repeated" -le $((3 * 8192)) ] || fail "$repeated records repeated"
equal 'states' "$(states g 1)" 4/4
equal 'deaths that the daemon reported' "$(($(grep -c "$SAID" "$LOGS/daemon.log") - reports))" 3
grep 'bytes may be missing' "$LOGS/daemon.log" && fail 'the daemon reported a gap'
# A guest that writes while nobody serves the ring spins (linux:drivers/tty/hvc/hvc_xen.c, domU_write_console); on a slow
# machine that may last until its watchdog says so. Nothing worse may be there.
gx g 'dmesg | grep -v "soft lockup" | grep -iE "bug:|oops"' && fail 'the guest kernel complains'
x detach g org.example.kill || fail 'detach'
