#!/usr/bin/env bash
# Builds the Debian package from a binary that is there: target/images/azaion-loader_<version>_<arch>.deb
#
#   images/deb.sh amd64|arm64 [BINARY]    the last line, alone on standard output, is the package's path
#   images/deb.sh install                 as root on Debian: installs what this needs; nothing when it is all there
#
# BINARY is what `make build` (amd64) or `make cross` (arm64) made; `make deb ARCH=arm64` calls those first. The same
# commit makes the same bytes: times are the commit's (SOURCE_DATE_EPOCH), which is asked of git where it is not set.
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir=${CARGO_TARGET_DIR:-target}
self=images/deb.sh
packages=(debhelper dpkg-dev)

say() { echo "deb: $*" >&2; }
die() { say "$@"; exit 2; }
# shellcheck source=images/packages.sh
. images/packages.sh

# Debian's changelog out of CHANGELOG.md: the section of this version, else what is unreleased.
changelog() {
    local section
    section=$(awk -v version="$version" '
        /^## / { on = ($0 ~ "^## \\[?" version "\\]?" ); if ($0 ~ /^## \[Unreleased\]/) { on = 1 } ; next }
        on && /^- / { printf "\n%s", substr($0, 3); next }
        on && /^  [^ ]/ { printf " %s", substr($0, 3); next }
        END { print "" }' CHANGELOG.md)
    echo "azaion-loader ($version) unstable; urgency=medium"
    echo
    grep . <<<"$section" | sed 's/`//g' | while read -r line; do
        fold -s -w 74 <<<"$line" | sed 's/ *$//; 1s/^/  * /; 2,$s/^/    /'
    done
    echo
    echo " -- $(sed -n 's/^Maintainer: //p' images/deb/debian/control)  $(date -u -R -d "@$SOURCE_DATE_EPOCH")"
}

case ${1-} in
install) install_packages "${packages[@]}"; exit ;;
amd64) binary=${2:-$target_dir/x86_64-unknown-linux-gnu/release/azaion-loader} ;;
arm64) binary=${2:-$target_dir/arm64/azaion-loader} ;;
*) die "the call is: images/deb.sh amd64|arm64 [BINARY], or images/deb.sh install" ;;
esac
arch=$1
[ -x "$binary" ] || die "$binary is missing; next: make deb ARCH=$arch"
install_packages "${packages[@]}"
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8 TZ=UTC
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
tree=$work/azaion-loader-$version
mkdir -p "$tree"/{bin,man,systemd/azaion-loader.service.d,doc/examples} "$tree"/completions/{bash,zsh,fish}
cp -r images/deb/debian "$tree/debian"
sed -n '/^MIT License/,$p' LICENSE | sed '1d; s/^$/./; s/^/ /' | sed '1{/^ \.$/d}' >"$work/mit"
sed -i -e "/^@MIT@$/{r $work/mit" -e 'd}' "$tree/debian/copyright"
changelog >"$tree/debian/changelog"

images/pages.py "$binary" "$work/pages"
images/leds.py "$work/leds"
install -m 0755 "$binary" "$tree/bin/azaion-loader"
cp "$work"/pages/*.[15] "$tree/man/"
cp "$work/pages/azaion-loader.bash" "$tree/completions/bash/azaion-loader"
cp "$work/pages/_azaion-loader" "$tree/completions/zsh/"
cp "$work/pages/azaion-loader.fish" "$tree/completions/fish/"
cp images/azaion-ready.service images/azaion-ready.target "$tree/systemd/"
cp images/azaion-loader.service "$tree/debian/azaion-loader.service"
cp "$work/leds/led.conf" "$tree/systemd/azaion-loader.service.d/"
cp "$work/leds/azaion-loader.udev" "$tree/debian/azaion-loader.udev"
cp images/deb/loader.toml "$tree/"
cp docs/loader.example.toml "$tree/doc/"
cp images/docker.service.d/azaion-tmpfs.conf images/boot-credentials.conf "$tree/doc/examples/"

# Nothing here compiles: that no C compiler for arm64 may be there is no warning.
if ! (cd "$tree" && dpkg-buildpackage --host-arch "$arch" --build=binary --unsigned-source --unsigned-changes --no-check-builddeps) \
    >"$work/log" 2>&1; then
    cat "$work/log" >&2
    die "dpkg-buildpackage failed; its words are above"
fi
mkdir -p "$target_dir/images"
package=azaion-loader_${version}_$arch.deb
cp "$work/$package" "$target_dir/images/.$package"
mv "$target_dir/images/.$package" "$target_dir/images/$package"
[ -z "${DEB_LOG-}" ] || cp "$work/log" "$DEB_LOG"
echo "$target_dir/images/$package"
