#!/usr/bin/env python3
"""What the agent costs a board: memory, processor, flash and start when idle, memory while it loads, size of the binary.

  make footprint                                all of it
  make footprint ARGS="--idle 60 --runs 3"      a minute of idling, three loads of each kind

Memory is PSS of `/proc/PID/smaps_rollup`, sampled while an archive loads, its highest value; one process alone, a static
binary: PSS and RSS are nearly one. For ARM64 the binary runs under qemu-user with all of the guest in one range of
addresses (`-B`, `-R`), and what counts are the pages in that range: the emulator's own are elsewhere. Processor and times
of an emulated binary mean nothing and are not told. The tables are Markdown for docs/PERFORMANCE.md.
"""

import argparse
import contextlib
import dataclasses
import http.client
import os
import platform
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True

from loading import archives, rig  # noqa: E402
from loading.archives import MIB  # noqa: E402

# DESIGN, Budgets.
IDLE_PSS, LOADING_PSS, START_MS, SIZE = 5 * MIB, 8 * MIB, 20, 6 * MIB
STARTS = 21
SAMPLE_SECONDS = 0.010
# After the start: the helper threads of the first moments have gone.
SETTLE_SECONDS = 10
# Where the guest lies under qemu-user, and how much room it has. On x86-64 nothing else is put there.
GUEST_BASE, GUEST_ROOM = 0x100000000000, 0x100000000


def say(text):
    print(f"footprint: {text}", file=sys.stderr, flush=True)


def rollup(pid):
    """PSS in bytes, of all and of the anonymous part."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return tuple(int(re.search(rf"^{name}:\s+(\d+) kB", text, re.M)[1]) * 1024 for name in ("Pss", "Pss_Anon"))


def guest(pid):
    """The same of the pages that lie where the guest is."""
    all_of_it = anonymous = 0
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if head := re.match(r"([0-9a-f]+)-[0-9a-f]+ ", line):
            inside = GUEST_BASE <= int(head[1], 16) < GUEST_BASE + GUEST_ROOM
        elif inside and (kib := re.match(r"(Pss|Anonymous):\s+(\d+) kB", line)):
            if kib[1] == "Pss":
                all_of_it += int(kib[2]) * 1024
            else:
                anonymous += int(kib[2]) * 1024
    return all_of_it, anonymous


class Peak:
    """The highest PSS while the block runs."""

    def __init__(self, pid, memory):
        self.pid, self.memory, self.over, self.samples = pid, memory, threading.Event(), []

    def __enter__(self):
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()
        return self

    def sample(self):
        with contextlib.suppress(OSError):
            while not self.over.wait(SAMPLE_SECONDS):
                self.samples.append(self.memory(self.pid))

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    @property
    def bytes(self):
        return max(self.samples)


def threads_sum(pid, read):
    """Over all threads: helper threads come and go, what they did before is lost, so idle spans are compared thread by thread."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found[task.name] = read(task)
    return found


def run_seconds(task):
    return int((task / "schedstat").read_text().split()[0]) / 1e9


def wakeups(task):
    return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M)[1])


def written(pid):
    """Bytes that the process made dirty for a block device (write_bytes), and bytes handed to write calls of any kind (wchar)."""
    text = Path(f"/proc/{pid}/io").read_text()
    return tuple(int(re.search(rf"^{name}: (\d+)", text, re.M)[1]) for name in ("write_bytes", "wchar"))


def grown(after, before):
    return sum(value - before.get(task, 0) for task, value in after.items())


@dataclasses.dataclass
class Idle:
    pss: int
    anonymous: int
    threads: int
    cpu_seconds: float
    wakeups: int
    written: tuple
    seconds: float


def idle(pid, memory, seconds):
    time.sleep(SETTLE_SECONDS)
    cpu, woken, bytes_before = threads_sum(pid, run_seconds), threads_sum(pid, wakeups), written(pid)
    time.sleep(seconds)
    pss, anonymous = memory(pid)
    after = threads_sum(pid, run_seconds)
    bytes_after = written(pid)
    return Idle(
        pss, anonymous, len(after), grown(after, cpu), grown(threads_sum(pid, wakeups), woken),
        tuple(a - b for a, b in zip(bytes_after, bytes_before, strict=True)), seconds,
    )  # fmt: skip


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def starts(program, directory, cloud):
    """Milliseconds from the start of the process to the first 200 of `/health`, asked without a pause; the median of many."""
    port = free_port()
    board = rig.Agent(program, directory, cloud, [*oci(directory), ("control", "listen", [f"127.0.0.1:{port}"])])
    board.forget()
    board.start(None)
    board.stop()
    request = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    times = []
    for _ in range(STARTS):
        began = time.perf_counter()
        process = subprocess.Popen([program, "run", "--config", f"{directory}/loader.toml"], stderr=subprocess.DEVNULL)
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as asked:
                    asked.sendall(request)
                    if asked.recv(64).startswith(b"HTTP/1.1 200"):
                        break
                if process.poll() is not None:
                    raise rig.Failed(f"the agent ended with {process.returncode}")
            times.append((time.perf_counter() - began) * 1000)
        finally:
            rig.end(process)
    return statistics.median(times)


def oci(directory):
    return [("engine", "socket", f"dir:{directory}/oci")]


class Bench:
    def __init__(self, options, directory, stack):
        self.options, self.directory = options, directory
        self.cloud = rig.Cloud(options.cloud, directory / "cloud")
        stack.callback(self.cloud.stop)
        self.archive = archives.build({"four"}, self.made(), options.scale, "classic")["four"]
        self.stack = stack
        self.boards = 0
        self.engine = self.no_engine = None

    def made(self):
        made = self.directory / "archives"
        made.mkdir()
        return made

    def board(self, program, settings):
        self.boards += 1
        directory = self.directory / f"b{self.boards}"
        agent = rig.Agent(program, directory, self.cloud, [*settings, *([] if any(s[1] == "socket" for s in settings) else oci(directory))])
        agent.forget()
        self.stack.callback(agent.stop)
        return agent

    def put(self, agent, sealed):
        agent.place(self.archive.encrypted)
        if sealed:
            seal = f"{self.archive.encrypted}.seal"
            if not os.path.exists(seal):
                rig.Agent.seal(agent, self.archive.encrypted, archives.FRAGMENT)
            shutil.copyfile(seal, f"{agent.archive}.seal")

    def load(self, program, memory, sealed, engine=None):
        """The highest PSS of one load, the PSS a while after, and the processor's seconds."""
        if engine and (left := engine.empty()):
            say(left)
        agent = self.board(program, [("engine", "socket", f"unix://{engine.socket}")] if engine else [])
        agent.start(None)
        self.put(agent, sealed)
        before = agent.cpu_seconds()
        with Peak(agent.process.pid, memory) as peak:
            if agent.unlock() != "ready":
                agent.until_ready()
        cpu = agent.cpu_seconds() - before
        if engine:
            engine.verify(self.archive)
        time.sleep(2)
        rest = memory(agent.process.pid)[0]
        agent.stop()
        shutil.rmtree(agent.directory)
        high = max(peak.samples)
        return high[0], high[1], rest, cpu, len(peak.samples)

    def loads(self, name, program, memory, cpu_told, engine=None):
        for sealed in (False, True):
            runs = [self.load(program, memory, sealed, engine) for _ in range(self.options.runs)]
            worst = max(runs)
            what = f"loading {self.archive.tar_bytes / MIB:.0f} MiB{', sealed' if sealed else ''}, {name}"
            cpu = f", {statistics.median(run[3] for run in runs):.2f} s of the processor" if cpu_told else ""
            yield (
                what, f"{worst[0] / MIB:.1f} MiB PSS at most, {worst[1] / MIB:.1f} anonymous; {worst[2] / MIB:.1f} two seconds after{cpu}",
                f"≤ {LOADING_PSS / MIB:.0f} MiB", worst[0] <= LOADING_PSS,
            )  # fmt: skip

    def engine_loads(self, program, memory, cpu_told):
        """The same into a private engine, native for both binaries."""
        if not self.engine:
            self.engine = rig.Engine("20", self.directory / "e20")
            self.no_engine = self.engine.start()
            self.stack.callback(self.engine.stop)
        if self.no_engine:
            yield "loading into Docker", f"not measured: {self.no_engine}", "", True
        else:
            yield from self.loads(f"Docker {self.engine.version()}", program, memory, cpu_told, self.engine)

    def idles(self, program, memory, native):
        agent = self.board(program, [])
        agent.start(None)
        told = idle(agent.process.pid, memory, self.options.idle)
        agent.stop()
        yield (
            "idle, not unlocked", f"{told.pss / MIB:.1f} MiB PSS, {told.anonymous / MIB:.1f} anonymous; {told.threads} threads",
            f"≤ {IDLE_PSS / MIB:.0f} MiB", told.pss <= IDLE_PSS,
        )  # fmt: skip
        if native:
            minute = 60 / told.seconds
            yield (
                f"processor, idle for {told.seconds:.0f} s", f"{1000 * told.cpu_seconds * minute:.1f} ms and {told.wakeups * minute:.0f} wake-ups in a minute",
                "", True,
            )  # fmt: skip
            yield (
                f"written, idle for {told.seconds:.0f} s", f"{told.written[0]} bytes to flash; {told.written[1]} bytes by any write call, wake-ups included",
                "0 bytes", told.written[0] == 0,
            )  # fmt: skip


def table(title, rows):
    print(f"\n### {title}\n\n| what | measured | bound | |\n|---|---|---|---|")
    met = True
    for what, measured, bound, holds in rows:
        print(f"| {what} | {measured} | {bound} | {'' if not bound else 'met' if holds else '**missed**'} |", flush=True)
        met &= holds
    return met


def size_row(path):
    size = Path(path).stat().st_size
    return "binary, static, stripped", f"{size:,} bytes ({size / MIB:.2f} MiB)", f"≤ {SIZE / MIB:.0f} MiB", size <= SIZE


def native(bench):
    program = os.path.abspath(bench.options.agent)
    yield *size_row(program)[:2], "", True
    start = starts(program, bench.directory / "starts", bench.cloud)
    yield f"start to the first 200 of /health, median of {STARTS}", f"{start:.1f} ms", f"≤ {START_MS} ms", start <= START_MS
    yield from bench.idles(program, rollup, True)
    yield from bench.loads("OCI directory", program, rollup, True)
    yield from bench.engine_loads(program, rollup, True)


def arm64(bench):
    program = os.path.abspath(bench.options.arm64)
    yield size_row(program)
    if platform.machine() == "aarch64":
        return
    emulator = shutil.which("qemu-aarch64-static")
    if not emulator:
        yield "memory", "not measured: no qemu-aarch64-static; images/cross-arm64.sh install", "", True
        return
    wrapper = bench.directory / "emulated"
    run = [emulator, "-B", hex(GUEST_BASE), "-R", hex(GUEST_ROOM), program]
    wrapper.write_text(f"#!/bin/sh\nexec {shlex.join(run)} \"$@\"\n")
    wrapper.chmod(0o755)
    yield from bench.idles(str(wrapper), guest, False)
    yield from bench.loads("OCI directory", str(wrapper), guest, False)
    yield from bench.engine_loads(str(wrapper), guest, False)


def parse():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--idle", type=float, default=120, help="seconds of idling that are watched (120)")
    words.add_argument("--runs", type=int, default=3, help="loads of each kind (3)")
    words.add_argument("--scale", type=float, default=1, help="of the archive, 378 MiB (1)")
    words.add_argument("--agent", default=os.environ.get("LOADER_UNDER_TEST"), help="(LOADER_UNDER_TEST)")
    target = os.environ.get("CARGO_TARGET_DIR", str(rig.ROOT / "target"))
    words.add_argument("--arm64", default=os.environ.get("LOADER_ARM64", f"{target}/arm64/azaion-loader"), help="(LOADER_ARM64)")
    words.add_argument("--cloud", default=os.environ.get("BENCH_CLOUD", f"{target}/debug/azaion-cloud"), help="(BENCH_CLOUD)")
    words.add_argument("--dir", default=os.environ.get("BENCH_DIR", "/var/tmp"), help="where all lies (BENCH_DIR, /var/tmp)")
    options = words.parse_args()
    for what, program in {"agent": options.agent, "cloud": options.cloud, "openssl": "openssl"}.items():
        if not program or not shutil.which(program):
            words.error(f"no {what} at {program}: run me through make footprint, or see --help")
    return options


def main():
    options = parse()

    def interrupted(number, _frame):
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)
        sys.exit(128 + number)

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, interrupted)
    with contextlib.ExitStack() as stack:
        # Short: the engine's sockets lie below it.
        directory = Path(tempfile.mkdtemp(prefix="azf-", dir=options.dir))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        try:
            bench = Bench(options, directory, stack)
            met = table(f"{platform.machine()}, native", native(bench))
            if os.path.exists(options.arm64):
                met &= table("ARM64, emulated: the guest's own pages", arm64(bench))
            else:
                print(f"\nARM64: not measured: {options.arm64} is missing (make cross)")
        except (rig.Failed, OSError, subprocess.SubprocessError, http.client.HTTPException) as failure:
            say(f"failed: {failure}")
            sys.exit(1)
        sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
