#!/bin/sh
# Switches the board on: QEMU's `virt` machine with this disk, the serial console on standard input and output. It becomes
# the emulator: whoever has this process's id can cut the power with SIGKILL.
#
#   images/disk/power-on.sh [DISK [PORT [OPTION OF QEMU…]]]     the control port is 127.0.0.1:PORT; default 8080
#
# The default disk is written to, as a board's flash; with `-snapshot` as a further option, or an overlay, it is not.
# acpi=off: the kernel is given a device tree, as on a board. The firmware is UEFI and finds EFI/BOOT/BOOTAA64.EFI.
set -eu
disk=${1:-$(dirname "$0")/../../target/images/qemu-virt/disk.qcow2}
port=${2:-8080}
if [ $# -lt 2 ]; then shift $#; else shift 2; fi
firmware=/usr/share/qemu-efi-aarch64/QEMU_EFI.fd
if ! [ -r "$firmware" ] || ! command -v qemu-system-aarch64 >/dev/null; then
    echo "power-on: QEMU or its firmware is missing; next: images/disk/build.sh install" >&2
    exit 2
fi
exec qemu-system-aarch64 -M virt,acpi=off -cpu cortex-a72 -accel tcg,thread=multi -smp 2 -m 1280 \
    -bios "$firmware" -nographic -no-reboot \
    -drive "file=$disk,if=none,id=flash,discard=unmap" -device virtio-blk-pci,drive=flash \
    -device virtio-rng-pci \
    -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$port-:8080" -device virtio-net-pci,netdev=net,romfile= "$@"
