#!/bin/sh
# Prints the flags that keep this machine's directories out of the binary, so that the same commit makes the same bytes
# wherever it is built. For `make build` and images/cross-arm64.sh.
#
#   images/remap.sh rust    for rustc; crates and build scripts name files of the source, of cargo and of the target
#   images/remap.sh c       for the C compiler (ring), the same
set -eu
source=$(cd "$(dirname "$0")/.." && pwd -P)
cargo=${CARGO_HOME:-$HOME/.cargo}
target=${CARGO_TARGET_DIR:-$source/target}
case $target in /*) ;; *) target=$source/$target ;; esac

# The last that fits wins, with rustc and gcc alike: the target may lie in the source.
case ${1-} in
rust) flag=--remap-path-prefix ;;
c) flag=-ffile-prefix-map ;;
*) echo "remap: the call is: images/remap.sh rust|c" >&2; exit 2 ;;
esac
case $source$cargo$target in
*[[:space:]]*) echo "remap: a directory with a space in its name cannot be mapped: $source, $cargo or $target" >&2; exit 2 ;;
esac
echo "$flag=$cargo=/cargo $flag=$source=/azaion-loader $flag=$target=/azaion-loader/target"
