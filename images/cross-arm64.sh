#!/bin/sh
# Builds the static ARM64 binary: by `cross` where it and a container engine can run, else by Debian's own toolchain.
#
#   images/cross-arm64.sh            builds; the last line, alone on standard output, is the binary's path
#   images/cross-arm64.sh install    as root on Debian: installs what Debian's way needs; nothing when it is all there
#   images/cross-arm64.sh run ARG…   runs what was built, under qemu-aarch64-static where the processor is another
#   images/cross-arm64.sh map        builds by Debian's toolchain; the linker's map is beside, for `make size`
#
# Further arguments of the build go to cargo after `--`: images/cross-arm64.sh -- --offline
# CROSS_BY=container or CROSS_BY=debian decides which of the two; without it the first that can run.
# Debian's rustc and cargo are called by their full path: a rustup toolchain in PATH stays what it is.
set -eu

# libstd of arm64 has the version of rustc-web: Debian keeps them together.
packages="rustc-web cargo-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static"
self=$0
cd "$(dirname "$0")/.."
target_dir=${CARGO_TARGET_DIR:-target}
# Where the binary stands at last, whoever built it.
binary=$target_dir/arm64/azaion-loader
# Where the linker writes its map; by Debian's toolchain alone.
map=""

say() { echo "cross-arm64: $*" >&2; }
die() { say "$@"; exit 2; }

is_debian() { (. /etc/os-release && [ "$ID" = debian ]) 2>/dev/null && command -v apt-get >/dev/null; }

missing() {
    for package in $packages; do
        case $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) in
        ?i*) ;;
        *) echo "$package" ;;
        esac
    done
}

install() {
    is_debian || die "this is not Debian; next: cargo install cross, start docker or podman, then make cross"
    # shellcheck disable=SC2046  # the list is words
    set -- $(missing)
    [ $# -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || die "missing: $*; next: sudo $self install"
    say "installs: $*"
    rustc=$(command -v rustc || true)
    dpkg --add-architecture arm64
    apt-get update -q >&2
    # --no-remove: where another package holds /usr/bin/rustc, apt says so and changes nothing.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove "$@" >&2
    [ "${rustc:-/usr/bin/rustc}" = "$(command -v rustc)" ] || die "rustc in PATH was $rustc, and is $(command -v rustc)"
}

# Whether cross leaves rustup's toolchain alone. cross 0.2.5 looks for it in rustup's list, where rustup 1.28 and later
# mark it "(active, default)"; cross knows only "(default)", takes it for missing and adds it, which updates `stable`.
# `cross --version` does so too, and CROSS_CUSTOM_TOOLCHAIN does not hinder it: cross must not even be called.
keeps_toolchain() {
    active=$(rustup show active-toolchain 2>/dev/null | cut -d ' ' -f 1)
    [ -n "$active" ] && rustup toolchain list | sed 's/ (default)//; s/ (override)//' | grep -qxF "$active" && return
    say "cross is not used: it would update the rustup toolchain ${active:-that is active}"
    return 1
}

# The first container engine that answers, and has or gets the image that cross.toml names.
engine() {
    command -v cross >/dev/null && keeps_toolchain || return 1
    image=$(sed -n 's/^image = "\(.*\)"$/\1/p' cross.toml)
    for engine in ${CROSS_CONTAINER_ENGINE:-docker podman}; do
        timeout 20 "$engine" info >/dev/null 2>&1 || continue
        "$engine" image inspect "$image" >/dev/null 2>&1 || "$engine" pull "$image" >&2 || continue
        echo "$engine"
        return
    done
    return 1
}

# Each way has a directory of its own: build scripts that one libc ran do not run on the older one in the container.
by_container() {
    CROSS_CONTAINER_ENGINE=$1
    shift
    export CROSS_CONTAINER_ENGINE
    env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS CROSS_CONFIG="$PWD/cross.toml" \
        cross rustc --release --locked --target aarch64-unknown-linux-musl --target-dir "$target_dir/cross-container" \
        --bin azaion-loader "$@" -- -C opt-level=3 >&2
    built=$target_dir/cross-container/aarch64-unknown-linux-musl/release/azaion-loader
}

# `-C opt-level=3` is for the last call of rustc, which optimises the whole: Cargo.toml, [profile.release], says why.
# No target-feature but the static libc: instructions for AES are looked for at run time, a Raspberry Pi 4 has none.
# RUSTFLAGS of the caller would take the place of the flag.
by_debian() {
    env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS RUSTC=/usr/bin/rustc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static $(images/remap.sh rust)" \
        CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CFLAGS_aarch64_unknown_linux_gnu="$(images/remap.sh c)" \
        /usr/bin/cargo rustc --release --locked --target aarch64-unknown-linux-gnu --target-dir "$target_dir/cross" \
        --bin azaion-loader "$@" -- -C opt-level=3 ${map:+-C "link-arg=-Wl,-Map=$map"} >&2
    built=$target_dir/cross/aarch64-unknown-linux-gnu/release/azaion-loader
}

case ${1-} in
install)
    install
    exit
    ;;
run)
    shift
    [ "$(uname -m)" = aarch64 ] && exec "$binary" "$@"
    exec qemu-aarch64-static "$binary" "$@"
    ;;
map)
    # Among cargo's own files: the map and what cargo takes for built come and go together.
    mkdir -p "$target_dir/cross"
    map=$(cd "$target_dir/cross" && pwd)/azaion-loader.map
    CROSS_BY=debian
    shift
    ;;
--) shift ;;
"") ;;
*) die "unknown argument $1; allowed: install, run ARG…, map, -- ARG… for cargo" ;;
esac

case ${CROSS_BY-} in
"" | container | debian) ;;
*) die "CROSS_BY cannot be $CROSS_BY; allowed: container, debian" ;;
esac
if [ "${CROSS_BY-}" != debian ] && engine=$(engine); then
    by_container "$engine" "$@"
elif [ "${CROSS_BY-}" = container ]; then
    die "cross cannot run here: it needs cross in PATH, docker or podman, the image of cross.toml, a toolchain kept"
else
    install
    by_debian "$@"
fi
mkdir -p "${binary%/*}"
cp -f "$built" "$binary"
echo "$binary"
