//! Models through a real API, a real S3 server and a real cache: loaded, uploaded, cut, kept.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use azaion_cloud::{Cloud, Fault, Options, Route, S3Route, User, keys};
use azaion_loader::cache::{Cache, CacheKey, CacheSettings};
use azaion_loader::cloud::{Api, CdnClock, RetryPolicy, Role, Session};
use azaion_loader::config;
use azaion_loader::crypto::{AesKey, Salts};
use azaion_loader::error::{Code, Explain};
use azaion_loader::name::{Folder, ResourceName};
use azaion_loader::net::{BaseUrl, Client, Clock, client_config, turn};
use azaion_loader::resource::{Held, Incoming, Model, ModelParts, Models, Outcome, ResourceError};
use azaion_loader::secret::{Credentials, SecretText};
use smol::LocalExecutor;

const BUILDER: &str = "builder@example.com";
const OPERATOR: &str = "operator@example.com";
const PASSWORD: &str = "correct horse";
const FOLDER: &str = "models";
const MIB: usize = 1024 * 1024;

/// The clouds, and a directory for as many boards as a test wants.
struct World {
    cloud: Cloud,
    dir: tempfile::TempDir,
}

/// What a board is opened with.
struct Setting {
    board: &'static str,
    offline: bool,
    max_bytes: u64,
    resource_salt: &'static str,
}

impl Default for Setting {
    fn default() -> Self {
        Self { board: "a", offline: false, max_bytes: 1 << 32, resource_salt: "resource-salt" }
    }
}

struct Board {
    models: Rc<Models>,
    api: Rc<Api>,
    cache: Rc<Cache>,
}

impl World {
    fn new() -> Self {
        let users = vec![User::new(BUILDER, PASSWORD, "ResourceUploader"), User::new(OPERATOR, PASSWORD, "Operator")];
        let cloud = Cloud::start(Options { users, s3: true, ..Options::default() });
        cloud.s3().make_bucket(FOLDER);
        Self { cloud, dir: tempfile::tempdir().expect("a temporary directory") }
    }

    /// Runs a board until `work` is done, and ends it as the agent does. Opened again it is the next run.
    fn run<T>(&self, setting: &Setting, work: impl AsyncFnOnce(&Board) -> T) -> T {
        let executor = Rc::new(LocalExecutor::new());
        turn::block_on(&executor, async {
            let board = self.open(setting, &executor).await;
            let done = work(&board).await;
            board.models.stop().await;
            done
        })
    }

    async fn open(&self, setting: &Setting, executor: &Rc<LocalExecutor<'static>>) -> Board {
        let salts = || Salts {
            hardware: "hardware-salt".into(),
            api: "api-salt".into(),
            resource: setting.resource_salt.into(),
            separator: String::new(),
        };
        let tls = client_config(Some(self.cloud.ca_pem().as_bytes())).expect("roots");
        let client = Rc::new(Client::new(tls));
        let retry = RetryPolicy {
            attempts: 3,
            total: Duration::from_secs(30),
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(20),
        };
        let url = BaseUrl::parse(&self.cloud.url()).expect("a URL");
        let api = Rc::new(Api::new(Rc::clone(&client), url, Clock::boot(), None, retry));
        let state_dir = self.path(setting.board, "state");
        std::fs::create_dir_all(&state_dir).expect("a directory");
        let settings = CacheSettings {
            dir: self.path(setting.board, "cache"),
            max_bytes: setting.max_bytes,
            reserve_bytes: 0,
            key: CacheKey::of(&AesKey::from_text(&salts().resource_key())),
        };
        let cache = Rc::new(Cache::open(settings).await);
        let facts = cache.facts();
        assert!(facts.unusable.is_none(), "{facts:?}");
        let models = Models::new(ModelParts {
            api: Rc::clone(&api),
            client,
            cache: Rc::clone(&cache),
            hardware: salts().hardware_hash("board"),
            salts: salts(),
            over: config::Cdn::default(),
            offline: setting.offline,
            upload_role: Role::ResourceUploader,
            state_dir,
            executor: Rc::clone(executor),
            clock: Clock::boot(),
            cdn_clock: CdnClock::system(),
            retry,
        });
        Board { models, api, cache }
    }

    fn path(&self, board: &str, what: &str) -> PathBuf {
        self.dir.path().join(board).join(what)
    }

    /// Puts both parts, by another hand than the agent's.
    fn put(&self, name: &str, plain: &[u8]) {
        let salts = keys::Salts::default();
        let mut small = keys::seal(&keys::aes_key(&salts.resource_key()), plain);
        let big = small.split_off((small.len() * 3 / 10).min(3072));
        self.cloud.put_resource(FOLDER, &format!("{name}.small"), small);
        self.cloud.s3().put_object(FOLDER, &format!("{name}.big"), &big);
    }

    /// What the clouds have, joined and opened by another hand than the agent's.
    fn published(&self, name: &str) -> Option<Vec<u8>> {
        let mut sealed = self.cloud.resource(FOLDER, &format!("{name}.small"))?;
        sealed.extend(self.cloud.s3().object(FOLDER, &format!("{name}.big"))?);
        keys::open(&keys::aes_key(&keys::Salts::default().resource_key()), &sealed)
    }
}

fn who(email: &str) -> Credentials {
    Credentials::new(email.into(), SecretText::new(PASSWORD.into())).expect("short")
}

fn named(name: &str) -> (Folder, ResourceName) {
    (Folder::new(FOLDER).expect("a folder"), ResourceName::new(name).expect("a name"))
}

fn plain(len: usize, seed: u8) -> Vec<u8> {
    (0_u32..).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).take(len).collect()
}

impl Board {
    async fn log_in(&self, email: &str) -> Rc<Session> {
        let session = Rc::new(self.api.open_session(who(email)).await.expect("good credentials"));
        self.models.logged_in(&session);
        session
    }

    async fn model(&self, session: &Rc<Session>, name: &str) -> Result<Model, ResourceError> {
        let (folder, name) = named(name);
        self.models.load(Held::Session(Rc::clone(session)), &folder, &name).await
    }

    async fn load(&self, session: &Rc<Session>, name: &str) -> Result<Vec<u8>, ResourceError> {
        all(self.model(session, name).await?).await
    }

    async fn incoming(&self, session: &Rc<Session>, bytes: &[u8]) -> Incoming {
        let mut incoming = self.models.upload(Rc::clone(session)).await.expect("may upload");
        for piece in bytes.chunks(100_000) {
            incoming.push(piece).await.expect("room");
        }
        incoming
    }

    async fn upload(&self, session: &Rc<Session>, name: &str, bytes: &[u8]) -> Result<Outcome, ResourceError> {
        let (folder, name) = named(name);
        self.incoming(session, bytes).await.finish(folder, name).await
    }

    async fn until(&self, holds: impl Fn(&Board) -> bool) {
        for _ in 0..6000 {
            if holds(self) {
                return;
            }
            smol::Timer::after(Duration::from_millis(10)).await;
        }
        panic!("waited for a minute: {:?}", self.models.view());
    }
}

async fn all(mut model: Model) -> Result<Vec<u8>, ResourceError> {
    let (length, mut bytes) = (model.length(), Vec::new());
    while let Some(piece) = model.next().await? {
        assert!(!piece.is_empty() && piece.len() <= 64 * 1024);
        bytes.extend_from_slice(piece);
    }
    assert!(length.is_none_or(|length| length == bytes.len() as u64), "{length:?} {}", bytes.len());
    Ok(bytes)
}

fn is(result: Result<Vec<u8>, ResourceError>, expected: &[u8]) {
    match result {
        Ok(bytes) => assert!(bytes == expected, "{} bytes, expected {}", bytes.len(), expected.len()),
        Err(error) => panic!("{}", azaion_loader::error::chain(&error)),
    }
}

/// The data file of the only entry: the biggest file of the cache.
fn data_file(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable").path());
    files.max_by_key(|path| std::fs::metadata(path).map_or(0, |meta| meta.len())).expect("a file")
}

#[test]
fn every_size_round_trips_through_api_cdn_and_flash() {
    let world = World::new();
    let sizes = [0, 1, 15, 16, 17, 3071, 3072, 3073, 10_223, 10_224, 300_000, 10 * MIB];
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(BUILDER).await;
        for size in sizes {
            let (name, bytes) = (format!("модель {size}+.onnx"), plain(size, 1));
            let outcome = board.upload(&session, &name, &bytes).await.expect("published");
            assert_eq!(outcome, Outcome::Published);
            assert!(world.published(&name).is_some_and(|there| there == bytes), "{size}");
            world.cloud.s3().set_away(true);
            is(board.load(&session, &name).await, &bytes);
            world.cloud.s3().set_away(false);
        }
    });
    // Another board, and what the first one had is still there after a restart.
    for board in ["b", "b", "a"] {
        let before = world.cloud.s3().bytes_out();
        world.run(&Setting { board, ..Setting::default() }, async |board| {
            let session = board.log_in(OPERATOR).await;
            for size in sizes {
                is(board.load(&session, &format!("модель {size}+.onnx")).await, &plain(size, 1));
            }
            board.until(|board| board.cache.facts().entries == sizes.len() as u64).await;
        });
        let sent = world.cloud.s3().bytes_out() - before;
        if board == "a" {
            assert_eq!(sent, 0, "all of it from flash");
        }
    }
}

#[test]
fn what_was_never_split_comes_whole_and_what_is_unknown_is_404() {
    let world = World::new();
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(OPERATOR).await;
        for (size, known) in [(0, true), (5, true), (60_000, true), (3 * MIB, false)] {
            world.cloud.put_resource(FOLDER, "whole", plain(size, 2));
            let model = board.model(&session, "whole").await.expect("there");
            assert_eq!(model.length().is_some(), known, "{size}");
            is(all(model).await, &plain(size, 2));
        }
        let error = board.load(&session, "nothing").await.expect_err("unknown");
        assert_eq!((error.code(), error.code().http_status()), (Code::ResourceUnknown, 404));
        world.cloud.put_resource(FOLDER, "lonely.small", vec![7; 3072]);
        let error = board.load(&session, "lonely").await.expect_err("no big part");
        assert_eq!(error.code(), Code::ResourceDamaged);
        assert_eq!(board.cache.facts().entries, 0);
    });
}

#[test]
fn two_clients_share_one_download_and_who_leaves_stops_nothing() {
    let world = World::new();
    let bytes = plain(10 * MIB, 3);
    world.put("shared", &bytes);
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(OPERATOR).await;
        let (one, two) = smol::future::zip(board.load(&session, "shared"), board.load(&session, "shared")).await;
        is(one, &bytes);
        is(two, &bytes);
        assert!(world.cloud.s3().bytes_out() < 10 * MIB as u64 + 1000, "{}", world.cloud.s3().bytes_out());

        world.put("left", &bytes);
        let mut model = board.model(&session, "left").await.expect("there");
        model.next().await.expect("the first piece");
        drop(model);
        board.until(|board| board.cache.facts().entries == 2 && board.models.view().downloads == 0).await;
        world.cloud.s3().set_away(true);
        is(board.load(&session, "left").await, &bytes);
    });
}

#[test]
fn a_stale_version_is_never_served() {
    let world = World::new();
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(OPERATOR).await;
        for seed in 0..3 {
            world.put("m", &plain(700_000, seed));
            is(board.load(&session, "m").await, &plain(700_000, seed));
        }
    });
}

#[test]
fn a_damaged_chunk_costs_one_range() {
    let world = World::new();
    let bytes = plain(10 * MIB, 4);
    world.put("m", &bytes);
    let setting = Setting::default();
    let load = |what: &str| {
        let before = world.cloud.s3().bytes_out();
        world.run(&setting, async |board| {
            let session = board.log_in(OPERATOR).await;
            is(board.load(&session, "m").await, &bytes);
            board.until(|board| board.models.view().downloads == 0).await;
        });
        let sent = world.cloud.s3().bytes_out() - before;
        println!("{what}: {sent} bytes from the CDN");
        sent
    };
    load("first");
    for at in [0, 5 * MIB, 10 * MIB - 3080] {
        let file = data_file(&world.path("a", "cache"));
        let mut there = std::fs::read(&file).expect("readable");
        there[at] ^= 1;
        std::fs::write(&file, there).expect("writable");
        let sent = load("damaged");
        assert!((1..300_000).contains(&sent), "{at}: {sent}");
        assert_eq!(load("repaired"), 0, "{at}");
    }
}

#[test]
fn an_object_that_changes_under_a_download_is_never_spliced() {
    let world = World::new();
    let bytes = plain(10 * MIB, 5);
    world.put("m", &bytes);
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(OPERATOR).await;
        let other = plain(world.cloud.s3().object(FOLDER, "m.big").expect("there").len(), 6);
        // The end, a first range, and then it is another object.
        world.cloud.s3().fail_next(S3Route::Get, Fault::NONE);
        world.cloud.s3().fail_next(S3Route::Get, Fault::NONE);
        world.cloud.s3().fail_next(S3Route::Get, Fault::ReplaceObject(other));
        let error = board.load(&session, "m").await.expect_err("changed");
        assert_eq!(error.code(), Code::CdnChanged);
        // Put right by another upload, it loads.
        world.put("m", &bytes);
        is(board.load(&session, "m").await, &bytes);
    });
}

#[test]
fn a_cdn_that_cuts_and_fails_costs_time_only() {
    let world = World::new();
    let bytes = plain(10 * MIB, 7);
    world.put("m", &bytes);
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(OPERATOR).await;
        for after in [0, 1000, 700_000] {
            world.cloud.s3().fail_next(S3Route::Get, Fault::s3(503, "SlowDown"));
            world.cloud.s3().fail_next(S3Route::Get, Fault::NONE);
            world.cloud.s3().fail_next(S3Route::Get, Fault::CutAfter(after));
        }
        is(board.load(&session, "m").await, &bytes);
    });
}

#[test]
fn without_room_the_cdn_serves_directly() {
    let world = World::new();
    let bytes = plain(3 * MIB, 8);
    world.put("m", &bytes);
    world.run(&Setting { max_bytes: MIB as u64, ..Setting::default() }, async |board| {
        let session = board.log_in(BUILDER).await;
        is(board.load(&session, "m").await, &bytes);
        assert_eq!((board.cache.facts().entries, board.cache.facts().parts), (0, 0));
        let mut incoming = board.models.upload(Rc::clone(&session)).await.expect("may begin");
        let mut refused = None;
        for piece in bytes.chunks(65_536) {
            refused = incoming.push(piece).await.err();
            if refused.is_some() {
                break;
            }
        }
        assert_eq!(refused.map(|error| error.code()), Some(Code::NoSpace));
    });
}

#[test]
fn a_wrong_resource_key_is_told_before_the_first_byte() {
    let world = World::new();
    for size in [100, 10 * MIB] {
        world.put("m", &plain(size, 9));
        world.run(&Setting { resource_salt: "another", ..Setting::default() }, async |board| {
            let session = board.log_in(OPERATOR).await;
            let error = board.model(&session, "m").await.err().expect("refused");
            assert_eq!(error.code(), Code::ResourceDamaged);
            assert_eq!((board.cache.facts().entries, board.cache.facts().parts), (0, 0));
        });
    }
}

#[test]
fn what_was_loaded_once_is_served_without_the_clouds_to_the_same_user() {
    let world = World::new();
    let bytes = plain(MIB, 10);
    world.put("m", &bytes);
    world.put("n", &bytes);
    let offline = Setting { offline: true, ..Setting::default() };
    let away = |away: bool| {
        world.cloud.set_away(away);
        world.cloud.s3().set_away(away);
    };
    world.run(&offline, async |board| {
        let session = board.log_in(OPERATOR).await;
        is(board.load(&session, "m").await, &bytes);
        board.until(|board| board.cache.facts().entries == 1).await;
        away(true);
        is(board.load(&session, "m").await, &bytes);
        let error = board.load(&session, "n").await.expect_err("never loaded");
        assert_eq!(error.code(), Code::ApiUnreachable);
        assert!(error.next_step().contains("load it once"), "{}", error.next_step());
        away(false);
    });
    away(true);
    // After a restart nobody can log in.
    world.run(&offline, async |board| {
        let (folder, name) = named("m");
        let model = board.models.load(Held::Credentials(who(OPERATOR)), &folder, &name).await;
        is(all(model.expect("kept")).await, &bytes);
        for other in [who(BUILDER), Credentials::new(OPERATOR.into(), SecretText::new("guess".into())).expect("short")]
        {
            let error = board.models.load(Held::Credentials(other), &folder, &name).await.err().expect("not theirs");
            assert_eq!(error.code(), Code::ApiUnreachable);
        }
    });
    world.run(&Setting::default(), async |board| {
        let (folder, name) = named("m");
        let error = board.models.load(Held::Credentials(who(OPERATOR)), &folder, &name).await.err().expect("off");
        assert!(error.next_step().contains("offline = true"), "{}", error.next_step());
    });
    // No secret and no plain text lies about.
    for entry in std::fs::read_dir(world.path("a", "cache")).expect("readable") {
        let there = std::fs::read(entry.expect("readable").path()).expect("readable");
        let small = world.cloud.resource(FOLDER, "m.small").expect("there");
        assert!(!there.windows(16).any(|window| window == &small[..16]), "the small part in the clear");
    }
}

#[test]
fn a_role_below_uploads_nothing() {
    let world = World::new();
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(OPERATOR).await;
        let error = board.models.upload(session).await.err().expect("refused");
        assert_eq!((error.code(), error.code().http_status()), (Code::RoleTooLow, 403));
        assert!(error.to_string().contains("ResourceUploader"), "{error}");
    });
}

#[test]
fn an_upload_cut_between_any_two_steps_is_finished_by_the_next_run() {
    let world = World::new();
    let bytes = plain(20 * MIB, 11);
    let at = |route: S3Route, skip: usize| (Some(route), skip);
    let steps = [
        at(S3Route::Begin, 0),
        at(S3Route::Part, 0),
        at(S3Route::Part, 2),
        at(S3Route::Complete, 0),
        at(S3Route::Head, 0),
        (None, 0),
    ];
    for (number, (route, skip)) in steps.into_iter().enumerate() {
        let name = format!("cut {number}");
        let s3 = world.cloud.s3();
        let (puts, before) = (resource_puts(&world), s3.calls().len());
        world.run(&Setting::default(), async |board| {
            let session = board.log_in(BUILDER).await;
            let incoming = board.incoming(&session, &bytes).await;
            match route {
                Some(route) => {
                    (0..skip).for_each(|_| s3.fail_next(route, Fault::NONE));
                    s3.fail_next(route, Fault::Silence);
                }
                None => world.cloud.fail_next(Route::ResourcePut, Fault::Silence),
            }
            let (folder, name) = named(&name);
            // The client is cut with the agent: what it hears is of no matter.
            let finish = async {
                let _cut = incoming.finish(folder, name).await;
            };
            let reached = async {
                match route {
                    Some(route) => {
                        s3.reached(|calls| calls[before..].iter().filter(|call| call.route == route).count() > skip)
                            .await;
                    }
                    None => board.until(|_| resource_puts(&world) > puts).await,
                }
            };
            smol::future::or(finish, reached).await;
        });
        world.cloud.clear_faults();
        s3.clear_faults();
        assert!(world.cloud.resource(FOLDER, &format!("{name}.small")).is_none(), "{number}: small before big");
        let sent = s3.bytes_in();
        world.run(&Setting::default(), async |board| {
            assert_eq!(board.models.view().uploads_waiting, 1, "{number}");
            // Not before its user is there.
            board.log_in(OPERATOR).await;
            assert_eq!(board.models.view().uploads_waiting, 1, "{number}");
            let session = board.log_in(BUILDER).await;
            board.until(|board| board.models.view().uploads_waiting == 0).await;
            s3.set_away(true);
            is(board.load(&session, &name).await, &bytes);
            s3.set_away(false);
        });
        assert!(world.published(&name).is_some_and(|there| there == bytes), "{number}");
        let again = s3.bytes_in() - sent;
        println!("{number}: {again} bytes sent by the second run");
        if number >= 3 {
            assert_eq!(again, 0, "{number}: every part was there");
        }
    }
    assert!(world.cloud.s3().uploads().len() <= 1, "only a begun upload whose answer was lost is left");
}

fn resource_puts(world: &World) -> usize {
    world.cloud.calls().iter().filter(|call| call.route == Route::ResourcePut).count()
}

#[test]
fn a_cloud_that_is_away_is_waited_for_and_a_newer_upload_supersedes() {
    let world = World::new();
    let (old, new) = (plain(20 * MIB, 12), plain(MIB, 13));
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(BUILDER).await;
        world.cloud.s3().set_away(true);
        assert_eq!(board.upload(&session, "m", &old).await.expect("accepted"), Outcome::Accepted);
        assert_eq!(board.upload(&session, "m", &new).await.expect("accepted"), Outcome::Accepted);
        assert_eq!(board.models.view().uploads_waiting, 1);
        world.cloud.s3().set_away(false);
        board.log_in(BUILDER).await;
        board.until(|board| board.models.view().uploads_waiting == 0).await;
        assert!(world.published("m").is_some_and(|there| there == new));
        is(board.load(&session, "m").await, &new);

        // The API away after the big part is up: accepted, and no small part before.
        world.cloud.always(Route::ResourcePut, Fault::try_later(503, 0));
        assert_eq!(board.upload(&session, "m", &old).await.expect("accepted"), Outcome::Accepted);
        world.cloud.clear_faults();
        board.log_in(BUILDER).await;
        board.until(|board| board.models.view().uploads_waiting == 0).await;
        assert!(world.published("m").is_some_and(|there| there == old));

        // A refusal is told. The big part is published by then, so its small part is kept for who may put it.
        world.cloud.always(Route::ResourcePut, Fault::status(403));
        let error = board.upload(&session, "m", &new).await.expect_err("refused");
        assert_eq!(error.code(), Code::ApiRefused);
        assert_eq!(board.models.view().uploads_waiting, 1);
        world.cloud.clear_faults();
        board.log_in(BUILDER).await;
        board.until(|board| board.models.view().uploads_waiting == 0).await;
        assert!(world.published("m").is_some_and(|there| there == new));

        // A refusal by the CDN comes before anything is published: nothing of it stays.
        world.cloud.s3().always(S3Route::Put, Fault::s3(403, "AccessDenied"));
        let error = board.upload(&session, "m", &new).await.expect_err("refused");
        assert_eq!(error.code(), Code::CdnRefused);
        assert_eq!(board.models.view().uploads_waiting, 0);

        // What another one puts in between, while the API is away, is not joined with our small part.
        world.cloud.s3().clear_faults();
        world.cloud.always(Route::ResourcePut, Fault::try_later(503, 0));
        assert_eq!(board.upload(&session, "m", &old).await.expect("accepted"), Outcome::Accepted);
        let ours = world.cloud.s3().object(FOLDER, "m.big").expect("it is there");
        world.cloud.s3().put_object(FOLDER, "m.big", &vec![7; ours.len()]);
        world.cloud.clear_faults();
        board.log_in(BUILDER).await;
        board.until(|board| board.models.view().uploads_waiting == 0).await;
        assert!(world.published("m").is_some_and(|there| there == old));
    });
}

#[test]
fn a_bucket_that_is_not_there_is_told_and_keeps_nothing() {
    let world = World::new();
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(BUILDER).await;
        for size in [100, 9 * MIB] {
            let (folder, name) = (Folder::new("nowhere").expect("a folder"), named("m").1);
            let incoming = board.incoming(&session, &plain(size, 15)).await;
            let error = incoming.finish(folder, name).await.expect_err("no bucket");
            assert!(matches!(error, ResourceError::Cdn(_)), "{error:?}");
            assert_eq!((board.models.view().uploads_waiting, board.cache.facts().bytes), (0, 0));
        }
    });
}

#[test]
fn forgotten_uploads_begin_anew() {
    let world = World::new();
    let bytes = plain(20 * MIB, 14);
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(BUILDER).await;
        let done = Cell::new(false);
        let upload = async {
            let outcome = board.upload(&session, "m", &bytes).await.expect("published");
            done.set(true);
            outcome
        };
        world.cloud.s3().fail_next(S3Route::Part, Fault::NONE);
        world.cloud.s3().fail_next(S3Route::Part, Fault::s3(404, "NoSuchUpload"));
        assert_eq!(upload.await, Outcome::Published);
        assert!(done.get() && world.published("m").is_some_and(|there| there == bytes));
    });
}
