#!/usr/bin/env python3
"""How large the ARM64 binary is, whose share that is, and whether it keeps its budget (DESIGN: 6 MiB, aim 4.5).

    size.py BINARY MAP [OTHER…]     MAP is what GNU ld wrote when it linked BINARY; of OTHER binaries only the size is told

Run by `make size`. The linker's map names each piece of the binary, after fat LTO too, with its symbol and its file: a
piece counts for the crate in its symbol. Generic code counts for the crate that wrote it, and for the one that fills it in
where the name tells (`drop_in_place<T>`, `<T as Trait>`); constants without a name are a line of their own. Exit code 1:
over budget.
"""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

MIB = 1 << 20
BUDGET, AIM = 6 * MIB, 4.5 * MIB
# Lines below this share are told as one.
SHOWN = 1 / 400
LIBRARY = {"core", "alloc", "std", "compiler_builtins", "std_detect", "hashbrown", "addr2line", "gimli", "object", "miniz_oxide",
           "memchr", "rustc_demangle", "panic_abort", "panic_unwind", "unwind", "adler2"}  # fmt: skip
KINDS = {".text": "code", ".rodata": "constants", ".data.rel.ro": "constants", ".data": "constants"}


def pieces(text):
    """(output section, input section, bytes, file) of each piece of a map of GNU ld."""
    section = pending = None
    for line in text[text.index("Linker script and memory map"):].splitlines():
        # An output section begins at the margin, a piece one column in; a long name has a line to itself.
        if head := re.match(r"(\.[\w.]+)(\s|$)", line):
            section, pending = head[1], None
        elif piece := re.match(r" (\.[^\s]+)(?:\s+0x[0-9a-f]+\s+(0x[0-9a-f]+) (\S.*))?$", line):
            if piece[2]:
                yield section, piece[1], int(piece[2], 16), piece[3]
                pending = None
            else:
                pending = piece[1]
        elif pending and (rest := re.match(r"\s+0x[0-9a-f]+\s+(0x[0-9a-f]+) (\S.*)$", line)):
            yield section, pending, int(rest[1], 16), rest[2]
            pending = None
        else:
            pending = None


def symbol(name):
    """The symbol in the name of an input section, as rustc and `-ffunction-sections` make them."""
    found = re.search(r"(_ZN.*|_R[A-Z].*)$", name)
    return found[1] if found else None


def demangled(symbols):
    names = sorted(symbols)
    told = subprocess.run(["c++filt", "--format=rust"], input="\n".join(names), capture_output=True, text=True, check=True)
    return dict(zip(names, told.stdout.splitlines(), strict=True))


def crate(name):
    """The first crate in a demangled name that is not of the standard library, else `std`."""
    heads = re.findall(r"(?<![\w:])(\w+)::", name)
    return next((head for head in heads if head not in LIBRARY and not head.startswith("{")), "std" if heads else None)


def owner(name, file, names):
    if archive := re.search(r"/lib(\w+)\.a\(", file):
        return {"c": "glibc", "gcc": "libgcc", "gcc_eh": "libgcc"}.get(archive[1], archive[1])
    if rlib := re.search(r"/lib(\w+)-[0-9a-f]+\.rlib\((.*)\)", file):
        if rlib[1] in LIBRARY or rlib[1] == "std":
            return "std"
        return rlib[1] + (" (C, assembler)" if not rlib[2].endswith(".rcgu.o") else "")
    if mangled := symbol(name):
        return crate(names[mangled]) or "std"
    if re.search(r"\.rcgu\.o$", file):
        return "constants without a name"
    return "crt, linker"


def shares(text):
    found = [piece for piece in pieces(text) if piece[2]]
    names = demangled({mangled for _, name, _, _ in found if (mangled := symbol(name))})
    owners = defaultdict(lambda: defaultdict(int))
    for section, name, size, file in found:
        if kind := KINDS.get(section):
            owners[owner(name, file, names)][kind] += size
        elif section in (".eh_frame", ".eh_frame_hdr", ".gcc_except_table"):
            # ld puts equal heads together, so that pieces add up to more than there is; the section's own size counts.
            continue
    for row, wanted in (("unwind tables", (".eh_frame", ".eh_frame_hdr", ".gcc_except_table")),):
        for section in wanted:
            if size := re.search(rf"^{re.escape(section)}\s+0x[0-9a-f]+\s+(0x[0-9a-f]+)", text, re.M):
                owners[row]["constants"] += int(size[1], 16)
    return owners


def mib(size):
    return f"{size:,} bytes, {size / MIB:.2f} MiB"


def main():
    binary, map_file, *others = map(Path, sys.argv[1:])
    size = binary.stat().st_size
    owners = shares(map_file.read_text(errors="replace"))
    rows = sorted(owners.items(), key=lambda row: -sum(row[1].values()))
    print(f"{'share of':34} {'code':>10} {'constants':>10} {'of all':>7}")
    small = [0, 0, 0]
    for name, kinds in rows:
        code, constants = kinds["code"], kinds["constants"]
        if code + constants < SHOWN * size:
            small = [small[0] + 1, small[1] + code, small[2] + constants]
            continue
        print(f"{name:34} {code:10,} {constants:10,} {(code + constants) / size:7.1%}")
    print(f"{f'{small[0]} smaller ones':34} {small[1]:10,} {small[2]:10,} {(small[1] + small[2]) / size:7.1%}")
    told = sum(sum(kinds.values()) for kinds in owners.values())
    print(f"{'headers, tables, alignment':34} {'':10} {size - told:10,} {(size - told) / size:7.1%}")
    print()
    for other in others:
        print(f"{other}: {mib(other.stat().st_size)}")
    print(f"{binary}: {mib(size)}; budget {BUDGET / MIB:g} MiB, aim {AIM / MIB:g}")
    if size > BUDGET:
        sys.exit(f"size: {size - BUDGET:,} bytes over the budget of {BUDGET:,}; the table says whose they are")
    left = f"{BUDGET - size:,} bytes below the budget"
    print(f"size: {left}" + (f", {size - int(AIM):,} above the aim" if size > AIM else " and within the aim"))


if __name__ == "__main__":
    main()
