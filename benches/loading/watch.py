"""What is watched while an archive loads: bytes to the engine, its temporary space, the disk."""

import os
import re
import socket
import threading
from contextlib import suppress
from pathlib import Path

PIECE_BYTES = 1 << 18


class Proxy:
    """A unix socket before the engine's that counts what clients send through it."""

    def __init__(self, path, target):
        self.path, self.target, self.sent = path, target, 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(self.target)
                for pair in ((client, engine, True), (engine, client, False)):
                    threading.Thread(target=self.pump, args=pair, daemon=True).start()

    def pump(self, source, sink, counted):
        piece = bytearray(PIECE_BYTES)
        try:
            while read := source.recv_into(piece):
                sink.sendall(memoryview(piece)[:read])
                if counted:
                    self.sent += read
            # The end of one direction is passed on; the other may still speak.
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # A cut is a cut for both sides.
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self):
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        Path(self.path).unlink(missing_ok=True)


class Peak:
    """The largest value of `measure` while the block runs, sampled in a thread, above its value at the start."""

    def __init__(self, measure, seconds):
        self.measure, self.seconds, self.over = measure, seconds, threading.Event()

    def __enter__(self):
        self.base = self.highest = self.measure()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()
        return self

    def sample(self):
        while not self.over.wait(self.seconds):
            self.highest = max(self.highest, self.measure())

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.highest = max(self.highest, self.measure())

    @property
    def bytes(self):
        return self.highest - self.base


def pss_bytes(pid):
    """Memory of a process, what it shares counted by its share."""
    return int(re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1]) * 1024


def used_bytes(directory):
    """Of the whole file system: cheap enough for a timed run, and blind to who writes."""
    facts = os.statvfs(directory)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def tree_bytes(directories):
    total = 0
    for directory in directories:
        for parent, _, files in os.walk(directory):
            for name in files:
                with suppress(OSError):
                    total += os.lstat(os.path.join(parent, name)).st_size
    return total
