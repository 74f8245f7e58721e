# a domain that is destroyed while its channel is in use leaves no zombie, no node and no socket
ensure_daemon; ensure_guest g
D=$(xl domid g)
x attach g org.example.destroy --wait 30 || fail 'attach'
S=$(socket_of g org.example.destroy)
(timeout 60 socat -u "UNIX-CONNECT:$S" /dev/null; touch /root/client-ended) & 
gx g "$RAW; raw hvc1; (while :; do cat /proc/kallsyms; done >&3) > /dev/null 2>&1 & sleep 0.5"
start=$(now)
xl destroy g || fail 'xl destroy'
wait_until 10 'the domain goes' bash -c '! xl list | grep -E "^(g|\(null\)) "'
echo "gone after $(awk -v s="$start" '{ print $1 - s }' /proc/uptime) s"
nothing_left "$D" 1
wait_until 10 'the socket goes' [ ! -e "$S" ]
wait_until 10 'the client hears of it' [ -e /root/client-ended ]
wait_until 60 'the daemon answers' daemon_answers
