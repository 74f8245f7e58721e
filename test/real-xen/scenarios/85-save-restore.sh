# a domain that is saved and restored can have its channel again
ensure_daemon; ensure_guest g
D=$(xl domid g)
xenchannel attach g org.example.saved --wait 30 || fail 'attach'
gx g "$RAW; (raw hvc1; sleep 1000) > /dev/null 2>&1 & sleep 0.3"
xl save g /root/g.save || fail 'xl save'
wait_until 10 'the domain goes' bash -c '! xl list | grep -E "^(g|\(null\)) "'
nothing_left "$D" 1
xl restore /root/g.save || fail 'xl restore'
rm /root/g.save
gx --wait g 60 || fail 'guest is not back'
channels g
xenchannel list
gx g 'ls /sys/bus/xen/devices; dmesg | tail -15'
[ -n "$(channels g)" ] || xenchannel attach g org.example.saved --wait 30 || fail 'attach again'
equal 'states' "$(states g 1)" 4/4
