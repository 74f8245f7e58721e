# our daemon and the QEMU backend of libxl serve a channel each of one guest: speed, round trips, processor and memory
# limit: 900 s
# Prints a table with targets. Speeds under emulation are no reason to fail; wrong data are.
ensure_daemon
for guest in g c; do xl domid $guest > /dev/null 2>&1 && xl destroy $guest; done
rm -f /root/figures
# Starts with a daemon that has not served anybody: what it has in memory is for these channels.
stop_daemon; start_daemon
# xl gives the first channel of the list device id 0, which libxl then refuses: the second one is number 1.
guest_with_qemu() {
  small_guest "$1" "channel = [ \"connection=pty,name=lost\", \"connection=socket,path=/run/qemu-channel-$1,name=org.example.qemu\" ]"
  wait_until 60 'the QEMU channel connects' connected "$1" 1
}
qemu_of() { pgrep -f -- "-xen-domid $(xl domid "$1") " | head -1; }
ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }
figure() { echo "$*" >> /root/figures; }
# What processes have for themselves and their share of the rest, and what they have alone. KiB.
memory() { # WHO DOMAINS PID...
  local who=$1 domains=$2 pid; shift 2
  for pid; do cat "/proc/$pid/smaps_rollup"; done |
    awk -v who="$who" -v n="$domains" '/^Pss:/ { p += $2 } /^Rss:/ { r += $2 } /^Anonymous:/ { a += $2 }
      END { print who, "pss" n, p; print who, "rss" n, r; print who, "anonymous" n, a }' >> /root/figures
}

guest_with_qemu c
xenchannel attach c org.example.native --wait 30 || fail 'attach'
QEMU=$(qemu_of c)
MIB=4
BYTES=$((MIB * 1048576))
head -c $BYTES /dev/urandom > /root/in
gx c "head -c $BYTES /dev/urandom > /tmp/out"
SUM_OUT=$(gx c 'sha256sum < /tmp/out | cut -d" " -f1')
SUM_IN=$(sha /root/in)
printf G > /root/go
# measure ROUND WHO LINE SOCKET PID
measure() {
  local before round=$1 who=$2
  # What echoed on the other's line is not needed any more.
  gx c "kill \$(pidof cat timeout) 2> /dev/null; $RAW; raw $3; (head -c $BYTES <&3 > /tmp/received; printf K >&3) > /dev/null 2>&1 & sleep 0.3"
  before=$(ticks "$5")
  client "$4" --send /root/in --receive 1 > /root/result || fail "$who: to the guest: $(cat /root/result)"
  figure "$who" "to_ticks$round" $(($(ticks "$5") - before))
  figure "$who" "to_seconds$round" "$(field seconds < /root/result)"
  gx c "sha256sum < /tmp/received; $RAW; raw $3; (head -c 1 <&3 > /dev/null; cat /tmp/out >&3) > /dev/null 2>&1 & sleep 0.3" > /root/received
  [ "$(cut -d' ' -f1 /root/received)" = "$SUM_IN" ] || fail "$who: sha256 in the guest"
  before=$(ticks "$5")
  client "$4" --send /root/go --receive $BYTES > /root/result || fail "$who: from the guest: $(cat /root/result)"
  figure "$who" "from_ticks$round" $(($(ticks "$5") - before))
  figure "$who" "from_seconds$round" "$(field seconds < /root/result)"
  [ "$(field sha256 < /root/result)" = "$SUM_OUT" ] || fail "$who: sha256 in dom0"
  gx c "$RAW; raw $3; (timeout 60 cat <&3 >&3) > /dev/null 2>&1 & sleep 0.3"
  before=$(ticks "$5")
  client "$4" --round-trips 300 > /root/result || fail "$who: round trips"
  figure "$who" "trip_ticks$round" $(($(ticks "$5") - before))
  figure "$who" "trip_p50_$round" "$(field p50_ms < /root/result)"
}
for round in 1 2 3 4 5 6 7 8; do
  measure $round qemu hvc1 /run/qemu-channel-c "$QEMU"
  measure $round native hvc2 "$(socket_of c org.example.native)" "$(daemon_pid)"
done
python3 compare.py speed $MIB < /root/figures || fail 'the figures are incomplete'
memory qemu 1 "$QEMU"
memory native 1 "$(daemon_pid)"
guest_with_qemu c2 & OTHER=$!
guest_with_qemu c3
wait $OTHER || fail 'guest c2'
for guest in c2 c3; do
  xenchannel attach $guest org.example.native --wait 30 || fail "attach to $guest"
done
memory qemu 3 "$QEMU" "$(qemu_of c2)" "$(qemu_of c3)"
memory native 3 "$(daemon_pid)"
python3 compare.py memory $MIB < /root/figures || fail 'the figures are incomplete'
for guest in c c2 c3; do xl destroy $guest; done
exit 0
