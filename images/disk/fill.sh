#!/usr/bin/env bash
# Debian, the package and our files as an ext4 file system inside DISK; by build.sh, in a namespace where programs of the
# board run. WORK holds images.enc; what the firmware reads is left in WORK/boot.
#
#   fill.sh TAR DEB SITE FRAGMENT WORK DISK FROM_MIB SIZE_MIB
set -euo pipefail
tar=$1 deb=$2 site=$3 fragment=$4 work=$5 disk=$6 from=$7 size=$8
board=$work/board
mkdir "$board"
# The board's kernel fills /dev; here it has what the packages' scripts ask for.
tar -C "$board" --numeric-owner --exclude='./dev/*' -xf "$tar"
mount -t proc proc "$board/proc"
devices="null zero random urandom"
for device in $devices; do
    : >"$board/dev/$device"
    mount --bind "/dev/$device" "$board/dev/$device"
done
cp "$deb" "$board/tmp/package.deb"
chroot "$board" /usr/bin/dpkg --install /tmp/package.deb
rm "$board/tmp/package.deb"
cp -r "$site/." "$board/"
chown -R 0:0 "$board/etc/azaion"
chmod 0600 "$board/etc/azaion/boot.json"
# The agent and its clients, and `wait` for azaion-ready.target, run as this user.
chroot "$board" /bin/chown root:azaion-loader /etc/azaion/loader.toml /etc/azaion/control.token
chmod 0640 "$board/etc/azaion/loader.toml" "$board/etc/azaion/control.token"
mkdir -p "$board/opt/azaion"
cp "$work/images.enc" "$board/opt/azaion/images.enc"
# The very binary that is on the board seals what it will open there.
cp "$fragment" "$board/tmp/fragment"
chroot "$board" /usr/bin/azaion-loader seal --key-fragment /tmp/fragment --existing /opt/azaion/images.enc
rm "$board/tmp/fragment"
chmod 0644 "$board"/opt/azaion/images.enc*
for unit in systemd-networkd.service azaion-loader.service azaion-suite.service; do
    chroot "$board" /bin/systemctl --quiet enable "$unit"
done
# What a board of this kind has no use for: each costs an emulated boot seconds.
chroot "$board" /bin/systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer getty@tty1.service systemd-pstore.service sys-kernel-debug.mount sys-kernel-tracing.mount \
    dev-hugepages.mount dev-mqueue.mount systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-journal-flush.service
: >"$board/etc/machine-id"
rm -rf "$board"/var/cache/apt/*.bin "$board"/var/lib/apt/lists/* "$board"/var/log/*.log
umount "$board/proc"
for device in $devices; do
    umount "$board/dev/$device"
    rm "$board/dev/$device"
done
mkdir "$work/boot"
cp "$board/usr/lib/systemd/boot/efi/systemd-bootaa64.efi" "$work/boot/"
cp -L "$board/vmlinuz" "$board/initrd.img" "$work/boot/"
mke2fs -q -t ext4 -L root -U a2a10ade-0000-4000-8000-00000000b0a7 -d "$board" -E offset=$((from << 20)) "$disk" "${size}M"
# Here, where the numbers of its files are ours.
rm -rf "$board"
