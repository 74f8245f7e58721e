#!/bin/bash
# Boots the lab once under emulation, on copies of the disks that are thrown away, and runs a script in dom0.
# Used by xen-lab, which documents it.
#   boot.sh RUN_DIRECTORY SCRIPT FILES_DIRECTORY   (both may be empty)
set -uo pipefail
. "$(dirname "$0")/settings.sh"
run=$1 script=$2 files=$3
rm -rf "$run"
mkdir -p "$run"/share/{files,out,logs}
share=$run/share
[ -n "$script" ] && install -m755 "$script" "$share/run"
[ -n "$files" ] && cp -a "$files/." "$share/files/"
{
  printf 'XENSTORED=%q\n' "${LAB_XENSTORED:-}"
  printf 'LAB_SHELL=%q\n' "${LAB_SHELL:-}"
  printf 'export LAB_ARGUMENTS=%q\n' "${LAB_ARGUMENTS:-}"
} > "$share/job.env"
ln -s share/out "$run/out"
: > "$share/output"

serial=(-serial "file:$run/console.txt")
[ -n "${LAB_SHELL:-}" ] && serial=(-serial mon:stdio)
disks=()
add_disk() { # NAME FILE
  disks+=(-drive "file=$2,format=raw,if=none,id=$1,snapshot=on" -device "virtio-blk-pci,drive=$1,serial=$1")
}
add_disk dom0 "$IMAGES/dom0.ext4"
add_disk debian "$IMAGES/debian.ext4"
[ -n "${LAB_PRODUCT:-}" ] && add_disk product "$LAB_PRODUCT"

# -smap: this QEMU takes the stack reads of an IRET to ring 3 for supervisor ones; a PV kernel runs in ring 3 and dies.
# eager-fpu: with Xen's lazy FPU switching, vector registers get lost under emulation: garbled data with any backend,
# node and even seq crash. Never run without.
started=$SECONDS
nice -n "${LAB_NICE:-10}" qemu-system-x86_64 -accel tcg,thread=multi -machine pc -cpu max,-smap \
  -smp "${LAB_CPUS:-2}" -m "${LAB_MEMORY:-4G}" -display none -nodefaults -no-reboot "${serial[@]}" \
  -kernel "$IMAGES/xen" \
  -append "console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all dom0_mem=2G,max:2G spec-ctrl=eager-fpu" \
  -initrd "$IMAGES/vmlinux console=hvc0 earlyprintk=xen loglevel=7 mitigations=off ${LAB_INIT:+lab.init=$LAB_INIT},$IMAGES/early-initrd" \
  "${disks[@]}" -virtfs "local,path=$share,mount_tag=share,security_model=none,id=share" &
qemu=$!
trap 'kill "$qemu" 2> /dev/null; exit 130' INT TERM
tail -n +1 -F --pid="$qemu" "$share/output" 2> /dev/null &
tail=$!
(
  sleep "${LAB_TIMEOUT:-1800}" &
  nap=$!
  trap 'kill "$nap"; exit' TERM
  wait "$nap"
  say "time limit of ${LAB_TIMEOUT:-1800} s, stopping the machine"
  kill "$qemu"
) &
watchdog=$!
wait "$qemu"
wait "$tail" 2> /dev/null
kill "$watchdog" 2> /dev/null
wait "$watchdog" 2> /dev/null
# 125: the machine never came as far as running the script.
status=$(cat "$share/status" 2> /dev/null || echo 125)
say "exit $status after $((SECONDS - started)) s (console: $run/console.txt, logs: $share/logs, out: $run/out)"
exit "$status"
