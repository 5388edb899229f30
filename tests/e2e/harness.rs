//! A board for tests: a temporary directory with configuration, archive and state, the real agent binary in it, and
//! `curl` as the technician.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use azaion_cloud::Cloud;
use serde_json::Value;

/// What no log and no answer may hold.
pub(crate) const PASSWORD: &str = "canary-пароль-9f3a";
pub(crate) const EMAIL: &str = "tech@example.com";
/// The fragment is text so that a leak would be found by searching for it.
pub(crate) const FRAGMENT: &[u8] = b"canary-fragment-51c7e0d2b8f64a10";
/// Waiting for an event longer than this is a failure, never a pass.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// The agent's binary: the static release one that `make test` builds, else the one that cargo built for the tests.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("LOADER_UNDER_TEST")
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_azaion-loader").into())
}

/// A cloud that knows [`EMAIL`] with [`PASSWORD`] and hands out [`FRAGMENT`].
pub(crate) fn cloud() -> Cloud {
    let cloud = Cloud::start(azaion_cloud::Options::default());
    cloud.add_user(azaion_cloud::User::new(EMAIL, PASSWORD, "Operator"));
    cloud.set_fragment(FRAGMENT.to_vec());
    cloud
}

/// Who may load models and not upload them; the same password.
pub(crate) const READER: &str = "reader@example.com";

/// A cloud with a CDN, for boards of [`Board::new`]: [`EMAIL`] may upload, [`READER`] may not.
pub(crate) fn cloud_with_models() -> Cloud {
    let salts = azaion_cloud::keys::Salts {
        hardware: "hw".into(),
        api: "api".into(),
        resource: "res".into(),
        separator: String::new(),
    };
    let cloud = Cloud::start(azaion_cloud::Options { salts, s3: true, ..azaion_cloud::Options::default() });
    cloud.add_user(azaion_cloud::User::new(EMAIL, PASSWORD, "ResourceUploader"));
    cloud.add_user(azaion_cloud::User::new(READER, PASSWORD, "CompanionPC"));
    cloud.s3().make_bucket("default");
    cloud.s3().make_bucket("models");
    cloud
}

/// A board: its files, before and between runs of the agent.
pub(crate) struct Board {
    dir: tempfile::TempDir,
    /// Section → lines, on top of what every board here has.
    extra: Vec<(String, String)>,
    api: String,
    ca: String,
    engine: String,
}

impl Board {
    /// A board that talks to this cloud and brings images into an OCI directory of its own.
    pub(crate) fn new(cloud: &Cloud) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for sub in ["state", "cache", "oci"] {
            std::fs::create_dir(dir.path().join(sub)).expect("made");
        }
        let engine = format!("dir:{}", dir.path().join("oci").display());
        Self { dir, extra: Vec::new(), api: cloud.url(), ca: cloud.ca_pem().to_owned(), engine }
    }

    pub(crate) fn engine(mut self, socket: &str) -> Self {
        socket.clone_into(&mut self.engine);
        self
    }

    pub(crate) fn api(mut self, url: &str) -> Self {
        url.clone_into(&mut self.api);
        self
    }

    pub(crate) fn ca(mut self, pem: String) -> Self {
        self.ca = pem;
        self
    }

    /// A further line of configuration, e.g. `("boot", "unlock = \"auto\"")`.
    pub(crate) fn set(mut self, section: &str, line: &str) -> Self {
        self.extra.push((section.into(), line.into()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.path("images.enc")
    }

    /// Writes the configuration and returns its path.
    pub(crate) fn configure(&self) -> PathBuf {
        std::fs::write(self.path("ca.pem"), &self.ca).expect("written");
        let dir = self.dir.path().display();
        let mut sections: Vec<(String, Vec<String>)> = vec![
            ("cloud".into(), vec![format!("resource_api_url = {:?}", self.api), format!("ca_file = \"{dir}/ca.pem\"")]),
            ("archive".into(), vec![format!("path = \"{dir}/images.enc\"")]),
            (
                "keys".into(),
                vec!["hardware_salt = \"hw\"".into(), "api_salt = \"api\"".into(), "resource_salt = \"res\"".into()],
            ),
            ("engine".into(), vec![format!("socket = {:?}", self.engine)]),
            ("control".into(), vec!["listen = [\"127.0.0.1:0\"]".into()]),
            ("cache".into(), vec![format!("dir = \"{dir}/cache\"")]),
            ("state".into(), vec![format!("dir = \"{dir}/state\"")]),
            ("log".into(), vec!["level = \"debug\"".into()]),
            ("board".into(), vec!["fingerprint = \"test board\"".into()]),
        ];
        for (section, line) in &self.extra {
            let key = line.split('=').next().unwrap_or_default().trim().to_owned();
            if let Some((_, lines)) = sections.iter_mut().find(|(name, _)| name == section) {
                lines.retain(|l| l.split('=').next().unwrap_or_default().trim() != key);
                lines.push(line.clone());
            } else {
                sections.push((section.clone(), vec![line.clone()]));
            }
        }
        let mut text = String::new();
        for (section, lines) in sections {
            writeln!(text, "[{section}]\n{}\n", lines.join("\n")).expect("a String takes it");
        }
        let path = self.path("loader.toml");
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Starts the agent and waits until its port listens.
    pub(crate) fn start(&self) -> Agent {
        Agent::start(&self.configure())
    }

    /// Runs one command of the binary with this board's configuration, to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let config = self.configure();
        let mut command = clean(&binary());
        command.args(args).arg("--config").arg(config).stdin(Stdio::null());
        command.output().expect("the binary runs")
    }
}

/// A command without the environment variables that would win over the configuration.
pub(crate) fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars() {
        let fixed = ["RESOURCE_API_URL", "IMAGES_PATH", "DOCKER_HOST", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"];
        if name.starts_with("AZAION_") || name.starts_with("CDN_") || fixed.contains(&name.as_str()) {
            command.env_remove(name);
        }
    }
    command
}

/// A running agent. Dropping it kills it and checks that it printed no secret.
pub(crate) struct Agent {
    child: Child,
    pub(crate) base: String,
    /// From spawn to the line that says the port listens.
    pub(crate) started_in: Duration,
    lines: mpsc::Receiver<String>,
    log: String,
    token_seen: Vec<String>,
}

impl Agent {
    /// Starts the agent with this configuration file.
    pub(crate) fn start(config: &Path) -> Self {
        Self::start_by(clean(&binary()), config)
    }

    /// The same, with a prepared command (environment, wrapper).
    pub(crate) fn start_by(mut command: Command, config: &Path) -> Self {
        let spawned = Instant::now();
        let mut child = command
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the agent starts");
        let stderr = child.stderr.take().expect("it was piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut agent = Self {
            child,
            base: String::new(),
            started_in: Duration::ZERO,
            lines,
            log: String::new(),
            token_seen: Vec::new(),
        };
        let line = agent.wait_for_line("control port listens on http://");
        agent.started_in = spawned.elapsed();
        let at = line.find("http://").expect("it was asked for");
        line[at..].split_whitespace().next().unwrap_or_default().clone_into(&mut agent.base);
        agent
    }

    /// Waits for a log line that contains `part` and returns it.
    pub(crate) fn wait_for_line(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.log.push_str(&line);
                    self.log.push('\n');
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with {part:?} ({error}); the log so far:\n{}", self.log),
            }
        }
    }

    /// Everything that was logged until now.
    pub(crate) fn log(&mut self) -> &str {
        while let Ok(line) = self.lines.try_recv() {
            self.log.push_str(&line);
            self.log.push('\n');
        }
        &self.log
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `curl` with these arguments; the path is put behind the base address. Returns status and body.
    pub(crate) fn curl(&mut self, path: &str, args: &[&str]) -> (u16, Value) {
        let (status, text) = curl(&format!("{}{path}", self.base), args);
        assert!(!text.contains(PASSWORD), "an answer holds the password: {text}");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// `POST /unlock` with the right credentials.
    pub(crate) fn unlock(&mut self) -> (u16, Value) {
        self.post("/unlock", &credentials(EMAIL, PASSWORD))
    }

    pub(crate) fn post(&mut self, path: &str, body: &str) -> (u16, Value) {
        self.curl(path, &["-X", "POST", "-d", body])
    }

    /// Asks until the unlock is at rest in `ready` or `error`; returns the last answer and the states seen on the way.
    pub(crate) fn settle(&mut self) -> (Value, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen: Vec<String> = Vec::new();
        loop {
            let (status, answer) = self.curl("/unlock/status", &[]);
            assert_eq!(status, 200, "{answer}");
            let state = answer["state"].as_str().expect("a state").to_owned();
            if seen.last() != Some(&state) {
                seen.push(state.clone());
            }
            if state == "ready" || state == "error" {
                return (answer, seen);
            }
            assert!(Instant::now() < deadline, "still {state}; {answer}; the log:\n{}", self.log());
        }
    }

    /// Unlocks and expects the suite to be in the engine.
    pub(crate) fn unlock_to_ready(&mut self) {
        let (status, answer) = self.unlock();
        assert!(status == 202 || status == 200, "{status} {answer}");
        let (answer, _) = self.settle();
        assert_eq!(answer["state"], "ready", "{answer}\n{}", self.log());
    }

    /// Ends it as systemd does; returns the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let status = Command::new("kill").arg(self.pid().to_string()).status().expect("kill runs");
        assert!(status.success());
        self.wait()
    }

    /// A power cut for the agent alone: SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it was ours");
        self.wait();
    }

    /// Waits for its end, and how it ended.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("it was ours")
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("it was ours").code()
    }

    /// `POST /login`, which must succeed.
    pub(crate) fn log_in(&mut self, email: &str) {
        let (status, answer) = self.post("/login", &credentials(email, PASSWORD));
        assert_eq!(status, 200, "{answer}\n{}", self.log());
    }

    /// Loads a model into a file.
    pub(crate) fn load(&self, name: &str, folder: &str, to: &Path) -> Fetched {
        let url = format!("{}/load/{name}", self.base);
        fetch(&url, &["-d", &serde_json::json!({ "folder": folder }).to_string()], to)
    }

    /// Loads a model that must come whole, and returns its bytes.
    pub(crate) fn load_whole(&mut self, name: &str, folder: &str) -> Vec<u8> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let to = dir.path().join("model");
        let fetched = self.load(name, folder, &to);
        let bytes = std::fs::read(&to).unwrap_or_default();
        let said = String::from_utf8_lossy(&bytes[..bytes.len().min(600)]).into_owned();
        assert!(fetched.is_whole(), "{name}: {fetched:?} {said}\n{}", self.log());
        bytes
    }

    /// Loads what must be refused, and returns status and code.
    pub(crate) fn load_refused(&mut self, name: &str, folder: &str) -> (u16, String) {
        let body = serde_json::json!({ "folder": folder }).to_string();
        let (status, answer) = self.curl(&format!("/load/{name}"), &["-d", &body]);
        let error = &answer["error"];
        assert!(error["next"].as_str().is_some_and(|next| !next.is_empty()), "{status} {answer}");
        (status, error["code"].as_str().unwrap_or_default().to_owned())
    }

    /// `curl -T`: uploads a file, and returns status and answer.
    pub(crate) fn upload(&mut self, file: &Path, name: &str, folder: &str) -> (u16, Value) {
        let file = file.to_str().expect("a temporary file has a name in UTF-8");
        self.curl(&format!("/upload/{name}?folder={folder}"), &["-T", file, "--max-time", "600"])
    }

    /// Something else that must not be printed, e.g. a token.
    pub(crate) fn must_not_print(&mut self, secret: &str) {
        self.token_seen.push(secret.to_owned());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        while let Ok(line) = self.lines.recv() {
            self.log.push_str(&line);
            self.log.push('\n');
        }
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log);
            return;
        }
        let fragment = std::str::from_utf8(FRAGMENT).expect("it is text");
        for secret in [PASSWORD, fragment].into_iter().chain(self.token_seen.iter().map(String::as_str)) {
            assert!(!self.log.contains(secret), "the log holds a secret:\n{}", self.log);
        }
        assert!(!self.log.contains("panicked"), "{}", self.log);
    }
}

/// How `curl` fared with a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) status: u16,
    /// 0: whole; 18: fewer bytes than were announced; 56: cut.
    pub(crate) exit: i32,
}

impl Fetched {
    pub(crate) fn is_whole(self) -> bool {
        self == Self { status: 200, exit: 0 }
    }
}

/// `curl -o`: the body goes to a file whatever it is.
pub(crate) fn fetch(url: &str, args: &[&str], to: &Path) -> Fetched {
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--max-time", "600", "-w", "%{http_code}", "-o"])
        .arg(to)
        .arg(url)
        .args(args)
        .output()
        .expect("curl runs");
    let status = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_default();
    Fetched { status, exit: output.status.code().unwrap_or(-1) }
}

/// Noise of this length: the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64*: noise, not secrecy.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The JSON of a log-in.
pub(crate) fn credentials(email: &str, password: &str) -> String {
    serde_json::json!({"email": email, "password": password}).to_string()
}

/// `curl` on any address: status and body.
pub(crate) fn curl(url: &str, args: &[&str]) -> (u16, String) {
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--max-time", "60", "-w", "\n%{http_code}", url])
        .args(args)
        .output()
        .expect("curl runs");
    let text = String::from_utf8(output.stdout).expect("answers are UTF-8");
    let (body, status) = text.rsplit_once('\n').expect("the status stands last");
    let status = status.parse().expect("a number");
    assert!(status != 0, "curl {url}: {}", String::from_utf8_lossy(&output.stderr));
    (status, body.to_owned())
}
