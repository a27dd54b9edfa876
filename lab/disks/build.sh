#!/usr/bin/env bash
# build.sh [--check] CACHE_DIR - makes the template disks CACHE_DIR/disks/{bios,uefi}.raw, unless they are there
# already; --check only says by its status whether they are.
#
# A real, if tiny, guest: boot loader in the boot sector or the EFI system partition, Debian's cloud kernel, an
# initramfs with drivers, an ext4 root with a static busybox. Needs no root, no loop device; packages mtools
# dosfstools e2fsprogs fdisk cpio kmod syslinux syslinux-common systemd-boot-efi. Kernel and busybox are
# downloaded once as packages and only unpacked. lab/disks/disks.ts turns templates into disks.
set -euo pipefail
here=$(cd -- "$(dirname -- "$0")" && pwd)
check=
if [ "${1:-}" = --check ]; then check=1; shift; fi
dir=${1:?usage: build.sh [--check] CACHE_DIR}/disks
export PATH=$PATH:/usr/sbin:/sbin
stamp=$(cat "$here"/guest/* "$here/build.sh" | sha256sum | cut -d' ' -f1)
if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ] && [ -e "$dir/bios.raw" ] && [ -e "$dir/uefi.raw" ]; then exit 0; fi
[ -z "$check" ] || exit 1

mkdir -p "$dir/debs"
if ! ls "$dir"/debs/linux-image-*.deb "$dir"/debs/busybox-static_*.deb >/dev/null 2>&1; then
  kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p' | head -n 1)
  [ -n "$kernel" ] || { echo "apt does not know the package linux-image-cloud-amd64; run apt-get update as root" >&2; exit 1; }
  (cd "$dir/debs" && apt-get -q -o APT::Sandbox::User= download "$kernel" busybox-static)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for deb in "$dir"/debs/*.deb; do dpkg-deb -x "$deb" "$work/system"; done
vmlinuz=$(echo "$work"/system/boot/vmlinuz-*)
version=${vmlinuz##*/vmlinuz-}
busybox=$(echo "$work"/system/*/busybox "$work"/system/usr/*/busybox | tr ' ' '\n' | while read -r f; do [ -f "$f" ] && echo "$f" && break; done)
[ -d "$work/system/lib/modules" ] || { mkdir -p "$work/system/lib"; ln -s ../usr/lib/modules "$work/system/lib/modules"; }
depmod -b "$work/system" "$version"

# --- initramfs: busybox, the drivers in loading order, a script that switches to the root
tree=$work/initramfs
mkdir -p "$tree"/{bin,dev,proc,sys,root,mod}
cp "$busybox" "$tree/bin/busybox"
cp "$here/guest/initramfs-init" "$tree/init"
number=100
for module in ext4 virtio_pci virtio_blk virtio_scsi ata_piix ata_generic ahci nvme sd_mod vmw_pvscsi xen-blkfront \
  virtio_net vmxnet3 xen-netfront evdev button; do
  while read -r verb file _; do
    [ "$verb" = insmod ] || continue
    name=$(basename "$file" .xz)
    compgen -G "$tree/mod/*-$name" >/dev/null && continue
    # Debian 13 compresses modules, and busybox loads only plain ones.
    case $file in *.xz) xz -dc "$file" ;; *) cat "$file" ;; esac >"$tree/mod/$((number++))-$name"
  done < <(modprobe -d "$work/system" -S "$version" --show-depends "$module" 2>/dev/null)
done
(cd "$tree" && find . | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0 | gzip -9n) >"$work/initrd.img"

# --- root file system; nonce, payload and /etc/bootproof.stay come with each disk made from the template
tree=$work/root
mkdir -p "$tree"/{bin,sbin,dev,proc,sys,mnt,data,etc/acpi/PWRF}
cp "$busybox" "$tree/bin/busybox"
ln -s busybox "$tree/bin/sh"
cp "$here/guest/init" "$tree/sbin/init"
cp "$here/guest/power-button" "$tree/etc/acpi/PWRF/00000080"
echo 0 >"$tree/data/boots"

# --- disk: 1 MiB gap, boot partition, root, notes, 1 MiB for the second GPT. disks.ts knows these numbers.
MiB=1048576 boot=24 root=16 notes=4
# no_timer_check: where the machine is busy, an emulated guest that waits for its first timer interrupts does not get them
# in time, and its kernel takes the timer for broken and stands still.
args="console=tty0 console=ttyS0,115200 quiet panic=5 no_timer_check"
for firmware in bios uefi; do
  out=$work/$firmware.raw fat=$work/$firmware.raw@@$MiB
  truncate -s $(((2 + boot + root + notes) * MiB)) "$out"
  if [ $firmware = bios ]; then
    printf 'label: dos\n2048,%sM,e,*\n,%sM,83\n,%sM,da\n' $boot $root $notes
  else
    printf 'label: gpt\nstart=2048,size=%sM,type=uefi\nsize=%sM,type=linux\nsize=%sM,type=linux\n' $boot $root $notes
  fi | sfdisk -q "$out"
  mkfs.vfat -F 16 -n BOOT --offset 2048 "$out" $((boot * 1024)) >/dev/null
  mcopy -i "$fat" "$vmlinuz" ::/vmlinuz
  mcopy -i "$fat" "$work/initrd.img" ::/initrd.img
  if [ $firmware = bios ]; then
    printf 'SERIAL 0 115200\nDEFAULT d\nPROMPT 0\nLABEL d\n KERNEL /vmlinuz\n INITRD /initrd.img\n APPEND %s\n' "$args" >"$work/cfg"
    mcopy -i "$fat" "$work/cfg" ::/syslinux.cfg
    syslinux --install --offset $MiB "$out"
    dd if=/usr/lib/syslinux/mbr/mbr.bin of="$out" bs=440 count=1 conv=notrunc status=none
  else
    mmd -i "$fat" ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
    mcopy -i "$fat" /usr/lib/systemd/boot/efi/systemd-bootx64.efi ::/EFI/BOOT/BOOTX64.EFI
    printf 'timeout 0\n' >"$work/cfg"
    mcopy -i "$fat" "$work/cfg" ::/loader/loader.conf
    printf 'title bootproof\nlinux /vmlinuz\ninitrd /initrd.img\noptions %s\n' "$args" >"$work/cfg"
    mcopy -i "$fat" "$work/cfg" ::/loader/entries/bootproof.conf
  fi
  mke2fs -q -t ext4 -b 1024 -J size=1 -L bootproof -d "$work/root" -E offset=$(((1 + boot) * MiB)),root_owner=0:0 "$out" "${root}M"
  fallocate -d "$out" 2>/dev/null || true # holes where all is zero; not every file system can
  cp --sparse=always "$out" "$dir/$firmware.raw.new"
  mv -f "$dir/$firmware.raw.new" "$dir/$firmware.raw"
done
echo "$stamp" >"$dir/stamp"
