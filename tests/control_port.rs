//! The control port as the technician meets it: through the real `curl`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::thread::JoinHandle;

use azaion_loader::config::Listen;
use azaion_loader::control::{
    Checkup, Desk, Feed, Gauges, Guard, Incoming, Listener, Outgoing, StatusView, UnlockAnswer, UnlockView,
    UploadAnswer, UserView, Wanted, serve,
};
use azaion_loader::error::{Code, Report};
use azaion_loader::limits::{JSON_BODY_BYTES, PIECE_BYTES};
use azaion_loader::net::clock::Clock;
use azaion_loader::net::turn;
use azaion_loader::secret::{Credentials, SecretText};
use azaion_loader::unlock::{Progress, State};
use smol::LocalExecutor;
use smol::channel::Sender;

const CREDENTIALS: &str = r#"{"email":"tech@example.com","password":"пароль"}"#;

type Shelf = Rc<RefCell<HashMap<(String, String), Rc<Vec<u8>>>>>;

/// Keeps what is uploaded and hands it out again, without telling its length when the folder is `chunked`.
#[derive(Default)]
struct FixedDesk {
    shelf: Shelf,
    /// What uploads are refused with.
    refusal: Option<Code>,
}

/// What is handed out: a model from the shelf, or as many bytes as `zeros` tells.
struct Model {
    bytes: Rc<Vec<u8>>,
    zeros: u64,
    at: usize,
    length: Option<u64>,
    cut: bool,
}

impl Outgoing for Model {
    fn length(&self) -> Option<u64> {
        self.length
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, Report> {
        if self.zeros > 0 {
            let count = self.bytes.len().min(usize::try_from(self.zeros).expect("64 bits"));
            self.zeros -= count as u64;
            return Ok(Some(&self.bytes[..count]));
        }
        let piece = self.bytes[self.at..].chunks(PIECE_BYTES).next();
        self.at += piece.map_or(0, <[u8]>::len);
        if piece.is_none() && self.cut { Err(report(Code::CdnChanged)) } else { Ok(piece) }
    }
}

struct Upload {
    bytes: Vec<u8>,
    shelf: Shelf,
}

impl Incoming for Upload {
    async fn push(&mut self, piece: &[u8]) -> Result<(), Report> {
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    async fn finish(self, wanted: Wanted) -> Result<UploadAnswer, Report> {
        let key = (wanted.folder.as_str().into(), wanted.name.as_str().into());
        self.shelf.borrow_mut().insert(key, Rc::new(self.bytes));
        Ok(UploadAnswer::Published)
    }
}

fn report(code: Code) -> Report {
    Report { code, message: "no".into(), next: "ask".into() }
}

impl Desk for FixedDesk {
    fn status(&self) -> StatusView {
        StatusView {
            version: "0.1.0",
            board: "generic-arm64".into(),
            user: Some(UserView { email: "tech@example.com".into(), role: "Operator" }),
            unlock: State::Error,
            seal: Some("unsealed"),
            engine: None,
            cache: None,
            audit: None,
            last_error: None,
            notes: Vec::new(),
        }
    }

    fn unlock_status(&self) -> UnlockView {
        let progress = Progress { stage: Some("loading_images"), images_total: Some(4), ..Progress::default() };
        UnlockView { state: State::LoadingImages, error: None, progress }
    }

    async fn unlock_turns(&self) {
        std::future::pending::<()>().await;
    }

    fn feed(&self) -> Rc<Feed> {
        Rc::default()
    }

    async fn gauges(&self) -> Gauges {
        unreachable!("no test here asks for metrics")
    }

    async fn check(&self) -> Checkup {
        unreachable!("no test here asks for a checkup")
    }

    async fn login(&self, credentials: Credentials) -> Result<(), Report> {
        if (credentials.email(), credentials.password().expose()) == ("tech@example.com", "пароль") {
            return Ok(());
        }
        let (message, next) = ("wrong credentials".into(), "check them".into());
        Err(Report { code: Code::CredentialsWrong, message, next })
    }

    async fn unlock(&self, _: Option<Credentials>) -> Result<UnlockAnswer, Report> {
        Ok(UnlockAnswer::Started(State::Authenticating))
    }

    type Model = Model;

    async fn load(&self, wanted: Wanted) -> Result<Model, Report> {
        let (folder, name) = (wanted.folder.as_str(), wanted.name.as_str());
        if let Some(zeros) = name.strip_prefix("zeros-").and_then(|digits| digits.parse().ok()) {
            let bytes = Rc::new(vec![0; PIECE_BYTES]);
            let length = (folder != "chunked").then_some(zeros);
            return Ok(Model { bytes, zeros, at: PIECE_BYTES, length, cut: false });
        }
        let found = self.shelf.borrow().get(&(folder.to_owned(), name.to_owned())).cloned();
        let bytes = found.ok_or_else(|| report(Code::ResourceUnknown))?;
        let cut = name.starts_with("cut");
        let length = (folder != "chunked").then_some(bytes.len() as u64 + u64::from(cut));
        Ok(Model { bytes, zeros: 0, at: 0, length, cut })
    }

    type Upload = Upload;

    async fn upload(&self) -> Result<Upload, Report> {
        self.refusal.map_or(Ok(()), |code| Err(report(code)))?;
        Ok(Upload { bytes: Vec::new(), shelf: Rc::clone(&self.shelf) })
    }
}

/// A port on a thread of its own, over TCP and on a unix socket.
struct Port {
    url: String,
    socket: PathBuf,
    _directory: tempfile::TempDir,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Port {
    fn start(token: Option<&'static str>) -> Self {
        Self::start_refusing(token, None)
    }

    fn start_refusing(token: Option<&'static str>, refusal: Option<Code>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("port.sock");
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let (tell, told) = std::sync::mpsc::channel();
        let listens = ["127.0.0.1:0".parse().expect("an address"), Listen::Unix(socket.clone())];
        let thread = std::thread::spawn(move || {
            let executor = Rc::new(LocalExecutor::new());
            turn::block_on(&Rc::clone(&executor), async {
                let mut listeners = Vec::new();
                for listen in &listens {
                    listeners.push(Listener::bind(listen).await.expect("free"));
                }
                tell.send(listeners[0].local_addr().expect("bound")).expect("the test waits");
                let guard = Guard { token: token.map(|text| SecretText::new(text.into())), ..Guard::default() };
                let shutdown = async move {
                    let _closed = stopped.recv().await;
                };
                let desk = Rc::new(FixedDesk { refusal, ..FixedDesk::default() });
                serve(listeners, desk, guard, Rc::clone(&executor), Clock::boot(), shutdown).await;
            });
        });
        let url = format!("http://{}", told.recv().expect("it listens"));
        Self { url, socket, _directory: directory, stop: Some(stop), thread: Some(thread) }
    }

    /// Runs `curl` on a path; returns what it prints and, behind it, the status.
    fn curl(&self, path: &str, arguments: &[&str]) -> (String, u16) {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"])
            .args(arguments)
            .arg(format!("{}{path}", self.url))
            .output()
            .expect("curl is installed");
        let text = String::from_utf8(output.stdout).expect("text");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let (body, status) = text.rsplit_once('\n').expect("a status");
        assert!(output.status.success(), "curl {path} {arguments:?}: {errors}");
        (body.to_owned(), status.parse().expect("a number"))
    }

    /// Runs `curl` with what it reads from its standard input; its outcome is the caller's to judge.
    fn run(&self, path: &str, arguments: &[&str], input: &Path) -> Output {
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "60"])
            .args(arguments)
            .arg(format!("{}{path}", self.url))
            .stdin(Stdio::from(std::fs::File::open(input).expect("readable")))
            .output()
            .expect("curl is installed")
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the port ends");
        }
    }
}

fn is(answer: &(String, u16), status: u16, body: &str) {
    assert_eq!((answer.1, answer.0.as_str()), (status, body));
}

#[test]
fn the_lines_of_the_contract() {
    let port = Port::start(None);
    is(&port.curl("/health", &[]), 200, r#"{"status":"healthy"}"#);
    is(&port.curl("/login", &["-d", CREDENTIALS]), 200, r#"{"status":"success"}"#);
    is(&port.curl("/unlock", &["-d", CREDENTIALS]), 202, r#"{"state":"authenticating"}"#);
    is(&port.curl("/unlock", &["-X", "POST"]), 202, r#"{"state":"authenticating"}"#);
    is(&port.curl("/unlock", &["--json", CREDENTIALS]), 202, r#"{"state":"authenticating"}"#);
    let (status, _) = port.curl("/unlock/status", &[]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("json");
    assert_eq!((&status["state"], &status["progress"]["images_total"]), (&"loading_images".into(), &4.into()));
    let (head, code) = port.curl("/status", &["--head"]);
    assert!(code == 200 && head.contains("Cache-Control: no-store") && !head.contains("Server"), "{head}");

    let (body, code) = port.curl("/login", &["-d", r#"{"email":"x","password":"canary"}"#]);
    assert!(code == 401 && body.contains(r#""code":"credentials_wrong""#) && !body.contains("canary"), "{body}");
    assert_eq!(port.curl("/login", &["-d", "email=x&password=y"]).1, 400);
    assert_eq!(port.curl("/login", &["-d", r#"{"email":"x"}"#]).1, 422);
    assert_eq!(port.curl("/load", &[]).1, 404);
    assert_eq!(port.curl("/a/../health", &["--path-as-is"]).1, 404);
    assert_eq!(port.curl("/login", &["-X", "DELETE"]).1, 405);
}

#[test]
fn expectations_chunks_old_clients_and_reused_connections() {
    let port = Port::start(None);
    is(&port.curl("/login", &["-H", "Expect: 100-continue", "-d", CREDENTIALS]), 200, r#"{"status":"success"}"#);
    is(&port.curl("/login", &["-H", "Transfer-Encoding: chunked", "-d", CREDENTIALS]), 200, r#"{"status":"success"}"#);
    is(&port.curl("/health", &["--http1.0"]), 200, r#"{"status":"healthy"}"#);
    is(&port.curl("/health", &["--http2"]), 200, r#"{"status":"healthy"}"#);
    let again = format!("{}/health", port.url);
    let (bodies, connects) = port.curl("/health", &[&again, "--write-out", "\n%{num_connects}"]);
    assert_eq!(bodies, "{\"status\":\"healthy\"}\n1{\"status\":\"healthy\"}");
    assert_eq!(connects, 0, "the second call needs no new connection");
}

#[test]
fn what_is_too_long_gets_its_answer() {
    let port = Port::start(None);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("body");
    for size in [JSON_BODY_BYTES + 1, 64 << 20] {
        std::fs::write(&file, vec![b' '; size]).expect("written");
        let body = format!("@{}", file.display());
        for header in ["Expect:", "Expect: 100-continue"] {
            assert_eq!(port.curl("/login", &["-H", header, "--data-binary", &body]).1, 413, "{size} {header}");
        }
    }
    std::fs::write(&file, vec![b' '; JSON_BODY_BYTES]).expect("written");
    assert_eq!(port.curl("/unlock", &["--data-binary", &format!("@{}", file.display())]).1, 202);
    assert_eq!(port.curl(&format!("/{}", "x".repeat(100_000)), &[]).1, 414);
    assert_eq!(port.curl("/health", &["-H", &format!("X: {}", "x".repeat(100_000))]).1, 431);
}

#[test]
fn strangers_and_other_sites_stay_out() {
    let port = Port::start(Some("t0ken"));
    assert_eq!(port.curl("/health", &[]).1, 200);
    assert_eq!(port.curl("/status", &[]).1, 401);
    assert_eq!(port.curl("/status", &["-H", "Authorization: Bearer wrong"]).1, 401);
    assert_eq!(port.curl("/status", &["-H", "Authorization: Bearer t0ken"]).1, 200);
    assert_eq!(port.curl("/health", &["-H", "Host: evil.example"]).1, 403);
    assert_eq!(port.curl("/health", &["-H", "Origin: http://evil.example"]).1, 403);
    let (text, _) = port.curl("/status", &["-H", "Accept: text/plain"]);
    assert!(text.starts_with("token_required: this port needs a bearer token\nnext: send"), "{text}");
    // On the unix socket the user is the proof.
    let socket = port.socket.display().to_string();
    assert_eq!(port.curl("/status", &["--unix-socket", &socket]).1, 200);
}

#[test]
fn models_go_in_and_out_by_every_way_that_curl_has() {
    let port = Port::start(None);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("модель v2+.onnx");
    let path = file.display().to_string();
    for size in [0_usize, 1, 65_536, 3 << 20] {
        let bytes: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).expect("below 256")).collect();
        std::fs::write(&file, &bytes).expect("written");
        let (form, body) = (format!("data=@{path}"), format!("@{path}"));
        for (target, arguments) in [
            ("/upload/m", vec!["-F", form.as_str(), "-F", "folder=x"]),
            ("/upload/m", vec!["-F", "folder=x", "-F", form.as_str()]),
            ("/upload/m?folder=x", vec!["-T", "-"]),
            ("/upload/m?folder=x", vec!["-T", "-", "-H", "Expect:"]),
            ("/upload/m?folder=x", vec!["-T", path.as_str()]),
            ("/upload/m?folder=x", vec!["-T", path.as_str(), "-H", "Expect: 100-continue"]),
            ("/upload/m?folder=x", vec!["-T", path.as_str(), "--http1.0"]),
            ("/upload/m?folder=x", vec!["--data-binary", body.as_str()]),
        ] {
            let output = port.run(target, &arguments, &file);
            let said = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert_eq!(said.0, r#"{"status":"success"}"#, "{size} {arguments:?}: {said:?}");
            let output = port.run("/load/m", &["-d", r#"{"folder":"x"}"#], &file);
            assert!(output.status.success() && output.stdout == bytes, "{size} {arguments:?}");
            // What is not there is told, so the next way starts with nothing.
            port.run("/upload/m?folder=x", &["-d", "other"], &file);
        }
        // curl takes the name from the file where the URL has none.
        port.run("/upload/", &["-T", &path], &file);
        let output = port.run("/load/%D0%BC%D0%BE%D0%B4%D0%B5%D0%BB%D1%8C%20v2+.onnx", &["-X", "POST"], &file);
        assert!(output.status.success() && output.stdout == bytes, "{size}");
    }
    assert_eq!(port.curl("/load/none", &["-X", "POST"]).1, 404);
    assert_eq!(port.curl("/upload/m", &["-X", "POST"]).1, 422);
    assert_eq!(port.curl("/upload/m", &["-F", "folder=x"]).1, 422);
    assert_eq!(port.curl("/upload/a%2Fb", &["-d", "x"]).1, 400);
    assert_eq!(port.curl("/upload/../x", &["--path-as-is", "-d", "x"]).1, 400);
    assert_eq!(port.curl("/load/../x", &["--path-as-is", "-d", "{}"]).1, 400);
}

#[test]
fn connections_are_kept_behind_models_and_cut_ones_are_noticed() {
    let port = Port::start(None);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("model");
    std::fs::write(&file, vec![7; 300_000]).expect("written");
    for folder in ["plain", "chunked"] {
        for name in ["whole", "cut"] {
            let output = port.run(&format!("/upload/{name}?folder={folder}"), &["-T", "-"], &file);
            assert_eq!(output.stdout, br#"{"status":"success"}"#);
        }
        let body = format!(r#"{{"folder":"{folder}"}}"#);
        let again = format!("{}/load/whole", port.url);
        let output = port.run("/load/whole", &["-d", &body, "-w", "|%{num_connects}|", &again], &file);
        assert!(output.status.success());
        assert_eq!(output.stdout.len(), 2 * (300_000 + 3), "{folder}");
        assert!(output.stdout.ends_with(b"|0|"), "{folder}: the second one needs no new connection");
        let output = port.run("/load/cut", &["-d", &body], &file);
        // 18: less than the length or no last chunk, 56: reset.
        assert!(matches!(output.status.code(), Some(18 | 56)), "{folder} {:?}", output.status);
    }
}

#[test]
fn who_may_not_upload_learns_it_before_and_while_the_bytes_are_sent() {
    let port = Port::start_refusing(None, Some(Code::RoleTooLow));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("model");
    std::fs::File::create(&file).and_then(|file| file.set_len(256 << 20)).expect("made");
    let path = file.display().to_string();
    let form = format!("data=@{path}");
    for arguments in [["-T", path.as_str()], ["-T", "-"], ["-F", form.as_str()]] {
        for expect in ["Expect: 100-continue", "Expect:"] {
            let told = ["-H", expect, "-w", "|%{http_code}|%{size_upload}"];
            let output = port.run("/upload/m", &[&arguments[..], &told[..]].concat(), &file);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut parts = text.split('|');
            let (body, status, sent) = (parts.next(), parts.next(), parts.next());
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(body.is_some_and(|body| body.contains("role_too_low")), "{arguments:?} {expect}: {text} {errors}");
            assert_eq!(status, Some("403"));
            assert!(expect == "Expect:" || sent == Some("0"), "{arguments:?}: {text}");
        }
    }
}

#[test]
fn two_gibibytes_pass_whole() {
    let port = Port::start(None);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("empty");
    std::fs::write(&file, "").expect("written");
    for folder in ["plain", "chunked"] {
        let size = 2_u64 << 30;
        let body = format!(r#"{{"folder":"{folder}"}}"#);
        let told = ["-d", &body, "-o", "/dev/null", "-w", "%{size_download} %{speed_download}"];
        let output = port.run(&format!("/load/zeros-{size}"), &told, &file);
        let text = String::from_utf8(output.stdout).expect("text");
        eprintln!("{folder}: {text} bytes/s");
        assert!(output.status.success() && text.starts_with(&format!("{size} ")), "{text}");
    }
}

#[test]
fn every_code_stands_in_the_table_with_its_status() {
    let page = include_str!("../docs/CONTROL-PORT.md");
    let mut told = HashMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let (Some(names), Some(statuses)) = (cells.next(), cells.next()) else { continue };
        let Ok(statuses) = statuses.split(',').map(|text| text.trim().parse::<u16>()).collect::<Result<Vec<_>, _>>()
        else {
            continue;
        };
        for (at, name) in names.split(',').enumerate() {
            let status = statuses.get(at).or(statuses.last()).copied().expect("one at least");
            told.insert(name.trim().trim_matches('`').to_owned(), status);
        }
    }
    assert!(told.len() > 40, "the table is read");
    let codes = Code::ALL.iter().map(|code| (code.as_str().to_owned(), code.http_status()));
    assert_eq!(told, codes.collect());
}
