# shellcheck shell=bash
# What the scenarios share. Sourced in dom0 of the lab, in the directory that holds this file.

RUN=/run/xenchannel
now() { cut -d' ' -f1 /proc/uptime; }
fail() { echo "FAILED: $*"; exit 1; }
equal() { [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"; echo "$1: $2"; }
# wait_until SECONDS WHAT COMMAND...
wait_until() {
  local limit=$1 what=$2 start; shift 2
  start=$SECONDS
  until "$@" > /dev/null 2>&1; do
    [ $((SECONDS - start)) -ge "$limit" ] && fail "$what: not within $limit s"
    sleep 0.1
  done
}
field() { python3 -c 'import json,sys; print(json.loads(sys.stdin.read())[sys.argv[1]])' "$1"; }
sha() { sha256sum < "$1" | cut -d' ' -f1; }

# The daemon ------------------------------------------------------------------------------------------------------------
daemon_pid() { cat /run/lab-daemon.pid 2> /dev/null; }
daemon_runs() { kill -0 "$(daemon_pid)" 2> /dev/null; }
# In a shell of its own: a scenario that waits for all its jobs does not wait for the daemon.
start_daemon() {
  (setsid xenchannel daemon >> "$LOGS/daemon.log" 2>&1 < /dev/null & echo $! > /run/lab-daemon.pid)
}
ensure_daemon() { daemon_runs || start_daemon; wait_until 30 'daemon answers' xenchannel status; }
stop_daemon() { # [SIGNAL]
  local pid; pid=$(daemon_pid)
  kill "-${1:-TERM}" "$pid" || fail "the daemon $pid is not there"
  wait_until 20 'daemon ends' bash -c "! kill -0 $pid"
}

# Guests ----------------------------------------------------------------------------------------------------------------
small_guest() { # NAME [LINE...]
  local name=$1; shift
  printf '%s\n' "name = \"$name\"" 'type = "pv"' 'kernel = "/guest/vmlinux"' 'ramdisk = "/guest/guest-initrd"' \
    'extra = "console=hvc0 loglevel=6"' 'memory = 256' 'vcpus = 1' "$@" > "/root/$name.cfg"
  xl create "/root/$name.cfg" > "$LOGS/xl-create-$name.txt" 2>&1 || fail "xl create $name: $(tail -1 "$LOGS/xl-create-$name.txt")"
  gx --wait "$name" 240 || fail "guest $name did not come up"
}
ensure_guest() { # NAME: a running one that answers and has no channel
  if xl domid "$1" > /dev/null 2>&1; then
    [ -z "$(channels "$1")" ] && GX_LIMIT=30 gx "$1" 'dmesg -c > /dev/null' && return
    xl destroy "$1"
  fi
  small_guest "$1"
  gx "$1" 'dmesg -c > /dev/null'
}
# Complaints of the guest's kernel since the scenario began.
quiet_kernel() { gx "$1" 'dmesg | grep -iE "warn|bug:|oops|failed"' && fail 'the guest kernel complains'; return 0; }
channels() { xenstore-list "/local/domain/$(xl domid "$1")/device/console" 2> /dev/null; }
gone() { ! xl domid "$1"; }

# Channels --------------------------------------------------------------------------------------------------------------
frontend() { echo "/local/domain/$(xl domid "$1")/device/console/$2"; }
backend() { echo "/local/domain/0/backend/console/$(xl domid "$1")/$2"; }
socket_of() { echo "$RUN/dom$(xl domid "$1")/$2"; }
states() { echo "$(xenstore-read "$(frontend "$1" "$2")/state")/$(xenstore-read "$(backend "$1" "$2")/state")"; }
# nothing_left DOMID N: no node of the channel in the three places
nothing_left() {
  local path
  for path in "/local/domain/$1/device/console/$2" "/local/domain/0/backend/console/$1/$2" "/libxl/$1/device/console/$2"; do
    xenstore-exists "$path" && fail "$path is still there"
  done
  return 0
}

# Shell words for the guest: a raw line that stays open as descriptor 3, and the claim to have opened the channel, as a
# keeper does it. The host is silent before. Here hvcN is console N, wherever nothing was plugged out of order.
RAW='raw() { exec 3<>/dev/$1; stty raw -echo <&3; xenstore-write device/console/${1#hvc}/xenchannel-guest-open 1; }'
# guest_receives DOMAIN LINE BYTES: in the background; result in /tmp/received
guest_receives() { gx "$1" "$RAW; rm -f /tmp/received /tmp/received.end; raw $2; (head -c $3 <&3 > /tmp/received; touch /tmp/received.end) > /dev/null 2>&1 & sleep 0.3"; }
guest_received() { gx "$1" 'i=0; while [ ! -e /tmp/received.end ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done; sha256sum < /tmp/received | cut -d" " -f1'; }
client() { python3 "$HERE/client.py" "$@"; }
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
