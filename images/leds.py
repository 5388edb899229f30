#!/usr/bin/env python3
"""Lets the agent use the status lights that board profiles name, and no others: a udev rule, and the hole in the sandbox.

    images/leds.py OUT [BOARDS]

Into OUT come azaion-loader.udev (the group azaion-loader may write `brightness` and `trigger`) and led.conf, a drop-in of
azaion-loader.service. BOARDS is boards/; of each profile there, `[led] names` counts.
"""

import re
import sys
import tomllib
from pathlib import Path

HEAD = "# Made by images/leds.py from the lights that boards/*.toml name.\n"


def names(boards):
    found = {}
    for path in sorted(boards.glob("*.toml")):
        led = tomllib.loads(path.read_text(encoding="utf-8")).get("led", {})
        for name in led.get("names", []) if isinstance(led, dict) else []:
            # A name goes into a glob of udev and a path of systemd: neither may see characters of its own in it.
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:_.-]*", name):
                sys.exit(f"leds: {path}: the light {name!r} has characters other than letters, digits and : _ . -")
            found[name] = None
    return list(found)


def rule(lights):
    if not lights:
        return HEAD + "# None of them names one.\n"
    both = "/sys$devpath/brightness /sys$devpath/trigger"
    return HEAD + (
        f'ACTION!="remove", SUBSYSTEM=="leds", KERNEL=="{"|".join(lights)}", '
        f'RUN+="/bin/chgrp azaion-loader {both}", RUN+="/bin/chmod g+w {both}"\n'
    )


def drop_in(lights):
    # /sys/class/leds/NAME is a symlink into /sys/devices. systemd follows the path it is given and makes the one device's
    # directory writable; a hole at /sys/class/leds itself would hold symlinks alone, and open nothing.
    lines = "".join(f"ReadWritePaths=-/sys/class/leds/{light}\n" for light in lights)
    return HEAD + "# ProtectKernelTunables= makes /sys read-only; these stay writable for whom their modes let.\n[Service]\n" + lines


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("leds: the call is: images/leds.py OUT [BOARDS]")
    boards = Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).resolve().parent.parent / "boards"
    lights, out = names(boards), Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    (out / "azaion-loader.udev").write_text(rule(lights), encoding="utf-8")
    (out / "led.conf").write_text(drop_in(lights), encoding="utf-8")


if __name__ == "__main__":
    main()
