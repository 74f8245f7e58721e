# a killed daemon comes back to its channels: lost is at most what it held, repeated at most one batch, and it says so
# limit: 900 s
ensure_daemon; ensure_guest g
xenchannel attach g org.example.kill --wait 30 || fail 'attach'
S=$(socket_of g org.example.kill)
gx g 'seq -w 0 1048575 > /tmp/records'
# python itself, not a shell around it: it will be sent a signal
python3 "$HERE/client.py" "$S" --receive 8388608 --records --reconnect --seconds 600 > /root/result & CLIENT=$!
GX_LIMIT=600 gx g "$RAW; raw hvc1; cat /tmp/records >&3" & WRITER=$!
reports=$(grep -c 'bytes may be missing or repeated' "$LOGS/daemon.log")
for i in 1 2 3; do
  wait_until 60 'the client is back' bash -c ". ./lib.sh; [ \"\$(xenstore-read \$(frontend g 1)/xenchannel-host-open)\" = 1 ]"
  sleep 1
  stop_daemon KILL
  start_daemon
  echo "killed $i at $(now)"
  wait_until 30 'daemon answers' xenchannel status
done
wait $WRITER || fail 'the guest could not write'
# The bytes that a killed daemon held never come: the client is told to stop.
wait_until 300 'the guest has been emptied' bash -c '! kill -0 $1 2> /dev/null || xenchannel status g --json | grep -q "\"spoolBytes\": 0"' - $CLIENT
sleep 1
kill -TERM $CLIENT 2> /dev/null
wait $CLIENT
cat /root/result
missing=$(field missing < /root/result)
# three spools of 1 MiB at the very most; none when the client keeps up
[ "$missing" -le $((3 * 131072)) ] || fail "$missing records are missing"
# a loss may begin and end in the middle of a line
[ "$(field garbled < /root/result)" -le 6 ] || fail 'garbled'
repeated=$(field repeated < /root/result)
# a batch is at most 64 KiB: 8192 records, three kills
[ "$repeated" -le $((3 * 8192)) ] || fail "$repeated records repeated"
equal 'states' "$(states g 1)" 4/4
equal 'gaps that the daemon reported' "$(($(grep -c 'bytes may be missing or repeated' "$LOGS/daemon.log") - reports))" 3
# A guest that writes while nobody serves the ring spins (linux:drivers/tty/hvc/hvc_xen.c, domU_write_console); on a slow
# machine that may last until its watchdog says so. Nothing worse may be there.
gx g 'dmesg | grep -v "soft lockup" | grep -iE "bug:|oops"' && fail 'the guest kernel complains'
xenchannel detach g org.example.kill || fail 'detach'
