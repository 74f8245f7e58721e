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
    sleep 0.3
  done
}
# field KEY: of the line of JSON that client.py prints
field() { sed -n "s/.*\"$1\": \"\{0,1\}\([^\",}]*\).*/\1/p"; }
sha() { sha256sum < "$1" | cut -d' ' -f1; }

# The daemon ------------------------------------------------------------------------------------------------------------
daemon_pid() { cat /run/lab-daemon.pid 2> /dev/null; }
# The status of the daemon contains TEXT. A daemon that is about to start is waited for here, with one process: each poll
# from a shell takes a third of a second from it.
status_has() {
  printf 'GET /v1/status HTTP/1.0\r\n\r\n' | timeout 60 socat -t 10 - UNIX-CONNECT:$RUN/control.sock,retry=300,interval=0.1 | grep -qF "$1"
}
daemon_answers() { status_has '200 OK'; }
daemon_runs() { kill -0 "$(daemon_pid)" 2> /dev/null; }
# In a shell of its own: a scenario that waits for all its jobs does not wait for the daemon.
start_daemon() {
  (setsid xenchannel daemon >> "$LOGS/daemon.log" 2>&1 < /dev/null & echo $! > /run/lab-daemon.pid)
}
# Starts it again whenever it dies, at once, as systemd does.
supervise_daemon() {
  stop_daemon
  # shellcheck disable=SC2016
  (setsid bash -c 'while :; do xenchannel daemon & echo $! > /run/lab-daemon.pid; wait $!; done' \
    >> "$LOGS/daemon.log" 2>&1 < /dev/null & echo $! > /run/lab-supervisor.pid)
  wait_until 120 'daemon answers' daemon_answers
}
stop_supervision() { kill "$(cat /run/lab-supervisor.pid)"; stop_daemon; }
ensure_daemon() { daemon_runs || start_daemon; wait_until 120 'daemon answers' daemon_answers; }
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
# The Debian guest d: with systemd, the package of udev/ as it is installed by hand, and a channel of libxl's, number 1.
DEBIAN_LIBXL=/run/d-libxl.sock
ensure_debian() {
  local guest
  xl domid d > /dev/null 2>&1 && GX_LIMIT=60 gx d 'systemctl is-active xenchannel-agent' && return
  for guest in g d; do xl domid $guest > /dev/null 2>&1 && xl destroy $guest; done
  cat > /root/d.cfg << X
name = "d"
type = "pv"
kernel = "/guest/vmlinux"
ramdisk = "/guest/early-initrd"
extra = "console=hvc0 loglevel=6 lab.root=/dev/xvda lab.init=/sbin/init lab.product=/dev/xvdb"
memory = 512
vcpus = 1
disk = [ "phy:/dev/disk/by-id/virtio-debian,xvda,w", "phy:/dev/disk/by-id/virtio-product,xvdb,r" ]
channel = [ "connection=pty,name=lost", "connection=socket,path=$DEBIAN_LIBXL,name=org.example.atboot" ]
X
  xl create /root/d.cfg > "$LOGS/xl-create-d.txt" 2>&1 || fail "xl create d: $(tail -1 "$LOGS/xl-create-d.txt")"
  gx --wait d 300 || fail 'guest d did not come up'
  gx d 'BINDIR=/usr/local/bin sh /opt/xenchannel/udev/install.sh' || fail 'install.sh'
}
inspect_debian() { # TITLE
  echo "--- $1"
  gx d 'ls -l /dev/xenchannel /dev/virtio-ports 2>&1
    systemctl --no-pager --plain list-units "xenchannel*" "qemu-guest*" "*console*" "*getty*"
    journalctl --no-pager -o cat -u "xenchannel*" -u qemu-guest-agent -n 60'
}
# has_opened DOMID N: the guest claims to have the channel open, which it does when the link is there
has_opened() { [ "$(xenstore-read "/local/domain/$1/device/console/$2/xenchannel-guest-open")" = 1 ]; }
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
# Every node, apart from what guests and device models keep for themselves.
all_nodes() { xenstore-ls -f | grep -v -E 'data/|device-model' | cut -d= -f1; }
channels() { xenstore-list "/local/domain/$(xl domid "$1")/device/console" 2> /dev/null; }
gone() { ! xl domid "$1"; }

# Channels --------------------------------------------------------------------------------------------------------------
frontend() { echo "/local/domain/$(xl domid "$1")/device/console/$2"; }
socket_of() { echo "$RUN/dom$(xl domid "$1")/$2"; }
# Asks for the domid once: half a second under emulation.
states() {
  local domid; domid=$(xl domid "$1") || return
  xenstore-read "/local/domain/$domid/device/console/$2/state" "/local/domain/0/backend/console/$domid/$2/state" | paste -sd/
}
connected() { [ "$(states "$1" "$2" 2> /dev/null)" = 4/4 ]; }
# agrees_with_xl DOMAIN COUNT: `xl channel-list` has so many rows, each with state, port and page of a frontend
agrees_with_xl() {
  local n base seen=()
  base=/local/domain/$(xl domid "$1")/device/console
  for n in $(xenstore-list "$base"); do
    seen+=("$(xenstore-read "$base/$n/state" "$base/$n/port" "$base/$n/ring-ref" | tr '\n' ' ')")
  done
  equal 'rows of xl channel-list' "$(xl channel-list "$1" | awk 'NR > 1' | wc -l)" "$2"
  equal 'states, ports and pages' "$(xl channel-list "$1" | awk 'NR > 1 { print $3, $4, $5, "" }' | sort)" \
    "$(printf '%s\n' "${seen[@]}" | sort)"
}
# nothing_left DOMID N: no node of the channel in the three places
nothing_left() {
  local path
  for path in "/local/domain/$1/device/console/$2" "/local/domain/0/backend/console/$1/$2" "/libxl/$1/device/console/$2"; do
    xenstore-exists "$path" && fail "$path is still there"
  done
  return 0
}

# Shell words for the guest: a raw line that stays open as descriptor 3, and the claim to have opened the channel, as a
# keeper does it. The host is silent before. hvcN is console N wherever nothing was plugged out of order; elsewhere N has to be said.
RAW='raw() { exec 3<>/dev/$1; stty raw -echo <&3; xenstore-write device/console/${2:-${1#hvc}}/xenchannel-guest-open 1; }'
# guest_receives DOMAIN LINE BYTES [N]: in the background; result in /tmp/received
guest_receives() { gx "$1" "$RAW; rm -f /tmp/received /tmp/received.end; raw $2 ${4:-}; (head -c $3 <&3 > /tmp/received; touch /tmp/received.end) > /dev/null 2>&1 & sleep 0.3"; }
guest_received() { gx "$1" 'i=0; while [ ! -e /tmp/received.end ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done; sha256sum < /tmp/received | cut -d" " -f1'; }
# still_carries DOMAIN NAME: a guest without channels takes 64 KiB from a new one on hvc1, and its kernel does not complain
still_carries() {
  x attach "$1" "$2" --wait 30 || fail 'attach at the end'
  head -c 65536 /dev/urandom > /root/in
  guest_receives "$1" hvc1 65536
  client "$(socket_of "$1" "$2")" --send /root/in || fail 'sending'
  equal 'sha256 on hvc1' "$(guest_received "$1")" "$(sha /root/in)"
  x detach "$1" "$2" || fail 'detach'
  quiet_kernel "$1"
}
# await_links DOMAIN there|gone NAME...: the guest looks itself, since each command from here costs it seconds
await_links() {
  local domain=$1 kind=$2 test; shift 2
  case $kind in there) test='-e' ;; gone) test='! -e' ;; esac
  GX_LIMIT=200 gx "$domain" "i=0
    for name in $*; do
      until [ $test /dev/xenchannel/\$name ]; do [ \$i -lt 360 ] || { ls -l /dev/xenchannel; exit 1; }; sleep 0.5; i=\$((i + 1)); done
    done" || fail "links that should be $kind: $*"
}
# prove DOMAIN WHEN NAME=SOCKET...: a random word goes through each link and comes back with the name of the link
prove() {
  local domain=$1 when=$2 names; shift 2
  names=$(printf '%s\n' "$@" | cut -d= -f1 | tr '\n' ' ')
  await_links "$domain" there $names
  gx "$domain" "for name in $names; do (exec 3<> /dev/xenchannel/\$name; read -r word <&3; printf '%s:%s\n' \$name \"\$word\" >&3) > /dev/null 2>&1 & done; sleep 0.5"
  echo "--- $when"
  python3 "$HERE/links.py" "$@" || fail "$when"
}
# As xenchannel, but by a process that serves all: starting Node takes seconds under emulation. No argument has a blank.
x() {
  local answer status
  answer=/run/lab-cli/$BASHPID
  start_cli
  mkfifo "$answer"
  # Both ways: neither waits for the other end, and what is in a FIFO stays as long as somebody has it open.
  exec 7<> /run/lab-cli/requests 8<> "$answer"
  echo "$answer $*" >&7
  read -r -t 300 -u 8 status || { echo "xenchannel $*: no end within 300 s"; return 1; }
  exec 7>&- 8<&-
  cat "$answer.out"
  cat "$answer.err" >&2
  rm "$answer" "$answer.out" "$answer.err"
  return "$status"
}
start_cli() {
  kill -0 "$(cat /run/lab-cli/pid 2> /dev/null)" 2> /dev/null && return
  mkdir -p /run/lab-cli
  [ -p /run/lab-cli/requests ] || mkfifo /run/lab-cli/requests
  (setsid node "$HERE/warm-cli.mjs" /run/lab-cli/requests >> "$LOGS/warm-cli.txt" 2>&1 < /dev/null & echo $! > /run/lab-cli/pid)
}
# The commands on standard input, one on a line, as far as they succeed.
commands() {
  local line
  while read -r line; do
    # shellcheck disable=SC2086
    x $line || return
  done
}
client() { python3 "$HERE/client.py" "$@"; }
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
