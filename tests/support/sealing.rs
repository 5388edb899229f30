//! The publisher's tools for tests: the binary's own commands, and `tests/tools/seal.py`, the second implementation.
//!
//! Included by the test binaries about seals.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Bytes of one chunk.
pub(crate) const CHUNK: usize = 256 * 1024;

/// The key fragment of all archives here.
pub(crate) const FRAGMENT: &[u8] = b"a key fragment";

/// The binary: the static release one that `make test` builds, else the one that cargo built for the tests.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("LOADER_UNDER_TEST")
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_azaion-loader").into())
}

/// A directory with a key fragment and whatever a test puts there.
pub(crate) struct Bench(tempfile::TempDir);

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bench = Self(dir);
        bench.write("key", FRAGMENT);
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(bench.path("key"), private).expect("its owner may");
        bench
    }

    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).expect("written");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("read")
    }

    /// The names of all files, without the key.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir()).expect("there");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("read").file_name().into_string().expect("UTF-8")).collect();
        names.retain(|name| name != "key");
        names.sort();
        names
    }

    /// The binary with these arguments, run in the directory.
    pub(crate) fn loader(&self, args: &[&str]) -> Command {
        self.command(binary(), args)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.loader(args).output().expect("the binary runs")
    }

    /// The second implementation with these arguments.
    pub(crate) fn seal_py(&self, args: &[&str]) -> Output {
        let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/seal.py");
        self.command(tool, args).output().expect("python3 and openssl are there")
    }

    fn command(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir()).stdin(Stdio::null());
        command
    }

    /// Seals a tar that lies there.
    ///
    /// # Panics
    /// When it is refused.
    pub(crate) fn seal(&self, tar: &str, out: &str) {
        let done = self.run(&["seal", "--key-fragment", "key", "--version", "7", "--out", out, tar]);
        assert!(done.status.success(), "{}", said(&done));
    }

    /// What `verify` says of an archive.
    pub(crate) fn verify(&self, archive: &str) -> Output {
        self.run(&["verify", "--key-fragment", "key", archive])
    }
}

/// Everything that a program printed.
pub(crate) fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// Bytes that do not compress and do not repeat.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}

/// Ways in which a sealed archive is not the one that was sealed; each has a name. `seal` may be changed with it.
/// `foreign` is the seal of another archive under the same key.
pub(crate) fn mutations(archive: &[u8], seal: &[u8], foreign: &[u8]) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    let mut changed = |name: String, change: &dyn Fn(&mut Vec<u8>, &mut Vec<u8>)| {
        let (mut archive, mut seal) = (archive.to_vec(), seal.to_vec());
        change(&mut archive, &mut seal);
        all.push((name, archive, seal));
    };
    let len = archive.len();
    assert!(len > 4 * CHUNK && !len.is_multiple_of(CHUNK), "chunks to swap, and a last one that is shorter");
    for (place, at) in [
        ("the IV", 3),
        ("the first chunk", 40),
        ("a middle chunk", len / 2),
        ("the last chunk", len / CHUNK * CHUNK + 1),
        ("the last byte", len - 1),
    ] {
        changed(format!("a bit flipped in {place}"), &|archive, _| archive[at] ^= 0x10);
    }
    changed("two chunks swapped".into(), &|archive, _| {
        let (one, other) = archive[..2 * CHUNK].split_at_mut(CHUNK);
        one.swap_with_slice(other);
    });
    for (place, left) in [
        ("a block", 2 * CHUNK + 1600),
        ("a chunk", 3 * CHUNK),
        ("the last 16 bytes", len - 16),
        ("the last byte", len - 1),
    ] {
        changed(format!("cut at {place}"), &|archive, _| archive.truncate(left));
    }
    for more in [1, 16, 1024 * 1024] {
        changed(format!("{more} bytes appended"), &|archive, _| archive.resize(len + more, 0x10));
    }
    changed("the seal of another archive".into(), &|_, seal| foreign.clone_into(seal));
    for left in [0, 7, 60, seal.len() / 2, seal.len() - 32, seal.len() - 1] {
        changed(format!("the seal cut to {left} bytes"), &|_, seal| seal.truncate(left));
    }
    changed("the seal with a byte behind it".into(), &|_, seal| seal.push(0));
    let name_len = usize::from(seal[60]);
    let content_len = u32::from_be_bytes(seal[61 + name_len..65 + name_len].try_into().expect("four bytes")) as usize;
    let content = 65 + name_len;
    for (field, at) in [
        ("magic", 0),
        ("format version", 8),
        ("kind", 9),
        ("chunk length", 10),
        ("zero byte", 11),
        ("id", 20),
        ("version", 51),
        ("length", 59),
        ("name's length", 60),
        ("name", 61),
        ("content's length", content - 1),
        ("content's IV", content),
        ("content", content + content_len - 1),
        ("first hash", content + content_len),
        ("last hash", seal.len() - 33),
        ("tag", seal.len() - 1),
    ] {
        for bit in [0x01, 0x80] {
            changed(format!("bit {bit:#04x} flipped in the seal's {field}"), &|_, seal| seal[at] ^= bit);
        }
    }
    all
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("memory takes everything");
        text
    })
}

// Each test file uses its own part of this module; what one leaves out is not dead.
const _: fn() = || {
    let _ = (Bench::new, Bench::names, Bench::seal, Bench::verify, Bench::seal_py, Bench::read, Bench::run);
    let _ = (said, noise, mutations, hex, binary);
};
