//! The control port as the technician meets it: through the real `curl`.

use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::thread::JoinHandle;

use azaion_loader::config::Listen;
use azaion_loader::control::{Desk, Guard, Listener, StatusView, UnlockAnswer, UnlockView, UserView, serve};
use azaion_loader::error::{Code, Report};
use azaion_loader::limits::JSON_BODY_BYTES;
use azaion_loader::net::clock::Clock;
use azaion_loader::net::turn;
use azaion_loader::secret::{Credentials, SecretText};
use azaion_loader::unlock::{Progress, State};
use smol::LocalExecutor;
use smol::channel::Sender;

const CREDENTIALS: &str = r#"{"email":"tech@example.com","password":"пароль"}"#;

struct FixedDesk;

impl Desk for FixedDesk {
    fn status(&self) -> StatusView {
        StatusView {
            version: "0.1.0",
            board: "generic-arm64".into(),
            user: Some(UserView { email: "tech@example.com".into(), role: "Operator" }),
            unlock: State::Error,
            seal: "unsealed",
            engine: None,
            cache: None,
            last_error: None,
            notes: Vec::new(),
        }
    }

    fn unlock_status(&self) -> UnlockView {
        let progress = Progress { stage: Some("loading_images"), images_total: Some(4), ..Progress::default() };
        UnlockView { state: State::LoadingImages, error: None, progress }
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
                serve(listeners, Rc::new(FixedDesk), guard, Rc::clone(&executor), Clock::boot(), shutdown).await;
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
