#!/bin/sh
# Raspberry Pi OS's way to the first boot: the kernel's command line names this file, and it takes itself out of there.
# Put it on the boot partition with the directory azaion/, and append to the one line of cmdline.txt:
#
#   systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target
#
# Where Raspberry Pi Imager has written a firstrun.sh of its own (user, WLAN), keep that one, and put before its line
# `rm -f /boot/firstrun.sh`:   sh /boot/firmware/azaion/install-hook
set -eu
boot=$(cd "$(dirname "$0")" && pwd)

sh "$boot/azaion/install-hook"
# Last of all, so that a cut before this line runs it once more.
sed 's| systemd\.run[^ ]*||g; s| systemd\.unit=kernel-command-line\.target||g' "$boot/cmdline.txt" >"$boot/cmdline.new"
sync "$boot/cmdline.new"
mv -f "$boot/cmdline.new" "$boot/cmdline.txt"
rm -f "$boot/firstrun.sh"
sync "$boot"
