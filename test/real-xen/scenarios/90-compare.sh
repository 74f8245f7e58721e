# our daemon and the QEMU backend of libxl serve a channel each of one guest: speed, round trips, processor and memory
# limit: 600 s
ensure_daemon
xl domid g > /dev/null 2>&1 && xl destroy g
# xl gives the first channel of the list device id 0, which libxl then refuses: the second one is number 1.
small_guest c 'channel = [ "connection=pty,name=lost", "connection=socket,path=/run/qemu-channel,name=org.example.qemu" ]'
D=$(xl domid c)
xenchannel attach c org.example.native --wait 30 || fail 'attach'
equal 'states of the QEMU channel' "$(states c 1)" 4/4
QEMU=$(pgrep -f -- "-xen-domid $D " | head -1)
MIB=4
BYTES=$((MIB * 1048576))
head -c $BYTES /dev/urandom > /root/in
gx c "head -c $BYTES /dev/urandom > /tmp/out"
SUM_OUT=$(gx c 'sha256sum < /tmp/out | cut -d" " -f1')
printf G > /root/go
ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }
memory() { awk '/^Rss:/ { r += $2 } /^Anonymous:/ { a += $2 } END { print r, a }' "/proc/$1/smaps_rollup"; }
# measure WHO LINE SOCKET PID
measure() {
  local before
  gx c "$RAW; raw $2; (head -c $BYTES <&3 > /tmp/received; printf K >&3) > /dev/null 2>&1 & sleep 0.3"
  before=$(ticks "$4")
  client "$3" --send /root/in --receive 1 > /root/result || fail "$1: to the guest: $(cat /root/result)"
  to_ticks=$(($(ticks "$4") - before)) to_seconds=$(field seconds < /root/result)
  [ "$(gx c 'sha256sum < /tmp/received | cut -d" " -f1')" = "$(sha /root/in)" ] || fail "$1: sha256 in the guest"
  gx c "$RAW; raw $2; (head -c 1 <&3 > /dev/null; cat /tmp/out >&3) > /dev/null 2>&1 & sleep 0.3"
  before=$(ticks "$4")
  client "$3" --send /root/go --receive $BYTES > /root/result || fail "$1: from the guest: $(cat /root/result)"
  from_ticks=$(($(ticks "$4") - before)) from_seconds=$(field seconds < /root/result)
  [ "$(field sha256 < /root/result)" = "$SUM_OUT" ] || fail "$1: sha256 in dom0"
  gx c "$RAW; raw $2; (timeout 30 cat <&3 >&3) > /dev/null 2>&1 & echo \$! > /tmp/echo; sleep 0.3"
  before=$(ticks "$4")
  client "$3" --round-trips 200 > /root/result || fail "$1: round trips"
  trip_ticks=$(($(ticks "$4") - before))
  gx c 'kill $(pidof cat timeout) 2> /dev/null; true'
  awk -v who="$1" -v m=$MIB -v a="$to_seconds" -v b="$from_seconds" -v ta=$to_ticks -v tb=$from_ticks -v tt=$trip_ticks \
    -v p50="$(field p50_ms < /root/result)" -v p90="$(field p90_ms < /root/result)" -v mem="$(memory "$4")" 'BEGIN {
      printf "%-6s to guest %.2f MiB/s %.1f ticks/MiB | from guest %.2f MiB/s %.1f ticks/MiB | round trip p50 %s p90 %s ms, %d ticks per 200 | RSS, anonymous KiB %s\n",
        who, m/a, ta/m, m/b, tb/m, p50, p90, tt, mem }'
}
for round in 1 2 3; do
  measure qemu hvc1 /run/qemu-channel "$QEMU"
  measure native hvc2 "$(socket_of c org.example.native)" "$(daemon_pid)"
done
xl destroy c
exit 0
