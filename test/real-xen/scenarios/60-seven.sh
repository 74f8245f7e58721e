# seven channels attached, detached and attached again in random order: every link leads to its channel; the eighth is refused
# limit: 900 s
ensure_daemon; ensure_guest g
D=$(xl domid g)
names() { seq -f org.example.n%g 1 7; }
mapfile -t PAIRS < <(names | sed "s:.*:&=$RUN/dom$D/&:")
# The helper for guests without Node: all it has here is busybox, xenstore-* and stty.
{ echo "cat > /usr/bin/xenchannel-link << 'END'"; cat /opt/xenchannel/udev/xenchannel-link; echo END; } | gx g
gx g 'setsid sh /usr/bin/xenchannel-link run > /tmp/xenchannel-link.txt 2>&1 < /dev/null & echo $! > /run/helper.pid'

seq 1 7 | shuf | sed 's/.*/attach g org.example.n& --device-id & --wait 30/' | commands || fail 'attach'
agrees_with_xl g 7
x attach g org.example.n8 2> /root/refusal && fail 'the eighth was accepted'
cat /root/refusal
grep -q 'a Linux guest has ttys for 7 channels' /root/refusal || fail 'the reason is not said'
prove g 'attached' "${PAIRS[@]}"
gx g "ls -l /dev/xenchannel"
gx g "$RAW; for n in 1 2 3 4 5 6 7; do
    (raw xenchannel/org.example.n\$n \$n; touch /tmp/open.\$n; head -c 65536 <&3 > /tmp/received.\$n; touch /tmp/end.\$n) > /dev/null 2>&1 &
  done; while [ \$(ls /tmp/open.* | wc -l) != 7 ]; do sleep 0.1; done" || fail 'the lines cannot be opened'
for n in 1 2 3 4 5 6 7; do
  head -c 65536 /dev/urandom > "/root/in.$n"
  client "$RUN/dom$D/org.example.n$n" --send "/root/in.$n" > /dev/null || fail "sending on $n"
done
gx g 'while [ $(ls /tmp/end.* | wc -l) != 7 ]; do sleep 0.1; done; for n in 1 2 3 4 5 6 7; do sha256sum < /tmp/received.$n; done' > /root/received
for n in 1 2 3 4 5 6 7; do equal "sha256 of channel $n" "$(sed -n "$n s/ .*//p" /root/received)" "$(sha "/root/in.$n")"; done

names | shuf | sed 's/^/detach g /' | commands || fail 'detach'
for n in 1 2 3 4 5 6 7; do nothing_left "$D" "$n"; done
await_links g gone $(names)
names | shuf | sed 's/^/attach g /' | commands || fail 'attach again'
prove g 'attached again' "${PAIRS[@]}"
# What was last is first now, and there are holes on the way.
names | shuf -n 3 > /root/some
sed 's/^/detach g /' /root/some | commands || fail 'detach three'
await_links g gone $(cat /root/some)
shuf /root/some | sed 's/^/attach g /' | commands || fail 'attach three again'
prove g 'three of them once more' "${PAIRS[@]}"
gx g "ls -l /dev/xenchannel"

rm -f /root/detach-failed
for name in $(names); do (x detach g "$name" || echo "$name" >> /root/detach-failed) & done
wait
[ ! -e /root/detach-failed ] || fail "detach all at once: $(tr '\n' ' ' < /root/detach-failed)"
for n in 1 2 3 4 5 6 7; do nothing_left "$D" "$n"; done
await_links g gone $(names)
gx g 'helper=$(cat /run/helper.pid); kill $helper; while [ -d /proc/$helper ]; do sleep 0.1; done' || fail 'the helper does not end'
quiet_kernel g
