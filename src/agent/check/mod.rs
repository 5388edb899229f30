//! The self-diagnosis that a support call starts with: `GET /check`, and `azaion-loader check` where no agent runs.
//!
//! Everything is looked at from the outside in, and nothing is changed: the way to the cloud step by step, the CDN, the
//! engine, room, the archive, the board, the cache, the flash. No text holds a secret or a path. It is bounded: no step
//! waits longer than [`CHECK_STEP`](crate::limits::CHECK_STEP), and what was found is shown again for
//! [`CHECK_AGE`] to whoever asks next.

mod alone;
mod board;
mod cloud;
mod place;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use smol::future::zip;
use smol::lock::Mutex;

use super::parts::Parts;
use super::setup::Wires;
use super::trust::Trust;
use crate::board::Board;
use crate::cache::CacheFacts;
use crate::cloud::{Role, Session};
use crate::config::{self, Config, Listen, RequireSeal};
use crate::control::{Check, Checkup};
use crate::crypto::{HardwareHash, Salts};
use crate::error::Report;
use crate::limits::CHECK_AGE;
use crate::net::Clock;
use crate::unlock::State;

pub(super) use cloud::in_time;

pub use alone::{CheckRefused, check_alone};

/// What does not change while the agent runs.
pub(super) struct Subject {
    /// What configuration and board say.
    pub(super) says: Says,
    pub(super) wires: Wires,
    pub(super) parts: Rc<Parts>,
    pub(super) trust: Rc<Trust>,
    pub(super) salts: Rc<Salts>,
    pub(super) hardware: HardwareHash,
    pub(super) over: Rc<config::Cdn>,
}

/// What configuration and board say.
pub(super) struct Says {
    /// What the configuration comes to.
    pub(in crate::agent) config: Check,
    /// Directories that are written to, with their names in the answer.
    pub(in crate::agent) places: Vec<(&'static str, PathBuf)>,
    /// Where `/sys` is seen.
    pub(in crate::agent) root: PathBuf,
    /// The board's profile.
    pub(in crate::agent) profile: String,
    /// Facts of the key that could not be read.
    pub(in crate::agent) missing: Vec<String>,
}

impl Says {
    pub(super) fn of(config: &Config, board: &Board) -> Self {
        let mut places = vec![
            ("state", config.state.dir.or(&board.profile.state.dir).to_owned()),
            ("cache", config.cache.dir.or(&board.profile.cache.dir).to_owned()),
        ];
        places.extend(config.log.dir.clone().map(|dir| ("log", dir)));
        Self {
            config: of_config(config, board),
            places,
            root: config.board.root.clone(),
            profile: board.profile.title.clone(),
            missing: board.missing().map(|(fact, _)| format!("{} is missing", fact.label)).collect(),
        }
    }
}

/// What only a running agent knows; without one, what could be found out.
pub(super) struct Live {
    /// Whoever is logged in, or why nobody is.
    pub(super) session: Result<Rc<Session>, Report>,
    /// What changed on the board since its keys were made.
    pub(super) changes: Vec<String>,
    /// The cache, as far as it is open.
    pub(super) cache: Option<CacheFacts>,
    /// Where the unlock is.
    pub(super) unlock: State,
}

/// Looks, one at a time.
pub(super) struct Checker {
    subject: Subject,
    clock: Clock,
    alone: Mutex<()>,
    last: RefCell<Option<(Duration, Checkup)>>,
}

impl Checker {
    pub(super) fn new(subject: Subject, clock: Clock) -> Self {
        Self { subject, clock, alone: Mutex::new(()), last: RefCell::default() }
    }

    /// Looks at everything; what was found a moment ago is found again. `live` is asked when the cloud can be reached.
    pub(super) async fn run(&self, live: impl AsyncFnOnce(bool) -> Live) -> Checkup {
        let _alone = self.alone.lock().await;
        if let Some((when, checkup)) = &*self.last.borrow()
            && self.clock.now().saturating_sub(*when) < CHECK_AGE
        {
            return checkup.clone();
        }
        let checkup = Checkup::from(self.subject.look(live).await);
        self.last.replace(Some((self.clock.now(), checkup.clone())));
        checkup
    }

    /// Free bytes of each place, for the metrics.
    pub(super) async fn free(&self) -> Vec<(&'static str, u64)> {
        place::free_of(&self.subject.says.places).await
    }
}

impl Subject {
    async fn look(&self, live: impl AsyncFnOnce(bool) -> Live) -> Vec<Check> {
        let way = cloud::Way::of(self).await;
        let live = live(way.answers()).await;
        let session = live.session.as_ref().ok();
        let (cloud, (engine, archive)) =
            zip(async { (cloud::login(&way, &live.session), cloud::cdn(self, &way, session).await) }, async {
                let engine = place::engine(&self.parts).await;
                let archive = place::archive(&self.trust, live.unlock).await;
                (engine, archive)
            })
            .await;
        let space = place::space(&self.says.places, engine.1.as_ref(), archive.1, live.unlock).await;
        let [name, connect, tls] = way.steps(&self.wires.url);
        vec![
            self.says.config.clone(),
            way.clock(),
            name,
            connect,
            tls,
            cloud.0,
            cloud.1,
            engine.0,
            space,
            archive.0,
            board::fingerprint(&self.says, &live.changes),
            board::cache(live.cache.as_ref()),
            board::flash(&self.says.root).await,
        ]
    }
}

/// The role, for people.
fn role(session: &Session) -> &'static str {
    match session.user().role {
        Role::None => "no role",
        other => other.as_str(),
    }
}

/// What can be said of a configuration that the agent runs with.
fn of_config(config: &Config, board: &Board) -> Check {
    const NAME: &str = "config";
    let listens: Vec<String> = config.control.listen.iter().map(shown).collect();
    let logs = if config.log.dir.is_some() { "with log files" } else { "without log files" };
    let text = format!("read, the port listens on {}, {logs}", listens.join(", "));
    let mut wrong: Vec<(&str, &str)> = Vec::new();
    if config.cloud.resource_api_url.starts_with("http://") {
        wrong.push(("the cloud is called in the clear", "an https:// address in [cloud] resource_api_url"));
    }
    if board.is_fixed {
        wrong.push(("the fingerprint is a fixed text, for development alone", "no [board] fingerprint"));
    }
    if config.archive.require_seal == RequireSeal::Never {
        wrong.push(("what has no seal is always taken", "[archive] require_seal = \"once-seen\""));
    }
    if wrong.is_empty() {
        return Check::ok(NAME, text);
    }
    let (what, next): (Vec<_>, Vec<_>) = wrong.into_iter().unzip();
    Check::warn(NAME, format!("{text}; {}", what.join("; ")), format!("for the field, set: {}", next.join("; ")))
}

/// An address to listen on, without the path of a socket.
fn shown(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(_) => "a unix socket".to_owned(),
    }
}
