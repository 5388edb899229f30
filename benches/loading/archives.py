"""Image archives of this machine's own file trees, plain and encrypted, as `docker save` lays them out.

What a layer holds decides what a load costs: files here are those of /usr, small and large as they come. Where a machine
has too few of them, the rest is noise from a seeded generator.
"""

import dataclasses
import hashlib
import io
import json
import os
import platform
import random
import subprocess
import sys
import tarfile
from pathlib import Path

MIB = 1 << 20
FRAGMENT = b"bench-fragment"
TREES = ("/usr/share", "/usr/lib", "/usr/include")
# A layer is many files: one larger than this would be most of it.
FILE_MAX_BYTES = 24 * MIB
NOISE_MAX_BYTES = 4 * MIB

# Archive: for each image the sizes of its layers in MiB. A name stands for one and the same layer in all of them.
SHAPES = {
    "one": [[256]],
    "several": [[24, 36, 48, 60, 60, 72, 84]],
    "four": [[("base", 8), 40, 52], [("base", 8), 52, 40], [("base", 8), 44, 48], [("base", 8), 48, 44]],
    "old": [[(f"layer {n}", 32) for n in range(9)] + [("top, old", 32)]],
    "new": [[(f"layer {n}", 32) for n in range(9)] + [("top, new", 32)]],
}
# Old and new of an update share their layers, so they draw from one stream of files.
FAMILIES = {"one": 1, "several": 2, "four": 3, "old": 4, "new": 4}


@dataclasses.dataclass
class Archive:
    name: str
    plain: str
    encrypted: str
    # Each image: its tag, and the diff_ids of its layers from the bottom up.
    images: list
    # diff_id: bytes of the layer's tar.
    layers: dict

    @property
    def tar_bytes(self):
        return os.stat(self.plain).st_size

    def describe(self):
        def count(n, word):
            return f"{n} {word}" + ("" if n == 1 else "s")

        images, layers = count(len(self.images), "image"), count(len(self.layers), "layer")
        return f"{images}, {layers}, {self.tar_bytes / MIB:.0f} MiB"


def changed_share(old, new):
    """Bytes of the layers that `old` has not, as a part of all of `new`."""
    fresh = sum(size for diff_id, size in new.layers.items() if diff_id not in old.layers)
    return fresh / sum(new.layers.values())


def key_and_decrypt(iv):
    """The arguments of `openssl enc` for the key of the bench."""
    return ["-aes-256-cbc", "-K", hashlib.sha256(FRAGMENT).hexdigest(), "-iv", iv.hex()]


class Files:
    """An endless stream of (path, mode, bytes), no path twice: directories in a shuffled order, then noise."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        directories = sorted(d for tree in TREES for d, _, files in os.walk(tree) if files)
        self.random.shuffle(directories)
        self.paths = (os.path.join(d, name) for d in directories for name in sorted(os.listdir(d)))
        self.noise = 0

    def upto(self, room):
        """The next file of at most `room` bytes."""
        for path in self.paths:
            try:
                if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) > min(room, FILE_MAX_BYTES):
                    continue
                content = Path(path).read_bytes()
            except OSError:
                continue
            if len(content) <= room:
                return path.lstrip("/"), os.stat(path).st_mode & 0o777, content
        self.noise += 1
        size = min(room, int(self.random.triangular(1024, NOISE_MAX_BYTES, 1024)))
        return f"opt/noise/{self.noise % 97}/{self.noise}", 0o644, self.random.randbytes(size)


def write_layer(path, files, size):
    """A layer of about `size` bytes; returns its digest and its length."""
    room, seen = size, set()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        while room > 0:
            name, mode, content = files.upto(room)
            parts = name.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                parent = "/".join(parts[:depth])
                if parent not in seen:
                    seen.add(parent)
                    entry = tarfile.TarInfo(parent)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
            # A header, and the padding to whole blocks.
            room -= len(content) + 1024
    with open(path, "rb") as layer:
        return hashlib.file_digest(layer, "sha256").hexdigest(), os.stat(path).st_size


class Writer:
    """The outer tar; a path that is already there is not written again."""

    def __init__(self, path, layout):
        self.tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)
        self.layout, self.written = layout, set()

    def add(self, name, content, size):
        if name not in self.written:
            self.written.add(name)
            entry = tarfile.TarInfo(name)
            entry.size = size
            self.tar.addfile(entry, content)

    def document(self, name, value):
        text = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
        digest = hashlib.sha256(text).hexdigest()
        self.add(name or f"blobs/sha256/{digest}", io.BytesIO(text), len(text))
        return digest, len(text)

    def layer_place(self, digest):
        return f"blobs/sha256/{digest}" if self.layout == "oci" else f"{digest}/layer.tar"


def image_config(diff_ids):
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "architecture": machine,
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": diff_id} for diff_id in diff_ids],
    }


def write_archive(path, layout, images):
    """`images`: each its tag and its layers as (file, digest, size)."""
    writer, manifest, index = Writer(path, layout), [], []
    for tag, layers in images:
        for file, digest, size in layers:
            with open(file, "rb") as content:
                writer.add(writer.layer_place(digest), content, size)
        config = json.dumps(image_config([f"sha256:{digest}" for _, digest, _ in layers])).encode()
        digest = hashlib.sha256(config).hexdigest()
        place = f"blobs/sha256/{digest}" if layout == "oci" else f"{digest}.json"
        writer.document(place, config)
        manifest.append({"Config": place, "RepoTags": [tag], "Layers": [writer.layer_place(d) for _, d, _ in layers]})
        if layout == "oci":
            media = "application/vnd.oci.image"
            oci = {
                "schemaVersion": 2,
                "mediaType": f"{media}.manifest.v1+json",
                "config": {"mediaType": f"{media}.config.v1+json", "digest": f"sha256:{digest}", "size": len(config)},
                "layers": [{"mediaType": f"{media}.layer.v1.tar", "digest": f"sha256:{d}", "size": s} for _, d, s in layers],
            }
            digest, size = writer.document(None, oci)
            index.append({
                "mediaType": f"{media}.manifest.v1+json",
                "digest": f"sha256:{digest}",
                "size": size,
                "annotations": {
                    "io.containerd.image.name": f"docker.io/{tag}",
                    "org.opencontainers.image.ref.name": tag.rpartition(":")[2],
                },
            })
    if layout == "oci":
        writer.document("oci-layout", {"imageLayoutVersion": "1.0.0"})
        media = "application/vnd.oci.image.index.v1+json"
        writer.document("index.json", {"schemaVersion": 2, "mediaType": media, "manifests": index})
    writer.document("manifest.json", manifest)
    writer.tar.close()


def encrypt(plain, encrypted):
    """IV ‖ AES-256-CBC, by another implementation than the agent's."""
    iv = random.Random(plain).randbytes(16)
    with open(encrypted, "wb") as out:
        out.write(iv)
        out.flush()
        subprocess.run(["openssl", "enc", *key_and_decrypt(iv), "-in", plain], stdout=out, check=True)


def build(names, directory, scale, layout):
    """The archives `names`, in `directory`; what lies there from an earlier call with the same measures is used again."""
    archives = {}
    for family in sorted({FAMILIES[name] for name in names}):
        members = [name for name in SHAPES if FAMILIES[name] == family]
        stems = {name: os.path.join(directory, f"{name}-{layout}-{scale:g}") for name in members}
        # Written last: an archive without its record was cut. One of a family alone would not share its layers.
        if not all(os.path.exists(f"{stem}.json") for stem in stems.values()):
            make_family(family, stems, scale, layout)
        for name, stem in stems.items():
            record = json.loads(Path(f"{stem}.json").read_text())
            archives[name] = Archive(name, f"{stem}.tar", f"{stem}.enc", **record)
    return archives


def make_family(family, stems, scale, layout):
    files, layers = Files(seed=family), {}
    for name, stem in stems.items():
        print(f"bench-load: makes the archive {name!r}", file=sys.stderr, flush=True)
        images = []
        for number, shape in enumerate(SHAPES[name]):
            mine = []
            for place, layer in enumerate(shape):
                known, mib = layer if isinstance(layer, tuple) else ((number, place), layer)
                if known not in layers:
                    path = f"{stem}-layer-{len(layers)}.tmp"
                    layers[known] = (path, *write_layer(path, files, int(mib * MIB * scale)))
                mine.append(layers[known])
            images.append((f"azaion/bench-{family}-{number}:1.0", mine))
        write_archive(f"{stem}.tar", layout, images)
        encrypt(f"{stem}.tar", f"{stem}.enc")
        record = {
            "images": [(tag, [f"sha256:{digest}" for _, digest, _ in mine]) for tag, mine in images],
            "layers": {f"sha256:{digest}": size for _, mine in images for _, digest, size in mine},
        }
        Path(f"{stem}.json").write_text(json.dumps(record))
    for path, _, _ in layers.values():
        os.remove(path)
