//! Podman behind Docker's API: it takes no thin tars, so the plainer ways bring the suite in.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use azaion_cloud::archive::Layout;

use crate::bench::put;
use crate::harness::{self, Board};
use crate::packs::{file, image, saved};
use crate::support;

/// A private podman service; dropped, it is ended and removed.
struct Podman {
    dir: tempfile::TempDir,
    service: Child,
}

impl Podman {
    fn start() -> Result<Self, String> {
        if let Ok(reason) = std::env::var("TEST_NO_ENGINE") {
            return Err(reason);
        }
        if Command::new("podman").arg("--version").output().is_err() {
            return Err("podman is missing: apt-get install podman".into());
        }
        let dir = tempfile::Builder::new().prefix("az").tempdir().expect("a temporary directory");
        let log = File::create(dir.path().join("log")).expect("created");
        let mut podman = Self::command(&dir);
        podman.args(["system", "service", "--time=0"]).arg(format!("unix://{}", dir.path().join("s").display()));
        let service = podman.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("podman starts");
        let podman = Self { dir, service };
        let deadline = Instant::now() + Duration::from_mins(1);
        while std::os::unix::net::UnixStream::connect(podman.socket()).is_err() {
            let said = fs::read_to_string(podman.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "podman does not come up: {said}");
        }
        Ok(podman)
    }

    fn command(dir: &tempfile::TempDir) -> Command {
        let at = |name: &str| dir.path().join(name);
        let mut podman = Command::new("podman");
        podman.arg("--root").arg(at("root")).arg("--runroot").arg(at("run")).args(["--storage-driver", "vfs"]);
        podman.env("XDG_RUNTIME_DIR", dir.path());
        podman
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn says(&self, args: &[&str]) -> String {
        let output = Self::command(&self.dir).args(args).output().expect("podman runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _gone = self.service.kill();
        let _ended = self.service.wait();
        // It leaves a mount of its own behind.
        let _unmounted = Command::new("umount").arg(self.dir.path().join("root/vfs")).stderr(Stdio::null()).status();
        let _unmounted = Command::new("umount").arg(self.dir.path().join("root")).stderr(Stdio::null()).status();
    }
}

#[test]
fn podman_takes_the_suite_and_the_log_says_which_way() {
    let podman = match Podman::start() {
        Ok(podman) => podman,
        Err(reason) => return support::skip(&reason),
    };
    let cloud = harness::cloud();
    let board = Board::new(&cloud).engine(&format!("unix://{}", podman.socket().display()));
    let base = file("base", &vec![7; 5 << 20]);
    let suite = |text: &str| {
        let app =
            |name: &str| image(&[&format!("azaion/{name}:1")], &[base.clone(), file(name, text.as_bytes())], "/x");
        [app("first"), app("second")]
    };
    for (layout, text) in [(Layout::Classic, "old"), (Layout::Oci, "new")] {
        put(&board, &saved(layout, &suite(text)));
        let mut agent = board.start();
        agent.unlock_to_ready();
        assert!(agent.log().contains("the engine refuses"), "{}", agent.log());
        let listed = podman.says(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        for name in ["azaion/first:1", "azaion/second:1"] {
            assert!(listed.lines().any(|line| line.ends_with(name)), "{layout:?}: {listed}");
        }
        assert!(!podman.says(&["images", "--format", "{{.Labels}}"]).contains("com.azaion.loader.prefix"));
        assert_eq!(agent.terminate(), Some(0));
        let mut agent = board.start();
        agent.wait_for_line("ready: ");
    }
}
