//! Introduces the rooms to the unlock machine: each part that it names, made of the room that does the work.

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use smol::Timer;

use super::ledger::{Ledger, Suite};
use crate::archive::{Archive, ArchiveError, Identity};
use crate::cloud::{Api, CloudError, Session};
use crate::crypto::AesKey;
use crate::engine::{Difference, Engine, EngineError, EngineFacts, Expected};
use crate::limits::BOOT_ARCHIVE_PAUSE;
use crate::net::Client;
use crate::secret::Credentials;
use crate::unlock::{self, Cause, Meter};

/// The parts of this agent.
pub(super) struct Parts {
    /// The Resource API, and the session that is held.
    pub(super) cloud: CloudPart,
    /// The archive on flash.
    pub(super) archives: ArchivePart,
    /// The container engine.
    pub(super) engine: EnginePart,
    /// The state on flash.
    pub(super) ledger: Ledger,
}

impl unlock::Parts for Parts {
    type Cloud = CloudPart;
    type Archives = ArchivePart;
    type Engine = EnginePart;
    type Ledger = Ledger;

    fn cloud(&self) -> &CloudPart {
        &self.cloud
    }

    fn archives(&self) -> &ArchivePart {
        &self.archives
    }

    fn engine(&self) -> &EnginePart {
        &self.engine
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// What an unlock logs in with.
pub(super) enum Ticket {
    /// Credentials that were just given: they are checked by a log-in of their own.
    Fresh(Credentials),
    /// A session that is held; its token is renewed when the API asks for it.
    Held(Rc<Session>),
}

/// The Resource API, and the session that the last log-in opened.
pub(super) struct CloudPart {
    api: Rc<Api>,
    client: Rc<Client>,
    held: RefCell<Option<Rc<Session>>>,
    greeter: OnceCell<Greeter>,
}

/// Told of every session that is opened.
type Greeter = Box<dyn Fn(&Rc<Session>)>;

impl CloudPart {
    /// Nobody is logged in yet.
    pub(super) fn new(api: Rc<Api>, client: Rc<Client>) -> Self {
        Self { api, client, held: RefCell::new(None), greeter: OnceCell::new() }
    }

    /// Tells `greeter` of every session that is opened from now on. The first greeter stays.
    pub(super) fn greet(&self, greeter: impl Fn(&Rc<Session>) + 'static) {
        let _the_first_stays = self.greeter.set(Box::new(greeter));
    }

    /// Gives up connections that nothing runs on.
    pub(super) fn close_idle(&self) {
        self.client.close_idle();
    }

    /// The session that is held, if any.
    pub(super) fn held(&self) -> Option<Rc<Session>> {
        self.held.borrow().clone()
    }

    /// Logs in and holds the session. A failure leaves the one that was held.
    pub(super) async fn log_in(&self, credentials: &Credentials) -> Result<Rc<Session>, CloudError> {
        Ok(self.hold(self.api.open_session(credentials.duplicate()).await?))
    }

    /// The same in one attempt, for a call that can be answered without the API.
    pub(super) async fn log_in_at_once(&self, credentials: &Credentials) -> Result<Rc<Session>, CloudError> {
        Ok(self.hold(self.api.open_session_at_once(credentials.duplicate()).await?))
    }

    fn hold(&self, session: Session) -> Rc<Session> {
        let session = Rc::new(session);
        self.held.replace(Some(Rc::clone(&session)));
        if let Some(greeter) = self.greeter.get() {
            greeter(&session);
        }
        session
    }
}

impl unlock::Cloud for CloudPart {
    type Ticket = Ticket;
    type Session = Rc<Session>;
    type Key = AesKey;

    async fn log_in(&self, ticket: &Ticket) -> Result<Rc<Session>, Cause> {
        match ticket {
            Ticket::Fresh(credentials) => Ok(self.log_in(credentials).await?),
            Ticket::Held(session) => Ok(Rc::clone(session)),
        }
    }

    async fn fetch_key(&self, session: &Rc<Session>) -> Result<AesKey, Cause> {
        Ok(self.api.key_fragment(session).await?.archive_key())
    }
}

/// The archive on flash.
pub(super) struct ArchivePart {
    path: PathBuf,
}

impl ArchivePart {
    /// The archive that is, or will be, at this path.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Waits until there is something at the path: it may lie on a disk that is mounted late, or be copied later.
    pub(super) async fn arrival(&self) {
        let mut is_said = false;
        while let Err(ArchiveError::Missing) = Identity::of(&self.path).await {
            if !is_said {
                log::warn!("there is no image archive yet: the boot's unlock waits for it");
                is_said = true;
            }
            Timer::after(BOOT_ARCHIVE_PAUSE).await;
        }
    }
}

impl unlock::Archives for ArchivePart {
    type Key = AesKey;
    type Archive = Archive;

    async fn open(&self, key: &AesKey, meter: &Meter) -> Result<Archive, Cause> {
        let archive = Archive::open(&self.path, key.duplicate(), meter.done()).await?;
        let images = archive.images().len();
        log::info!("the archive holds {images} images, {} bytes of tar", archive.tar_len());
        meter.expect_images(u32::try_from(images).unwrap_or(u32::MAX));
        Ok(archive)
    }
}

/// The container engine, and what it last said of itself.
pub(super) struct EnginePart {
    engine: Engine,
    facts: RefCell<Option<EngineFacts>>,
}

impl EnginePart {
    /// Nothing is asked yet.
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, facts: RefCell::new(None) }
    }

    /// What the engine last said of itself.
    pub(super) fn facts(&self) -> Option<EngineFacts> {
        self.facts.borrow().clone()
    }

    /// Whether the images lie in the clear in a directory that the agent writes.
    pub(super) fn is_directory(&self) -> bool {
        matches!(self.engine, Engine::Directory(_))
    }

    async fn survey(&self) -> Result<EngineFacts, EngineError> {
        let facts = self.engine.survey().await?;
        self.facts.replace(Some(facts.clone()));
        Ok(facts)
    }

    /// Whether every image is there whole, so that nothing needs to be loaded: told only by engines that show nothing
    /// else.
    async fn holds_already(&self, facts: &EngineFacts, images: &[Expected]) -> Result<bool, EngineError> {
        Ok(facts.store.shows_only_what_is_whole() && self.engine.holds(images).await?)
    }
}

impl unlock::Engine for EnginePart {
    type Archive = Archive;
    type Suite = Suite;

    async fn load(&self, archive: &Archive, meter: &Meter) -> Result<Suite, Cause> {
        let facts = self.survey().await?;
        let images: Vec<Expected> = archive.images().iter().map(Expected::of).collect();
        meter.expect_bytes(archive.tar_len());
        if self.holds_already(&facts, &images).await? {
            log::info!("the engine holds every image of the archive already: nothing to load");
            meter.expect_bytes(0);
        } else {
            self.engine.load(archive, meter.done()).await?;
        }
        // Asked again: a directory has an identity only from its first load on.
        let id = self.survey().await?.id;
        Ok(Suite::of(*archive.identity(), id, images))
    }

    async fn confirm(&self, suite: &Suite, meter: &Meter) -> Result<(), Cause> {
        let facts = self.survey().await?;
        if facts.id != suite.engine {
            // Another engine, or this one wiped: on a containerd store an inspect alone would prove nothing.
            let image = suite.images.first().map(Expected::name).unwrap_or_default();
            return Err(EngineError::Mismatch { image, difference: Difference::Missing }.into());
        }
        meter.expect_images(u32::try_from(suite.images.len()).unwrap_or(u32::MAX));
        self.engine.confirm(&suite.images, |shown| meter.confirm_images(shown)).await?;
        Ok(())
    }
}
