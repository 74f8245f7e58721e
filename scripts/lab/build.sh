#!/bin/bash
# Builds, from Debian packages alone, everything that boot.sh boots:
#   xen           the hypervisor, as a plain multiboot ELF
#   vmlinux       the kernel of dom0 and guests, unpacked (unpacking it under emulation is slow)
#   early-initrd  finds a root disk, switches to it (dom0 and the Debian guest)
#   dom0.ext4     dom0: Debian with xen-utils, qemu-system-xen and node; /guest has what `xl create` needs
#   debian.ext4   a Debian guest with systemd, udev, node and an unmodified qemu-guest-agent
# Cached: a second call rebuilds only what has changed. FORCE=1 starts afresh.
set -euo pipefail
. "$(dirname "$0")/settings.sh"
[ "$(id -u)" = 0 ] || die 'building needs root (mmdebstrap makes device nodes and changes owners)'
[ -n "${FORCE:-}" ] && rm -rf "$LAB"
mkdir -p "$IMAGES"
need qemu-system-x86_64=qemu-system-x86 mmdebstrap=mmdebstrap python3=python3 mke2fs=e2fsprogs node=nodejs
DOM0=$LAB/dom0-root
DEBIAN=$LAB/debian-root

bootstrap() { # DIRECTORY PACKAGES
  local stamp; stamp=$(printf '%s %s' "$SUITE" "$2" | sha256sum)
  [ "$(cat "$1.stamp" 2> /dev/null)" = "$stamp" ] && return
  say "installing Debian $SUITE into $1"
  rm -rf "$1" "$1.stamp"
  mmdebstrap --quiet --variant=minbase --skip=check/empty --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --include="$2" "$SUITE" "$1"
  echo "$stamp" > "$1.stamp"
}

# up_to_date OUTPUT INPUT...: true when OUTPUT was made from exactly these inputs
up_to_date() {
  local out=$1; shift
  WANTED=$(sha256sum "$@" | sha256sum)
  [ -e "$out" ] && [ "$(cat "$out.stamp" 2> /dev/null)" = "$WANTED" ]
}
made() { echo "$WANTED" > "$1.stamp"; }

put_modules() { # DESTINATION MODULE...: with what they depend on
  local dest=$1 module file; shift
  for module in "$@"; do
    chroot "$DOM0" modprobe -S "$KERNEL" --show-depends "$module" | awk '$1 == "insmod" { print $2 }' |
      while read -r file; do install -D -m644 "$DOM0$file" "$dest/usr${file#/usr}"; done
  done
  # The whole index: that it names modules which are not there does no harm.
  cp "$DOM0/lib/modules/$KERNEL"/modules.* "$dest/usr/lib/modules/$KERNEL/"
}

put_programs() { # DESTINATION PATH...: with their libraries
  local dest=$1 program library; shift
  for program in "$@"; do
    install -D -m755 "$DOM0$program" "$dest$program"
    { chroot "$DOM0" ldd "$program" 2> /dev/null || true; } | grep -o '/[^ ]*' | while read -r library; do
      [ -e "$dest$library" ] || install -D -m755 "$DOM0$library" "$dest$library"
    done
  done
}

skeleton() { # DIRECTORY: busybox and a link for each of its applets
  local dest=$1 link
  rm -rf "$dest"
  mkdir -p "$dest"/{proc,sys,dev,run,tmp,etc,newroot,usr/bin,usr/sbin,usr/lib,usr/lib64}
  for link in bin sbin lib lib64; do ln -s "usr/$link" "$dest/$link"; done
  install -m755 "$DOM0/bin/busybox" "$dest/bin/busybox"
  "$DOM0/bin/busybox" --list | while read -r link; do
    [ -e "$dest/bin/$link" ] || ln -s busybox "$dest/bin/$link"
  done
}

# The trees are staged below the Debian root, so that its own cpio can pack them.
pack() { # NAME OUTPUT
  chroot "$DOM0" sh -c "cd /stage/$1 && find . | cpio --quiet -o -H newc -R 0:0" > "$2.new"
  mv "$2.new" "$2"
}

disk() { # DIRECTORY OUTPUT MEGABYTES
  rm -f "$2"
  truncate -s "$3M" "$2"
  mke2fs -q -t ext4 -O '^metadata_csum,^has_journal' -m0 -d "$1" "$2"
}

bootstrap "$DOM0" "linux-image-amd64,xen-hypervisor-$XEN_VERSION-amd64,xen-utils-$XEN_VERSION,xenstore-utils,qemu-system-xen,socat,udev,kmod,busybox-static,iproute2,procps,strace,python3,cpio,libstdc++6,systemd-sysv" & DOM0_READY=$!
bootstrap "$DEBIAN" 'systemd-sysv,udev,dbus,kmod,procps,xenstore-utils,qemu-guest-agent,socat,libstdc++6' & DEBIAN_READY=$!
wait "$DOM0_READY"
wait "$DEBIAN_READY"
KERNEL=$(basename "$(ls -d "$DOM0"/lib/modules/* | tail -1)")

if ! up_to_date "$IMAGES/xen" "$DOM0/boot/xen-$XEN_VERSION-amd64.gz"; then
  zcat "$DOM0/boot/xen-$XEN_VERSION-amd64.gz" > "$IMAGES/xen"
  made "$IMAGES/xen"
fi

if ! up_to_date "$IMAGES/vmlinux" "$DOM0/boot/vmlinuz-$KERNEL"; then
  say "unpacking the kernel $KERNEL"
  python3 - "$DOM0/boot/vmlinuz-$KERNEL" "$IMAGES/vmlinux" << 'P'
import lzma, struct, sys
image = open(sys.argv[1], 'rb').read()
# linux:Documentation/x86/boot.rst: payload_offset and payload_length count from behind the set-up sectors
offset, length = struct.unpack_from('<II', image, 0x248)
payload = image[(image[0x1f1] + 1) * 512 + offset:][:length]
assert payload[:6] == b'\xfd7zXZ\0', payload[:6]
open(sys.argv[2], 'wb').write(lzma.LZMADecompressor().decompress(payload))
P
  made "$IMAGES/vmlinux"
fi

if ! up_to_date "$IMAGES/early-initrd" "$HERE/early-init.sh" "$HERE/build.sh" "$DOM0.stamp"; then
  say 'packing early-initrd'
  skeleton "$DOM0/stage/early"
  put_modules "$DOM0/stage/early" virtio_pci virtio_blk xen-blkfront ext4 crc32c_generic
  install -m755 "$HERE/early-init.sh" "$DOM0/stage/early/init"
  pack early "$IMAGES/early-initrd"
  made "$IMAGES/early-initrd"
fi

if ! up_to_date "$IMAGES/guest-initrd" "$HERE/guest-init.sh" "$HERE/build.sh" "$DOM0.stamp"; then
  say 'packing guest-initrd'
  GUEST=$DOM0/stage/guest
  skeleton "$GUEST"
  rm -f "$GUEST"/bin/{udevadm,modprobe,stty,sha256sum}
  put_modules "$GUEST" xenfs xen-evtchn xen-gntdev xen-privcmd
  put_programs "$GUEST" /usr/bin/{udevadm,socat,kmod,sha256sum,strace,stty} \
    /usr/bin/xenstore-{ls,read,write,watch,chmod,list,exists,rm}
  ln -sf kmod "$GUEST/bin/modprobe"
  mkdir -p "$GUEST/lib/systemd" "$GUEST/lib/udev"
  cp -a "$DOM0/lib/systemd/systemd-udevd" "$GUEST/lib/systemd/"
  cp -a "$DOM0/lib/udev/rules.d" "$GUEST/lib/udev/"
  cp "$DOM0"/etc/{passwd,group,nsswitch.conf} "$GUEST/etc/"
  install -m755 "$HERE/guest-init.sh" "$GUEST/init"
  pack guest "$IMAGES/guest-initrd"
  made "$IMAGES/guest-initrd"
fi

make_debian() {
  up_to_date "$IMAGES/debian.ext4" "$HERE/debian-setup.sh" "$HERE/build.sh" "$DEBIAN.stamp" "$DOM0.stamp" "$(readlink -f "$(command -v node)")" && return
  say 'making the disk of the Debian guest'
  TREE=$LAB/stage-debian
  rm -rf "$TREE"; mkdir "$TREE"
  tar -C "$DEBIAN" --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/*' --exclude='./dev/*' -cf - . | tar -C "$TREE" -xf -
  put_modules "$TREE" xen-blkfront ext4 xenfs xen-evtchn xen-gntdev xen-privcmd
  install -m755 "$(readlink -f "$(command -v node)")" "$TREE/usr/local/bin/node"
  bash "$HERE/debian-setup.sh" "$TREE"
  disk "$TREE" "$IMAGES/debian.ext4" 900
  rm -rf "$TREE"
  made "$IMAGES/debian.ext4"
}

make_dom0() {
  up_to_date "$IMAGES/dom0.ext4" "$HERE"/dom0-{init,job,setup}.sh "$HERE/gx.py" "$HERE/build.sh" "$IMAGES"/{guest-initrd,early-initrd}.stamp "$DOM0.stamp" "$(readlink -f "$(command -v node)")" && return
  say 'making the disk of dom0'
  TREE=$LAB/stage-dom0
  rm -rf "$TREE"; mkdir "$TREE"
  tar -C "$DOM0" --exclude=./stage --exclude='./boot/*' --exclude=./usr/lib/modules --exclude='./var/cache/apt/*' \
    --exclude='./var/lib/apt/*' --exclude='./dev/*' -cf - . | tar -C "$TREE" -xf -
  put_modules "$TREE" virtio_pci virtio_blk ext4 9p 9pnet_virtio xenfs xen-evtchn xen-gntdev xen-gntalloc xen-privcmd \
    loop bridge xen-netback xen-blkback tun
  install -m755 "$HERE/dom0-init.sh" "$TREE/sbin/lab-init"
  install -m755 "$HERE/dom0-job.sh" "$TREE/sbin/lab-job"
  bash "$HERE/dom0-setup.sh" "$TREE"
  install -m755 "$HERE/gx.py" "$TREE/usr/local/bin/gx"
  install -m755 "$(readlink -f "$(command -v node)")" "$TREE/usr/local/bin/node"
  printf '#!/bin/sh\nexec node /opt/xenchannel/dist/src/cli/main.js "$@"\n' > "$TREE/usr/local/bin/xenchannel"
  chmod 755 "$TREE/usr/local/bin/xenchannel"
  mkdir -p "$TREE"/{guest,share,opt/xenchannel,var/lib/xen,var/log/xen}
  cp "$IMAGES"/{vmlinux,guest-initrd,early-initrd} "$TREE/guest/"
  disk "$TREE" "$IMAGES/dom0.ext4" 1800
  rm -rf "$TREE"
  made "$IMAGES/dom0.ext4"
}

make_debian & DEBIAN_READY=$!
make_dom0
wait "$DEBIAN_READY"
say "ready in $IMAGES ($(du -sh "$LAB" | cut -f1) in all, after ${SECONDS} s)"
