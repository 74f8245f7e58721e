# beside a channel that libxl made, one of QEMU and one of ours carry 8 MiB each way, are detached and attached again
# limit: 900 s
ensure_daemon
xl domid q > /dev/null 2>&1 && xl destroy q
# A PV domain has a QEMU when a channel is configured. libxl loses the first channel of the list, so the second is number 1.
small_guest q 'channel = [ "connection=pty,name=lost", "connection=socket,path=/run/q-libxl.sock,name=org.example.libxl" ]'
D=$(xl domid q)
wait_until 60 "libxl's channel connects" connected q 1
gx q 'dmesg -c > /dev/null'
chardevs() { python3 qmp.py "$D" | tr '\n' ' '; }
before=$(chardevs)
echo "chardevs: $before"
# Bulk both ways through whoever serves it. The guest answers one byte when it has all: QEMU forgets what a client that
# has closed has sent.
both_ways() { # NAME LINE SOCKET MIB
  local bytes=$(($4 * 1048576)) sum
  head -c $bytes /dev/urandom > /root/in
  printf G > /root/go
  gx q "$RAW; raw $2; (head -c $bytes <&3 > /tmp/received; printf K >&3) > /dev/null 2>&1 & head -c $bytes /dev/urandom > /tmp/out; sleep 0.3"
  client "$3" --send /root/in --receive 1 --seconds 300 > /root/result || fail "$1: sending: $(cat /root/result)"
  equal "sha256 in the guest, $1" "$(gx q 'sha256sum < /tmp/received | cut -d" " -f1')" "$(sha /root/in)"
  gx q "$RAW; raw $2; (head -c 1 <&3 > /dev/null; cat /tmp/out >&3) > /dev/null 2>&1 & sleep 0.3"
  sum=$(gx q 'sha256sum < /tmp/out | cut -d" " -f1')
  client "$3" --send /root/go --receive $bytes --seconds 300 > /root/result || fail "$1: receiving: $(cat /root/result)"
  cat /root/result
  equal "sha256 in dom0, $1" "$(field sha256 < /root/result)" "$sum"
}
S=/run/q-ours.sock
xenchannel attach q org.example.qemu --backend qemu --path $S --wait 60 || fail 'attach to QEMU'
equal 'chardevs while attached' "$(chardevs)" "$(echo "$before libxl-channel2" | tr ' ' '\n' | sort | grep . | tr '\n' ' ')"
xenchannel attach q org.example.native --wait 60 || fail 'attach beside it'
xenchannel list q
agrees_with_xl q 3
both_ways qemu hvc2 $S 8
both_ways native hvc3 "$(socket_of q org.example.native)" 8
both_ways libxl hvc1 /run/q-libxl.sock 1

xenchannel detach q org.example.libxl 2> /root/refusal && fail "libxl's own channel was taken off"
cat /root/refusal
xenchannel detach q org.example.qemu || fail 'detach'
nothing_left "$D" 2
equal 'chardevs after the detach' "$(chardevs)" "$before"
[ ! -e $S ] || fail "$S is still there"
both_ways native hvc3 "$(socket_of q org.example.native)" 1
xenchannel attach q org.example.qemu --backend qemu --path $S --wait 60 || fail 'attach again'
both_ways qemu hvc2 $S 1
xenchannel attach q org.example.other --backend qemu --path $S 2> /root/refusal && fail 'a path in use was accepted'
cat /root/refusal
equal 'chardevs after a refusal' "$(chardevs)" "$(echo "$before libxl-channel2" | tr ' ' '\n' | sort | grep . | tr '\n' ' ')"
xenchannel detach q org.example.native || fail 'detach of ours'
both_ways libxl hvc1 /run/q-libxl.sock 1
quiet_kernel q
xl destroy q || fail 'xl destroy'
wait_until 10 'the domain goes' bash -c '! xl list | grep -E "^(q|\(null\)) "'
for n in 1 2 3; do nothing_left "$D" $n; done

echo 'A domain without a QEMU:'
ensure_guest g
xenchannel attach g org.example.qemu --backend qemu 2> /root/refusal && fail 'a QEMU was found where there is none'
cat /root/refusal
grep -q 'does domain .* have a QEMU' /root/refusal || fail 'the reason is not said'
equal 'channels of g' "$(channels g)" ''
