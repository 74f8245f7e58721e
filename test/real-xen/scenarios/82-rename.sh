# a domain that is renamed keeps its channel, which is then found by the new name only
ensure_daemon; ensure_guest g
D=$(xl domid g)
x attach g org.example.named --wait 30 || fail 'attach'
xl rename g h || fail 'xl rename'
trap 'xl rename h g' EXIT
equal 'domid' "$(xl domid h)" "$D"
x status g 2> /root/refusal && fail 'the old name is still known'
cat /root/refusal
x list h
head -c 20000 /dev/urandom > /root/in
guest_receives h hvc1 20000
client "$(socket_of h org.example.named)" --send /root/in || fail 'sending'
equal 'sha256' "$(guest_received h)" "$(sha /root/in)"
x detach h org.example.named || fail 'detach by the new name'
nothing_left "$D" 1
trap - EXIT
xl rename h g || fail 'xl rename back'
quiet_kernel g
