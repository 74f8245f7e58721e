# seven channels attached in random order all carry data of their own, and the eighth is refused
# limit: 900 s
ensure_daemon; ensure_guest g
D=$(xl domid g)
for n in $(seq 1 7 | shuf); do
  xenchannel attach g "org.example.n$n" --device-id "$n" || fail "attach $n"
  echo "attached $n"
done
for n in 1 2 3 4 5 6 7; do wait_until 30 "channel $n connects" connected g "$n"; done
agrees_with_xl g 7
xenchannel attach g org.example.n8 2> /root/refusal && fail 'the eighth was accepted'
cat /root/refusal
grep -q 'a Linux guest has ttys for 7 channels' /root/refusal || fail 'the reason is not said'
# Which line belongs to which channel is not known: the guest says on each line what it is called, the host listens.
for n in 1 2 3 4 5 6 7; do client "$(socket_of g "org.example.n$n")" --receive 5 --save "/root/line$n" --seconds 60 > /dev/null & done
gx g "$RAW; for i in 1 2 3 4 5 6 7; do (raw hvc\$i; printf 'hvc%d\n' \$i >&3) & done; wait"
wait
cat /root/line? | sort | tr '\n' ' '
equal 'lines that were heard' "$(sort -u /root/line? | wc -l)" 7
for n in 1 2 3 4 5 6 7; do
  line=$(cat "/root/line$n")
  head -c 65536 /dev/urandom > /root/in
  guest_receives g "$line" 65536
  client "$(socket_of g "org.example.n$n")" --send /root/in > /dev/null || fail "sending on $n"
  equal "sha256 of channel $n on $line" "$(guest_received g)" "$(sha /root/in)"
done
rm -f /root/detach-failed
for n in 1 2 3 4 5 6 7; do (xenchannel detach g "org.example.n$n" || echo "$n" >> /root/detach-failed) & done
wait
[ ! -e /root/detach-failed ] || fail "detach all at once: $(tr '\n' ' ' < /root/detach-failed)"
for n in 1 2 3 4 5 6 7; do nothing_left "$D" "$n"; done
