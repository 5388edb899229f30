#!/usr/bin/env bash
# Debian for ARM64 as a tar, without anything of ours; by build.sh, in a namespace where its programs run.
#
#   root.sh SUITE PACKAGES TAR SOURCES…
set -euo pipefail
suite=$1 packages=$2 tar=$3
shift 3
# /sys cannot be mounted in a user namespace, and no package asks for it.
nice -n 5 mmdebstrap --quiet --mode=root --architectures=arm64 --variant=apt --format=tar \
    --skip=chroot/mount/sys \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --essential-hook='copy-in images/disk/early/etc /' \
    --include="$packages" "$suite" "$tar" "$@"
