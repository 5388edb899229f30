#!/usr/bin/env python3
"""A second writer and reader of the seals, made from docs/FORMAT.md alone: the standard library, and openssl for AES.

  seal.py seal --key-fragment F --name images --version N --tar T --out images.enc [--id HEX --iv HEX --content-iv HEX]
  seal.py verify --key-fragment F images.enc
  seal.py resource-seal --resource-salt S --folder D --name N --version V --plain P --out DIR [--id HEX --iv HEX]
  seal.py resource-verify --resource-salt S --folder D --name N DIR

For tests: openssl gets its keys as arguments, which every user of the machine can read.
"""
import argparse, base64, hashlib, hmac, io, json, os, re, subprocess, sys, tarfile

MAGIC, CHUNK, MIB = b"AZSEAL\r\n", 1 << 18, 1 << 20
sha = lambda data: hashlib.sha256(data).digest()
num = lambda value, size: value.to_bytes(size, "big")

def need(true, what):
    if not true: sys.exit(f"refused: {what}")

def hkdf(key, salt, label):  # RFC 5869 with SHA-384; 32 bytes are less than its first block
    prk = hmac.digest(salt, key, "sha384")
    return hmac.digest(prk, label + b"\x01", "sha384")[:32]

def aes(way, key, iv, data):
    command = ["openssl", "enc", way, "-aes-256-cbc", "-K", key.hex(), "-iv", iv.hex()]
    done = subprocess.run(command, input=data, capture_output=True)
    need(done.returncode == 0, "it does not decrypt")
    return done.stdout

def chunks(data, size=CHUNK): return [sha(data[at:at + size]) for at in range(0, len(data), size)]
def archive_key(args): return sha(open(args.key_fragment, "rb").read())
def content_key(key, id): return hkdf(key, id, b"azaion-seal/1 archive content")
def archive_tag(key, id, data): return hmac.digest(hkdf(key, id, b"azaion-seal/1 archive mac"), data, "sha256")

def images(tar):
    kept = {}
    with tarfile.open(fileobj=io.BytesIO(tar)) as members:
        for member in members:
            if member.isfile() and member.size <= MIB: kept[os.path.normpath(member.name)] = members.extractfile(member).read()
    found = {}  # by the digest of the config, in the order in which it came first
    for entry in json.loads(kept["manifest.json"]):
        config = kept[os.path.normpath(entry["Config"])]
        layers = json.loads(config)["rootfs"]["diff_ids"] or []
        image = found.setdefault(sha(config), {"tags": [], "config": "sha256:" + sha(config).hex(), "layers": layers})
        for tag in entry.get("RepoTags") or []:
            if tag in image["tags"]: continue
            for other in found.values(): other["tags"] = [known for known in other["tags"] if known != tag]
            image["tags"].append(tag)
    return list(found.values())

class Fields:  # takes field after field
    def __init__(self, data, limit, kind):
        self.data, self.at = data, 0
        need(len(data) <= limit, "the seal is too long")
        need(self.take(8) == MAGIC and self.take(1) == b"\x01" and self.take(1) == kind, "not a seal of this kind")
        self.log2, zero = self.take(2)
        need(zero == 0, "zero byte")
    def take(self, size):
        need(self.at + size <= len(self.data), "the seal ends early")
        self.at += size
        return self.data[self.at - size:self.at]
    def int(self, size): return int.from_bytes(self.take(size), "big")
    def end(self, length):  # the hashes, the tag, nothing
        hashes = [self.take(32) for _ in range(-(-length // (1 << self.log2)))]
        covered, tag = self.data[:self.at], self.take(32)
        need(self.at == len(self.data), "bytes follow the seal")
        return hashes, covered, tag

def seal(args):
    key, id, iv, content_iv = archive_key(args), args.id, args.iv, args.content_iv
    tar = open(args.tar, "rb").read()
    archive = iv + aes("-e", key, iv, tar)
    content = json.dumps({"images": images(tar)}, ensure_ascii=False, separators=(",", ":")).encode()
    content = content_iv + aes("-e", content_key(key, id), content_iv, content)
    name = args.name.encode()
    data = MAGIC + bytes([1, 1, 18, 0]) + id + num(args.version, 8) + num(len(archive), 8) + num(len(name), 1) + name
    data += num(len(content), 4) + content + b"".join(chunks(archive))
    open(args.out, "wb").write(archive)
    open(args.out + ".seal", "wb").write(data + archive_tag(key, id, data))

def verify(args):
    key = archive_key(args)
    fields = Fields(open(args.archive + ".seal", "rb").read(), 9_438_208, b"\x01")
    need(fields.log2 == 18, "chunk length")
    id, version, length = fields.take(32), fields.int(8), fields.int(8)
    need(length % 16 == 0 and 32 <= length <= 1 << 36, "length")
    size = fields.int(1)
    need(1 <= size <= 64, "name")
    name = fields.take(size)
    need(re.fullmatch(rb"[a-z0-9][a-z0-9._-]*", name), "name")
    size = fields.int(4)
    need(size % 16 == 0 and 32 <= size <= MIB, "content")
    content = fields.take(size)
    hashes, covered, tag = fields.end(length)
    need(hmac.compare_digest(archive_tag(key, id, covered), tag), "tag")
    sealed = json.loads(aes("-d", content_key(key, id), content[:16], content[16:]))["images"]
    need(len(sealed) <= 256, "content")
    archive = open(args.archive, "rb").read()
    need(len(archive) == length, "length of the archive")
    wrong = [at for at, (is_, must) in enumerate(zip(chunks(archive), hashes)) if is_ != must]
    need(not wrong, f"chunks {wrong}")
    need(images(aes("-d", key, archive[:16], archive[16:])) == sealed, "images")
    print(json.dumps({"name": name.decode(), "version": version, "images": sealed}))

def resource_key(args): return sha(base64.b64encode(hashlib.sha384(args.resource_salt.encode()).digest()))
def resource_tag(args, id, data):
    for text in (args.folder.encode(), args.name.encode()): data += num(len(text), 1) + text
    return hmac.digest(hkdf(resource_key(args), id, b"azaion-seal/1 resource mac"), data, "sha256")
def resource_log2(length): return next(c for c in range(18, 64) if -(-length // (1 << c)) <= 32768)

def resource_seal(args):
    sealed = args.iv + aes("-e", resource_key(args), args.iv, open(args.plain, "rb").read())
    cut = min(3072, 3 * len(sealed) // 10)
    small, big, log2 = sealed[:cut], sealed[cut:], resource_log2(len(sealed) - cut)
    data = MAGIC + bytes([1, 2, log2, 0]) + args.id + num(args.version, 8) + num(len(big), 8) + num(len(small), 2) + sha(small)
    data += b"".join(chunks(big, 1 << log2))
    for end, part in (("big", big), ("seal", data + resource_tag(args, args.id, data)), ("small", small)):
        open(f"{args.out}/{args.name}.{end}", "wb").write(part)

def resource_verify(args):
    data, small, big = (open(f"{args.dir}/{args.name}.{end}", "rb").read() for end in ("seal", "small", "big"))
    fields = Fields(data, 1024 + 32768 * 32, b"\x02")
    id, version, length, size, digest = fields.take(32), fields.int(8), fields.int(8), fields.int(2), fields.take(32)
    need(1 <= length <= 1 << 36 and 9 <= size <= 3072 and fields.log2 == resource_log2(length), "a field")
    hashes, covered, tag = fields.end(length)
    need(hmac.compare_digest(resource_tag(args, id, covered), tag), "tag")
    need(len(small) == size and sha(small) == digest, "small part")
    need(len(big) == length, "length of the big part")
    need(chunks(big, 1 << fields.log2) == hashes, "chunks")
    sealed = small + big
    sys.stdout.buffer.write(aes("-d", resource_key(args), sealed[:16], sealed[16:]))

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
commands = parser.add_subparsers(required=True)
random = lambda size: dict(type=bytes.fromhex, default=os.urandom(size))
text, whole = dict(required=True), dict(type=int, required=True)
folder = dict(default="")
for run, options in (
    (seal, {"--key-fragment": text, "--name": text, "--version": whole, "--tar": text, "--out": text, "--id": random(32),
            "--iv": random(16), "--content-iv": random(16)}),
    (verify, {"--key-fragment": text, "archive": {}}),
    (resource_seal, {"--resource-salt": text, "--folder": folder, "--name": text, "--version": whole, "--plain": text,
                     "--out": text, "--id": random(32), "--iv": random(16)}),
    (resource_verify, {"--resource-salt": text, "--folder": folder, "--name": text, "dir": {}}),
):
    command = commands.add_parser(run.__name__.replace("_", "-"))
    command.set_defaults(run=run)
    for option, rules in options.items(): command.add_argument(option, **rules)
chosen = parser.parse_args()
chosen.run(chosen)
