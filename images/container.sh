#!/usr/bin/env bash
# Builds the container image, FROM scratch, from binaries that are there and without any engine (podman builds it):
#
#   images/container.sh [amd64] [arm64]   both without arguments; prints what it made, a line each:
#     target/images/azaion-loader_<version>_container.tar          an OCI archive with an index of the architectures
#     target/images/azaion-loader_<version>_container_<arch>.tar   for `docker load`, tag azaion-loader:<version>, :latest
#   images/container.sh push REGISTRY/NAME[:TAG]   builds for $ARCHES (default both), then pushes the index; log in with
#                                                  `skopeo login` before; $PUSH_OPTIONS go to `skopeo copy`
#   images/container.sh context DIR [ARCH…]   only lays out what Containerfile copies
#   images/container.sh install           as root on Debian: installs what this needs; nothing when it is all there
#
# The same commit makes the same bytes: times are the commit's (SOURCE_DATE_EPOCH).
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir=${CARGO_TARGET_DIR:-target}
self=images/container.sh
packages=(podman skopeo)

say() { echo "container: $*" >&2; }
die() { say "$@"; exit 2; }
# shellcheck source=images/packages.sh
. images/packages.sh

# context DIR: what Containerfile copies, for the architectures in `arches`.
context() {
    local arch binary
    install -d -m 0755 "$1/state/var/lib" "$1/state/var/cache"
    install -d -m 0700 "$1/state/var/lib/azaion-loader" "$1/state/var/cache/azaion-loader"
    for arch in "${arches[@]}"; do
        case $arch in
        amd64) binary=$target_dir/x86_64-unknown-linux-gnu/release/azaion-loader ;;
        arm64) binary=$target_dir/arm64/azaion-loader ;;
        esac
        [ -x "$binary" ] || die "$binary is missing; next: $([ "$arch" = arm64 ] && echo make cross || echo make build)"
        install -D -m 0755 "$binary" "$1/$arch/azaion-loader"
    done
}

arches=()
push=""
case ${1-} in
install) install_packages "${packages[@]}"; exit ;;
context)
    [ $# -ge 2 ] || die "context needs a directory"
    arches=("${@:3}")
    [ $# -gt 2 ] || arches=(amd64 arm64)
    context "$2"
    exit
    ;;
push) [ $# -eq 2 ] || die "push needs REGISTRY/NAME[:TAG]"; push=$2; read -ra arches <<<"${ARCHES:-amd64 arm64}" ;;
*)
    arches=("$@")
    [ $# -gt 0 ] || arches=(amd64 arm64)
    ;;
esac
for arch in "${arches[@]}"; do
    case $arch in amd64 | arm64) ;; *) die "unknown architecture $arch; allowed: amd64, arm64" ;; esac
done
install_packages "${packages[@]}"
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
# A store of its own: nothing of this stays, and no other podman is touched. Nothing is run, so it needs no runtime.
podman() {
    command podman --root "$work/store" --runroot "$work/run" --storage-driver vfs --events-backend none \
        --log-level error "$@"
}
context "$work/context"
platforms=()
for arch in "${arches[@]}"; do platforms+=(--platform "linux/$arch"); done
podman build --quiet "${platforms[@]}" --manifest azaion-loader --timestamp "$SOURCE_DATE_EPOCH" --squash-all \
    --label org.opencontainers.image.title=azaion-loader --label "org.opencontainers.image.version=$version" \
    --label "org.opencontainers.image.revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    -f images/container/Containerfile "$work/context" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "podman cannot build it"; }
podman manifest push --quiet --all azaion-loader "oci:$work/oci:$version" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "the image could not be written"; }

# Whole or not at all, and with times and owners of nobody's machine.
out=$target_dir/images
mkdir -p "$out"
name=azaion-loader_${version}_container
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar -C "$work/oci" \
    -cf "$work/$name.tar" oci-layout index.json blobs
made=("$name.tar")
for arch in "${arches[@]}"; do
    skopeo copy --quiet --override-os linux --override-arch "$arch" --additional-tag azaion-loader:latest \
        "oci:$work/oci:$version" "docker-archive:$work/${name}_$arch.tar:azaion-loader:$version" >&2
    made+=("${name}_$arch.tar")
done
for file in "${made[@]}"; do
    cp "$work/$file" "$out/.$file"
    mv "$out/.$file" "$out/$file"
    echo "$out/$file"
done
if [ -n "$push" ]; then
    # shellcheck disable=SC2086  # the options are words
    skopeo copy --quiet --all ${PUSH_OPTIONS-} "oci:$work/oci:$version" "docker://$push" >&2
    say "pushed $push"
fi
