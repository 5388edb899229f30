"""What a bench of loads starts: a private engine, a cloud, the agent. Each ends only what it started itself."""

import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from .archives import FRAGMENT

ROOT = Path(__file__).resolve().parents[2]
USER, PASSWORD = "bench@example.com", "bench-password"
POLL_SECONDS = 0.010
START_SECONDS = 30
# An engine lets go of what it had a moment after its images are gone, if it does.
EMPTY_SECONDS = 10
LOAD_SECONDS = 1800


class Failed(Exception):
    """A run did not end as it must; the logs tell more."""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("engine", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def end(process, how=signal.SIGTERM, group=False):
    """Ends a process that this bench started and waits for it."""
    if process.poll() is None:
        (os.killpg if group else os.kill)(process.pid, how)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(holds, seconds, what):
    limit = time.monotonic() + seconds
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > limit:
            raise Failed(f"{what} within {seconds} s: no")
        time.sleep(0.05)


class Engine:
    """A private engine in `directory`; `tests/tools/engine` starts and stops it."""

    tool = str(ROOT / "tests/tools/engine")

    def __init__(self, kind, directory):
        self.kind, self.directory = kind, str(directory)
        self.log = f"{self.directory}/log"
        self.socket = None

    def start(self):
        """`None`, or why it cannot run on this machine."""
        # Not through a pipe alone: the daemon would hold it open. It has files of its own for its output.
        asked = subprocess.run([self.tool, "start", self.kind, self.directory], capture_output=True, text=True)
        if asked.returncode == 69:
            return asked.stderr.strip()
        if asked.returncode:
            raise Failed(asked.stderr.strip())
        self.socket = asked.stdout.strip()
        return None

    def stop(self):
        if subprocess.run([self.tool, "stop", self.directory]).returncode:
            raise Failed(f"the engine in {self.directory} does not stop")
        shutil.rmtree(f"{self.directory}/data", ignore_errors=True)

    def call(self, method, path, body=None):
        connection = UnixConnection(self.socket, timeout=120)
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content.strip() else None
        finally:
            connection.close()

    def version(self):
        return self.call("GET", "/version")[1]["Version"]

    def verify(self, archive):
        """Every image is there, with its layers, and a container can be made of it: it is whole."""
        for tag, diff_ids in archive.images:
            status, shown = self.call("GET", f"/images/{tag}/json")
            if status != 200 or shown["RootFS"].get("Layers") != diff_ids:
                raise Failed(f"{tag} is not in the engine as it must be: {status} {json.dumps(shown)[:300]}")
            status, made = self.call("POST", "/containers/create", {"Image": tag, "Cmd": ["/x"]})
            if status != 201:
                raise Failed(f"{tag} is not whole: {status} {made}")
            self.call("DELETE", f"/containers/{made['Id']}?force=1")

    def inspects_seconds(self, archive):
        """One inspect for each image, the median of five times all."""
        times = []
        for _ in range(5):
            began = time.perf_counter()
            for tag, _ in archive.images:
                self.call("GET", f"/images/{tag}/json")
            times.append(time.perf_counter() - began)
        return sorted(times)[2]

    def leftovers(self):
        """What a load before left behind: images, layers, temporary files."""
        left = [image["Id"] for image in self.call("GET", "/images/json?all=1")[1]]
        for places in ("image/*/layerdb/sha256/*", "tmp/*", *self.containerd_places()):
            left += glob.glob(f"{self.directory}/data/{places}")
        return left

    @staticmethod
    def containerd_places():
        below = "containerd/daemon/io.containerd"
        return (
            f"{below}.content.v1.content/blobs/sha256/*",
            f"{below}.content.v1.content/ingest/*",
            f"{below}.snapshotter.v1.overlayfs/snapshots/*",
        )

    def temporary_places(self):
        """Where a load lies before its layers are registered: the classic store's copy, containerd's unfinished blobs."""
        data = f"{self.directory}/data"
        return [f"{data}/tmp", f"{data}/containerd/daemon/io.containerd.content.v1.content/ingest"]

    def empty(self):
        """Takes out every container and image; a new engine if something of them stays."""
        limit = time.monotonic() + EMPTY_SECONDS
        while True:
            for container in self.call("GET", "/containers/json?all=1")[1]:
                self.call("DELETE", f"/containers/{container['Id']}?force=1")
            for image in self.call("GET", "/images/json?all=1")[1]:
                # A name first, as people do; what has none goes by its id.
                for name in [*(t for t in image["RepoTags"] or [] if t != "<none>:<none>"), image["Id"]]:
                    self.call("DELETE", f"/images/{quote(name, safe=':/@')}?force=1")
            left = self.leftovers()
            if not left:
                return None
            if time.monotonic() > limit:
                break
            time.sleep(0.1)
        self.stop()
        self.start()
        return f"{len(left)} leftovers, such as {left[0]}: the engine was started anew"


class Cloud:
    """The Resource API of the tests, with TLS."""

    def __init__(self, program, directory, role=""):
        self.directory, self.log = str(directory), f"{directory}/cloud.log"
        Path(self.directory).mkdir()
        fragment = Path(self.directory, "fragment")
        fragment.write_bytes(FRAGMENT)
        with open(self.log, "wb") as log:
            words = ["--dir", self.directory, "--user", f"{USER}:{PASSWORD}{role and ':' + role}", "--fragment-file", str(fragment)]
            self.process = subprocess.Popen([program, *words], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        url = Path(self.directory, "url")
        wait_until(lambda: url.exists() and url.read_text().strip(), START_SECONDS, "the cloud listens")
        self.url = url.read_text().strip()

    def stop(self):
        end(self.process)


class Agent:
    """The agent on a board of its own in `directory`: configuration, state, cache, archive."""

    def __init__(self, program, directory, cloud, settings):
        self.program, self.directory, self.cloud, self.settings = program, str(directory), cloud, settings
        self.log = f"{self.directory}/agent.log"
        self.archive = f"{self.directory}/images.enc"
        self.process = self.connection = None
        Path(self.directory).mkdir()

    def forget(self):
        """An empty state, no archive."""
        for name in ("state", "cache"):
            shutil.rmtree(f"{self.directory}/{name}", ignore_errors=True)
            Path(self.directory, name).mkdir()
        Path(self.archive).unlink(missing_ok=True)
        Path(f"{self.archive}.seal").unlink(missing_ok=True)

    def seal(self, encrypted, fragment):
        """Makes the seal of an archive, beside it."""
        file = Path(self.directory, "fragment")
        file.write_bytes(fragment)
        made = [self.program, "seal", "--key-fragment", str(file), "--existing", encrypted]
        subprocess.run(made, check=True, capture_output=True)
        file.unlink()

    def place(self, encrypted):
        """The archive on the board, replaced at once."""
        fresh = f"{self.archive}.new"
        try:
            os.link(encrypted, fresh)
        except OSError:
            # The archives lie on another file system.
            shutil.copyfile(encrypted, fresh)
        os.rename(fresh, self.archive)

    def start(self, socket_path):
        board = {
            "cloud": {"resource_api_url": self.cloud.url, "ca_file": f"{self.cloud.directory}/ca.pem"},
            "archive": {"path": self.archive},
            "keys": {"hardware_salt": "hardware-salt", "api_salt": "api-salt", "resource_salt": "resource-salt"},
            "engine": {"socket": f"unix://{socket_path}"},
            "control": {"listen": ["127.0.0.1:0"]},
            "cache": {"dir": f"{self.directory}/cache"},
            "state": {"dir": f"{self.directory}/state"},
        }
        for section, key, value in self.settings:
            board.setdefault(section, {})[key] = value
        # JSON's texts, numbers and lists of them are TOML's too.
        lines = []
        for section, keys in board.items():
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
        config = Path(self.directory, "loader.toml")
        config.write_text("\n".join(lines) + "\n")
        overrides = re.compile(r"(AZAION|CDN)_.*|DOCKER_HOST|RESOURCE_API_URL|IMAGES_PATH|NOTIFY_SOCKET")
        environment = {name: value for name, value in os.environ.items() if not overrides.fullmatch(name)}
        with open(self.log, "ab") as log:
            begins = log.tell()
            self.process = subprocess.Popen(
                [self.program, "run", "--config", str(config)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment,
            )  # fmt: skip

        def port():
            if self.process.poll() is not None:
                raise Failed(f"the agent ended with {self.process.returncode}")
            said = re.search(rb"listens on http://127\.0\.0\.1:(\d+)", Path(self.log).read_bytes()[begins:])
            return said and int(said[1])

        listens = wait_until(port, START_SECONDS, "the agent listens")
        self.connection = http.client.HTTPConnection("127.0.0.1", listens, timeout=30)

    def stop(self, how=signal.SIGTERM):
        if self.process:
            end(self.process, how)
            self.process = None
            # None when it ended before it listened.
            if self.connection:
                self.connection.close()
                self.connection = None

    def ask(self, method, path, body=None):
        self.connection.request(method, path, body)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def unlock(self):
        status, answer = self.ask("POST", "/unlock", json.dumps({"email": USER, "password": PASSWORD}))
        if status not in (200, 202):
            raise Failed(f"POST /unlock: {status} {answer}")
        return answer["state"]

    def until_ready(self, stop_at=None):
        """Polls until `ready`; or until `stop_at` of the bytes are done, then true."""
        limit = time.monotonic() + LOAD_SECONDS
        while True:
            status = self.ask("GET", "/unlock/status")[1]
            if status["state"] == "ready":
                return False
            if status["state"] == "error" or time.monotonic() > limit:
                raise Failed(f"the unlock ended with {json.dumps(status)}")
            done, total = (status["progress"] or {}).get("bytes_done"), (status["progress"] or {}).get("bytes_total")
            if stop_at and status["state"] == "loading_images" and total and (done or 0) >= stop_at * total:
                return True
            time.sleep(POLL_SECONDS)

    def cpu_seconds(self):
        # After the name in brackets, which may hold anything, the 12th and 13th word are utime and stime.
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self):
        return int(re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) * 1024
