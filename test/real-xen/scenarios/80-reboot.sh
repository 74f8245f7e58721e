# a domain that reboots is served again under its new domid, and nothing of the old one stays
ensure_daemon; ensure_guest g
D=$(xl domid g)
x attach g org.example.reboot --wait 30 || fail 'attach'
gx g '(sleep 1; reboot -f) > /dev/null 2>&1 &'
wait_until 300 'the old domain goes' bash -c "! xenstore-exists /local/domain/$D"
gx --wait g 240 || fail 'guest is not back'
N=$(xl domid g)
[ "$N" != "$D" ] || fail 'same domid'
nothing_left "$D" 1
xl list | grep -F '(null)' && fail 'a zombie stays'
[ -n "$(channels g)" ] || x attach g org.example.reboot --wait 30 || fail 'attach again'
head -c 65536 /dev/urandom > /root/in
guest_receives g hvc1 65536
client "$(socket_of g org.example.reboot)" --send /root/in || fail 'sending'
equal 'sha256' "$(guest_received g)" "$(sha /root/in)"
x detach g org.example.reboot || fail 'detach'
