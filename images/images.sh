#!/usr/bin/env bash
# Builds all that a board of one kind is given, from binaries that are there, and says how it is used:
#
#   images/images.sh BOARD        BOARD is a profile of boards/; without one, the list of them
#
# Into target/images come the package and the container images, into target/images/BOARD two overlays:
#   overlay-boot.tar    for the boot partition: the box azaion/ with package and first-boot hook, firstrun.sh, user-data
#   overlay-root.tar    for the root file system: the same box and hook, enabled; for images that are made in a workshop
# `make images BOARD=…` builds the binaries first.
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir=${CARGO_TARGET_DIR:-target}

say() { echo "images: $*" >&2; }
die() { say "$@"; exit 2; }
# of PROFILE KEY: a text or the first of a list.
of() { sed -n "s/^$2 = \[\{0,1\}\"\([^\"]*\)\".*/\1/p" "boards/$1.toml" | head -n 1; }

board=${1-}
if [ -z "$board" ] || [ ! -f "boards/$board.toml" ] || [ "$board" != "${board##*/}" ]; then
    [ -z "$board" ] || say "unknown board $board"
    say "make images BOARD=… takes one of:"
    for profile in boards/*.toml; do
        profile=${profile##*/} && profile=${profile%.toml}
        printf '  %-22s %s\n' "$profile" "$(of "$profile" title)" >&2
    done
    exit 2
fi
case $(of "$board" arch) in
aarch64) arch=arm64 ;;
x86_64) arch=amd64 ;;
*) die "boards/$board.toml: [recognise] arch names neither aarch64 nor x86_64" ;;
esac
if [ "${2-}" = arch ]; then echo "$arch"; exit; fi
version=$(sed -n "/^\\[package\\]/,/^\\[/s/^version = \"\\(.*\\)\"\$/\\1/p" Cargo.toml)
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH

deb=$(images/deb.sh "$arch")
# The index has both architectures where both binaries are there.
arches=("$arch")
if [ "$arch" = arm64 ] && [ -x "$target_dir/x86_64-unknown-linux-gnu/release/azaion-loader" ]; then arches=(amd64 arm64); fi
if [ "$arch" = amd64 ] && [ -x "$target_dir/arm64/azaion-loader" ]; then arches=(amd64 arm64); fi
mapfile -t containers < <(images/container.sh "${arches[@]}")
[ ${#containers[@]} -gt 0 ] || die "no container image was made; the words above say why"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
umask 022
box=$work/boot/azaion card=$work/root
mkdir -p "$box" "$card/var/lib" "$card/etc/systemd/system/multi-user.target.wants" "$card/usr/local/lib"
cp "$deb" images/overlay/firstboot images/overlay/install-hook images/overlay/azaion-firstboot.service "$box/"
cp images/overlay/firstrun.sh images/overlay/user-data images/overlay/meta-data "$work/boot/"
# A generic profile is what auto comes to when no other fits: it is not pinned.
profile=$board
case $board in generic-*) profile=auto ;; esac
cat >"$box/loader.toml.example" <<TOML
# Set the three salts and name this file loader.toml: the board takes it in at its next boot, and it goes from here.
# Every key: /usr/share/doc/azaion-loader/loader.example.toml on the board.
[keys]
#hardware_salt = "…"
#api_salt = "…"
#resource_salt = "…"

[board]
profile = "$profile"
TOML
cat >"$box/boot.json.example" <<'JSON'
{"email":"board-7@example.com","password":"…"}
JSON
# The box on the root file system has no names that a person edits; FAT holds no modes, so they are the same on both.
mkdir -p "$card/var/lib/azaion-firstboot"
cp "$deb" "$card/var/lib/azaion-firstboot/"
cp "$box/loader.toml.example" "$box/boot.json.example" "$card/var/lib/azaion-firstboot/"
chmod 0700 "$card/var/lib/azaion-firstboot"
install -m 0755 images/overlay/firstboot "$card/usr/local/lib/azaion-firstboot"
install -m 0644 images/overlay/azaion-firstboot.service "$card/etc/systemd/system/"
ln -s ../azaion-firstboot.service "$card/etc/systemd/system/multi-user.target.wants/azaion-firstboot.service"

out=$target_dir/images/$board
mkdir -p "$out"
for overlay in boot root; do
    # Paths without a leading ./ entry: unpacking touches neither owner nor mode of the directory it is unpacked into.
    (cd "$work/$overlay" && find . -mindepth 1 ! -type d -printf '%P\n' -o -path './var/lib/azaion-firstboot' -printf '%P\n' | LC_ALL=C sort) >"$work/list"
    tar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar --no-recursion \
        -C "$work/$overlay" -T "$work/list" -cf "$work/$overlay.tar"
    mv "$work/$overlay.tar" "$out/overlay-$overlay.tar"
done

cat <<TEXT
$(of "$board" title): [board] profile = "$profile", $arch
  $deb
$(printf '  %s\n' "${containers[@]}")
  $out/overlay-boot.tar
  $out/overlay-root.tar

On a board that runs:   apt install ./${deb##*/}, then the salts into /etc/azaion/loader.toml
In its engine:          docker load -i azaion-loader_${version}_container_$arch.tar, then images/container/compose.yaml
On a card, any computer: tar -xf overlay-boot.tar -C <boot partition>, fill in azaion/loader.toml.example and name it
                        loader.toml; then firstrun.sh or user-data, as their first lines say
On a root file system:  tar -xf overlay-root.tar -C <root>, then the same in <root>/var/lib/azaion-firstboot
images/README.md has the rest.
TEXT
