# For the checks beside this file: a throw-away Debian to install into, in a chroot and booted by its own systemd.
# shellcheck shell=bash
#
# Sourced, with `check` set to the name of the check. Gives $dir (removed at the end, whatever is mounted there), and
# below. The root's tar is made once by mmdebstrap into THROWAWAY_CACHE (/var/tmp/azaion-throwaway-<suite>.tar).

suite=${THROWAWAY_SUITE:-bookworm}
cache=${THROWAWAY_CACHE:-/var/tmp/azaion-throwaway-$suite.tar}

: "${check:?is the name of the check}"
skip() { echo "SKIPPED $check: $*"; exit 77; }
fail() { echo "$check: $*" >&2; exit 1; }
ok() { echo "  ok  $*"; }

# needs PACKAGE…: installed where they are missing, and said.
needs() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || skip "missing: ${missing[*]}; next: sudo apt-get install ${missing[*]}"
    echo "$check: installs: ${missing[*]}"
    apt-get -o DPkg::Lock::Timeout=600 update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -q --no-install-recommends "${missing[@]}" >/dev/null
}

[ "$(id -u)" -eq 0 ] || skip "a throw-away root needs root"
dir=$(mktemp -d /tmp/azaion.XXXXXX)
nspawn=""
finish() {
    status=$?
    # nspawn ends what it started.
    if [ -n "$nspawn" ]; then kill "$nspawn" 2>/dev/null || true; wait "$nspawn" 2>/dev/null || true; fi
    awk -v dir="$dir/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r point; do
        umount "$point" 2>/dev/null || umount -l "$point"
    done
    # nspawn leaves a directory by the root's name where /run is no tmpfs.
    for root in "$dir"/root*; do rmdir "/run/systemd/nspawn/propagate/${root##*/}-${dir##*.}" 2>/dev/null || true; done
    rm -rf --one-file-system "$dir"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# root NAME: a fresh Debian in $dir/NAME.
root() {
    if [ ! -s "$cache" ]; then
        needs mmdebstrap
        echo "$check: makes a Debian $suite root, once: $cache"
        mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus,udev,init-system-helpers,adduser,curl \
            "$suite" "$dir/made.tar" >"$dir/mmdebstrap.log" 2>&1 || { tail -n 5 "$dir/mmdebstrap.log" >&2; skip "no Debian $suite root could be made"; }
        cp "$dir/made.tar" "$cache.$$"
        mv "$cache.$$" "$cache"
        rm "$dir/made.tar"
    fi
    mkdir "$dir/$1"
    tar -xf "$cache" -C "$dir/$1"
}

# within NAME COMMAND…: in the root, without systemd running, as in a workshop that makes images.
within() {
    local name=$1
    shift
    # /proc and /dev are bare there: mount and pid namespaces end with the command.
    # shellcheck disable=SC2016  # for the inner shell
    unshare --mount --pid --fork --kill-child sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"' \
        "$dir/$name" "$@"
}

# boot NAME SECONDS: boots the root by its own systemd; what its multi-user.target starts must power it off.
boot() {
    needs systemd-container
    # /sys is writable, for the lights' stand-in; a network of its own holds nothing but loopback.
    SYSTEMD_NSPAWN_API_VFS_WRITABLE=1 timeout --kill-after=10 "$2" systemd-nspawn --register=no --keep-unit --quiet --boot \
        --private-network --machine="$1-${dir##*.}" --directory="$dir/$1" --console=pipe >"$dir/$1.console" 2>&1 </dev/null &
    nspawn=$!
    wait "$nspawn" || { nspawn=""; return 1; }
    nspawn=""
}
