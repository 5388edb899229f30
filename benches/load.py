#!/usr/bin/env python3
"""What it costs to bring images.enc into a container engine: the agent beside `docker load`, medians in one run.

  make bench-load                                        all engines, cases and methods
  make bench-load ARGS="--engine 20 26c"                 some of them
  benches/load.py --engine 20 --case 2 --method ours     the same without building; LOADER_UNDER_TEST names the agent

Archives, a cloud, a board and a private engine for each kind live in one temporary directory; nothing of them is left.
In each round every case is loaded by every method, in a turning order, into an engine that has nothing of it; timed
runs follow a sync with the archive in the page cache. The tables are Markdown for docs/PERFORMANCE.md.
"""

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True

from loading import archives, rig, watch  # noqa: E402
from loading.archives import MIB  # noqa: E402

ENGINES = {
    "20": "Docker {}",
    "26": "Docker {}, classic store",
    "26c": "Docker {}, containerd store",
}
METHODS = {
    "load": "`docker load -i`",
    "pipe": "`openssl` into `docker load`",
    "file": "`openssl` to a file, `docker load -i`",
    "ours": "azaion-loader",
    "sealed": "azaion-loader, sealed archive",
}
# Case: what it is, the archive that is timed, the one that is loaded before.
CASES = {
    1: ("one image, one layer", "one", None),
    2: ("one image, several layers", "several", None),
    3: ("four images", "four", None),
    4: ("one layer of ten changed", "new", "old"),
    5: ("nothing changed", "four", "four"),
    6: ("again after a kill at 80 %", "several", None),
}
KILL_AT = 0.8
CUT_TRIES = 5
PEER_TRIES = 3
FAILURES = (rig.Failed, OSError, subprocess.SubprocessError, http.client.HTTPException)
DISK_SAMPLE_SECONDS = 0.050
TEMPORARY_SAMPLE_SECONDS = 0.010
LOG_LINES = 20


def say(text):
    print(f"bench-load: {text}", file=sys.stderr, flush=True)


@dataclasses.dataclass
class Run:
    seconds: float
    disk_bytes: int
    cpu_seconds: float | None = None
    peak_bytes: int | None = None
    # Of the untimed run alone.
    sent_bytes: int | None = None
    temporary_bytes: int | None = None
    inspects_seconds: float | None = None


class PeerFailed(rig.Failed):
    """`docker load` ended with an error."""


class DockerLoad:
    """One of the three ways around the `docker load` client."""

    def __init__(self, way, docker, directory):
        self.way, self.docker = way, docker
        (directory / "client").mkdir(exist_ok=True)
        self.log = f"{directory}/client/load.log"
        self.decrypted = f"{directory}/decrypted.tar"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
        self.environment["DOCKER_CONFIG"] = f"{directory}/client"

    def begin(self, socket):
        self.socket = socket

    def place(self, archive):
        pass

    def again(self):
        pass

    def facts(self):
        return {}

    def end(self):
        Path(self.decrypted).unlink(missing_ok=True)

    def start(self, archive):
        load = f"{self.docker} -H unix://{self.socket} load -q"
        with open(archive.encrypted, "rb") as file:
            arguments = archives.key_and_decrypt(file.read(16))
        openssl = f"tail -c +17 {archive.encrypted} | openssl enc -d {' '.join(arguments)}"
        line = {
            "load": f"exec {load} -i {archive.plain}",
            "pipe": f"{openssl} | {load}",
            "file": f"{openssl} -out {self.decrypted} && {load} -i {self.decrypted} && rm {self.decrypted}",
        }[self.way]
        with open(self.log, "wb") as log:
            return subprocess.Popen(
                ["bash", "-o", "pipefail", "-c", line],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment, start_new_session=True,
            )  # fmt: skip

    def load(self, archive):
        client = self.start(archive)
        try:
            status = client.wait(rig.LOAD_SECONDS)
        finally:
            rig.end(client, signal.SIGKILL, group=True)
        if status:
            raise PeerFailed(f"{METHODS[self.way]}: {Path(self.log).read_text(errors='replace').strip()[-300:]}")

    def cut(self, archive, full_seconds):
        """Kills the client when most of its usual time is over; false if it was done before."""
        client = self.start(archive)
        try:
            client.wait(KILL_AT * full_seconds)
            return False
        except subprocess.TimeoutExpired:
            return True
        finally:
            rig.end(client, signal.SIGKILL, group=True)


class Ours:
    """The agent, unlocked through its control port."""

    def __init__(self, agent):
        self.agent = agent

    def begin(self, socket):
        self.agent.stop()
        self.agent.forget()
        self.agent.start(socket)
        self.socket = socket

    def place(self, archive):
        self.agent.place(archive.encrypted)

    def again(self):
        self.agent.start(self.socket)

    def facts(self):
        return {"cpu_seconds": self.agent.cpu_seconds() - self.cpu_before, "peak_bytes": self.agent.peak_bytes()}

    def end(self):
        self.agent.stop()

    def load(self, _archive):
        self.cpu_before = self.agent.cpu_seconds()
        if self.agent.unlock() != "ready":
            self.agent.until_ready()

    def cut(self, _archive, _full_seconds):
        self.agent.unlock()
        was_cut = self.agent.until_ready(stop_at=KILL_AT)
        self.agent.stop(signal.SIGKILL)
        return was_cut


class Sealed(Ours):
    """The same with a seal beside the archive, made once by the agent's own command."""

    def place(self, archive):
        self.agent.place(archive.encrypted)
        seal = f"{archive.encrypted}.seal"
        if not os.path.exists(seal):
            self.agent.seal(archive.encrypted, archives.FRAGMENT)
        shutil.copyfile(seal, f"{self.agent.archive}.seal")


def warm(archive):
    for path in (archive.plain, archive.encrypted):
        with open(path, "rb", buffering=0) as file:
            while file.read(MIB):
                pass


class Bench:
    """All runs on one engine."""

    def __init__(self, engine, methods, made, directory):
        self.engine, self.methods, self.made, self.directory = engine, methods, made, directory
        # (case, method, whether it is the full load that the case is compared with): its timed runs.
        self.runs, self.extra = {}, {}
        self.notes = []
        self.title = ENGINES[engine.kind].format(engine.version())

    def note(self, text):
        say(text)
        self.notes.append(text)

    def median(self, key, field="seconds"):
        values = [v for v in (getattr(run, field) for run in self.runs.get(key, [])) if v is not None]
        return statistics.median(values) if values else None

    def full_seconds(self, case, method):
        """What a load of the case's archive into an empty engine takes, as far as it is known."""
        return self.median((case, method, True)) or (self.median((2, method, False)) if case == 6 else None)

    def turns(self, cases, number):
        names = list(self.methods)
        for case in cases:
            for name in names[number % len(names) :] + names[: number % len(names)]:
                # The peer of a part is the whole: an update by the agent, a load that was cut by anyone.
                if (case == 4 and name == "ours") or (case == 6 and 2 not in cases):
                    yield case, name, True
                yield case, name, False

    def once(self, case, name, full, extra):
        """One load, from the emptied engine to the check that all is there."""
        method, (_, after, before) = self.methods[name], CASES[case]
        archive = self.made[after]
        if left := self.engine.empty():
            # As expected after a kill: containerd leases what a load had for a day.
            say(left)
        with contextlib.ExitStack() as stack:
            socket = self.engine.socket
            if extra:
                proxy = watch.Proxy(f"{self.directory}/p.sock", socket)
                stack.callback(proxy.close)
                socket = proxy.path
            stack.callback(method.end)
            method.begin(socket)
            if before and not full:
                method.place(self.made[before])
                method.load(self.made[before])
            if before == after and not full:
                os.utime(archive.encrypted)
            else:
                method.place(archive)
            warm(archive)
            if case == 6 and not full:
                self.cut(method, archive, socket, self.full_seconds(case, name))
            os.sync()
            disk = watch.Peak(lambda: watch.used_bytes(self.directory), DISK_SAMPLE_SECONDS)
            stack.enter_context(disk)
            if extra:
                places = self.engine.temporary_places()
                temporary = watch.Peak(lambda: watch.tree_bytes(places), TEMPORARY_SAMPLE_SECONDS)
                stack.enter_context(temporary)
                sent = proxy.sent
            began = time.perf_counter()
            method.load(archive)
            seconds = time.perf_counter() - began
            facts = method.facts()
            if extra:
                facts["sent_bytes"] = proxy.sent - sent
            self.engine.verify(archive)
            if case == 5:
                facts["inspects_seconds"] = self.engine.inspects_seconds(archive)
            # Leaves the samplers, so that their peaks stand.
            stack.pop_all().close()
            if extra:
                facts["temporary_bytes"] = temporary.bytes
            return Run(seconds, disk.bytes, **facts)

    def cut(self, method, archive, socket, full_seconds):
        """A load that is killed; one that was over before, the machine being less busy than it was, is done again."""
        for _ in range(CUT_TRIES):
            began = time.perf_counter()
            if method.cut(archive, full_seconds):
                method.again()
                return
            full_seconds = min(full_seconds, time.perf_counter() - began)
            self.engine.empty()
            method.begin(socket)
            method.place(archive)
        raise rig.Failed(f"a load was over {CUT_TRIES} times before it could be killed; a larger --scale gives it time")

    def patiently(self, case, name, full, extra):
        """A peer that fails is noted and asked again; a failure of the agent is one of the bench."""
        for _ in range(PEER_TRIES - 1):
            try:
                return self.once(case, name, full, extra)
            except PeerFailed as failure:
                self.note(f"a failed run, done again: {case} {CASES[case][0]}, {failure}")
        return self.once(case, name, full, extra)

    def round(self, cases, number, extra=False):
        for key in self.turns(cases, number):
            case, name, full = key
            run = self.patiently(case, name, full, extra)
            if extra:
                self.extra[key] = run
            else:
                self.runs.setdefault(key, []).append(run)
            what = "untimed" if extra else f"round {number + 1}"
            say(f"{self.engine.kind} {what}: {case} {CASES[case][0]}{' (full)' if full else ''}, {name}: {run.seconds:.3f} s")

    def rows(self):
        def cell(value, form="{:.2f}", unit=1):
            return "–" if value is None else form.format(value / unit)

        yield "| case | method | s | × `docker load` | sent, MiB | temporary, MiB | disk, MiB | agent CPU, s | agent peak, MiB |"
        yield "|---|---|---|---|---|---|---|---|---|"
        for key in sorted(self.runs, key=lambda k: (k[0], list(METHODS).index(k[1]), k[2])):
            case, name, full = key
            seconds, peer = self.median(key), self.median((case, "load", full))
            extra = self.extra.get(key)
            cells = [
                f"{case}. {CASES[case][0]}",
                METHODS[name] + (", all of it" if full else ""),
                cell(seconds, "{:.3f}"),
                cell(seconds / peer if peer else None),
                cell(extra and extra.sent_bytes, "{:.1f}", MIB),
                cell(extra and extra.temporary_bytes, "{:.0f}", MIB),
                cell(self.median(key, "disk_bytes"), "{:.0f}", MIB),
                cell(self.median(key, "cpu_seconds")),
                cell(self.median(key, "peak_bytes"), "{:.1f}", MIB),
            ]
            yield f"| {' | '.join(cells)} |"

    def verdicts(self):
        """One line for each bound that these runs can tell of."""

        def line(what, value, bound, form="{:.2f} ×"):
            met = "met" if value <= bound else "**missed**"
            return f"- {what}: {form.format(value)}, bound {form.format(bound)}: {met}"

        for case, bound in ((3, 0.8), (2, 0.95), (1, 1.05)):
            ours, peer = self.median((case, "ours", False)), self.median((case, "load", False))
            if ours and peer:
                yield line(f"{CASES[case][0]}, of `docker load -i`", ours / peer, bound)
        if (part := self.median((4, "ours", False))) and (whole := self.median((4, "ours", True))):
            share = archives.changed_share(self.made["old"], self.made["new"])
            what = f"one layer of ten changed ({100 * share:.1f} % of the bytes), of the full load"
            yield line(what, part / whole, share + 0.05, "{:.3f} ×")
        if nothing := self.median((5, "ours", False)):
            inspects, count = self.median((5, "ours", False), "inspects_seconds"), len(self.made["four"].images)
            what = f"nothing changed, {count} images (inspects {1000 * inspects:.0f} ms)"
            yield line(what, 1000 * nothing, 50 + 1000 * inspects, "{:.0f} ms")
        for case in CASES:
            sealed, bare = self.median((case, "sealed", False)), self.median((case, "ours", False))
            if sealed and bare and case < 4:
                yield line(f"{CASES[case][0]}, sealed, of the same unsealed", sealed / bare, 1.1)
        if rest := self.median((6, "ours", False)):
            yield line("again after a kill at 80 %, of the full load", rest / self.full_seconds(6, "ours"), 0.3)

    def report(self, options, cases):
        print(f"\n### {self.title}\n")
        print("\n".join(self.rows()), end="\n\n")
        print("\n".join(self.verdicts()), end="\n\n")
        for name in sorted({n for c in cases for n in CASES[c][1:] if n}):
            print(f"- archive {name!r}: {self.made[name].describe()}, {options.layout} layout")
        for text in dict.fromkeys(self.notes):
            print(f"- {text}")
        sys.stdout.flush()


NOTES = """
Seconds: medians of {runs}; the agent's from `POST /unlock` until `/unlock/status` says `ready`, asked every 10 ms. Disk: the
highest use of the file system above the start, asked every 50 ms in the timed runs, median; other writers on it count.
Sent, and temporary (the engine's `data/tmp` and containerd's `ingest`): one more run, untimed, through a proxy that counts
what goes to the engine, HTTP included. Agent CPU: `utime` + `stime` of the timed part; peak: `VmHWM`, without the proxy.
After a kill: the run after it alone, against a full run. Every run is checked: layers as in the archive, and a container
can be made of each image.
"""


def parse():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--engine", nargs="+", choices=ENGINES, default=list(ENGINES), help="default: all")
    words.add_argument("--case", nargs="+", type=int, choices=CASES, default=list(CASES), help="default: all")
    words.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    words.add_argument("--runs", type=int, default=int(os.environ.get("RUNS", 3)), help="timed rounds (RUNS, 3)")
    words.add_argument("--scale", type=float, default=float(os.environ.get("SCALE", 1)), help="of all sizes (SCALE, 1)")
    words.add_argument("--layout", choices=("classic", "oci"), default="classic", help="of the archives")
    words.add_argument("--no-extra", action="store_true", help="no untimed run for bytes sent and temporary space")
    words.add_argument("--archives", metavar="DIR", help="keeps the archives here and uses what lies here")
    words.add_argument("--logs", metavar="DIR", help="keeps the logs of agent, engine and cloud here")
    words.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="agent's configuration")
    words.add_argument("--agent", default=os.environ.get("LOADER_UNDER_TEST"), help="(LOADER_UNDER_TEST)")
    cloud = os.environ.get("BENCH_CLOUD", str(rig.ROOT / "target/debug/azaion-cloud"))
    words.add_argument("--cloud", default=cloud, help="(BENCH_CLOUD)")
    words.add_argument("--docker", default=os.environ.get("BENCH_DOCKER", "docker"), help="the client (BENCH_DOCKER, docker)")
    # Not /tmp: it may be memory.
    words.add_argument("--dir", default=os.environ.get("BENCH_DIR", "/var/tmp"), help="where all lies (BENCH_DIR, /var/tmp)")
    options = words.parse_args()
    options.case, options.method = sorted(set(options.case)), [m for m in METHODS if m in options.method]
    programs = {"agent": options.agent, "cloud": options.cloud, "client": options.docker, "openssl": "openssl"}
    for what, program in programs.items():
        if not program or not shutil.which(program):
            words.error(f"no {what} at {program}: run me through make bench-load, or see --help")
    return options


def setting(text):
    name, _, value = text.partition("=")
    section, _, key = name.partition(".")
    try:
        return section, key, json.loads(value)
    except ValueError:
        return section, key, value


def run(options, directory, stack, logs):
    made_in = Path(options.archives).resolve() if options.archives else directory / "archives"
    made_in.mkdir(parents=True, exist_ok=True)
    names = {name for case in options.case for name in CASES[case][1:] if name}
    made = archives.build(names, made_in, options.scale, options.layout)
    cloud = rig.Cloud(options.cloud, directory / "cloud")
    stack.callback(cloud.stop)
    agent = rig.Agent(os.path.abspath(options.agent), directory / "board", cloud, [setting(text) for text in options.set])
    stack.callback(agent.stop)
    logs += [cloud.log, agent.log, f"{directory}/client/load.log"]
    agents = {"ours": Ours(agent), "sealed": Sealed(agent)}
    methods = {n: agents.get(n) or DockerLoad(n, options.docker, directory) for n in options.method}
    for kind in dict.fromkeys(options.engine):
        engine = rig.Engine(kind, directory / f"e{kind}")
        with contextlib.ExitStack() as inner:
            inner.callback(engine.stop)
            logs.append(engine.log)
            if reason := engine.start():
                print(f"\n### {kind}: cannot run here\n\n{reason}", flush=True)
                continue
            bench = Bench(engine, methods, made, directory)
            try:
                # Not counted: what a new engine does once would fall on whichever method comes first.
                bench.patiently(options.case[0], options.method[0], full=True, extra=False)
                for number in range(options.runs):
                    bench.round(options.case, number)
                if not options.no_extra:
                    bench.round(options.case, 0, extra=True)
            except BaseException as failure:
                # Before the engine is stopped: its last lines would be of that alone.
                if isinstance(failure, FAILURES):
                    show(logs)
                bench.note(f"**not finished**: {failure if isinstance(failure, FAILURES) else 'interrupted'}")
                raise
            finally:
                bench.report(options, options.case)
    print(NOTES.format(runs=options.runs))


def keep(logs, directory):
    Path(directory).mkdir(parents=True, exist_ok=True)
    for log in filter(os.path.exists, logs):
        shutil.copyfile(log, Path(directory, f"{Path(log).parent.name}-{Path(log).name}"))


def show(logs):
    for log in filter(os.path.exists, logs):
        lines = Path(log).read_text(errors="replace").splitlines()[-LOG_LINES:]
        print(f"--- {log}", *lines, sep="\n", file=sys.stderr)


def main():
    options = parse()

    def interrupted(number, _frame):
        # Once: what is taken down meanwhile is taken down in full.
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)
        sys.exit(128 + number)

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, interrupted)
    with contextlib.ExitStack() as stack:
        # Short: the engine's sockets lie below it.
        directory = Path(tempfile.mkdtemp(prefix="azl-", dir=options.dir))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        logs = []
        if options.logs:
            stack.callback(keep, logs, options.logs)
        try:
            run(options, directory, stack, logs)
        except FAILURES as failure:
            say(f"failed: {failure}")
            sys.exit(1)


if __name__ == "__main__":
    main()
