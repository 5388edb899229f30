//! Real container engines, private to a test and gone after it; `tests/tools/engine` starts and ends them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The engines that tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Debian's `docker.io` 20.10, or whatever `dockerd` is in `PATH`.
    Docker20,
    /// Docker 26.1 with its classic store.
    Docker26,
    /// Docker 26.1 with the containerd store.
    Docker26Containerd,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Docker20 => "20",
            Self::Docker26 => "26",
            Self::Docker26Containerd => "26c",
        }
    }
}

/// A running engine. Dropped, it is stopped, unmounted and removed.
#[derive(Debug)]
pub(crate) struct Engine {
    kind: Kind,
    dir: TempDir,
}

fn tool(args: &[&str]) -> Output {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/engine");
    Command::new(tool).args(args).output().expect("tests/tools/engine can be run")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

impl Engine {
    /// Starts an engine and waits until it answers.
    ///
    /// # Errors
    /// Why none can run on this machine, for [`super::skip`].
    ///
    /// # Panics
    /// When one could run and does not come up: that is no reason to skip.
    pub(crate) fn start(kind: Kind) -> Result<Self, String> {
        Self::start_in(kind, |_dir| {})
    }

    /// The same, in a directory that is prepared first.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub(crate) fn start_in(kind: Kind, prepare: impl Fn(&Path)) -> Result<Self, String> {
        // Short, because unix sockets below it have a short bound.
        let dir = tempfile::Builder::new().prefix("az").tempdir().expect("a temporary directory");
        let engine = Self { kind, dir };
        prepare(engine.dir());
        match engine.up() {
            Ok(()) => Ok(engine),
            Err(output) if output.status.code() == Some(69) => Err(said(&output)),
            Err(output) => panic!("engine {kind:?} does not start: {}", said(&output)),
        }
    }

    fn up(&self) -> Result<(), Output> {
        let output = tool(&["start", self.kind.word(), self.place()]);
        if output.status.success() { Ok(()) } else { Err(output) }
    }

    fn place(&self) -> &str {
        self.dir.path().to_str().expect("a temporary directory has a name in UTF-8")
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// The directory it lives in.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it has written to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Runs the docker command on this engine and returns what it prints.
    ///
    /// # Errors
    /// What it says when it fails.
    pub(crate) fn docker(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new("docker")
            .args(args)
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            // No context or plugin of this machine's user has a say.
            .env("DOCKER_CONFIG", self.dir.path().join("config"))
            .env_remove("DOCKER_CONTEXT")
            .output()
            .expect("the docker command can be run");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(said(&output))
        }
    }

    /// Ends daemon and containerd at once, as a power cut would; its directory stays.
    pub(crate) fn kill(&self) {
        let output = tool(&["kill", self.place()]);
        assert!(output.status.success(), "engine is not killed: {}", said(&output));
    }

    /// Makes the containerd store let go of what loads that were cut have left in it; else it would be a day.
    pub(crate) fn release(&self) {
        let output = tool(&["release", self.place()]);
        assert!(output.status.success(), "leases stay: {}", said(&output));
    }

    /// Starts it again on what it left.
    pub(crate) fn restart(&self) {
        if let Err(output) = self.up() {
            panic!("engine does not start again: {}", said(&output));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let output = tool(&["stop", self.place()]);
        // A second panic while one is under way would abort and hide the first.
        assert!(output.status.success() || std::thread::panicking(), "engine is not stopped: {}", said(&output));
    }
}
