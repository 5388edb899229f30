#!/usr/bin/env bash
# Runs a command where programs for ARM64 run: build.sh calls this as root of a user and mount namespace of their own.
set -euo pipefail

# ELF, 64 bit, little endian, any ABI version; executable or shared; machine 183. F: the interpreter is opened here, so
# that it is found in any root.
handler=':qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:'
handler+='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:F'

die() { echo "disk: $*" >&2; exit 2; }

if [ "$(uname -m)" != aarch64 ]; then
    # Since Linux 6.7 a user namespace has handlers of its own: nothing stays behind.
    if mount -t binfmt_misc none /proc/sys/fs/binfmt_misc 2>/dev/null; then
        printf '%s' "$handler" >/proc/sys/fs/binfmt_misc/register
    elif ! grep -qs '^interpreter .*qemu-aarch64' /proc/sys/fs/binfmt_misc/*; then
        die "programs for ARM64 do not run here, and Linux before 6.7 lets nobody but root change that; next: apt-get install binfmt-support qemu-user-static"
    fi
fi

exec "$@"
