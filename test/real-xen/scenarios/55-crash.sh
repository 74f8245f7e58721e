# a guest that crashes with its channel in full flow leaves no zombie, no node and no socket
ensure_daemon; ensure_guest g
D=$(xl domid g)
x attach g org.example.crash --wait 30 || fail 'attach'
S=$(socket_of g org.example.crash)
(timeout 100 socat -u "UNIX-CONNECT:$S" /dev/null; touch /root/crash-client-ended) &
gx g "$RAW; raw hvc1; (while :; do cat /proc/kallsyms; done >&3) > /dev/null 2>&1 & (sleep 1; echo c > /proc/sysrq-trigger) > /dev/null 2>&1 & sleep 0.2"
wait_until 90 'the domain goes' bash -c '! xl list | grep -E "^(g|\(null\)) "'
nothing_left "$D" 1
wait_until 10 'the socket goes' [ ! -e "$S" ]
wait_until 10 'the client hears of it' [ -e /root/crash-client-ended ]
wait_until 60 'the daemon answers' daemon_answers
rm -f /root/crash-client-ended
