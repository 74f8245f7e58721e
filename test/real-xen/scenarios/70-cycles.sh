# fifty hot-plug cycles leave nothing behind, neither in xenstore nor in the daemon nor in the guest
# limit: 900 s
ensure_daemon; ensure_guest g
D=$(xl domid g)
descriptors() { find "/proc/$(daemon_pid)/fd" -mindepth 1 | wc -l; }
memory() { awk '/^VmRSS/ { print $2 }' "/proc/$(daemon_pid)/status"; }
node cycles.mjs g org.example.cycle 1 || fail "the first cycle"
all_nodes > /root/before
fds=$(descriptors) kib=$(memory)
node cycles.mjs g org.example.cycle 50 || fail "cycling"
echo "resident memory: $kib KiB before, $(memory) KiB after"
equal 'open descriptors' "$(descriptors)" "$fds"
all_nodes > /root/after
diff /root/before /root/after || fail 'nodes differ'
nothing_left "$D" 1
still_carries g org.example.cycle
