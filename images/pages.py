#!/usr/bin/env python3
"""Makes the man pages and the shell completions from what the binary itself says in --help, so that they cannot differ.

    images/pages.py BINARY OUT

BINARY is run once for each command; one for ARM64 by qemu-aarch64-static where the processor is another. Into OUT come
azaion-loader.1, azaion-loader.toml.5, azaion-loader.bash, _azaion-loader (zsh) and azaion-loader.fish. What is not
in --help stands in images/man/. The same binary makes the same bytes; the date is SOURCE_DATE_EPOCH. Exit code 1: a
help text has a shape that is not known here, which is then named.
"""

import os
import platform
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "azaion-loader"
# An argument of one of these kinds is completed as a file; any other is free text.
FILES = {"FILE", "F", "DIR"}


def refuse(text):
    sys.exit(f"pages: {text}")


def runner(binary):
    """How BINARY is run here: as it is, or by qemu for another processor."""
    with open(binary, "rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF":
        refuse(f"{binary} is not a program")
    is_arm = int.from_bytes(head[18:20], "little") == 183
    return ["qemu-aarch64-static", binary] if is_arm and platform.machine() != "aarch64" else [binary]


class Option:
    def __init__(self, name, value, text):
        self.name, self.value, self.text = name, value, text


class Command:
    """One command's help: its first line, its options, and its blocks of text."""

    def __init__(self, name, summary, text):
        self.name, self.summary = name, summary
        self.options, self.actions = [], []
        head, _, body = text.partition("\n\n")
        if not head.startswith(f"{NAME} {name}: "):
            refuse(f"{name} --help does not begin with its name: {head!r}")
        self.about = " ".join(head.removeprefix(f"{NAME} {name}: ").split())
        self.blocks = [self.block(block) for block in body.split("\n\n")]
        # Options that stand in a usage line alone, as [--folder F] does.
        usage = [line for kind, lines in self.blocks if kind == "usage" for line in lines]
        for line in usage:
            for option, value in re.findall(r"(--[a-z][a-z-]*)(?: ([A-Z]+)\b)?", line):
                self.add(Option(option, value or None, ""))
        self.add(Option("--help", None, "what the command does, its options, examples"))

    def add(self, option):
        if all(known.name != option.name for known in self.options):
            self.options.append(option)

    def block(self, text):
        lines = text.split("\n")
        if re.fullmatch(r"Examples?:", lines[0]):
            return "examples", [line.strip() for line in lines[1:]]
        title = [] if lines[0].startswith(" ") else [lines[0]]
        if title and not (len(lines) > 1 and lines[1].startswith("  ")):
            return "text", [" ".join(text.split())]
        entries = []
        for line in lines[len(title):]:
            if re.match(rf"  (?:{NAME} )?{self.name} \S| {{2}}[a-z]+ [-A-Za-z]", line) and "  --" not in line[:4]:
                entries.append(("usage", line.strip()))
            elif found := re.match(r"  (--[a-z][a-z-]*|[a-z]+)(?: ([A-Z]+))?(?: {2,}(\S.*))?$", line):
                entries.append(("option", [found[1], found[2], found[3] or ""]))
            elif entries and entries[-1][0] == "option" and line.startswith("    "):
                entries[-1][1][2] += " " + line.strip()
            else:
                refuse(f"{self.name} --help has a line of unknown shape: {line!r}")
        if entries and all(kind == "usage" for kind, _ in entries):
            for _, line in entries:
                words = line.removeprefix(NAME).split()
                if len(words) > 1 and (found := re.fullmatch(r"\[?([a-z]+)\]?", words[1])):
                    if found[1] not in self.actions:
                        self.actions.append(found[1])
            return "usage", [*title, *(line for _, line in entries)]
        if any(kind == "usage" for kind, _ in entries):
            refuse(f"{self.name} --help mixes usage and options in one block: {text!r}")
        options = [Option(*words) for _, words in entries]
        for option in options:
            if option.name.startswith("--"):
                self.add(option)
        return "options", [*title, *options]


class Help:
    def __init__(self, binary):
        self.run = runner(binary)
        self.text = self.ask("--help")
        self.version = self.ask("--version").split()[1]
        self.summary = self.text.split("\n")[0].removeprefix(f"{NAME}: ")
        listed = re.findall(r"^ {2}([a-z]+) {2,}(\S.*)$", self.text, re.MULTILINE)
        self.commands = [Command(name, summary, self.ask(name, "--help")) for name, summary in listed]
        self.exits = re.findall(r"^ {2}(\d) {2}(\S.*)$", self.text, re.MULTILINE)
        if not self.commands or not self.exits:
            refuse("--help lists no commands or no exit codes")

    def ask(self, *arguments):
        try:
            done = subprocess.run([*self.run, *arguments], capture_output=True, text=True, check=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            refuse(f"{shlex.join([*self.run, *arguments])}: {error}")
        return done.stdout.strip("\n")


def roff(text):
    """Plain text for roff: backslashes, hyphens that are to be copied, and lines that begin with a control character."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "\\[u2026]")
    return "\\&" + text if text[:1] in (".", "'") else text


def example(lines):
    return [".PP", ".RS 4", ".nf", *map(roff, lines), ".fi", ".RE"]


def manual(said, date):
    commands = []
    for command in said.commands:
        commands += [f".SS {command.name}", roff(command.about[:1].upper() + command.about[1:]) + "."]
        for kind, lines in command.blocks:
            if kind == "examples":
                commands += example(lines)
                continue
            if kind == "usage":
                texts = [line for line in lines if not line.startswith((command.name, NAME))]
                commands += [".PP", *map(roff, texts)] if texts else []
                commands += example([line if line.startswith(NAME) else f"{NAME} {line}" for line in lines if line not in texts])
                continue
            for line in lines:
                if isinstance(line, Option):
                    value = f" \\fI{roff(line.value)}\\fR" if line.value else ""
                    commands += [".TP", f"\\fB{roff(line.name)}\\fR{value}", roff(line.text)]
                else:
                    commands += [".PP", roff(line)]
    exits = [part for code, text in said.exits for part in (".TP", code, roff(text))]
    texts = {"DATE": date, "VERSION": said.version, "SUMMARY": roff(said.summary), "COMMANDS": "\n".join(commands),
             "EXITS": "\n".join(exits)}
    return fill(HERE / "man" / f"{NAME}.1.in", texts)


def fill(path, texts):
    text = path.read_text(encoding="utf-8")
    for name, value in texts.items():
        text = text.replace(f"@{name}@", value)
    if left := re.search(r"@[A-Z]+@", text):
        refuse(f"{path.name}: nothing is known for {left[0]}")
    return text


def settings(said, date):
    """The manual page of the configuration: docs/loader.example.toml, section by section, in its own words."""
    out, about = [], []
    for line in (HERE.parent / "docs" / "loader.example.toml").read_text(encoding="utf-8").split("\n"):
        if line.startswith("# ") or line == "#":
            about.append(line[2:])
        elif found := re.fullmatch(r"\[([a-z]+)\]", line):
            # What stands before the first section is told in the page itself.
            out += [f".SS [{found[1]}]"] + ([roff(" ".join(about))] if out and about else [])
            about = []
        elif found := re.fullmatch(r"(#?)([a-z_]+) = (.*)", line):
            out += [".TP", f"\\fB{roff(found[2])}\\fR = {roff(found[3])}"]
            if about:
                out += [roff(" ".join(about)) + (" Not set; what is shown is an example." if found[1] else "")]
            about = []
        elif line.strip():
            refuse(f"loader.example.toml has a line of unknown shape: {line!r}")
    return fill(HERE / "man" / f"{NAME}.toml.5.in", {"DATE": date, "VERSION": said.version, "KEYS": "\n".join(out)})


def value_options(command, files):
    return [option.name for option in command.options if option.value and (option.value in FILES) == files]


def bash(said):
    cases, files, texts = [], set(), set()
    for command in said.commands:
        options = shlex.quote(" ".join(option.name for option in command.options))
        actions = f" actions={shlex.quote(' '.join(command.actions))}" if command.actions else ""
        cases.append(f"        {command.name}) options={options}{actions} ;;")
        files.update(value_options(command, True))
        texts.update(value_options(command, False))
    both = files & texts
    if both:
        refuse(f"an option takes a file with one command and a text with another: {', '.join(sorted(both))}")
    return f"""# bash completion for {NAME}; made from its --help.
_azaion_loader() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} options actions=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        options={shlex.quote(" ".join([*(command.name for command in said.commands), "--help", "--version"]))}
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
        return
    fi
    case $before in
        {"|".join(sorted(files))})
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return ;;
        {"|".join(sorted(texts))}) return ;;
    esac
    case ${{COMP_WORDS[1]}} in
{chr(10).join(cases)}
        *) return ;;
    esac
    case $current in
        -*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current") ;;
        *)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -W "$actions" -- "$current"; compgen -f -- "$current") ;;
    esac
}}
complete -F _azaion_loader {NAME}
"""


def zsh(said):
    def text(words):
        return re.sub(r"([\[\]:'\\])", r"\\\1", words).replace("\\'", "'\\''")

    commands = "\n".join(f"        '{command.name}:{text(command.summary)}'" for command in said.commands)
    cases = []
    for command in said.commands:
        lines = []
        for option in command.options:
            about = f"[{text(option.text)}]" if option.text else ""
            value = "" if not option.value else f":{option.value.lower()}:" + ("_files" if option.value in FILES else "")
            lines.append(f"'*{option.name}{about}{value}'")
        lines.append(f"'1:action:({' '.join(command.actions)})'" if command.actions else "'*:file:_files'")
        if command.actions:
            lines.append("'*:name:'")
        cases.append(f"        {command.name})\n            _arguments " + " \\\n                ".join(lines) + " ;;")
    return f"""#compdef {NAME}
# zsh completion for {NAME}; made from its --help.
_azaion_loader() {{
    local -a commands
    commands=(
{commands}
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        compadd -- --help --version
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
{chr(10).join(cases)}
    esac
}}
_azaion_loader "$@"
"""


def fish(said):
    def text(words):
        return "'" + words.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = [f"# fish completion for {NAME}; made from its --help."]
    lines += [f"complete -c {NAME} -n __fish_use_subcommand -f -a {command.name} -d {text(command.summary)}" for command in said.commands]
    lines += [f"complete -c {NAME} -n __fish_use_subcommand -f -l {name}" for name in ("help", "version")]
    for command in said.commands:
        within = f"complete -c {NAME} -n '__fish_seen_subcommand_from {command.name}'"
        lines += [f"{within} -f -a {text(' '.join(command.actions))}"] if command.actions else []
        for option in command.options:
            value = "" if not option.value else " -r -F" if option.value in FILES else " -x"
            about = f" -d {text(option.text)}" if option.text else ""
            lines.append(f"{within} -l {option.name[2:]}{value}{about}")
    return "\n".join(lines) + "\n"


def main():
    if len(sys.argv) != 3:
        refuse("the call is: images/pages.py BINARY OUT")
    said, out = Help(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    date = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())))
    made = {
        f"{NAME}.1": manual(said, date),
        f"{NAME}.toml.5": settings(said, date),
        f"{NAME}.bash": bash(said),
        f"_{NAME}": zsh(said),
        f"{NAME}.fish": fish(said),
    }
    for name, content in made.items():
        (out / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
