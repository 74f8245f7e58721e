# a channel is attached to a running domain, carries 8 MiB each way, is detached and attached again
# limit: 900 s
ensure_daemon; ensure_guest g
D=$(xl domid g)
start=$(now)
xenchannel attach g org.example.first --wait 30 || fail 'attach'
echo "attached after $(awk -v s="$start" '{ print $1 - s }' /proc/uptime) s"
equal 'states' "$(states g 1)" 4/4
agrees_with_xl g 1
S=$(socket_of g org.example.first)
[ -S "$S" ] || fail "no socket at $S"
head -c 8388608 /dev/urandom > /root/in
guest_receives g hvc1 8388608
client "$S" --send /root/in --seconds 300 || fail 'sending'
equal 'sha256 in the guest' "$(guest_received g)" "$(sha /root/in)"
gx g 'head -c 8388608 /dev/urandom > /tmp/out'
client "$S" --receive 8388608 --seconds 300 > /root/result & CLIENT=$!
GX_LIMIT=300 gx g "$RAW; raw hvc1; cat /tmp/out >&3" || fail 'the guest could not write'
wait $CLIENT || fail 'receiving'
cat /root/result
equal 'sha256 in dom0' "$(field sha256 < /root/result)" "$(gx g 'sha256sum < /tmp/out | cut -d" " -f1')"
start=$(now)
xenchannel detach g org.example.first || fail 'detach'
echo "detached after $(awk -v s="$start" '{ print $1 - s }' /proc/uptime) s"
nothing_left "$D" 1
[ -e "$S" ] && fail "$S is still there"
xenchannel attach g org.example.first --wait 30 || fail 'attach again'
# This client closes right after its write, which QEMU would cut after 1024 bytes.
head -c 65536 /dev/urandom > /root/in
guest_receives g hvc1 65536
client "$S" --send /root/in || fail 'sending after the second attach'
equal 'sha256 of what a client wrote before it closed' "$(guest_received g)" "$(sha /root/in)"
xenchannel detach g org.example.first || fail 'detach again'
nothing_left "$D" 1
quiet_kernel g
