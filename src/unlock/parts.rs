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

/// How the engine stands to what an archive brings.
#[derive(Debug)]
pub enum Standing<S> {
    /// It lacks some of it, or its tags mean something else.
    Missing(S),
    /// It has everything, and every tag means it.
    Held(S),
}

/// What is remembered of a suite.
#[derive(Debug)]
pub enum Recalled<S> {
    /// It is in the engine and its tags were set.
    Ready(S),
    /// It is in the engine; a cut came while its tags were set.
    Switching(S),
}

/// The container engine.
#[expect(async_fn_in_trait, reason = "one thread: no future is ever Send")]
pub trait Engine {
    /// An opened archive.
    type Archive;
    /// What it brings into the engine.
    type Suite;

    /// Compares what the archive brings with what the engine has; nothing is changed.
    async fn compare(&self, archive: &Self::Archive, meter: &Meter) -> Result<Standing<Self::Suite>, Cause>;

    /// Brings in what is missing of the suite, and gives it back as the engine has it. Success means the engine said so
    /// itself, without an error.
    async fn load(&self, archive: &Self::Archive, suite: Self::Suite, meter: &Meter) -> Result<Self::Suite, Cause>;

    /// Makes the suite the one that its tags mean. It can be repeated after a cut.
    async fn switch(&self, suite: &Self::Suite) -> Result<(), Cause>;

    /// Asks the engine whether it shows every image of the suite with the right layers.
    async fn confirm(&self, suite: &Self::Suite, meter: &Meter) -> Result<(), Cause>;
}

/// What is remembered on flash about the engine's content.
#[expect(async_fn_in_trait, reason = "one thread: no future is ever Send")]
pub trait Ledger {
    /// What is remembered.
    type Suite;

    /// What is remembered of the archive that is on flash now, or of the last one if the archive is gone.
    async fn recall(&self) -> Result<Option<Recalled<Self::Suite>>, Cause>;

    /// Notes, durably, before a load begins: from here on nothing is ready, and a cut must not look like an end.
    async fn begin(&self, suite: &Self::Suite) -> Result<(), Cause>;

    /// Notes, durably, that everything is in and only the tags are to be set: a cut from here on is gone on with, without
    /// archive, key or network.
    async fn switching(&self, suite: &Self::Suite) -> Result<(), Cause>;

    /// Remembers, durably, that the suite is in the engine whole.
    async fn remember(&self, suite: &Self::Suite) -> Result<(), Cause>;
}
