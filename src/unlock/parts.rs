//! What the machine needs from the rest of the agent, as traits; the agent brings the rooms in behind them.

use std::fmt;

use super::Meter;
use crate::error::{Code, Explain, Report};

/// Why a step failed: an error of some room that can explain itself.
pub struct Cause(Box<dyn Explain>);

impl Cause {
    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code()
    }

    /// What is shown outside.
    pub fn report(&self) -> Report {
        Report::of(&*self.0)
    }
}

impl<E: Explain + 'static> From<E> for Cause {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cause({}: {})", self.code(), self.report().message)
    }
}

/// The four parts, together.
pub trait Parts: 'static {
    /// Logs in and hands out the key.
    type Cloud: Cloud;
    /// Opens the archive on flash.
    type Archives: Archives<Key = Key<Self>>;
    /// Takes the images in.
    type Engine: Engine<Archive = <Self::Archives as Archives>::Archive>;
    /// Remembers on flash what the engine holds.
    type Ledger: Ledger<Suite = Suite<Self>>;

    /// The cloud.
    fn cloud(&self) -> &Self::Cloud;
    /// The archive on flash.
    fn archives(&self) -> &Self::Archives;
    /// The container engine.
    fn engine(&self) -> &Self::Engine;
    /// The state on flash.
    fn ledger(&self) -> &Self::Ledger;
}

/// What is presented to log in: credentials, or a session that is held already.
pub type Ticket<P> = <<P as Parts>::Cloud as Cloud>::Ticket;
/// A log-in that succeeded.
pub type Session<P> = <<P as Parts>::Cloud as Cloud>::Session;
/// The archive's key.
pub type Key<P> = <<P as Parts>::Cloud as Cloud>::Key;
/// What an archive brings into the engine, remembered without the archive.
pub type Suite<P> = <<P as Parts>::Engine as Engine>::Suite;

/// The Resource API.
#[expect(async_fn_in_trait, reason = "one thread: no future is ever Send")]
pub trait Cloud {
    /// What is presented to log in.
    type Ticket;
    /// A log-in that succeeded.
    type Session;
    /// The archive's key; wipes itself when dropped.
    type Key;

    /// Logs in.
    async fn log_in(&self, ticket: &Self::Ticket) -> Result<Self::Session, Cause>;
    /// Fetches the key fragment and makes the key of it.
    async fn fetch_key(&self, session: &Self::Session) -> Result<Self::Key, Cause>;
}

/// The image archive on flash.
#[expect(async_fn_in_trait, reason = "one thread: no future is ever Send")]
pub trait Archives {
    /// The archive's key.
    type Key;
    /// An archive whose index is known; it holds the key for as long as it is read, and wipes it when dropped.
    type Archive;

    /// Opens the archive, checks the key and reads the index. The engine is not touched.
    async fn open(&self, key: &Self::Key, meter: &Meter) -> Result<Self::Archive, Cause>;
}

/// The container engine.
#[expect(async_fn_in_trait, reason = "one thread: no future is ever Send")]
pub trait Engine {
    /// An opened archive.
    type Archive;
    /// What it brings into the engine.
    type Suite;

    /// Brings all images in. Success means the engine said so itself, without an error.
    async fn load(&self, archive: &Self::Archive, meter: &Meter) -> Result<Self::Suite, Cause>;
    /// Asks the engine whether it shows every image of the suite with the right layers.
    async fn confirm(&self, suite: &Self::Suite, meter: &Meter) -> Result<(), Cause>;
}

/// What is remembered on flash about the engine's content.
#[expect(async_fn_in_trait, reason = "one thread: no future is ever Send")]
pub trait Ledger {
    /// What is remembered.
    type Suite;

    /// The suite that was brought in whole, if it is the one of the archive that is on flash now, or if the archive
    /// is gone.
    async fn recall(&self) -> Result<Option<Self::Suite>, Cause>;
    /// Forgets, durably, before a load begins: a cut in mid-load must not look like a load that ended.
    async fn forget(&self) -> Result<(), Cause>;
    /// Remembers, durably, that the suite is in the engine whole.
    async fn remember(&self, suite: &Self::Suite) -> Result<(), Cause>;
}
