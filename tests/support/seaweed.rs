//! A real S3 server by other hands, private to a test and gone after it; `tests/tools/seaweedfs` starts and ends it.

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A running `SeaweedFS`. Dropped, it is stopped and removed.
#[derive(Debug)]
pub(crate) struct Seaweed {
    dir: TempDir,
}

fn tool(args: &[&str]) -> Output {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/seaweedfs");
    Command::new(tool).args(args).output().expect("tests/tools/seaweedfs can be run")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

impl Seaweed {
    /// Starts a server and waits until it takes a write.
    ///
    /// # Errors
    /// Why none can run on this machine, for [`super::skip`].
    ///
    /// # Panics
    /// When one could run and does not come up: that is no reason to skip.
    pub(crate) fn start() -> Result<Self, String> {
        let server = Self { dir: tempfile::Builder::new().prefix("sw").tempdir().expect("a temporary directory") };
        match server.up() {
            Ok(()) => Ok(server),
            Err(output) if output.status.code() == Some(69) => Err(said(&output)),
            Err(output) => panic!("SeaweedFS does not start: {}", said(&output)),
        }
    }

    fn up(&self) -> Result<(), Output> {
        let output = tool(&["start", self.place()]);
        if output.status.success() { Ok(()) } else { Err(output) }
    }

    fn place(&self) -> &str {
        self.dir.path().to_str().expect("a temporary directory has a name in UTF-8")
    }

    fn told(&self, file: &str) -> String {
        fs::read_to_string(self.dir.path().join(file)).expect("a server that runs has written its files")
    }

    /// `https://localhost:PORT`.
    pub(crate) fn url(&self) -> String {
        self.told("url").trim().to_owned()
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn plain_url(&self) -> String {
        self.told("plain_url").trim().to_owned()
    }

    /// Its authority in PEM.
    pub(crate) fn ca_pem(&self) -> String {
        self.told("ca.pem")
    }

    /// The resource `cdn.yaml` for it, with TLS.
    pub(crate) fn cdn_yaml(&self) -> String {
        self.told("cdn.yaml")
    }

    /// Makes a bucket.
    pub(crate) fn make_bucket(&self, bucket: &str) {
        let output = tool(&["bucket", self.place(), bucket]);
        assert!(output.status.success(), "{}", said(&output));
    }

    /// Ends it at once, as a power cut would; its directory stays.
    pub(crate) fn kill(&self) {
        let output = tool(&["kill", self.place()]);
        assert!(output.status.success(), "SeaweedFS is not killed: {}", said(&output));
    }

    /// Starts it again on what it left, at other ports.
    pub(crate) fn restart(&self) {
        if let Err(output) = self.up() {
            panic!("SeaweedFS does not start again: {}", said(&output));
        }
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        let output = tool(&["stop", self.place()]);
        // A second panic while one is under way would abort and hide the first.
        assert!(output.status.success() || std::thread::panicking(), "SeaweedFS is not stopped: {}", said(&output));
    }
}
