# a domain that is saved and restored loses its hot-plugged channels, and can have them again
# limit: 400 s
ensure_daemon; ensure_guest g
D=$(xl domid g)
x attach g org.example.saved --wait 30 || fail 'attach'
gx g "$RAW; (raw hvc1; sleep 1000) > /dev/null 2>&1 & sleep 0.3"
xl save g /root/g.save > "$LOGS/xl-save.txt" 2>&1 || fail 'xl save'
wait_until 10 'the domain goes' bash -c '! xl list | grep -E "^(g|\(null\)) "'
nothing_left "$D" 1
xl restore /root/g.save > "$LOGS/xl-restore.txt" 2>&1 || fail 'xl restore'
rm /root/g.save
gx --wait g 60 || fail 'guest is not back'
equal 'channels after the restore' "$(channels g)" ''
# The kernel of the guest still has the device and takes new nodes at the same place for the old ones. It looks whether
# they are there when a watch fires (linux:drivers/xen/xenbus/xenbus_probe.c, xenbus_dev_changed), so nodes that come
# and go make it forget.
xenstore-write "$(frontend g 1)" ''
xenstore-rm "$(frontend g 1)"
wait_until 20 'the guest forgets the old device' gx g '[ ! -e /sys/bus/xen/devices/console-1 ]'
x attach g org.example.saved --wait 60 || fail 'attach again'
equal 'states' "$(states g 1)" 4/4
x detach g org.example.saved || fail 'detach'
# A process of this guest had the line open when it was saved, and still has: as long as it does, whoever opens the line
# shares its old interrupt, which no event reaches any more. Linux 6.1 does the same to libxl's own channels.
xl destroy g
