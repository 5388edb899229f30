//! Introduces the rooms to the unlock machine: each part that it names, made of the room that does the work.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use smol::Timer;

use super::ledger::{Ledger, Suite};
use super::trust::{SealNote, Trust};
use crate::archive::{Archive, ArchiveError, Identity};
use crate::cloud::{Api, CloudError, Session};
use crate::config;
use crate::crypto::AesKey;
use crate::engine::{Brought, Difference, Engine, EngineError, EngineFacts, Expected, Gauge, Order, Preview};
use crate::error::chain;
use crate::limits::{BOOT_ARCHIVE_PAUSE, ENGINE_LANE_MEMORY_BYTES, ENGINE_LANES};
use crate::metrics;
use crate::net::{Client, lend};
use crate::secret::Credentials;
use crate::unlock::{self, Cause, Meter, Standing};

/// The parts of this agent.
pub(super) struct Parts {
    /// The Resource API, and the session that is held.
    pub(super) cloud: CloudPart,
    /// The archive on flash.
    pub(super) archives: ArchivePart,
    /// The container engine.
    pub(super) engine: EnginePart,
    /// The state on flash.
    pub(super) ledger: Rc<Ledger>,
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
        self.outcome(self.api.open_session(credentials.duplicate()).await)
    }

    /// The same in one attempt, for a call that can be answered without the API.
    pub(super) async fn log_in_at_once(&self, credentials: &Credentials) -> Result<Rc<Session>, CloudError> {
        self.outcome(self.api.open_session_at_once(credentials.duplicate()).await)
    }

    fn outcome(&self, opened: Result<Session, CloudError>) -> Result<Rc<Session>, CloudError> {
        match &opened {
            Ok(_) => metrics::LOGINS_ACCEPTED.count(),
            Err(CloudError::WrongCredentials { .. }) => metrics::LOGINS_REFUSED.count(),
            Err(_) => {}
        }
        opened.map(|session| self.hold(session))
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
    trust: Rc<Trust>,
}

impl ArchivePart {
    /// The archive that `trust` lets in.
    pub(super) fn new(trust: Rc<Trust>) -> Self {
        Self { trust }
    }

    /// Waits until there is something at the path: it may lie on a disk that is mounted late, or be copied later.
    pub(super) async fn arrival(&self) {
        let mut is_said = false;
        while let Err(ArchiveError::Missing) = Identity::of(self.trust.path()).await {
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
        let source = self.trust.source(key).await?;
        let archive = Archive::open_source(source, key.duplicate(), meter.done()).await?;
        self.trust.expects(archive.images())?;
        match archive.seal() {
            Some(seal) => log::info!("the archive is {}", SealNote::of(seal)),
            None => log::warn!("the archive is unsealed: nothing proves who made it"),
        }
        let images = archive.images().len();
        log::info!("the archive holds {images} images, {} bytes of tar", archive.tar_len());
        meter.expect_images(u32::try_from(images).unwrap_or(u32::MAX));
        Ok(archive)
    }
}

/// The container engine, what it last said of itself, and what is remembered of it.
pub(super) struct EnginePart {
    engine: Engine,
    facts: RefCell<Option<EngineFacts>>,
    ledger: Rc<Ledger>,
    settings: EngineSettings,
}

/// `[engine]`, but for where it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct EngineSettings {
    /// Images side by side, at most; `None` lets the board decide.
    pub(super) at_once: Option<usize>,
    /// Earlier suites whose images stay.
    pub(super) keep_old: usize,
}

impl EngineSettings {
    /// As the configuration says.
    pub(super) const fn of(engine: &config::Engine) -> Self {
        Self { at_once: engine.at_once, keep_old: engine.keep_old }
    }
}

/// The meter as the engine's room sees it.
struct Follows<'a>(&'a Meter);

impl Gauge for Follows<'_> {
    fn done(&self) -> &Cell<u64> {
        self.0.done()
    }

    fn expect_bytes(&self, bytes: u64) {
        self.0.expect_bytes(bytes);
    }

    fn images(&self, done: u32) {
        self.0.confirm_images(done);
    }
}

/// An engine and what is known of it before a load.
struct Known {
    facts: EngineFacts,
    brought: Vec<Brought>,
    expected: Vec<Expected>,
    at_once: usize,
}

impl Known {
    fn order(&self) -> Order<'_> {
        Order { store: self.facts.store, root: &self.facts.root_dir, brought: &self.brought, at_once: self.at_once }
    }
}

impl EnginePart {
    /// Nothing is asked yet.
    pub(super) fn new(engine: Engine, ledger: Rc<Ledger>, settings: EngineSettings) -> Self {
        Self { engine, facts: RefCell::new(None), ledger, settings }
    }

    /// What the engine last said of itself.
    pub(super) fn facts(&self) -> Option<EngineFacts> {
        self.facts.borrow().clone()
    }

    /// Whether the images lie in the clear in a directory that the agent writes.
    pub(super) fn is_directory(&self) -> bool {
        matches!(self.engine, Engine::Directory(_))
    }

    /// Asks it.
    pub(super) async fn survey(&self) -> Result<EngineFacts, EngineError> {
        let facts = self.engine.survey().await?;
        self.facts.replace(Some(facts.clone()));
        Ok(facts)
    }

    /// Takes back what a load brought that the board did not survive: the engine may show it without having its files.
    async fn settle(&self, archive: &Archive) -> Result<(), Cause> {
        let facts = self.survey().await?;
        let Some(doubtful) = self.ledger.doubtful(facts.id.as_deref()).await? else { return Ok(()) };
        log::warn!("the board went down in mid-load: what the engine may not have written is removed and sent again");
        self.engine.discard(archive, facts.store, &doubtful.images, &doubtful.whole).await?;
        Ok(self.ledger.settle().await?)
    }

    async fn known(&self, archive: &Archive) -> Result<Known, Cause> {
        let facts = self.survey().await?;
        let brought = self.ledger.brought(facts.id.as_deref()).await?;
        let expected = archive.images().iter().map(|image| Expected::of(image, facts.store)).collect();
        let at_once = match self.settings.at_once {
            Some(at_once) => at_once,
            None => lend(lanes).await,
        };
        Ok(Known { facts, brought, expected, at_once })
    }

    /// What a load of `archive` would do; `None` for an OCI directory.
    pub(super) async fn preview(&self, archive: &Archive) -> Result<Option<Preview>, Cause> {
        let known = self.known(archive).await?;
        Ok(self.engine.preview(archive, &known.expected, &known.order()).await?)
    }

    /// Removes what earlier archives brought and nothing uses any more. Best effort: what a container still uses is
    /// looked at again after the next start or unlock.
    pub(super) async fn tidy(&self, suite: &Suite) {
        let keep = self.settings.keep_old;
        let tidied = async {
            let outdated = self.ledger.outdated(suite.engine.as_deref(), keep).await?;
            if outdated.is_empty() {
                return Ok(());
            }
            let mut left = Vec::new();
            for images in outdated {
                let mut in_use = Vec::new();
                // A child goes before its parent, which an engine keeps as long as it has one.
                for image in images.into_iter().rev() {
                    match self.engine.remove_old(&image, &suite.images).await {
                        Ok(true) => log::debug!("{} of an earlier archive is done with", image.name()),
                        Ok(false) => {
                            log::info!("{} of an earlier archive stays: a container uses it", image.name());
                            in_use.insert(0, image);
                        }
                        Err(error) => {
                            log::warn!("{} of an earlier archive stays: {}", image.name(), chain(&error));
                            in_use.insert(0, image);
                        }
                    }
                }
                left.push(in_use);
            }
            self.ledger.keep_outdated(keep, left).await
        };
        if let Err(error) = tidied.await {
            log::warn!("images of an earlier archive may stay in the engine: {}", chain(&error));
        }
    }
}

/// Images that can go in side by side on this board: two for each core, because an engine that takes one image in keeps
/// little more than half of a core busy, and no more than there is memory to unpack.
fn lanes() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kind = sysinfo::RefreshKind::nothing().with_memory(sysinfo::MemoryRefreshKind::nothing().with_ram());
    let available = sysinfo::System::new_with_specifics(kind).map_or(0, |system| system.available_memory());
    let by_memory = usize::try_from(available / ENGINE_LANE_MEMORY_BYTES).unwrap_or(ENGINE_LANES);
    (2 * cores).min(ENGINE_LANES).min(by_memory).max(1)
}

impl unlock::Engine for EnginePart {
    type Archive = Archive;
    type Suite = Suite;

    async fn compare(&self, archive: &Archive, meter: &Meter) -> Result<Standing<Suite>, Cause> {
        self.settle(archive).await?;
        let Known { facts, brought, expected, .. } = self.known(archive).await?;
        meter.expect_bytes(archive.tar_len());
        let is_held = self.engine.holds(&expected, &brought, facts.store).await?;
        let suite = Suite::of(*archive.identity(), facts.id, expected, archive.seal().map(SealNote::of));
        if !is_held {
            return Ok(Standing::Missing(suite));
        }
        log::info!("the engine holds every image of the archive already: nothing to load");
        meter.expect_bytes(0);
        meter.confirm_images(u32::try_from(suite.images.len()).unwrap_or(u32::MAX));
        Ok(Standing::Held(suite))
    }

    async fn load(&self, archive: &Archive, suite: Suite, meter: &Meter) -> Result<Suite, Cause> {
        let known = self.known(archive).await?;
        self.engine.load(archive, &suite.images, &known.order(), &Follows(meter)).await?;
        let mut images = suite.images;
        self.engine.identify(&mut images).await?;
        // Asked again: a directory has an identity only from its first load on.
        let id = self.survey().await?.id;
        Ok(Suite::of(suite.archive, id, images, suite.seal))
    }

    async fn switch(&self, suite: &Suite) -> Result<(), Cause> {
        self.same_engine(suite).await?;
        Ok(self.engine.switch(&suite.images).await?)
    }

    async fn confirm(&self, suite: &Suite, meter: &Meter) -> Result<(), Cause> {
        self.same_engine(suite).await?;
        meter.expect_images(u32::try_from(suite.images.len()).unwrap_or(u32::MAX));
        self.engine.confirm(&suite.images, |shown| meter.confirm_images(shown)).await?;
        Ok(())
    }
}

impl EnginePart {
    /// Another engine, or this one wiped: on a containerd store an inspect alone would prove nothing.
    async fn same_engine(&self, suite: &Suite) -> Result<(), EngineError> {
        let facts = self.survey().await?;
        if facts.id == suite.engine {
            return Ok(());
        }
        let image = suite.images.first().map(Expected::name).unwrap_or_default();
        Err(EngineError::Mismatch { image, difference: Difference::Missing })
    }
}
