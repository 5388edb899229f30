//! What systemd is told over its socket (`sd_notify(3)`), as `images/azaion-loader.service` asks for it: ready when the
//! port answers and never without it, a line of status, a beat of the watchdog, stopping.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use azaion_cloud::{Cloud, Options, User};
use serde_json::Value;

/// Waiting for an event longer than this is a failure, never a pass.
const PATIENCE: Duration = Duration::from_mins(1);
const EMAIL: &str = "tech@example.com";
const PASSWORD: &str = "canary-5e1f";

/// The agent under a service manager that writes down what it is told.
struct Service {
    agent: Child,
    socket: UnixDatagram,
    told: Vec<String>,
    dir: tempfile::TempDir,
    _cloud: Cloud,
}

impl Service {
    /// Starts the agent as a unit of `Type=notify`; `watchdog` is what `WatchdogSec=` would say.
    fn start(listen: &str, watchdog: Option<Duration>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let cloud = Cloud::start(Options::default());
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut command = clean(&binary());
        let config = configure(dir.path(), listen, &cloud);
        command.arg("run").arg("--config").arg(config).env("NOTIFY_SOCKET", &path);
        if let Some(interval) = watchdog {
            command.env("WATCHDOG_USEC", interval.as_micros().to_string());
        }
        let agent = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the agent starts");
        Self { agent, socket, told: Vec::new(), dir, _cloud: cloud }
    }

    /// Waits until systemd is told exactly this line.
    fn wait_for(&mut self, wanted: &str) {
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("systemd was never told {wanted} ({error}); it was told {:?}", self.told)
            });
            let text = std::str::from_utf8(&buffer[..length]).expect("it is text");
            let before = self.told.len();
            self.told.extend(text.lines().map(str::to_owned));
            if self.told[before..].iter().any(|line| line == wanted) {
                return;
            }
        }
    }

    fn count(&self, wanted: &str) -> usize {
        self.told.iter().filter(|line| *line == wanted).count()
    }

    /// Where the port listens; the agent has logged it by the time it is ready.
    fn port(&mut self) -> String {
        let mut lines = BufReader::new(self.agent.stderr.take().expect("it was piped")).lines();
        let line = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains("listens on http://"))
            .expect("the log says where the port listens");
        // What follows is drained, so that the agent never waits for a reader.
        std::thread::spawn(move || lines.map_while(Result::ok).count());
        line.rsplit_once("http://").map(|(_, address)| address.trim().to_owned()).expect("it was found by it")
    }

    /// Asks it to end as systemd does.
    fn stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.agent);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
    }

    fn end(&mut self) -> ExitStatus {
        self.agent.wait().expect("it is ours")
    }

    /// What else was told until its end.
    fn drain(&mut self) {
        self.socket.set_nonblocking(true).expect("set");
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = std::str::from_utf8(&buffer[..length]).expect("it is text");
            self.told.extend(text.lines().map(str::to_owned));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _it_may_have_ended = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn binary() -> PathBuf {
    std::env::var_os("LOADER_UNDER_TEST")
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_azaion-loader").into())
}

/// A command without the environment that would win over the configuration, or that a service manager of the tests set.
fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    let fixed =
        ["RESOURCE_API_URL", "IMAGES_PATH", "DOCKER_HOST", "CREDENTIALS_DIRECTORY", "WATCHDOG_PID", "WATCHDOG_USEC"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("AZAION_") || text.starts_with("CDN_") || fixed.contains(&&*text) {
            command.env_remove(&name);
        }
    }
    command
}

/// A board with the contract's classic archive, and a cloud that has its key.
fn configure(dir: &Path, listen: &str, cloud: &Cloud) -> PathBuf {
    for sub in ["state", "cache", "oci"] {
        std::fs::create_dir(dir.join(sub)).expect("made");
    }
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors");
    let list = std::fs::read(vectors.join("archives.json")).expect("the fixture is there");
    let list: Vec<Value> = serde_json::from_slice(&list).expect("it is JSON");
    let case = list.iter().find(|case| case["file"] == "archive-classic.enc").expect("it is in the list");
    let hex = case["key_fragment_hex"].as_str().expect("text");
    let fragment = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex")).collect();
    cloud.add_user(User::new(EMAIL, PASSWORD, "Operator"));
    cloud.set_fragment(fragment);
    std::fs::write(dir.join("ca.pem"), cloud.ca_pem()).expect("written");

    let (at, archive) = (dir.display(), vectors.join("archive-classic.enc"));
    let text = format!(
        "[cloud]\nresource_api_url = '{}'\nca_file = '{at}/ca.pem'\n[archive]\npath = '{}'\n\
         [keys]\nhardware_salt = 'hw'\napi_salt = 'api'\nresource_salt = 'res'\n[engine]\nsocket = 'dir:{at}/oci'\n\
         [control]\nlisten = ['{listen}']\n[cache]\ndir = '{at}/cache'\n[state]\ndir = '{at}/state'\n\
         [board]\nfingerprint = 'test board'\n",
        cloud.url(),
        archive.display(),
    );
    let path = dir.join("loader.toml");
    std::fs::write(&path, text).expect("written");
    path
}

/// One call of the port: the status line and everything after it.
fn call(port: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(port).expect("the port listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, then the end");
    answer
}

#[test]
fn ready_status_watchdog_and_stopping_are_told() {
    let mut service = Service::start("127.0.0.1:0", Some(Duration::from_millis(200)));
    service.wait_for("READY=1");
    let port = service.port();
    let head = format!("HTTP/1.1\r\nHost: {port}\r\nConnection: close\r\n");
    let answer = call(&port, &format!("GET /health {head}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "ready was told, but: {answer}");
    service.wait_for("STATUS=waiting to be unlocked");

    for (password, outcome) in
        [("canary-wrong", "STATUS=unlock failed: credentials_wrong"), (PASSWORD, "STATUS=ready, 2 images")]
    {
        let body = format!(r#"{{"email":"{EMAIL}","password":"{password}"}}"#);
        let length = body.len();
        let answer = call(&port, &format!("POST /unlock {head}Content-Length: {length}\r\n\r\n{body}"));
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
        service.wait_for("STATUS=unlocking");
        service.wait_for(outcome);
    }

    // At half the interval: three beats come only from a loop that goes on turning.
    for _ in 0..3 {
        service.wait_for("WATCHDOG=1");
    }
    service.stop();
    service.wait_for("STOPPING=1");
    assert_eq!(service.end().code(), Some(0));
    service.drain();
    assert_eq!((service.count("READY=1"), service.count("STOPPING=1")), (1, 1), "{:?}", service.told);
    let told = service.told.join("\n");
    assert!(!told.contains("canary") && !told.contains(EMAIL), "{told}");
}

#[test]
fn no_beat_is_sent_that_nobody_asked_for() {
    let mut service = Service::start("127.0.0.1:0", None);
    service.wait_for("STATUS=waiting to be unlocked");
    service.stop();
    assert_eq!(service.end().code(), Some(0));
    service.drain();
    assert_eq!((service.count("READY=1"), service.count("STOPPING=1")), (1, 1), "{:?}", service.told);
    assert_eq!(service.count("WATCHDOG=1"), 0, "{:?}", service.told);
}

#[test]
fn a_port_that_cannot_be_had_is_never_ready() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut service = Service::start(&taken.local_addr().expect("bound").to_string(), None);
    assert_eq!(service.end().code(), Some(1));
    service.drain();
    assert_eq!(service.told, Vec::<String>::new());
    assert!(service.dir.path().join("notify").exists(), "the socket was there to be told");
}
