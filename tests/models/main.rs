//! Models through a real API, a real S3 server and a real cache: loaded, uploaded, cut, kept.

mod loads;
mod policy;
mod seals;
mod uploads;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use azaion_cloud::{Cloud, Fault, Hold, Options, Route, S3Route, User, keys};
use azaion_loader::cache::{Cache, CacheKey, CacheSettings};
use azaion_loader::cloud::{Api, CdnClock, RetryPolicy, Role, Session};
use azaion_loader::crypto::{AesKey, Salts};
use azaion_loader::error::{Code, Explain, Report};
use azaion_loader::name::{Folder, ResourceName};
use azaion_loader::net::{BaseUrl, Client, Clock, client_config, turn};
use azaion_loader::resource::{
    Answer, Held, Incoming, Model, ModelParts, Models, Outcome, ResourceError, ResourceTrust,
};
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
    /// What the board says to a resource without a seal.
    unsealed: Result<bool, Code>,
}

impl Setting {
    const DEFAULT: Self =
        Self { board: "a", offline: false, max_bytes: 1 << 32, resource_salt: "resource-salt", unsealed: Ok(true) };
}

impl Default for Setting {
    fn default() -> Self {
        Self::DEFAULT
    }
}

struct Board {
    models: Rc<Models>,
    api: Rc<Api>,
    cache: Rc<Cache>,
    trust: Rc<Trust>,
}

/// What a board demands, and how often it heard of a sealed resource.
struct Trust {
    unsealed: Result<bool, Code>,
    accepted: Cell<usize>,
}

impl ResourceTrust for Trust {
    fn may_be_unsealed(&self) -> Answer<'_, Result<bool, Report>> {
        let report = |code| Report { code, message: "it cannot be told".into(), next: "look".into() };
        Box::pin(async move { self.unsealed.map_err(report) })
    }

    fn sealed_accepted(&self) -> Answer<'_, ()> {
        Box::pin(async { self.accepted.set(self.accepted.get() + 1) })
    }
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
        let trust = Rc::new(Trust { unsealed: setting.unsealed, accepted: Cell::default() });
        let models = Models::new(ModelParts {
            api: Rc::clone(&api),
            client,
            cache: Rc::clone(&cache),
            hardware: salts().hardware_hash("board"),
            salts: salts().into(),
            over: Rc::default(),
            offline: setting.offline,
            upload_role: Role::ResourceUploader,
            trust: Rc::clone(&trust) as Rc<dyn ResourceTrust>,
            state_dir,
            executor: Rc::clone(executor),
            clock: Clock::boot(),
            cdn_clock: CdnClock::system(),
            retry,
        });
        Board { models, api, cache, trust }
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

    /// Uploads by a board of its own, which leaves nothing on another one's flash.
    fn publish(&self, name: &str, plain: &[u8]) {
        self.run(&Setting { board: "uploader", ..Setting::DEFAULT }, async |board| {
            let session = board.log_in(BUILDER).await;
            let outcome = board.upload(&session, name, plain).await.expect("published");
            assert_eq!(outcome, Outcome::Published);
        });
    }

    /// Takes both clouds off the network, or brings them back.
    fn set_away(&self, away: bool) {
        self.cloud.set_away(away);
        self.cloud.s3().set_away(away);
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

/// The file of the cache with this ending, of which there is one.
fn cached(dir: &Path, ending: &str) -> PathBuf {
    let files = std::fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable").path());
    let mut found = files.filter(|path| path.extension().is_some_and(|there| there == ending));
    let file = found.next().expect("a file");
    assert!(found.next().is_none(), "one alone");
    file
}

/// The data file of the only entry: the biggest file of the cache.
fn data_file(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable").path());
    files.max_by_key(|path| std::fs::metadata(path).map_or(0, |meta| meta.len())).expect("a file")
}
