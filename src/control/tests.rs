//! The port as a client sees it: raw bytes over real sockets, a fake desk behind.

mod alerts;
mod bounds;
mod calls;
mod follow;
mod load;
mod openapi;
mod timing;
mod upload;

use std::cell::{Cell, RefCell};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use smol::LocalExecutor;
use smol::channel::{Receiver, Sender};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;

use self::load::Shelf;
use self::upload::Inbox;
use super::*;
use crate::config::Listen;
use crate::error::{Code, Report};
use crate::net::turn;
use crate::secret::Credentials;
use crate::unlock::{Progress, State};

/// Models at one time.
const STREAMS: usize = 3;

/// An agent that does what the test sets.
struct FakeDesk {
    unlock: Cell<UnlockAnswer>,
    state: Cell<State>,
    /// E-mail address, password and call, as they came.
    seen: RefCell<Vec<(String, String)>>,
    /// A login waits here for a message, when the test wants it to.
    gate: RefCell<Option<Receiver<()>>>,
    /// Told when a login has begun.
    begun: Sender<()>,
    /// What `load` hands out.
    shelf: Shelf,
    /// Where `upload` puts what it gets.
    inbox: Inbox,
    /// Told when the state was set.
    turned: event_listener::Event,
    feed: Rc<Feed>,
}

impl FakeDesk {
    fn new(begun: Sender<()>) -> Self {
        Self {
            unlock: Cell::new(UnlockAnswer::Started(State::Authenticating)),
            state: Cell::new(State::Idle),
            seen: RefCell::default(),
            gate: RefCell::default(),
            begun,
            shelf: Shelf::default(),
            inbox: Inbox::default(),
            turned: event_listener::Event::new(),
            feed: Rc::default(),
        }
    }
}

impl Desk for FakeDesk {
    fn status(&self) -> StatusView {
        StatusView {
            version: "0.1.0",
            board: "generic-arm64".into(),
            user: None,
            unlock: self.state.get(),
            seal: Some("unsealed"),
            engine: None,
            cache: None,
            audit: None,
            last_error: None,
            notes: vec!["unsealed archive".into()],
        }
    }

    fn unlock_status(&self) -> UnlockView {
        UnlockView { state: self.state.get(), error: None, progress: Progress::default() }
    }

    async fn unlock_turns(&self) {
        self.turned.listen().await;
    }

    fn feed(&self) -> Rc<Feed> {
        Rc::clone(&self.feed)
    }

    async fn gauges(&self) -> Gauges {
        Gauges {
            version: "0.1.0",
            uptime: Duration::from_secs(7),
            unlock: self.state.get(),
            stages: Vec::new(),
            logged_in: false,
            board_changed: false,
            audit_lines: None,
            cache: None,
            free: Vec::new(),
            clients: 0,
        }
    }

    async fn check(&self) -> Checkup {
        Checkup::from(vec![Check::ok("clock", "right"), Check::fail("engine", "gone", "start it")])
    }

    async fn login(&self, credentials: Credentials) -> Result<(), Report> {
        self.seen.borrow_mut().push((credentials.email().into(), credentials.password().expose().into()));
        self.begun.send(()).await.expect("the test listens");
        let gate = self.gate.borrow().clone();
        if let Some(gate) = gate {
            gate.recv().await.expect("the test opens the gate");
        }
        if credentials.password().expose() == "right" {
            return Ok(());
        }
        let (message, next) = ("the server does not know them".into(), "try others".into());
        Err(Report { code: Code::CredentialsWrong, message, next })
    }

    async fn unlock(&self, credentials: Option<Credentials>) -> Result<UnlockAnswer, Report> {
        let sent = credentials.map(|pair| (pair.email().to_owned(), pair.password().expose().to_owned()));
        self.seen.borrow_mut().push(sent.unwrap_or_default());
        Ok(self.unlock.get())
    }

    type Model = load::FakeModel;

    async fn load(&self, wanted: Wanted) -> Result<Self::Model, Report> {
        self.shelf.open(wanted)
    }

    type Upload = upload::FakeUpload;

    async fn upload(&self) -> Result<Self::Upload, Report> {
        self.inbox.open()
    }
}

/// A port that runs, and what the test may turn on it.
struct Fixture {
    address: SocketAddr,
    desk: Rc<FakeDesk>,
    clock: Clock,
    begun: Receiver<()>,
    shutdown: Sender<()>,
    ended: smol::Task<()>,
}

/// Runs `test` against a port with this guard and patience.
fn with_port(guard: Guard, patience: Patience, test: impl AsyncFnOnce(Fixture)) {
    with_seats(CLIENTS_PER_LISTENER, guard, patience, test);
}

fn with_seats(seats: usize, guard: Guard, patience: Patience, test: impl AsyncFnOnce(Fixture)) {
    let executor = Rc::new(LocalExecutor::new());
    turn::block_on(&Rc::clone(&executor), async {
        let listener = Listener::bind(&"127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
        let Listen::Tcp(address) = listener.local_addr().expect("bound") else { panic!("bound to tcp") };
        let (begun, begins) = smol::channel::unbounded();
        let desk = Rc::new(FakeDesk::new(begun));
        let clock = Clock::manual();
        let (shutdown, stopped) = smol::channel::bounded::<()>(1);
        let port = Port::new(Rc::clone(&desk), guard, clock.clone(), patience, STREAMS, seats);
        let ended = executor.spawn(run(port, vec![listener], Rc::clone(&executor), async move {
            let _closed = stopped.recv().await;
        }));
        test(Fixture { address, desk, clock, begun: begins, shutdown, ended }).await;
    });
}

fn with_default_port(test: impl AsyncFnOnce(Fixture)) {
    with_port(Guard::default(), Patience::default(), test);
}

impl Fixture {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the port listens")
    }

    /// Sends `bytes` and nothing more, and returns all that comes back.
    async fn talk(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.expect("taken");
        stream.shutdown(Shutdown::Write).expect("open");
        rest(&mut stream).await
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Reply {
        Reply::all(&self.talk(request(method, path, body)).await).pop().expect("one answer")
    }
}

/// All that comes until the port closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.expect("a clean end");
    String::from_utf8(text).expect("answers are text")
}

fn request(method: &str, path: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

const LOGIN: &str = r#"{"email":"a@b","password":"right"}"#;

/// One answer, taken apart.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    /// Takes apart the answers to calls that were not HEAD.
    fn all(mut text: &str) -> Vec<Self> {
        let mut replies = Vec::new();
        while !text.is_empty() {
            let (head, rest) = text.split_once("\r\n\r\n").expect("a whole head");
            let status = head.strip_prefix("HTTP/1.1 ").expect("HTTP/1.1")[..3].parse().expect("a status");
            let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next());
            let length = length.map_or(0, |digits| digits.parse().expect("a number"));
            replies.push(Self { status, head: head.to_owned(), body: rest[..length].to_owned() });
            text = &rest[length..];
        }
        replies
    }

    fn closes(&self) -> bool {
        self.head.contains("\r\nConnection: close")
    }

    fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).expect("json");
        body["error"]["code"].as_str().expect("an error").to_owned()
    }
}

fn statuses(text: &str) -> Vec<u16> {
    Reply::all(text).iter().map(|reply| reply.status).collect()
}
