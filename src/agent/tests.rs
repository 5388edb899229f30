//! Looks and unlocks that cross each other, on an engine that answers when the test wants it to.

use std::path::Path;
use std::time::Duration;

use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::net::unix::{UnixListener, UnixStream};

use super::check::{Says, Subject};
use super::ledger::{Ledger, Suite};
use super::parts::{ArchivePart, CloudPart, EnginePart, EngineSettings, Parts};
use super::setup::Wires;
use super::trust::Trust;
use super::unlocker::Look;
use super::watch::Watch;
use super::*;
use crate::archive::Identity;
use crate::audit::Place;
use crate::cache::{CacheKey, CacheSettings};
use crate::cloud::{Api, Role};
use crate::config;
use crate::control::{CHECKS, Check, Desk as _, Feed, Finding, UnlockAnswer};
use crate::crypto::{AesKey, Digest, Salts};
use crate::engine::{Engine, Expected};
use crate::error::Code;
use crate::limits::{CHECK_AGE, LOOKS_AT_ONCE, SUITES_REMEMBERED};
use crate::net::tls::client_config;
use crate::net::{BaseUrl, Client, Clock};
use crate::unlock::{Ledger as _, Recalled, State};

/// A board whose fingerprint is fixed: nothing of it is remembered.
fn fixed_board() -> crate::board::Board {
    let config = config::Board {
        profile: Some("generic-arm64".into()),
        root: "/".into(),
        profiles_dir: "/nowhere".into(),
        led: config::Led::None,
        fingerprint: Some(crate::secret::SecretText::new("desk".into())),
    };
    crate::board::Board::detect(&config).expect("fixed")
}

/// A board in a directory: archive, state, and the socket of its engine.
struct Board {
    dir: tempfile::TempDir,
    desk: Desk,
    executor: Rc<LocalExecutor<'static>>,
}

impl Board {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let archive = dir.path().join("images.enc");
        std::fs::write(&archive, "archive").expect("written");
        let client = Rc::new(Client::new(client_config(None).expect("built-in roots")));
        let url = BaseUrl::parse("http://127.0.0.1:1").expect("loopback");
        let api = Rc::new(Api::new(Rc::clone(&client), url.clone(), Clock::boot(), None, RetryPolicy::default()));
        let executor = Rc::new(LocalExecutor::new());
        let text = |text: &str| text.to_owned();
        let salts = Rc::new(Salts { hardware: text("h"), api: text("a"), resource: text("r"), separator: text("") });
        let settings = CacheSettings {
            dir: dir.path().join("cache"),
            max_bytes: 1 << 20,
            reserve_bytes: 0,
            key: CacheKey::of(&AesKey::from_text(&salts.resource_key())),
        };
        let policy = config::Archive {
            path: archive.clone(),
            name: "images".parse().expect("a name"),
            require_seal: config::RequireSeal::OnceSeen,
            publisher_keys: vec![],
            images: vec![],
        };
        let trust = Rc::new(Trust::new(policy, dir.path()));
        let models = Models::new(ModelParts {
            api: Rc::clone(&api),
            client: Rc::clone(&client),
            cache: Rc::new(block_on(&executor, Cache::open(settings))),
            hardware: salts.hardware_hash("board"),
            salts: Rc::clone(&salts),
            over: Rc::default(),
            offline: false,
            upload_role: Role::ResourceUploader,
            trust: Rc::clone(&trust) as Rc<dyn crate::resource::ResourceTrust>,
            state_dir: dir.path().to_owned(),
            executor: Rc::clone(&executor),
            clock: Clock::boot(),
            cdn_clock: CdnClock::system(),
            retry: RetryPolicy::default(),
        });
        let socket = format!("unix://{}", dir.path().join("engine").display());
        let ledger = Rc::new(Ledger::new(dir.path(), Rc::clone(&trust)));
        let wires = Wires { client, api, engine: socket.parse().expect("a socket"), url, roots: None };
        let parts = Rc::new(Parts {
            cloud: CloudPart::new(Rc::clone(&wires.api), Rc::clone(&wires.client)),
            archives: ArchivePart::new(Rc::clone(&trust)),
            engine: EnginePart::new(
                Engine::at(&wires.engine, Rc::clone(&wires.client)),
                Rc::clone(&ledger),
                EngineSettings { at_once: Some(1), keep_old: 0 },
            ),
            ledger,
        });
        let place = Place { state_dir: dir.path().to_owned(), dir: None, retention_days: 30 };
        let audit = Rc::new(Audit::open(place));
        let watch = Rc::new(Watch::of(&fixed_board(), dir.path().to_owned(), Ok(None)));
        let meter = Rc::new(Meter::new(Clock::manual()));
        let unlocker = Rc::new(Unlocker::new(Rc::clone(&parts), meter, Rc::clone(&watch), Rc::clone(&audit)));
        let feed = Rc::new(Feed::new());
        let voices = Voices { watch: Rc::clone(&watch), audit: Rc::clone(&audit), feed: Rc::clone(&feed) };
        let models = ModelDesk::new(models, Rc::clone(&parts), None, voices, Clock::boot());
        let models = Rc::new(models);
        let says = Says {
            config: Check::ok("config", "read"),
            places: vec![("state", dir.path().to_owned())],
            root: dir.path().to_owned(),
            profile: "test".into(),
            missing: vec![],
        };
        let (hardware, over) = (salts.hardware_hash("board"), Rc::default());
        let subject = Subject { says, wires, parts: Rc::clone(&parts), trust, salts, hardware, over };
        let clock = Clock::manual();
        let desk = Desk {
            checker: Checker::new(subject, clock.clone()),
            clock: clock.clone(),
            began: Duration::ZERO,
            board: "test".into(),
            watch,
            archive,
            credentials: None,
            parts,
            unlocker,
            audit,
            executor: Rc::clone(&executor),
            running: RefCell::default(),
            models,
            feed,
        };
        Self { dir, desk, executor }
    }

    fn run<T>(&self, main: impl Future<Output = T>) -> T {
        block_on(&self.executor, main)
    }

    /// The state says that the archive, which brings no image, is in the engine.
    async fn remember(&self) {
        let archive = Identity::of(&self.desk.archive).await.expect("it is there");
        let suite = Suite::of(archive, Some("this engine".into()), vec![], None);
        self.desk.parts.ledger.remember(&suite).await.expect("a writable directory");
    }

    fn engine(&self) -> UnixListener {
        UnixListener::bind(self.dir.path().join("engine")).expect("a free path")
    }

    fn state(&self) -> State {
        self.desk.unlocker.meter().state()
    }

    fn ledger(&self) -> std::path::PathBuf {
        self.dir.path().join("ready.json")
    }
}

/// Takes one call, and leaves it open until it is answered.
async fn call(engine: &UnixListener) -> UnixStream {
    let (mut stream, _) = engine.accept().await.expect("a call");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).await.expect("a whole head");
        head.push(byte[0]);
    }
    stream
}

async fn answer(mut stream: UnixStream, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("it is taken");
}

/// Answers a survey; between its two calls something may happen.
async fn survey(engine: &UnixListener, between: impl FnOnce()) {
    answer(call(engine).await, r#"{"Version":"26","ApiVersion":"1.45"}"#).await;
    let info = call(engine).await;
    between();
    answer(info, r#"{"ID":"this engine","Driver":"overlay2","DriverStatus":null,"DockerRootDir":"/d"}"#).await;
}

#[test]
fn a_look_says_nothing_about_an_unlock_that_began_beside_it() {
    let board = Board::new();
    let engine = board.engine();
    board.run(async {
        board.remember().await;
        let working = std::cell::Cell::new(None);
        let begin = || working.set(board.desk.unlocker.begin());
        let (look, ()) = smol::future::zip(board.desk.unlocker.look(), survey(&engine, begin)).await;
        assert!(matches!(look, Look::Running), "{look:?}");
        assert_eq!(board.state(), State::Authenticating, "ready is for the unlock to say");
        drop(working);
        let (look, ()) = smol::future::zip(board.desk.unlocker.look(), survey(&engine, || {})).await;
        assert!(matches!(look, Look::Ready), "{look:?}");
    });
}

#[test]
fn who_asks_while_it_runs_needs_no_credentials() {
    let board = Board::new();
    let engine = board.engine();
    board.run(async {
        board.remember().await;
        let working = std::cell::Cell::new(None);
        let begin = || working.set(board.desk.unlocker.begin());
        let (answer, ()) = smol::future::zip(board.desk.unlock(None), survey(&engine, begin)).await;
        assert_eq!(answer.ok(), Some(UnlockAnswer::Running(State::Authenticating)));
    });
}

#[test]
fn an_archive_that_cannot_be_read_is_not_ready() {
    let board = Board::new();
    let engine = board.engine();
    board.run(async {
        board.remember().await;
        let (look, ()) = smol::future::zip(board.desk.unlocker.look(), survey(&engine, || {})).await;
        assert!(matches!(look, Look::Ready), "{look:?}");
        std::fs::remove_file(&board.desk.archive).expect("removed");
        std::fs::create_dir(&board.desk.archive).expect("made");
        let refused = board.desk.unlock(None).await.expect_err("a directory is no archive");
        assert_eq!(refused.code, Code::ArchiveUnreadable);
        assert_eq!(board.state(), State::Idle);
    });
}

#[test]
fn a_state_that_cannot_be_read_does_not_stand_in_the_way_of_an_unlock() {
    let board = Board::new();
    std::fs::create_dir(board.ledger()).expect("a directory in the file's place");
    board.run(async {
        // It goes on to the log-in, and there is nobody to log in.
        assert_eq!(board.desk.unlock(None).await.expect_err("nobody is logged in").code, Code::NotLoggedIn);
    });
}

#[test]
fn an_engine_that_does_not_answer_holds_up_a_bounded_number_of_requests() {
    let board = Board::new();
    let engine = board.engine();
    board.run(async {
        board.remember().await;
        let looks = async {
            let mut waiting: Vec<_> = (0..LOOKS_AT_ONCE).map(|_| Box::pin(board.desk.unlock(None))).collect();
            for look in &mut waiting {
                assert!(smol::future::poll_once(look).await.is_none());
            }
            assert_eq!(board.desk.unlock(None).await.expect_err("one too many").code, Code::TooMany);
            for look in waiting {
                assert_eq!(look.await.ok(), Some(UnlockAnswer::Ready));
            }
        };
        let answers = async {
            for _ in 0..LOOKS_AT_ONCE {
                survey(&engine, || {}).await;
            }
        };
        smol::future::zip(looks, answers).await;
    });
}

#[test]
fn a_state_that_could_not_be_read_again_is_not_written() {
    let board = Board::new();
    board.run(async {
        let archive = Identity::of(Path::new(&board.desk.archive)).await.expect("it is there");
        let longest = crate::limits::LEDGER_BYTES;
        let suite = |engine: usize| Suite::of(archive, Some("x".repeat(engine)), vec![], None);
        board.desk.parts.ledger.remember(&suite(longest)).await.expect_err("more than is read");
        assert!(!board.ledger().exists());
        board.desk.parts.ledger.remember(&suite(longest - 1000)).await.expect("it fits");
        assert!(board.desk.parts.ledger.recall().await.expect("readable").is_some());
    });
}

fn image(name: &str) -> Expected {
    let config = Digest::of(name.as_bytes());
    let tags = vec![format!("{name}:1")];
    Expected { tags, config, diff_ids: vec![config], id: Some(config.to_string()), packed: vec![] }
}

fn archive(name: &str) -> Identity {
    let end = Digest::of(name.as_bytes());
    Identity { length: 1, modified: (0, 0), head: end, tail: end }
}

#[test]
fn the_history_tells_what_is_whole_what_is_outdated_and_which_switch_was_cut() {
    let board = Board::new();
    let ledger = &board.desk.parts.ledger;
    let suite = |name: &str| Suite::of(archive(name), Some("engine".into()), vec![image(name)], None);
    let outdated = |keep| async move {
        let images = ledger.outdated(Some("engine"), keep).await.expect("readable");
        images.into_iter().flatten().map(|image| image.name()).collect::<Vec<_>>()
    };
    board.run(async {
        for name in ["first", "second"] {
            ledger.begin(&suite(name)).await.expect("written");
            ledger.switching(&suite(name)).await.expect("written");
            ledger.remember(&suite(name)).await.expect("written");
        }
        // One that never came to its end, and one that is on its way.
        ledger.begin(&suite("cut")).await.expect("written");
        ledger.begin(&suite("third")).await.expect("written");
        assert!(!board.ledger().exists(), "nothing is ready while a load goes on");
        assert!(ledger.recall().await.expect("readable").is_none());
        let brought = ledger.brought(Some("engine")).await.expect("readable");
        let told: Vec<_> = brought.iter().map(|known| (known.image.name(), known.is_whole)).collect();
        let whole = |name: &str| (format!("{name}:1"), true);
        assert_eq!(told, [("third:1".to_owned(), false), ("cut:1".to_owned(), false), whole("second"), whole("first")]);
        assert!(ledger.brought(Some("another")).await.expect("readable").is_empty(), "a wiped engine has nothing");

        assert_eq!(outdated(0).await, ["cut:1", "second:1", "first:1"]);
        assert_eq!(outdated(1).await, ["cut:1", "first:1"]);
        assert_eq!(outdated(2).await, ["cut:1"]);
        // A container uses the image of the second one.
        let left = vec![vec![], vec![image("second")], vec![]];
        ledger.keep_outdated(0, left).await.expect("written");
        assert_eq!(outdated(0).await, ["second:1"]);

        ledger.switching(&suite("third")).await.expect("written");
        std::fs::remove_file(&board.desk.archive).expect("the archive is gone: the state speaks of the last one");
        let recalled = ledger.recall().await.expect("readable").expect("something");
        assert!(matches!(recalled, Recalled::Switching(cut) if cut == suite("third")));
        ledger.remember(&suite("third")).await.expect("written");
        assert!(matches!(ledger.recall().await, Ok(Some(Recalled::Ready(_)))));
    });
}

#[test]
fn a_history_is_bounded() {
    let board = Board::new();
    let ledger = &board.desk.parts.ledger;
    board.run(async {
        for number in 0..=SUITES_REMEMBERED {
            let name = number.to_string();
            ledger.begin(&Suite::of(archive(&name), None, vec![image(&name)], None)).await.expect("written");
        }
        let brought = ledger.brought(None).await.expect("readable");
        assert_eq!(brought.len(), SUITES_REMEMBERED);
        assert_eq!(brought[SUITES_REMEMBERED - 1].image.name(), "1:1", "the oldest is forgotten");
    });
}

#[test]
fn a_checkup_of_a_board_that_has_nothing_says_what_to_do_about_each() {
    let board = Board::new();
    let checkup = board.run(board.desk.check());
    let names: Vec<_> = checkup.checks.iter().map(|check| check.name).collect();
    assert_eq!(names, CHECKS);
    let found = |name: &str| checkup.checks.iter().find(|check| check.name == name).expect("looked at");
    assert_eq!(checkup.result, Finding::Fail);
    // Nobody listens on port 1; what comes after it is not tried.
    assert_eq!(found("connect").result, Finding::Fail, "{checkup}");
    for name in ["tls", "login", "cdn"] {
        assert_eq!(found(name).result, Finding::Skip, "{checkup}");
    }
    assert_eq!(found("engine").result, Finding::Fail, "{checkup}");
    // Seven bytes are no archive.
    assert!(found("archive").result == Finding::Fail && found("archive").text.starts_with("7 B"), "{checkup}");
    assert_eq!(found("cache").result, Finding::Ok, "{checkup}");
    for check in &checkup.checks {
        assert_eq!(check.next.is_some(), matches!(check.result, Finding::Warn | Finding::Fail), "{checkup}");
        assert!(!check.to_string().contains(&*board.dir.path().to_string_lossy()), "a path: {check}");
    }
    std::fs::write(&board.desk.archive, [0; 64]).expect("written");
    let again = board.run(board.desk.check());
    assert_eq!(again, checkup, "who asks again at once is told the same");
    board.desk.clock.advance(CHECK_AGE);
    let later = board.run(board.desk.check());
    let archive = later.checks.iter().find(|check| check.name == "archive").expect("looked at");
    assert_eq!((archive.result, &*archive.text), (Finding::Ok, "64 B, both ends can be read, without a seal"));
}
