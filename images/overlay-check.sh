#!/usr/bin/env bash
# The first boot at work, in a throw-away Debian:
#
#   images/overlay-check.sh [PART…]     without parts, all of them
#     run      the hook takes in package, configuration, credentials and archive; a second run changes nothing; what cannot
#              be taken in stays and is told; a later box updates
#     cut      the hook is killed at many moments, each time run again until it is done: always the same end
#     steps    cut before every single command that the hook calls, the package being in: at each cut every file is whole in
#              the box or whole in its place, and the next run ends it
#     boot     the root overlay and a box, booted by systemd: the agent runs by itself; booted again: nothing changes
#     ways     firstrun.sh (Raspberry Pi Imager) and user-data (cloud-init) install the hook, and take themselves out
#
# As root, for this machine's own architecture; installs mmdebstrap and systemd-container where they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck disable=SC2034  # for throwaway.sh
check="overlay-check"
# shellcheck source=images/throwaway.sh
. images/throwaway.sh
target_dir=${CARGO_TARGET_DIR:-target}
arch=$(dpkg --print-architecture)
parts=("$@")
[ $# -gt 0 ] || parts=(run cut steps boot ways)
case $arch in
amd64) board=generic-x86-64 other=arm64 ;;
arm64) board=generic-arm64 other=amd64 ;;
*) skip "there is no package for $arch" ;;
esac
images/images.sh "$board" >"$dir/made.log" 2>&1 || { cat "$dir/made.log" >&2; fail "make images BOARD=$board fails"; }
overlays=$target_dir/images/$board
deb=$(echo "$target_dir"/images/azaion-loader_*_"$arch".deb)
secret=canary-$RANDOM$RANDOM

# box NAME: a boot partition as a person leaves it.
box() {
    local at=$dir/$1/boot/firmware
    mkdir -p "$at"
    tar -xf "$overlays/overlay-boot.tar" -C "$at"
    sed 's/^#\(hardware\|api\|resource\)_salt = .*/\1_salt = "'"$secret"'-salt"/' "$at/azaion/loader.toml.example" >"$at/azaion/loader.toml"
    echo '{"email":"board-7@example.com","password":"'"$secret"'-password"}' >"$at/azaion/boot.json"
    head -c 3000000 /dev/urandom >"$at/azaion/images.enc"
    echo seal >"$at/azaion/images.enc.seal"
    cp "$at/azaion/images.enc" "$dir/$1.images.enc"
}
hook() { within "$1" sh /boot/firmware/azaion/firstboot; }

# shellcheck disable=SC2016  # for dpkg-query
# settled NAME: everything is where it belongs, and nothing that was to be taken in is left.
settled() {
    local at=$dir/$1 left
    is() {
        local found
        found=$(within "$1" stat -c '%a %U:%G' "$2" 2>/dev/null) || fail "$2 is missing"
        [ "$found" = "$3" ] || fail "$2 is $found, not $3"
    }
    [ "$(within "$1" dpkg-query -W -f '${db:Status-Status}' azaion-loader)" = installed ] || fail "the package is not installed"
    is "$1" /etc/azaion/loader.toml '640 root:azaion-loader'
    is "$1" /etc/azaion/boot.json '600 root:root'
    is "$1" /opt/azaion/images.enc '640 root:azaion-loader'
    is "$1" /opt/azaion '755 root:root'
    is "$1" /etc/systemd/system/azaion-loader.service.d/boot-credentials.conf '644 root:root'
    grep -q "$secret-salt" "$at/etc/azaion/loader.toml" || fail "loader.toml is not the one of the box"
    grep -q "$secret-password" "$at/etc/azaion/boot.json" || fail "boot.json is not the one of the box"
    cmp "$dir/$1.images.enc" "$at/opt/azaion/images.enc" || fail "images.enc is not the one of the box"
    [ "$(cat "$at/opt/azaion/images.enc.seal")" = seal ] || fail "the seal is not the one of the box"
    within "$1" azaion-loader config >/dev/null || fail "the configuration is not taken"
    left=$(cd "$at/boot/firmware/azaion" && ls)
    [ "$left" = "$(printf '%s\n' azaion-firstboot.service boot.json.example firstboot firstboot.log install-hook loader.toml.example)" ] ||
        fail "left in the box: $left"
    ! grep -rq "$secret" "$at/boot" || fail "a secret is left on the boot partition"
    [ -z "$(find "$at/etc" "$at/opt" -name '*.firstboot')" ] || fail "half a file is left: $(find "$at/etc" "$at/opt" -name '*.firstboot')"
    [ -z "$(within "$1" dpkg --audit)" ] || fail "dpkg finds fault"
}
print() { (cd "$dir/$1" && find etc opt boot usr/bin/azaion-loader var/lib/azaion-loader -printf '%p %m %U:%G %T@ %s\n' | sort); }

# shellcheck disable=SC2016  # for dpkg-query
part_run() {
    local said before
    root root-run
    box root-run
    said=$(hook root-run 2>&1) || fail "the hook fails: $said"
    grep -q 'azaion-loader is configured' <<<"$said" || fail "the hook does not say that it is configured: $said"
    settled root-run
    ok "takes in package, loader.toml, boot.json, images.enc and its seal; nothing secret is left in the box"
    before=$(print root-run)
    said=$(hook root-run 2>&1) || fail "a second run fails: $said"
    if [ -n "$said" ] || [ "$before" != "$(print root-run)" ]; then fail "a second run does something: $said"; fi
    ok "a second run changes nothing"

    local at=$dir/root-run
    cp "$deb" "$at/boot/firmware/azaion/azaion-loader_9_other.deb"
    dpkg-deb -R "$deb" "$dir/other"
    sed -i "s/^Architecture: .*/Architecture: $other/" "$dir/other/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$dir/other" "$at/boot/firmware/azaion/azaion-loader_9_other.deb" >/dev/null
    ! said=$(hook root-run 2>&1) || fail "a package for another processor is taken: $said"
    grep -q "not for this board" "$at/boot/firmware/azaion/firstboot.log" || fail "the box's log does not say what is wrong: $said"
    rm "$at/boot/firmware/azaion/azaion-loader_9_other.deb"
    ok "a package for another processor stays, and firstboot.log says so"

    # An older systemd: the agent reads the file itself.
    mv "$at/usr/bin/systemctl" "$at/usr/bin/systemctl.real"
    printf '#!/bin/sh\necho "systemd 245 (245.4-4ubuntu3)"\n' >"$at/usr/bin/systemctl"
    chmod +x "$at/usr/bin/systemctl"
    echo '{"email":"board-7@example.com","password":"older"}' >"$at/boot/firmware/azaion/boot.json"
    said=$(hook root-run 2>&1) || fail "with an older systemd the hook fails: $said"
    mv "$at/usr/bin/systemctl.real" "$at/usr/bin/systemctl"
    is root-run /etc/azaion/boot.json '400 azaion-loader:azaion-loader'
    grep -qx 'Environment=AZAION_BOOT_CREDENTIALS_FILE=/etc/azaion/boot.json' "$at/etc/systemd/system/azaion-loader.service.d/boot-credentials.conf" ||
        fail "with an older systemd the drop-in is: $(cat "$at/etc/systemd/system/azaion-loader.service.d/boot-credentials.conf")"
    ok "a systemd before 247, which knows no credentials: the file is the agent's own, and named by its path"

    # A later box: a newer package, another path for the archive, nothing else.
    sed -i "s/^Architecture: .*/Architecture: $arch/; s/^Version: .*/&+1/" "$dir/other/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$dir/other" "$at/boot/firmware/azaion/azaion-loader_9.deb" >/dev/null
    printf '[archive]\npath = "/srv/suite/images.enc"\n[boot]\ncredentials_file = "boot"\n' | cat "$at/etc/azaion/loader.toml" - >"$at/boot/firmware/azaion/loader.toml"
    echo second >"$at/boot/firmware/azaion/images.enc"
    said=$(hook root-run 2>&1) || fail "a later box fails: $said"
    [ "$(cat "$at/srv/suite/images.enc")" = second ] || fail "the archive is not where loader.toml says: $said"
    [[ $(within root-run dpkg-query -W -f '${Version}' azaion-loader) = *+1 ]] || fail "the package was not updated"
    ok "a later box updates package, configuration and archive, which goes where [archive] path says"
}

# shellcheck disable=SC2016  # for the inner shell
part_cut() {
    local cut cuts=0 done_at="" took start status
    for cut in 5 50 100 200 300 400 500 600 700 800 900 1000 1200 1400 1700 2000 2500 3500 5000 8000 30000; do
        rm -rf --one-file-system "$dir/root-cut"
        root root-cut
        box root-cut
        start=$(date +%s%3N)
        # The whole pid namespace dies at once: dpkg, its scripts, sync. What was not flushed is not lost, as it would be
        # with the power: that part of the promise is the order of sync and rename in the script.
        # In a shell of its own, which may say "Killed" to nobody.
        status=$(
            exec 2>/dev/null
            timeout --signal=KILL "$(awk "BEGIN {print $cut / 1000}")" \
                unshare --mount --pid --fork --kill-child sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh /boot/firmware/azaion/firstboot' \
                "$dir/root-cut" >/dev/null
            echo $?
        )
        if [ "$status" = 0 ]; then
            took=$(($(date +%s%3N) - start))
            done_at=$cut
            settled root-cut
            break
        fi
        cuts=$((cuts + 1))
        hook root-cut >"$dir/again.log" 2>&1 || { cat "$dir/again.log" >&2; fail "cut after $cut ms, the next run fails"; }
        settled root-cut
    done
    [ -n "$done_at" ] || fail "no run was ever long enough to end"
    [ "$cuts" -ge 5 ] || fail "only $cuts moments were cut"
    ok "cut at $cuts moments of a run of $took ms: the next run ends as one that was not cut"
}

# shellcheck disable=SC2016  # for the inner shell
part_steps() {
    local at=$dir/root-steps n=0 cuts=0 status name
    root root-steps
    box root-steps
    hook root-steps >/dev/null 2>&1 || fail "the hook fails"
    # In front of each command stands one that counts, and at the n-th call kills everything: the hook, its shells, itself.
    mkdir "$at/cut"
    for name in mkdir cp chown chmod sync mv wc dd rm sed grep getent systemctl dpkg dpkg-deb dpkg-query azaion-loader; do
        cat >"$at/cut/$name" <<'WRAPPER'
#!/bin/sh
n=$(/bin/cat /cut/left)
[ "$n" -gt 1 ] || kill -KILL -1
echo $((n - 1)) >/cut/left
PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec "${0##*/}" "$@"
WRAPPER
        chmod +x "$at/cut/$name"
    done
    whole() { # whole NAME PLACE CONTENT-TEST…: in the box or in its place
        local what=$1 place=$2
        shift 2
        "$@" "$at/boot/firmware/azaion/$what" 2>/dev/null || "$@" "$at$place" 2>/dev/null || fail "cut before command $n: $what is whole nowhere"
    }
    while :; do
        n=$((n + 1))
        rm -rf "${at:?}/boot" "$at"/etc/azaion/boot.json* "$at"/etc/azaion/loader.toml* "$at/opt/azaion" "$at/etc/systemd/system/azaion-loader.service.d"
        box root-steps
        echo "$n" >"$at/cut/left"
        status=$(
            exec 2>/dev/null
            unshare --mount --pid --fork --kill-child sh -c 'mount -t proc proc "$0/proc"; chroot "$0" env -i PATH=/cut:/usr/sbin:/usr/bin:/sbin:/bin sh /boot/firmware/azaion/firstboot; exit $?' \
                "$at" >/dev/null
            echo $?
        )
        whole loader.toml /etc/azaion/loader.toml grep -q "^resource_salt = \"$secret-salt\""
        whole boot.json /etc/azaion/boot.json grep -q "$secret-password\"}"
        whole images.enc /opt/azaion/images.enc cmp -s "$dir/root-steps.images.enc"
        whole images.enc.seal /opt/azaion/images.enc.seal grep -qx seal
        if [ "$status" = 0 ]; then break; fi
        [ "$status" = 137 ] || fail "cut before command $n: the hook ends with $status"
        cuts=$((cuts + 1))
        hook root-steps >"$dir/again.log" 2>&1 || { cat "$dir/again.log" >&2; fail "cut before command $n, the next run fails"; }
        settled root-steps
    done
    settled root-steps
    [ "$cuts" -ge 30 ] || fail "only $cuts commands were cut"
    ok "cut before each of $cuts commands: every file whole in the box or in its place, and the next run ends it"
}

part_boot() {
    local at=$dir/root-boot
    root root-boot
    box root-boot
    # From the root's own box, as a workshop lays it; the partition's box brings the rest.
    rm "$at"/boot/firmware/azaion/*.deb
    tar -xf "$overlays/overlay-root.tar" -C "$at"
    mkdir -p "$at/srv/check"
    cat >"$at/srv/check/check" <<'CHECK'
#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
n=0
until curl -sf -o /dev/null http://127.0.0.1:8080/health; do
    n=$((n + 1)); [ $n -lt 300 ] || break
    sleep 0.2
done
systemctl --no-pager status azaion-firstboot.service azaion-loader.service
echo "firstboot=$(systemctl show -P Result azaion-firstboot.service) loader=$(systemctl is-active azaion-loader.service)"
curl -s http://127.0.0.1:8080/unlock/status
echo
journalctl -o cat --no-pager -u azaion-firstboot.service
echo end
CHECK
    chmod +x "$at/srv/check/check"
    cat >"$at/etc/systemd/system/check.service" <<'UNIT'
[Unit]
SuccessAction=poweroff-force
FailureAction=poweroff-force
After=basic.target azaion-firstboot.service
[Service]
Type=oneshot
ExecStart=/bin/sh /srv/check/check
StandardOutput=file:/srv/check/result
StandardError=inherit
TimeoutStartSec=120
UNIT
    ln -s ../check.service "$at/etc/systemd/system/multi-user.target.wants/check.service"
    for turn in first second; do
        rm -f "$at/srv/check/result"
        boot root-boot 180 || true
        if [ ! -s "$at/srv/check/result" ] && [ "$turn" = first ]; then
            tail -n 5 "$dir/root-boot.console" >&2
            echo "SKIPPED overlay-check boot: systemd does not boot in systemd-nspawn here"
            return
        fi
        grep -q '^firstboot=success loader=active$' "$at/srv/check/result" || { cat "$at/srv/check/result" >&2; fail "at the $turn boot the agent does not run"; }
        # It has logged in by itself, or tries to: without a network that is all it can do.
        grep -q '"state":"authenticating"\|"code":"cloud_' "$at/srv/check/result" || { cat "$at/srv/check/result" >&2; fail "at the $turn boot it does not log in by itself"; }
        if [ "$turn" = first ]; then
            settled root-boot
            [ -z "$(ls "$at"/var/lib/azaion-firstboot/*.deb 2>/dev/null)" ] || fail "the package is left in the root's box"
            cp "$at/boot/firmware/azaion/firstboot.log" "$dir/first.log"
        else
            cmp "$dir/first.log" "$at/boot/firmware/azaion/firstboot.log" || fail "the second boot took something in"
        fi
        ok "$turn boot: the agent runs and logs in by itself"
    done
}

part_ways() {
    local at=$dir/root-ways said line
    root root-ways
    box root-ways
    line='console=serial0,115200 console=tty1 root=PARTUUID=4b1cc5f7-02 rootfstype=ext4 fsck.repair=yes rootwait quiet'
    echo "$line systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target" >"$at/boot/firmware/cmdline.txt"
    said=$(within root-ways sh /boot/firmware/firstrun.sh 2>&1) || fail "firstrun.sh fails: $said"
    [ "$(cat "$at/boot/firmware/cmdline.txt")" = "$line" ] || fail "firstrun.sh leaves cmdline.txt as: $(cat "$at/boot/firmware/cmdline.txt")"
    [ ! -e "$at/boot/firmware/firstrun.sh" ] || fail "firstrun.sh is still there"
    [ "$(within root-ways systemctl is-enabled azaion-firstboot.service)" = enabled ] || fail "the hook is not enabled"
    cmp images/overlay/firstboot "$at/usr/local/lib/azaion-firstboot" || fail "the hook is another"
    ok "firstrun.sh installs the hook, and takes itself out of cmdline.txt"
    rm -r "$at"/usr/local/lib/azaion-firstboot "$at"/etc/systemd/system/azaion-firstboot.service "$at"/etc/systemd/system/multi-user.target.wants/azaion-firstboot.service
    # What cloud-init would run at every boot, read out of the file as it does.
    needs python3-yaml
    /usr/bin/python3 -c 'import sys, yaml; data = yaml.safe_load(open(sys.argv[1])); assert all(isinstance(c, list) for c in data["bootcmd"] + data["runcmd"]); print("\0".join(data["bootcmd"][0]), end="")' \
        images/overlay/user-data >"$dir/bootcmd"
    mapfile -d '' -t command <"$dir/bootcmd"
    for _ in 1 2; do within root-ways "${command[@]}" || fail "bootcmd fails"; done
    [ "$(within root-ways systemctl is-enabled azaion-firstboot.service)" = enabled ] || fail "bootcmd does not enable the hook"
    ok "user-data installs the hook, twice as well as once"
}

for part in "${parts[@]}"; do
    case $part in
    run | cut | steps | boot | ways) "part_$part" ;;
    *) fail "unknown part $part; allowed: run, cut, steps, boot, ways" ;;
    esac
done
echo "overlay-check: ${parts[*]}: all passed"
