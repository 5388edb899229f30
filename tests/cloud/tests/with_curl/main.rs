//! The cloud seen by `curl`: an HTTP and TLS client by other hands than the server's.

mod contract;
mod faults;
mod program;
mod s3;
mod transport;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use azaion_cloud::{Cloud, Options, User};
use tempfile::TempDir;

const EMAIL: &str = "оператор@example.com";
const PASSWORD: &str = "пароль \"ключ\" 🔑";
const FRAGMENT: &[u8] = b"a fragment\0with any bytes\xff";

/// A cloud with one user and a fragment.
fn cloud(change: impl FnOnce(&mut Options)) -> Cloud {
    let mut options = Options {
        users: vec![User::new(EMAIL, PASSWORD, "Operator")],
        fragment: Some(FRAGMENT.to_vec()),
        ..Options::default()
    };
    change(&mut options);
    Cloud::start(options)
}

/// `curl` that trusts one authority.
struct Curl {
    dir: TempDir,
    url: String,
}

/// What `curl` got.
#[derive(Debug)]
struct Got {
    exit: i32,
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the answer is JSON")
    }
}

impl Curl {
    fn of(cloud: &Cloud) -> Self {
        Self::trusting(cloud.ca_pem(), cloud.url())
    }

    fn trusting(ca_pem: &str, url: String) -> Self {
        let dir = tempfile::tempdir().expect("a directory for curl's files");
        std::fs::write(dir.path().join("ca.pem"), ca_pem).expect("the authority is written");
        Self { dir, url }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("curl");
        command.current_dir(self.dir.path()).args(["--silent", "--disable", "--noproxy", "*", "--cacert", "ca.pem"]);
        for argument in arguments {
            // A path stands for the cloud's address and the path.
            match argument.strip_prefix('/') {
                Some(path) => command.arg(format!("{}/{path}", self.url)),
                None => command.arg(argument),
            };
        }
        command
    }

    /// Runs to the end.
    fn run(&self, arguments: &[&str]) -> Got {
        let head = self.file("head");
        let _ = std::fs::remove_file(&head);
        let output = self.command(&[&["--dump-header", "head"], arguments].concat()).output().expect("curl runs");
        let head = String::from_utf8_lossy(&std::fs::read(head).unwrap_or_default()).into_owned();
        let last = head.rsplit("HTTP/1.1 ").next().unwrap_or_default();
        let status = last.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
        Got { exit: output.status.code().unwrap_or(-1), status, head, body: output.stdout }
    }

    /// Starts and leaves it to the test to end it.
    fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).spawn().expect("curl runs")
    }

    fn json(&self, path: &str, body: &serde_json::Value, more: &[&str]) -> Got {
        let body = body.to_string();
        self.run(&[&["--header", "content-type: application/json", "--data-raw", &body, path], more].concat())
    }

    fn login(&self, email: &str, password: &str) -> Got {
        self.json("/login", &serde_json::json!({ "email": email, "password": password }), &[])
    }

    /// Logs in and gives the header that the token goes into.
    fn bearer(&self) -> String {
        let got = self.login(EMAIL, PASSWORD);
        assert_eq!((got.exit, got.status), (0, 200), "{got:?}");
        format!("authorization: Bearer {}", got.json()["token"].as_str().expect("the token is text"))
    }
}
