//! A directory on flash that is slow, full, read-only or broken on request, by `tests/tools/slow-flash`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A mounted slow flash. Dropped, it is unmounted and removed.
#[derive(Debug)]
pub(crate) struct SlowFlash {
    dir: TempDir,
    mount: Child,
}

impl SlowFlash {
    /// Mounts one at this rate of bytes a second (`None`: as fast as it goes).
    ///
    /// # Errors
    /// Why none can be mounted on this machine, for [`super::skip`].
    pub(crate) fn mount(rate: Option<u64>) -> Result<Self, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for below in ["behind", "flash"] {
            fs::create_dir(dir.path().join(below)).expect("a directory is made");
        }
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/slow-flash"));
        command.arg("--switch").arg(dir.path().join("switch"));
        command.args(rate.iter().flat_map(|rate| ["--rate".to_owned(), rate.to_string()]));
        command.args([dir.path().join("behind"), dir.path().join("flash")]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut mount = piped.spawn().expect("tests/tools/slow-flash can be run");
        let mut line = String::new();
        let read = BufReader::new(mount.stdout.take().expect("it was asked for")).read_line(&mut line);
        if read.is_ok() && line == "mounted\n" {
            return Ok(Self { dir, mount });
        }
        let mut why = String::new();
        let _ = mount.stderr.take().expect("it was asked for").read_to_string(&mut why);
        let _ = mount.wait();
        Err(why.trim().to_owned())
    }

    /// The flash.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("flash")
    }

    /// What stands behind it: the same files, fast and whole.
    pub(crate) fn behind(&self) -> PathBuf {
        self.dir.path().join("behind")
    }

    /// Says what is wrong from now on: words of `enospc`, `erofs`, `eio`, `rate=N`; none: nothing.
    pub(crate) fn switch(&self, words: &str) {
        let (switch, new): (PathBuf, &Path) = (self.dir.path().join("switch"), &self.dir.path().join("switch.new"));
        fs::write(new, words).and_then(|()| fs::rename(new, switch)).expect("the switch is written");
    }
}

impl Drop for SlowFlash {
    fn drop(&mut self) {
        // The end of its input unmounts it.
        drop(self.mount.stdin.take());
        let ended = self.mount.wait().is_ok_and(|status| status.success());
        assert!(ended || std::thread::panicking(), "the slow flash is not unmounted");
    }
}
