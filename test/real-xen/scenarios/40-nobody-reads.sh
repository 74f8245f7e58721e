# a guest that writes 4 MiB into a channel that nobody reads is not held up, and what was dropped is counted
ensure_daemon; ensure_guest g
x attach g org.example.unread --wait 30 || fail 'attach'
gx g 'head -c 4194304 /dev/zero > /tmp/zeros'
start=$(now)
GX_LIMIT=60 gx g "$RAW; raw hvc1; cat /tmp/zeros >&3" || fail 'the guest is held up'
echo "4 MiB written after $(awk -v s="$start" '{ print $1 - s }' /proc/uptime) s"
gx g 'echo alive' || fail 'the guest does not answer'
x status g org.example.unread --json | tee /root/status
grep -q 3145728 /root/status || fail 'the count of dropped bytes (3145728) is not shown'
x detach g org.example.unread || fail 'detach'
