#!/bin/bash
# Runs the scenarios named in $LAB_ARGUMENTS (default: all) one after another in dom0 and writes, for each, its output to
# /share/out/NAME.txt and a line "NAME STATUS SECONDS" to /share/out/results. With `retry` among the names one that fails
# is run once more, without the domains and the daemon that it has left. Executed by xen-lab.
export LOGS=/share/out
: > "$LOGS/results"
run() { # NAME PATH
  timeout -k 5 "${limit:-300}" bash -c '. ./lib.sh; . "$1"' scenario "$2" > "$LOGS/$1.txt" 2>&1 < /dev/null
  status=$?
}
begin_anew() {
  for domid in $(xl list | awk 'NR > 1 && $2 > 0 { print $2 }'); do xl destroy "$domid"; done
  kill "$(cat /run/lab-supervisor.pid)" "$(cat /run/lab-daemon.pid)" 2> /dev/null
  sleep 2
  rm -rf /run/xenchannel /var/lib/xenchannel
}
for path in scenarios/*.sh; do
  name=$(basename "$path" .sh)
  [ -n "$LAB_ARGUMENTS" ] && [ "$LAB_ARGUMENTS" != retry ] && [[ " $LAB_ARGUMENTS " != *" $name "* ]] && continue
  limit=$(sed -n 's/^# limit: \([0-9]*\) s$/\1/p' "$path")
  start=$(cut -d' ' -f1 /proc/uptime)
  run "$name" "$path"
  if [ "$status" != 0 ] && [[ " $LAB_ARGUMENTS " == *" retry "* ]]; then
    mv "$LOGS/$name.txt" "$LOGS/$name-first.txt"
    tail -5 "$LOGS/$name-first.txt"
    begin_anew
    echo "$name failed and is run once more"
    run "$name" "$path"
  fi
  seconds=$(awk -v start="$start" '{ printf "%.1f", $1 - start }' /proc/uptime)
  echo "$name $status $seconds" | tee -a "$LOGS/results"
  [ "$status" = 0 ] || { tail -5 "$LOGS/$name.txt"; xenstore-ls -fp > "$LOGS/$name-xenstore.txt"; }
done
cp -r /var/log/xen "$LOGS/"
dmesg > "$LOGS/dom0-dmesg.txt"
exit 0
