//! From the configuration to the parts: every check that can refuse a start, in one place, before the loop runs.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::check::{Says, Subject};
use super::ledger::Ledger;
use super::light;
use super::lock::{Lock, LockRefused};
use super::parts::{ArchivePart, CloudPart, EnginePart, EngineSettings, Parts};
use super::trust::Trust;
use super::watch::Watch;
use crate::board::{self, Board, BoardError, Light, Record, RecordError};
use crate::cache::{CacheKey, CacheSettings};
use crate::cloud::{Api, RetryPolicy, Role, TokenKey};
use crate::config::{self, Config, ConfigError, Listen, UnlockMode};
use crate::control::{BindError, Feed, Guard};
use crate::crypto::{AesKey, HardwareHash, Salts};
use crate::engine::{Engine, EngineAddress};
use crate::error::Report;
use crate::limits::API_WHOLE_CALL;
use crate::net::tls::client_config;
use crate::net::{BaseUrl, Client, Clock, Timeouts};
use crate::secret::Credentials;

/// All that a run needs.
pub(super) struct Setup {
    /// Keeps a second agent away.
    pub(super) lock: Lock,
    /// The board's profile.
    pub(super) board: String,
    /// What is remembered of the board.
    pub(super) watch: Rc<Watch>,
    /// Its light.
    pub(super) light: Option<Light>,
    /// Where the archive is expected.
    pub(super) archive: PathBuf,
    /// What is believed of archives and models.
    pub(super) trust: Rc<Trust>,
    /// The parts of the unlock machine.
    pub(super) parts: Rc<Parts>,
    /// Where the control port listens.
    pub(super) listen: Vec<Listen>,
    /// Who may use it.
    pub(super) guard: Guard,
    /// What to unlock with by itself.
    pub(super) credentials: Option<Credentials>,
    /// Whether it does.
    pub(super) unlock: UnlockMode,
    /// The clock that goes on through sleep and is never set.
    pub(super) clock: Clock,
    /// What the room of models is made of, but for the loop's own.
    pub(super) models: ModelSettings,
    /// What a checkup looks at.
    pub(super) subject: Subject,
    /// What happens, for whoever follows.
    pub(super) feed: Rc<Feed>,
}

/// What models need of the configuration and of this board.
pub(super) struct ModelSettings {
    pub(super) api: Rc<Api>,
    pub(super) client: Rc<Client>,
    pub(super) cache: CacheSettings,
    pub(super) salts: Rc<Salts>,
    pub(super) hardware: HardwareHash,
    pub(super) over: Rc<config::Cdn>,
    pub(super) offline: bool,
    pub(super) upload_role: Role,
    pub(super) state_dir: PathBuf,
}

/// Why the agent does not start.
#[derive(Debug)]
pub(super) enum StartRefused {
    /// A value that cannot be right, or a file it names.
    Config(ConfigError),
    /// The board cannot be told from others.
    Board(BoardError),
    /// The lock of this state directory is held.
    AnotherAgent(PathBuf),
    /// The state directory cannot be made or locked.
    State {
        /// The directory.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// An address cannot be listened on.
    Bind(BindError),
    /// Signals cannot be received.
    Signals(io::Error),
}

impl fmt::Display for StartRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Board(error) => error.fmt(f),
            Self::AnotherAgent(dir) => {
                write!(f, "another agent works with {}: stop it, or set another [state] dir", dir.display())
            }
            Self::State { dir, .. } => write!(f, "cannot use the state directory {}", dir.display()),
            Self::Bind(error) => error.fmt(f),
            Self::Signals(_) => f.write_str("cannot receive signals"),
        }
    }
}

impl std::error::Error for StartRefused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => error.source(),
            Self::Board(error) => error.source(),
            Self::Bind(error) => error.source(),
            Self::State { source, .. } | Self::Signals(source) => Some(source),
            Self::AnotherAgent(_) => None,
        }
    }
}

impl Setup {
    /// Reads what the configuration names and takes the lock.
    pub(super) fn of(config: Config) -> Result<Self, StartRefused> {
        let clock = Clock::boot();
        let (board, remembered) = board_of(&config)?;
        for (fact, why) in board.missing() {
            log::warn!("fingerprint: {} is missing: {why}", fact.label);
        }
        if board.facts_of != board.profile.name {
            log::info!(
                "the board is a {}, its keys are made by the facts of {}: that stays so until [board] profile names {}",
                board.profile.title,
                board.facts_of,
                board.profile.name
            );
        }

        let says = Says::of(&config, &board);
        let feed = Rc::new(Feed::new());
        let wires = Wires::of(&config, &clock, &feed)?;
        let guard = Guard {
            allow_hosts: config.control.allow_hosts.clone(),
            allow_uids: config.control.allow_uids.clone(),
            token: config.control.token().map_err(StartRefused::Config)?,
        };
        let credentials = config.boot_credentials().map_err(StartRefused::Config)?;
        let upload_role = Role::named(&config.control.upload_role)
            .ok_or_else(|| refuse(&config, "control.upload_role", &Role::ALL.map(Role::as_str).join(", ")))?;

        let dir = config.state.dir.or(&board.profile.state.dir).to_owned();
        let unusable = |source| StartRefused::State { dir: dir.clone(), source };
        std::fs::create_dir_all(&dir).map_err(unusable)?;
        let lock = match Lock::take(&dir) {
            Ok(lock) => lock,
            Err(LockRefused::Held) => return Err(StartRefused::AnotherAgent(dir)),
            Err(LockRefused::Unavailable(source)) => return Err(unusable(source)),
        };
        let watch = Rc::new(Watch::of(&board, dir.clone(), remembered));
        let light = light::find(&config.board, &board);
        let sizes = &board.profile.cache;
        let models = ModelSettings {
            api: Rc::clone(&wires.api),
            client: Rc::clone(&wires.client),
            cache: CacheSettings {
                dir: config.cache.dir.or(&sizes.dir).to_owned(),
                max_bytes: config.cache.max_bytes.unwrap_or(sizes.max_bytes),
                reserve_bytes: config.cache.reserve_bytes.unwrap_or(sizes.reserve_bytes),
                key: CacheKey::of(&AesKey::from_text(&config.keys.resource_key())),
            },
            hardware: config.keys.hardware_hash(board.fingerprint.as_str()),
            salts: Rc::new(config.keys),
            over: Rc::new(config.cdn),
            offline: config.cache.offline,
            upload_role,
            state_dir: dir.clone(),
        };
        let archive = config.archive.path.clone();
        let trust = Rc::new(Trust::new(config.archive, &dir));
        let parts = Rc::new(wires.parts(&dir, &trust, EngineSettings::of(&config.engine)));
        let subject = Subject {
            says,
            wires,
            parts: Rc::clone(&parts),
            trust: Rc::clone(&trust),
            salts: Rc::clone(&models.salts),
            hardware: models.hardware.clone(),
            over: Rc::clone(&models.over),
        };
        Ok(Self {
            subject,
            feed,
            lock,
            board: board.profile.name,
            watch,
            light,
            archive,
            trust,
            parts,
            listen: config.control.listen.clone(),
            guard,
            credentials,
            unlock: config.boot.unlock,
            clock,
            models,
        })
    }
}

/// What reaches out: to the cloud, and to the engine.
pub(super) struct Wires {
    pub(super) client: Rc<Client>,
    pub(super) api: Rc<Api>,
    pub(super) engine: EngineAddress,
    /// Where the Resource API is.
    pub(super) url: BaseUrl,
    /// The roots of `[cloud] ca_file`.
    pub(super) roots: Option<Vec<u8>>,
}

impl Wires {
    /// `feed` is told of attempts that failed and are made again.
    fn of(config: &Config, clock: &Clock, feed: &Rc<Feed>) -> Result<Self, StartRefused> {
        let feed = Rc::clone(feed);
        let roots = config.ca_pem().map_err(StartRefused::Config)?;
        let tls = client_config(roots.as_deref()).map_err(|error| refuse(config, "cloud.ca_file", &error))?;
        let client = Rc::new(Client::with_clock(tls, clock.clone()));
        let url = BaseUrl::parse(&config.cloud.resource_api_url)
            .map_err(|error| refuse(config, "cloud.resource_api_url", &error))?;
        let token_key = match config.token_key_pem().map_err(StartRefused::Config)? {
            Some(pem) => {
                Some(TokenKey::from_pem(&pem).map_err(|error| refuse(config, "cloud.token_public_key", &error))?)
            }
            None => None,
        };
        let silence = config.cloud.timeout;
        let timeouts = Timeouts {
            headers: silence,
            idle_body: silence,
            whole_call: Some(API_WHOLE_CALL.max(silence)),
            ..Timeouts::default()
        };
        let api = Api::new(Rc::clone(&client), url.clone(), clock.clone(), token_key, RetryPolicy::default())
            .with_timeouts(timeouts)
            .with_observer(move |retry| {
                let again = format!("once more in {:.1?}", retry.pause);
                log::warn!("{} ({}); {again}", retry.cause.message, retry.cause.code);
                feed.error(&Report { next: again, ..retry.cause.clone() });
            });
        let api = Rc::new(api);
        let engine: EngineAddress =
            config.engine.socket.parse().map_err(|error| refuse(config, "engine.socket", &error))?;
        Ok(Self { client, api, engine, url, roots })
    }

    /// The parts of the unlock machine; nothing is asked, nothing written.
    fn parts(&self, state_dir: &Path, trust: &Rc<Trust>, settings: EngineSettings) -> Parts {
        let ledger = Rc::new(Ledger::new(state_dir, Rc::clone(trust)));
        let engine = Engine::at(&self.engine, Rc::clone(&self.client));
        Parts {
            cloud: CloudPart::new(Rc::clone(&self.api), Rc::clone(&self.client)),
            archives: ArchivePart::new(Rc::clone(trust)),
            engine: EnginePart::new(engine, Rc::clone(&ledger), settings),
            ledger,
        }
    }
}

/// The parts for a look: without the lock of the state directory, which is only read.
pub(super) fn parts_to_look(config: Config) -> Result<Parts, StartRefused> {
    let wires = Wires::of(&config, &Clock::boot(), &Rc::default())?;
    let dir = board::directory(&config.board, &config.state.dir, |profile| &profile.state.dir);
    let trust = Rc::new(Trust::new(config.archive, &dir));
    Ok(wires.parts(&dir, &trust, EngineSettings::of(&config.engine)))
}

/// What a checkup looks at without an agent, and what changed on the board.
pub(super) fn subject_to_look(config: Config) -> Result<(Subject, Vec<String>), StartRefused> {
    let (board, remembered) = board_of(&config)?;
    let changes = remembered.ok().flatten().map(|record| record.compare(&board)).unwrap_or_default();
    let says = Says::of(&config, &board);
    let wires = Wires::of(&config, &Clock::boot(), &Rc::default())?;
    let dir = config.state.dir.or(&board.profile.state.dir);
    let trust = Rc::new(Trust::new(config.archive, dir));
    let parts = Rc::new(wires.parts(dir, &trust, EngineSettings::of(&config.engine)));
    let hardware = config.keys.hardware_hash(board.fingerprint.as_str());
    let (salts, over) = (Rc::new(config.keys), Rc::new(config.cdn));
    Ok((Subject { says, wires, parts, trust, salts, hardware, over }, changes.in_words()))
}

/// The board, and what is remembered of it.
fn board_of(config: &Config) -> Result<(Board, Result<Option<Record>, RecordError>), StartRefused> {
    let mut remembered = Ok(None);
    let board = Board::detect_as(&config.board, |profile| {
        remembered = Record::read(config.state.dir.or(&profile.state.dir));
        Some(remembered.as_ref().ok()?.as_ref()?.profile().to_owned())
    });
    Ok((board.map_err(StartRefused::Board)?, remembered))
}

fn refuse(config: &Config, key: &str, allowed: &dyn fmt::Display) -> StartRefused {
    StartRefused::Config(config.refuse(key, allowed))
}
