#!/bin/bash
# Runs the scenarios named in $LAB_ARGUMENTS (default: all) one after another in dom0 and writes, for each, its output to
# /share/out/NAME.txt and a line "NAME STATUS SECONDS" to /share/out/results. Executed by xen-lab.
export LOGS=/share/out
: > "$LOGS/results"
for path in scenarios/*.sh; do
  name=$(basename "$path" .sh)
  [ -n "$LAB_ARGUMENTS" ] && [[ " $LAB_ARGUMENTS " != *" $name "* ]] && continue
  limit=$(sed -n 's/^# limit: \([0-9]*\) s$/\1/p' "$path")
  start=$(cut -d' ' -f1 /proc/uptime)
  timeout -k 5 "${limit:-300}" bash -c '. ./lib.sh; . "$1"' scenario "$path" > "$LOGS/$name.txt" 2>&1 < /dev/null
  status=$?
  seconds=$(awk -v start="$start" '{ printf "%.1f", $1 - start }' /proc/uptime)
  echo "$name $status $seconds" | tee -a "$LOGS/results"
  [ "$status" = 0 ] || { tail -5 "$LOGS/$name.txt"; xenstore-ls -fp > "$LOGS/$name-xenstore.txt"; }
done
cp -r /var/log/xen "$LOGS/"
dmesg > "$LOGS/dom0-dmesg.txt"
exit 0
