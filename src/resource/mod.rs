//! Models: resources in two parts, loaded, uploaded, kept.
//!
//! ```text
//!   load     small part: API ──┐                     ┌─ whole on flash: read, verified chunk by chunk
//!            (or its box)      ├─ version ── entry? ─┼─ not whole: one shared download, followed ──┬─ decrypt ── client
//!            seal, big part ───┘                     └─ no room: straight from the CDN ────────────┘
//!
//!   upload   client ── encrypt, split ── staged on flash ── accepted ── big: CDN ── confirmed ── seal, small: API ── entry
//! ```
//!
//! CONTRACT section 5 is the format. In memory a model is one piece at a time, whatever its size. This room must never
//! write plain text to flash, never join parts of which it knows that they are of two uploads, never publish a small part
//! before its big one is confirmed and its seal is there, never use a byte of a sealed big part before its chunk's hash
//! was compared, and never serve a user what only another one has loaded.

mod download;
mod error;
mod join;
mod load;
mod login;
mod model;
mod publish;
#[cfg(test)]
mod samples;
mod sealed;
mod small;
mod splitter;
mod upload;
mod vault;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use smol::LocalExecutor;
use smol::lock::OnceCell;

use crate::cache::{Cache, CacheFacts};
use crate::cloud::{Api, Cdn, CdnClock, RetryPolicy, Role, Session};
use crate::config;
use crate::crypto::{AesKey, HardwareHash, Salts};
use crate::error::Report;
use crate::net::{Client, Clock};
use crate::secret::Credentials;

pub use error::{Damage, NotKept, ResourceError, is_unreachable};
pub use join::Unjoined;
pub use login::cdn_settings;
pub use model::Model;
pub use upload::{Incoming, Outcome};
pub use vault::VaultRefused;

use download::Downloads;
use login::{Login, Offline};
use publish::Publisher;

/// What is answered when it is known.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What the board demands of resources.
pub trait ResourceTrust {
    /// Whether a resource without a seal may be served; one that was never split has none, either.
    ///
    /// # Errors
    /// It cannot be told: the resource is then not served, and the report says why.
    fn may_be_unsealed(&self) -> Answer<'_, Result<bool, Report>>;

    /// A sealed resource was opened: its seal, its small part and its lengths were right.
    fn sealed_accepted(&self) -> Answer<'_, ()>;
}

/// What this room is made of.
pub struct ModelParts {
    /// The Resource API.
    pub api: Rc<Api>,
    /// For the CDN.
    pub client: Rc<Client>,
    /// The flash.
    pub cache: Rc<Cache>,
    /// `[keys]`: for the resource key, and the API key of each log-in.
    pub salts: Rc<Salts>,
    /// This board.
    pub hardware: HardwareHash,
    /// `[cdn]`, which wins over `cdn.yaml`.
    pub over: Rc<config::Cdn>,
    /// `[cache] offline`.
    pub offline: bool,
    /// The least role that may upload.
    pub upload_role: Role,
    /// What this board demands of resources.
    pub trust: Rc<dyn ResourceTrust>,
    /// Where the board's salt lies.
    pub state_dir: PathBuf,
    /// Where downloads and uploads run on.
    pub executor: Rc<LocalExecutor<'static>>,
    /// Time since boot.
    pub clock: Clock,
    /// The date that requests to the CDN are signed with.
    pub cdn_clock: CdnClock,
    /// How calls to the CDN are repeated.
    pub retry: RetryPolicy,
}

/// Who asks.
pub enum Held {
    /// Somebody who is logged in; the token may have expired.
    Session(Rc<Session>),
    /// Somebody who could not log in, because the API cannot be reached: is served from what is kept, or not at all.
    Credentials(Credentials),
}

/// The state of this room, for observers.
#[derive(Debug, Clone)]
pub struct ModelsView {
    /// What the cache says of itself.
    pub cache: CacheFacts,
    /// Downloads into the cache that run.
    pub downloads: usize,
    /// Uploads that were accepted and are not published yet, of whichever user.
    pub uploads_waiting: usize,
}

/// All models of this board.
pub struct Models {
    parts: ModelParts,
    resource_key: AesKey,
    /// The last log-in.
    login: RefCell<Option<Rc<Login>>>,
    /// Who could not log in, and was here last.
    without_login: RefCell<Option<Rc<Offline>>>,
    /// The CDN, where the configuration alone says how to read from it.
    cdn_alone: OnceCell<Rc<Cdn>>,
    salt: OnceCell<[u8; 16]>,
    downloads: Downloads,
    publisher: Publisher,
    /// When the API was last found unreachable.
    away_since: Cell<Option<Duration>>,
}

impl Models {
    /// Nobody is logged in yet.
    pub fn new(parts: ModelParts) -> Rc<Self> {
        let resource_key = AesKey::from_text(&parts.salts.resource_key());
        Rc::new(Self {
            parts,
            resource_key,
            login: RefCell::default(),
            without_login: RefCell::default(),
            cdn_alone: OnceCell::new(),
            salt: OnceCell::new(),
            downloads: Downloads::default(),
            publisher: Publisher::default(),
            away_since: Cell::default(),
        })
    }

    /// What it holds and does.
    pub fn view(&self) -> ModelsView {
        ModelsView {
            cache: self.parts.cache.facts(),
            downloads: self.downloads.running(),
            uploads_waiting: self.parts.cache.uploads().len(),
        }
    }

    /// Ends downloads and uploads where they are: the next run goes on with both.
    pub async fn stop(&self) {
        self.publisher.stop().await;
        self.downloads.stop().await;
        self.parts.cache.settle().await;
    }
}
