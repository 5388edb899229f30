#!/usr/bin/env bash
# A whole ARM64 board as one disk for QEMU's `virt` machine: target/images/qemu-virt/disk.qcow2, and beside it what the
# outside needs to talk to it: control.token, and cloud/ for `azaion-cloud` (azaion-cloud.args has its arguments).
#
#   images/disk/build.sh            builds; the last line, alone on standard output, is the disk's path
#   images/disk/build.sh install    as root on Debian: installs what building and booting need; nothing when it is there
#
# Inside: Debian with systemd, docker.io with its own settings, the package, an encrypted and sealed images.enc, and
# credentials so that it unlocks itself. GPT, an EFI system partition with systemd-boot, an ext4 root. Nothing is mounted
# on this machine and no handler registered: foreign programs run in a user namespace that has a binfmt_misc of its own.
# The root file system is kept in target/disk, by what it is made of; to have newer packages of Debian, remove it.
#
#   DEB=FILE            the package (default: what images/deb.sh arm64 makes of target/arm64/azaion-loader)
#   SUITE=bookworm      Debian's release
#   CLOUD_PORT=18443    the port of 10.0.2.2, this machine seen from the board, where it looks for the Resource API
set -euo pipefail
cd "$(dirname "$0")/../.."
self=images/disk/build.sh
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
out=$target_dir/images/qemu-virt
keep=$target_dir/disk
suite=${SUITE:-bookworm}
port=${CLOUD_PORT:-18443}

# What this machine needs: to build, and to boot.
tools="mmdebstrap arch-test qemu-user-static mtools dosfstools fdisk e2fsprogs qemu-utils openssl"
machine="qemu-system-arm qemu-efi-aarch64"
# What the board is made of, without recommended packages.
board="systemd-sysv,udev,dbus,kmod,iproute2,ca-certificates,adduser,e2fsprogs,initramfs-tools,linux-image-cloud-arm64"
board+=,systemd-boot-efi,docker.io,iptables,busybox-static

say() { echo "disk: $*" >&2; }
die() { say "$@"; exit 2; }

# shellcheck source=images/packages.sh
. images/packages.sh

install_all() {
    local missing codename
    # shellcheck disable=SC2086  # lists of words are meant
    mapfile -t missing < <(missing_of $tools $machine)
    [ ${#missing[@]} -gt 0 ] || return 0
    may_install "${missing[@]}"
    apt update
    if apt-get -qq -s install --no-install-recommends --no-remove "${missing[@]}" >/dev/null 2>&1; then
        apt install -y --no-install-recommends --no-remove "${missing[@]}"
        return
    fi
    # QEMU's packages must be of one version. Where some are newer than the release (a machine image brought them), the
    # rest comes from the release's backports; their list of packages is this call's alone.
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    say "QEMU here is newer than $codename: the rest of it comes from $codename-backports"
    local lists=$work/backports option
    mkdir -p "$lists/lists/partial" "$lists/parts"
    echo "deb $(mirror "$codename") $codename-backports main" >"$lists/parts/backports.list"
    for option in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
        [ -f "$option" ] && cp "$option" "$lists/parts/"
    done
    option="Dir::Etc::sourceparts=$lists/parts"
    apt -o "$option" -o Dir::State::lists="$lists/lists" -o Dir::Etc::sourcelist=/dev/null update
    apt -o "$option" -o Dir::State::lists="$lists/lists" -o Dir::Etc::sourcelist=/dev/null \
        install -y --no-install-recommends --no-remove -t "$codename-backports" "${missing[@]}"
}

end_running() {
    [ -n "$running" ] || return 0
    kill "$running" 2>/dev/null || true
    wait "$running" 2>/dev/null || true
    running=""
}

# mirror RELEASE: where this machine's apt gets it from.
mirror() {
    local uri
    # shellcheck disable=SC2016  # apt fills these in
    uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Origin: Debian' \
        | awk -v release="$1" '$2 == release { print $1; exit }')
    [ -n "$uri" ] && echo "$uri"
}

# in_board COMMAND…: as root of a user namespace with the same numbers, where programs for ARM64 run.
in_board() {
    local child rc=0
    rm -f "$work/go"
    mkfifo "$work/go"
    # The command starts when the namespace has its numbers: only then is it root in there.
    # shellcheck disable=SC2016  # the inner shell's own words
    unshare --user --mount --pid --fork --kill-child --mount-proc \
        sh -c 'read -r _ <"$1"; shift; exec "$@"' sh "$work/go" images/disk/in-board.sh "$@" &
    child=$!
    until [ "$(readlink "/proc/$child/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do
        kill -0 "$child" 2>/dev/null || die "no user namespace here; next: run as root on a kernel with CONFIG_USER_NS"
        sleep 0.05
    done
    echo 0 0 65536 >"/proc/$child/uid_map"
    echo 0 0 65536 >"/proc/$child/gid_map"
    echo go >"$work/go"
    running=$child
    wait "$child" || rc=$?
    running=""
    return "$rc"
}

# The root file system without anything of ours.
make_root() {
    local debian sources=()
    debian=$(mirror "$suite") || { apt update && debian=$(mirror "$suite"); } \
        || die "apt of this machine has no Debian $suite; next: SUITE=… of /etc/apt/sources.list.d"
    sources=("deb $debian $suite main" "deb $debian $suite-updates main")
    debian=$(mirror "$suite-security") || die "apt of this machine has no $suite-security"
    sources+=("deb $debian $suite-security main")
    say "makes Debian $suite for arm64; its own programs are emulated, this takes minutes"
    in_board images/disk/root.sh "$suite" "$board" "$work/root.tar" "${sources[@]}"
    mkdir -p "$keep"
    rm -f "$keep"/root-*.tar
    mv "$work/root.tar" "$root"
}

# Everything the board's owner would bring: keys, credentials, the authority to trust, the address of the cloud.
make_site() {
    local site=$work/site cloud=$out/cloud
    mkdir -p "$site" "$cloud"
    [ -s "$cloud/fragment" ] || head -c 48 /dev/urandom | base64 >"$cloud/fragment"
    [ -s "$out/control.token" ] || head -c 24 /dev/urandom | base64 >"$out/control.token"
    [ -s "$cloud/password" ] || head -c 18 /dev/urandom | base64 >"$cloud/password"
    chmod 0600 "$cloud/fragment" "$cloud/password" "$out/control.token"
    printf '%s\n' --dir "$cloud" --authority "$cloud/authority.pem" --port "$port" --fragment-file "$cloud/fragment" \
        --user "board@example.com:$(cat "$cloud/password"):CompanionPC" >"$cloud/azaion-cloud.args"
    chmod 0600 "$cloud/azaion-cloud.args"
    # Once, on any port, so that the authority and its certificate are there.
    "$target_dir/debug/azaion-cloud" --dir "$cloud" --authority "$cloud/authority.pem" --fragment-file "$cloud/fragment" \
        --user nobody:nothing >"$work/cloud.log" 2>&1 &
    running=$!
    for _ in $(seq 200); do [ -s "$cloud/url" ] && break; sleep 0.05; done
    end_running
    [ -s "$cloud/url" ] || { cat "$work/cloud.log" >&2; die "azaion-cloud did not start; its words are above"; }
    rm "$cloud/url"

    cp -r images/disk/files/. "$site/"
    sed -i "s|@CLOUD@|https://10.0.2.2:$port|" "$site/etc/azaion/loader.toml"
    cp "$cloud/ca.pem" "$site/etc/azaion/ca.pem"
    cp "$out/control.token" "$site/etc/azaion/control.token"
    printf '{"email":"board@example.com","password":"%s"}\n' "$(cat "$cloud/password")" >"$site/etc/azaion/boot.json"
}

# The suite: two images with one layer in common, a program that runs on the board, and 36 MiB that no compressor shrinks,
# in the place of a model's weights. The same bytes each time.
make_archive() {
    local suite_dir=$work/suite layer
    mkdir -p "$suite_dir"
    tar -xOf "$root" ./bin/busybox >"$suite_dir/busybox" 2>/dev/null \
        || tar -xOf "$root" ./usr/bin/busybox >"$suite_dir/busybox" || die "$root has no busybox"
    for layer in 1 2 3; do
        mkdir "$suite_dir/$layer"
        head -c 12582912 /dev/zero \
            | openssl enc -aes-128-ctr -nosalt -K "0000000000000000000000000000000$layer" -iv 0 2>/dev/null \
            >"$suite_dir/$layer/weights-$layer"
        (cd "$suite_dir" && sha256sum "$layer/weights-$layer" | sed 's|  .*/|  /srv/|') >>"$suite_dir/sums"
    done
    mv "$suite_dir/sums" "$suite_dir/3/sums"
    find "$suite_dir" -exec touch -d @1000000000 {} +
    "$target_dir/debug/azaion-archive" --fragment-file "$out/cloud/fragment" --out "$work/images.enc" --arch arm64 \
        --image azaion/hello:1 --file "bin/busybox=$suite_dir/busybox" --command "/bin/busybox echo the suite runs" \
        --image azaion/detector:1 --file "bin/busybox=$suite_dir/busybox" \
        --dir "srv=$suite_dir/1" --dir "srv=$suite_dir/2" --dir "srv=$suite_dir/3" \
        --command "/bin/busybox sha256sum -c /srv/sums"
}

# Two partitions; the first one's files are read by the firmware, the second one's by Linux.
make_disk() {
    local disk=$work/disk.raw esp_mib=64 root_mib=2048
    truncate -s $((1 + esp_mib + root_mib + 1))M "$disk"
    sfdisk --quiet "$disk" <<TABLE
label: gpt
start=1MiB, size=${esp_mib}MiB, type=uefi, name=esp
start=$((1 + esp_mib))MiB, size=${root_mib}MiB, type=B921B045-1DF0-41C3-AF44-4C6F280D3FAE, name=root
TABLE
    in_board images/disk/fill.sh "$root" "$deb" "$work/site" "$out/cloud/fragment" "$work" "$disk" $((1 + esp_mib)) "$root_mib"
    local esp=$work/esp.fat
    # Clusters of one sector: so small a FAT32 has too few otherwise.
    mkfs.fat -C -F 32 -s 1 -n ESP "$esp" $((esp_mib * 1024)) >/dev/null
    mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
    mcopy -i "$esp" "$work/boot/systemd-bootaa64.efi" ::/EFI/BOOT/BOOTAA64.EFI
    mcopy -i "$esp" "$work/boot/vmlinuz" "$work/boot/initrd.img" ::/
    mcopy -i "$esp" images/disk/loader.conf ::/loader/loader.conf
    mcopy -i "$esp" images/disk/entry.conf ::/loader/entries/debian.conf
    dd if="$esp" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
    qemu-img convert -O qcow2 "$disk" "$work/disk.qcow2"
}

case ${1-} in
"" | install) ;;
*) die "unknown argument $1; allowed: install" ;;
esac
running=""
work=""
finish() {
    status=$?
    end_running
    [ -z "$work" ] || rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
mkdir -p "$keep"
# Not in /tmp: it holds a whole Debian, and /tmp may be memory.
work=$(mktemp -d "$keep/work.XXXXXX")
install_all
[ "${1-}" != install ] || exit 0
[ "$(id -u)" -eq 0 ] || die "the disk's files belong to many users: this needs root; next: sudo make disk"
for part in azaion-cloud azaion-archive; do
    [ -x "$target_dir/debug/$part" ] || die "$target_dir/debug/$part is missing; next: make disk, or cargo build -p azaion-cloud"
done
deb=${DEB:-$(images/deb.sh arm64)}
[ -s "$deb" ] || die "$deb is missing; next: make deb ARCH=arm64"

root=$keep/root-$({ echo "$suite $board"; find images/disk/early images/disk/root.sh -type f | sort | xargs cat; } | sha256sum | cut -c 1-16).tar
made_of=$({ echo "$root $port"; cat "$deb" "$target_dir/debug/azaion-archive"
    find images/disk -type f | sort | xargs sha256sum; } | sha256sum | cut -d ' ' -f 1)
if [ "$(cat "$out/made-of" 2>/dev/null)" = "$made_of" ] && [ -s "$out/disk.qcow2" ] && [ -s "$root" ]; then
    say "is up to date"
    echo "$out/disk.qcow2"
    exit
fi
mkdir -p "$out"
rm -f "$out/made-of"
[ -s "$root" ] || make_root
make_site
make_archive
make_disk
mv "$work/disk.qcow2" "$out/disk.qcow2"
echo "$made_of" >"$out/made-of"
echo "$out/disk.qcow2"
