//! What the publisher does: seals an archive, and signs the seal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{FRAGMENT, binary, clean};
use crate::support;

/// Makes the seal beside an archive.
pub(crate) fn seal(archive: &Path, name: &str, version: u64) {
    let file = archive.with_file_name("fragment");
    fs::write(&file, FRAGMENT).expect("written");
    let mut command = clean(&binary());
    command.arg("seal").arg("--key-fragment").arg(&file).arg("--existing").arg(archive).arg("--force");
    command.args(["--name", name, "--version", &version.to_string()]);
    let output = command.stdin(Stdio::null()).output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_file(file).expect("it was there");
}

/// A file beside the archive: `images.enc` and this ending.
pub(crate) fn beside(archive: &Path, ending: &str) -> PathBuf {
    let mut path = archive.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// A publisher's key.
pub(crate) struct Signer {
    dir: tempfile::TempDir,
    /// As the configuration takes it.
    pub(crate) public: String,
}

impl Signer {
    /// `None` where there is no `minisign`, which has been said.
    pub(crate) fn new() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("minisign");
        command.args(["-G", "-W", "-f", "-p", "key.pub", "-s", "key.sec"]).current_dir(dir.path());
        match command.stdin(Stdio::null()).output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                support::skip(&format!("minisign: {error}; apt-get install minisign"));
                return None;
            }
        }
        let public = fs::read_to_string(dir.path().join("key.pub")).expect("made");
        let public = public.lines().nth(1).expect("the second line is the key").to_owned();
        Some(Self { dir, public })
    }

    /// Signs the seal beside an archive.
    pub(crate) fn sign(&self, archive: &Path) {
        let mut command = Command::new("minisign");
        command.args(["-S", "-s", "key.sec", "-m"]).arg(beside(archive, ".seal")).current_dir(self.dir.path());
        let output = command.stdin(Stdio::null()).output().expect("minisign runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
