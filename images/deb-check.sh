#!/usr/bin/env bash
# Checks the Debian package:
#
#   images/deb-check.sh [amd64|arm64] [PART…]     without parts, all of them
#     lintian   no error and no warning
#     pages     completions answer in bash, zsh and fish with what --help lists; man renders both pages without a warning
#     twice     built anew, binary and all, from two clones in two directories: the same bytes (the commit, not the work tree)
#     cycle     install, upgrade, remove, install, purge in a throw-away root, without systemd running
#     boot      the same under systemd: what starts, as whom, what the sandbox lets through
#
# As root; installs debhelper, lintian, mmdebstrap, systemd-container, man-db, zsh, fish where they are missing, and says so.
# cycle and boot are for this machine's own architecture.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck disable=SC2034  # for throwaway.sh
check="deb-check"
# shellcheck source=images/throwaway.sh
. images/throwaway.sh
arch=${1:-amd64}
case $arch in amd64 | arm64) ;; *) fail "unknown architecture $arch; allowed: amd64, arm64" ;; esac
[ $# -eq 0 ] || shift
parts=("$@")
[ $# -gt 0 ] || parts=(lintian pages twice cycle boot)
target_dir=${CARGO_TARGET_DIR:-target}
here=$PWD
needs debhelper dpkg-dev

# build_here: the package of this work tree, from the binary that is there; its path in `deb`.
deb=""
build_here() {
    [ -n "$deb" ] || deb=$(images/deb.sh "$arch")
}

part_lintian() {
    needs lintian
    build_here
    lintian --allow-root --fail-on error,warning "$deb" || fail "lintian finds fault with $deb"
    ok "lintian: no error, no warning"
}

part_pages() {
    local command binary shown
    needs man-db groff-base zsh fish
    build_here
    dpkg-deb -x "$deb" "$dir/pages"
    binary=$target_dir/x86_64-unknown-linux-gnu/release/azaion-loader
    [ "$arch" = amd64 ] || binary=$target_dir/arm64/azaion-loader
    help() { if [ "$arch" = "$(dpkg --print-architecture)" ]; then "$binary" "$@"; else qemu-aarch64-static "$binary" "$@"; fi; }
    for page in man1/azaion-loader.1 man5/azaion-loader.toml.5; do
        said=$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings --encoding=UTF-8 --local-file "$dir/pages/usr/share/man/$page.gz" 2>&1 >"$dir/page")
        [ -z "$said" ] || fail "man: $page: $said"
        grep -q '^NAME' "$dir/page" || fail "man: $page renders to nothing"
    done
    ok "man renders both pages without a warning"
    # What --help lists, read here by itself: the words that look like options, without the examples.
    help --help | sed -n 's/^  \([a-z]*\)  .*/\1/p' >"$dir/commands"
    [ "$(wc -l <"$dir/commands")" -ge 12 ] || fail "--help lists too few commands"
    cat >"$dir/complete.zsh" <<'ZSH'
# Completes the line given, in a terminal of its own as zsh wants it, and prints what would be offered.
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PROMPT= PS2=; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D; zstyle ':completion:*' list-colors; zstyle ':completion:*' verbose no; LISTMAX=1000; stty cols 60 rows 200; print -r -- rea''dy"
while zpty -r shell line; do [[ $line == *ready* ]] && break; done
zpty -w -n shell "$2"$'\t'$'\t'
sleep 1
zpty -w -n shell $'\C-u'"print -r -- do''ne"$'\n'
while zpty -r shell line; do [[ $line == *done* ]] && break; print -r -- "$line"; done
zpty -d shell
ZSH
    while read -r command; do
        { help "$command" --help | sed '/^Examples\{0,1\}:/,$d' | grep -oE -- '(^|[ [(])--[a-z][a-z-]*' | tr -d ' [('; echo --help; } | sort -u >"$dir/said"
        # shellcheck disable=SC2016  # for the inner shell
        bash --norc -c 'source "$1"; COMP_WORDS=(azaion-loader "$2" --); COMP_CWORD=2; _azaion_loader; printf "%s\n" "${COMPREPLY[@]}"' \
            _ "$dir/pages/usr/share/bash-completion/completions/azaion-loader" "$command" | sort -u >"$dir/offered"
        diff "$dir/said" "$dir/offered" >&2 || fail "bash completes $command with other options than --help lists"
        # shellcheck disable=SC2016
        fish --no-config -c 'source $argv[1]; complete -C "azaion-loader $argv[2] --"' \
            "$dir/pages/usr/share/fish/vendor_completions.d/azaion-loader.fish" "$command" | cut -f 1 | sort -u >"$dir/offered"
        diff "$dir/said" "$dir/offered" >&2 || fail "fish completes $command with other options than --help lists"
        zsh -f "$dir/complete.zsh" "$dir/pages/usr/share/zsh/vendor-completions" "azaion-loader $command --" 2>&1 |
            grep -oE -- '--[a-z][a-z-]*' | sort -u >"$dir/offered"
        diff "$dir/said" "$dir/offered" >&2 || fail "zsh completes $command with other options than --help lists"
        grep -qE "^   $command\$" <(LC_ALL=C.UTF-8 man --local-file "$dir/pages/usr/share/man/man1/azaion-loader.1.gz" 2>/dev/null) ||
            fail "the man page has no section on $command"
    done <"$dir/commands"
    # shellcheck disable=SC2016
    shown=$(bash --norc -c 'source "$1"; complete -p azaion-loader; COMP_WORDS=(azaion-loader ""); COMP_CWORD=1; _azaion_loader; printf "%s\n" "${COMPREPLY[@]}"' \
        _ "$dir/pages/usr/share/bash-completion/completions/azaion-loader")
    while read -r command; do grep -qx "$command" <<<"$shown" || fail "bash does not offer $command"; done <"$dir/commands"
    ok "bash, zsh and fish complete $(wc -l <"$dir/commands") commands with the options that --help lists"
}

part_twice() {
    local at target
    mkdir "$dir/twice"
    git clone -q "$here" "$dir/twice/a"
    mkdir -p "$dir/twice/deeper/than/that"
    git clone -q "$here" "$dir/twice/deeper/than/that/b"
    for at in a deeper/than/that/b; do
        # The second has its target directory elsewhere, too.
        target=$([ "$at" = a ] && echo "$dir/twice/a/target" || echo "$dir/twice/elsewhere")
        echo "deb-check: builds in $dir/twice/$at"
        (cd "$dir/twice/$at" && unset SOURCE_DATE_EPOCH && CARGO_TARGET_DIR=$target nice -n 5 make --no-print-directory deb "ARCH=$arch") \
            >"$dir/twice.log" 2>&1 || { tail -n 20 "$dir/twice.log" >&2; fail "no package from $at"; }
        cp "$target"/images/azaion-loader_*_"$arch".deb "$dir/twice/${at##*/}.deb"
        rm -rf "$target"
    done
    if ! cmp "$dir/twice/a.deb" "$dir/twice/b.deb"; then
        for at in a b; do dpkg-deb -R "$dir/twice/$at.deb" "$dir/twice/$at.d"; done
        diff -rq "$dir/twice/a.d" "$dir/twice/b.d" >&2 || true
        fail "two builds of one commit differ"
    fi
    ok "two builds from two directories are the same bytes: $(sha256sum <"$dir/twice/a.deb" | cut -c 1-16)…, $(stat -c %s "$dir/twice/a.deb") bytes"
}

skipped=0
cannot() { echo "SKIPPED deb-check $*"; skipped=$((skipped + 1)); }
is_ours() {
    [ "$arch" = "$(dpkg --print-architecture)" ] || { cannot "$1: this machine is $(dpkg --print-architecture)"; return 1; }
}

# newer: the same package with a higher version, for an upgrade, in `newer`.
newer=""
make_newer() {
    [ -z "$newer" ] || return 0
    build_here
    dpkg-deb -R "$deb" "$dir/newer"
    sed -i 's/^Version: .*/&+1/' "$dir/newer/DEBIAN/control"
    newer=$dir/newer.deb
    dpkg-deb --root-owner-group -b "$dir/newer" "$newer" >/dev/null
}

# What there is in a root, but for what dpkg, apt and a running system keep for themselves.
listing() {
    (cd "$dir/$1" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./tmp -o -path ./var/lib/dpkg \
        -o -path ./var/log/dpkg.log -o -path './etc/*-' -o -path ./var/cache/ldconfig -o -path ./var/cache/debconf -o -path ./etc/.pwd.lock \) -prune \
        -o -printf '%p %m %U:%G\n' | sort)
}

part_cycle() {
    local said sum
    is_ours cycle || return 0
    make_newer
    root root-cycle
    local at=$dir/root-cycle
    cp "$deb" "$at/tmp/first.deb"
    cp "$newer" "$at/tmp/second.deb"
    listing root-cycle >"$dir/before"

    said=$(within root-cycle dpkg -i /tmp/first.deb 2>&1) || fail "it does not install: $said"
    [ "$(grep -c 'azaion-loader: not configured yet; next: ' <<<"$said")" = 1 ] || fail "installing does not say what is next: $said"
    ok "installs: $(grep 'next:' <<<"$said")"
    is() { # is PATH MODE OWNER
        local found
        found=$(within root-cycle stat -c '%a %U:%G' "$1") || fail "$1 is missing"
        [ "$found" = "$2 $3" ] || fail "$1 is $found, not $2 $3"
    }
    is /usr/bin/azaion-loader 755 root:root
    is /etc/azaion 755 root:root
    is /etc/azaion/boards 755 root:root
    is /etc/azaion/loader.toml 640 root:azaion-loader
    is /var/lib/azaion-loader 700 azaion-loader:azaion-loader
    is /var/cache/azaion-loader 700 azaion-loader:azaion-loader
    is /var/log/azaion-loader 750 azaion-loader:azaion-loader
    is /opt/azaion 755 root:root
    is /lib/systemd/system/azaion-loader.service 644 root:root
    is /lib/udev/rules.d/60-azaion-loader.rules 644 root:root
    is /usr/share/doc/azaion-loader/loader.example.toml 644 root:root
    within root-cycle id azaion-loader | grep -q '(docker)' || fail "the user is not in the group docker"
    within root-cycle getent passwd azaion-loader | grep -q ':/nonexistent:/usr/sbin/nologin$' || fail "the user may log in"
    [ "$(within root-cycle systemctl is-enabled azaion-loader.service)" = enabled ] || fail "the service is not enabled"
    [ "$(within root-cycle systemctl is-enabled azaion-ready.target || true)" = static ] || fail "the target is not there"
    within root-cycle azaion-loader --version >/dev/null || fail "the binary does not run"
    cmp -s "$at/etc/azaion/loader.toml" "$at/usr/share/azaion-loader/loader.toml" || fail "loader.toml is not the one that was shipped"
    ok "files, modes, owners, user and groups, enabled"

    sed -i 's/^#\(hardware\|api\|resource\)_salt = .*/\1_salt = "mine"/' "$at/etc/azaion/loader.toml"
    chmod 0600 "$at/etc/azaion/loader.toml"
    touch "$at/var/lib/azaion-loader/ready.json" "$at/etc/azaion/boards/mine.toml"
    echo '{}' >"$at/etc/azaion/boot.json"
    sum=$(sha256sum "$at/etc/azaion/loader.toml")
    said=$(within root-cycle dpkg -i /tmp/second.deb 2>&1 </dev/null) || fail "it does not upgrade: $said"
    ! grep -q 'next:' <<<"$said" || fail "what is configured is said not to be: $said"
    [ "$(sha256sum "$at/etc/azaion/loader.toml")" = "$sum" ] || fail "an upgrade changed loader.toml"
    is /etc/azaion/loader.toml 600 root:azaion-loader
    [ -e "$at/var/lib/azaion-loader/ready.json" ] || fail "an upgrade lost state"
    ok "an upgrade keeps loader.toml, its mode, and the state"

    within root-cycle dpkg -r azaion-loader >/dev/null 2>&1 || fail "it does not remove"
    [ ! -e "$at/usr/bin/azaion-loader" ] || fail "removing leaves the binary"
    [ "$(sha256sum "$at/etc/azaion/loader.toml")" = "$sum" ] || fail "removing lost loader.toml"
    [ -e "$at/var/lib/azaion-loader/ready.json" ] || fail "removing lost state"
    [ -e "$at/etc/azaion/boot.json" ] || fail "removing lost boot.json"
    within root-cycle dpkg -i /tmp/first.deb >/dev/null 2>&1 || fail "it does not install again"
    [ "$(sha256sum "$at/etc/azaion/loader.toml")" = "$sum" ] || fail "installing again changed loader.toml"
    ok "remove keeps configuration and state, installing again finds them"

    # Somebody else's file in a directory of ours is not ours to remove.
    touch "$at/opt/azaion/images.enc"
    within root-cycle dpkg -P azaion-loader >/dev/null 2>&1 || fail "it does not purge"
    [ -e "$at/opt/azaion/images.enc" ] || fail "purge removed the archive"
    rm -r "$at/opt/azaion"
    listing root-cycle >"$dir/after"
    diff "$dir/before" "$dir/after" >&2 || fail "purge leaves something, see above"
    [ -z "$(within root-cycle dpkg --audit)" ] || fail "dpkg finds fault: $(within root-cycle dpkg --audit)"
    within root-cycle id azaion-loader >/dev/null || fail "purge removed the user"
    ok "purge leaves nothing but the user, which is locked, and /opt/azaion with what somebody put there"

    # A configuration that was there before the package, and one that is a link to somewhere.
    mkdir -p "$at/etc/azaion"
    ln -s /nowhere "$at/etc/azaion/loader.toml"
    within root-cycle dpkg -i /tmp/first.deb >/dev/null 2>&1 || fail "it does not install beside a link"
    if [ ! -L "$at/etc/azaion/loader.toml" ] || [ -e "$at/nowhere" ]; then fail "a link in loader.toml's place was written through"; fi
    ok "what stands in loader.toml's place stays, a link too"
}

part_boot() {
    is_ours boot || return 0
    make_newer
    root root-boot
    local at=$dir/root-boot beside=$dir/root-boot/srv/check
    mkdir -p "$beside"
    cp "$deb" "$beside/first.deb"
    cp "$newer" "$beside/second.deb"
    # The lights' stand-in: a class of devices that every machine has, through the same code of udev and systemd.
    mkdir "$dir/boards"
    printf '[led]\nnames = ["lo"]\n' >"$dir/boards/lo.toml"
    images/leds.py "$dir/leds" "$dir/boards"
    sed 's/SUBSYSTEM=="leds"/SUBSYSTEM=="net"/; s/brightness/ifalias/g; s/trigger/mtu/g' "$dir/leds/azaion-loader.udev" >"$beside/stand-in.rules"
    sed 's|/sys/class/leds/|/sys/class/net/|' "$dir/leds/led.conf" >"$beside/stand-in.conf"
    install -m 0755 images/deb-boot-check "$beside/check"
    cat >"$at/etc/systemd/system/check.service" <<'UNIT'
[Unit]
After=basic.target dbus.service systemd-udevd.service
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/srv/check/check
StandardOutput=file:/srv/check/result
StandardError=inherit
TimeoutStartSec=240
UNIT
    mkdir -p "$at/etc/systemd/system/multi-user.target.wants"
    ln -s ../check.service "$at/etc/systemd/system/multi-user.target.wants/check.service"
    boot root-boot 300 || true
    if [ ! -s "$beside/result" ]; then
        tail -n 5 "$dir/root-boot.console" >&2
        cannot "boot: systemd does not boot in systemd-nspawn here"
        return
    fi
    cat "$beside/result"
    grep -q '^all passed$' "$beside/result" || fail "under systemd something is not as it should be"
}

for part in "${parts[@]}"; do
    case $part in
    lintian | pages | twice | cycle | boot) "part_$part" ;;
    *) fail "unknown part $part; allowed: lintian, pages, twice, cycle, boot" ;;
    esac
done
echo "deb-check: $arch: ${#parts[@]} parts (${parts[*]}): none failed, $skipped skipped"
