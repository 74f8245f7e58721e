# fifty cycles with the daemon killed in ten of them, and one in which the domain is destroyed, leave nothing behind
# limit: 900 s
ensure_daemon; ensure_guest g
D=$(xl domid g)
node cycles.mjs g org.example.cycle 1 || fail 'the first cycle'
all_nodes > /root/before
supervise_daemon
node cycles.mjs g org.example.cycle 50 5 > /root/cycles || fail "cycling: $(tail -3 /root/cycles)"
tail -1 /root/cycles
grep -q '; 10 kills' /root/cycles || fail 'not ten kills'
wait_until 120 'daemon answers' daemon_answers
all_nodes > /root/after
diff /root/before /root/after || fail 'nodes differ'
still_carries g org.example.cycle

echo 'The domain goes in the middle of a cycle:'
node cycles.mjs g org.example.cycle 1000 > /root/cycles 2>&1 & CYCLES=$!
wait_until 60 'three cycles' grep -q 'cycle 3' /root/cycles
xl destroy g || fail 'xl destroy'
wait_until 20 'the domain goes' bash -c '! xl list | grep -E "^(g|\(null\)) "'
wait_until 20 'the cycles end' bash -c "! kill -0 $CYCLES"
wait $CYCLES && fail 'cycles succeed without a domain'
grep -E 'ChannelError|Error' /root/cycles | head -3
wait_until 60 'the daemon answers' daemon_answers
nothing_left "$D" 1
stop_supervision
start_daemon
