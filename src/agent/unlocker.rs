//! Runs unlocks: one at a time, asked for by a technician or by the boot, and keeps what observers see of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use smol::Timer;
use smol::lock::Mutex;

use super::parts::{Parts, Ticket};
use super::systemd;
use super::trust::SealNote;
use super::watch::Watch;
use crate::archive::ArchiveError;
use crate::audit::{Audit, Event};
use crate::error::{Code, Report};
use crate::limits::{BOOT_FIRST_PAUSE, BOOT_LONGEST_PAUSE, LOOKS_AT_ONCE};
use crate::metrics;
use crate::secret::Credentials;
use crate::unlock::{Cause, Idle, Meter, NotReady, Ready, Remedy, State, Unlock, remedy};

/// Runs unlocks on the parts of this agent.
pub(super) struct Unlocker {
    parts: Rc<Parts>,
    meter: Rc<Meter>,
    error: RefCell<Option<Report>>,
    /// How the archive of the suite is sealed that the engine holds; none before that is known.
    seal: Cell<Option<&'static str>>,
    watch: Rc<Watch>,
    audit: Rc<Audit>,
    busy: Rc<Busy>,
    /// Looking whether the board is ready already is short, but it waits: two such looks must not cross, nor one and the
    /// clean-up behind an unlock. Whoever asks while that goes on is answered for the archive that is there by then.
    gate: Mutex<()>,
    /// Held once more by each who looks or waits for it.
    looking: Rc<()>,
}

/// What a look at the state on flash and the engine has shown.
#[derive(Debug)]
pub(super) enum Look {
    /// The engine holds the suite of the archive that is on flash now.
    Ready,
    /// An unlock is needed.
    NeedsUnlock,
    /// An unlock is under way: what was seen beside it says nothing.
    Running,
    /// What is remembered could not be compared, because the engine does not answer.
    EngineAway(Report),
    /// The archive or the state on flash cannot be read.
    Unreadable(Report),
}

impl Unlocker {
    /// Nothing is known yet.
    pub(super) fn new(parts: Rc<Parts>, meter: Rc<Meter>, watch: Rc<Watch>, audit: Rc<Audit>) -> Self {
        Self {
            parts,
            meter,
            error: RefCell::default(),
            seal: Cell::default(),
            watch,
            audit,
            busy: Rc::default(),
            gate: Mutex::new(()),
            looking: Rc::default(),
        }
    }

    /// The gauge.
    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Why the last unlock failed; none after one that did not.
    pub(super) fn error(&self) -> Option<Report> {
        self.error.borrow().clone()
    }

    /// How the archive of the suite is sealed that the engine holds; none before that is known.
    pub(super) fn seal(&self) -> Option<&'static str> {
        self.seal.get()
    }

    fn machine(&self) -> Unlock<Parts, Idle> {
        Unlock::new(Rc::clone(&self.parts), Rc::clone(&self.meter))
    }

    /// Looks whether the board is ready without an unlock, and shows it.
    pub(super) async fn look(&self) -> Look {
        let _alone = self.gate.lock().await;
        if self.busy.is_working() {
            return Look::Running;
        }
        let looked = self.machine().already_ready().await;
        // One may have begun while the engine was asked; only that one says from now on how things stand.
        if self.busy.is_working() {
            return Look::Running;
        }
        match looked {
            Ok(ready) => {
                if self.meter.state() != State::Ready {
                    self.arrived(&ready);
                    self.parts.engine.tidy(ready.suite()).await;
                }
                Look::Ready
            }
            Err((_, NotReady::NotRemembered)) => self.not_ready(),
            Err((_, NotReady::Unreadable(cause))) => {
                self.not_ready();
                Look::Unreadable(cause.report())
            }
            Err((_, NotReady::NotConfirmed(cause))) if remedy(cause.code()) == Remedy::Retry => {
                Look::EngineAway(cause.report())
            }
            Err((_, NotReady::NotConfirmed(cause))) => {
                log::warn!("remembered as ready, but the engine disagrees: {}", cause.report().message);
                self.not_ready()
            }
        }
    }

    /// `ready` speaks of the archive that is on flash now: another one makes the board idle again.
    fn not_ready(&self) -> Look {
        if self.meter.state() == State::Ready {
            self.meter.rest(State::Idle);
        }
        Look::NeedsUnlock
    }

    /// Takes a place among those who look; `None` when there are [`LOOKS_AT_ONCE`] already. An engine that does not
    /// answer holds each of them up, and the port must keep seats for others.
    pub(super) fn place(&self) -> Option<Rc<()>> {
        (Rc::strong_count(&self.looking) <= LOOKS_AT_ONCE).then(|| Rc::clone(&self.looking))
    }

    /// Begins an unlock; `None` when one is under way already. From here on observers see it running.
    pub(super) fn begin(&self) -> Option<Working> {
        let working = self.busy.begin()?;
        self.meter.begin(State::Authenticating, None);
        self.error.replace(None);
        systemd::status("unlocking");
        Some(working)
    }

    /// Runs the unlock that was begun, to its end in `ready` or `error`.
    ///
    /// # Errors
    /// What would help; the error itself is kept for observers.
    pub(super) async fn run(&self, working: Working, ticket: Ticket) -> Result<(), Remedy> {
        self.note(Event::UnlockStarted, None);
        let result = self.steps(ticket).await;
        let alone = self.gate.lock().await;
        let outcome = match result {
            Ok(ready) => {
                if ready.suite().seal.is_none() {
                    self.note(Event::UnsealedAccepted, None);
                }
                metrics::UNLOCKS_READY.count();
                self.note(Event::UnlockReady, None);
                self.arrived(&ready);
                self.parts.engine.tidy(ready.suite()).await;
                Ok(())
            }
            Err(cause) => {
                let report = self.watch.explain(cause.report());
                if let Some(event) = refused(self.meter.state(), report.code) {
                    self.note(event, Some(report.code));
                }
                log::error!("unlock failed: {} ({}); next: {}", report.message, report.code, report.next);
                metrics::UNLOCKS_FAILED.count();
                metrics::ERRORS.count(report.code);
                self.note(Event::UnlockFailed, Some(report.code));
                systemd::status(&format!("unlock failed: {}", report.code));
                let helps = remedy(report.code);
                self.error.replace(Some(report));
                self.meter.rest(State::Error);
                Err(helps)
            }
        };
        // The next call to the cloud may be days away.
        self.parts.cloud.close_idle();
        drop(working);
        drop(alone);
        outcome
    }

    /// The machine, stage by stage. A step that fails ends it here: whoever asked decides about another try, and a
    /// machine that is dropped wipes what it held.
    async fn steps(&self, ticket: Ticket) -> Result<Unlock<Parts, Ready<Parts>>, Cause> {
        let machine = self.machine().authenticate(&ticket).await.map_err(|stuck| stuck.cause)?;
        if let Ticket::Fresh(_) = ticket {
            self.note(Event::LoginAccepted, None);
        }
        drop(ticket);
        let machine = machine.fetch_key().await.map_err(|stuck| stuck.cause)?;
        let machine = machine.open().await.map_err(|stuck| stuck.cause)?;
        let machine = machine.load().await.map_err(|stuck| stuck.cause)?;
        let ready = machine.confirm().await.map_err(|stuck| stuck.cause)?;
        // The open file was the same to its end; the name may lead to another one by now, and `ready` speaks of that.
        if self.parts.ledger.is_current(ready.suite()).await? { Ok(ready) } else { Err(ArchiveError::Changed.into()) }
    }

    fn note(&self, event: Event, code: Option<Code>) {
        let session = self.parts.cloud.held();
        self.audit.note(event, session.as_ref().map(|session| session.user().id).as_deref(), code);
    }

    fn arrived(&self, ready: &Unlock<Parts, Ready<Parts>>) {
        let images = ready.suite().images.len();
        self.error.replace(None);
        let seal = SealNote::in_a_word(ready.suite().seal.as_ref());
        self.seal.set(Some(seal));
        self.meter.rest(State::Ready);
        log::info!("ready: the engine holds the {images} images of the archive, which is {seal}");
        systemd::status(&format!("ready, {images} images"));
    }

    /// What a board does by itself after a start: see whether it is ready; if not, and it holds credentials, unlock,
    /// again and again with growing pauses as long as the cause is one that passes by itself.
    pub(super) async fn boot(&self, credentials: Option<Credentials>) {
        let mut pause = Pause::new();
        loop {
            match self.look().await {
                Look::Ready => return,
                Look::NeedsUnlock | Look::Running => break,
                Look::Unreadable(report) => {
                    log::warn!("{} ({}); next: {}", report.message, report.code, report.next);
                    break;
                }
                Look::EngineAway(report) => {
                    log::warn!("remembered as ready, but the engine does not answer: {}", report.message);
                    self.error.replace(Some(report));
                    pause.wait().await;
                }
            }
        }
        let Some(credentials) = credentials else {
            log::info!("waiting to be unlocked: [boot] holds no credentials, or keeps them for a request");
            systemd::status("waiting to be unlocked");
            return;
        };
        self.parts.archives.arrival().await;
        let mut pause = Pause::new();
        while self.meter.state() != State::Ready {
            if let Some(working) = self.begin() {
                match self.run(working, Ticket::Fresh(credentials.duplicate())).await {
                    Err(Remedy::Retry) => log::info!("the boot's unlock is tried again in {:?}", pause.next),
                    Ok(()) | Err(Remedy::LogInAgain | Remedy::Halt) => return,
                }
            }
            pause.wait().await;
        }
    }
}

/// What an unlock that failed in this state refused to whom, beside that it failed.
const fn refused(state: State, code: Code) -> Option<Event> {
    match (state, code) {
        (State::Authenticating, Code::CredentialsWrong) => Some(Event::LoginRefused),
        (State::DownloadingKey, Code::CredentialsWrong | Code::ApiRefused)
        | (_, Code::WrongKeyOrDamaged | Code::ArchiveNotAuthentic) => Some(Event::KeyRefused),
        (_, Code::ArchiveUnsealed | Code::ArchiveOlder | Code::ArchiveOther) => Some(Event::ArchiveRefused),
        _ => None,
    }
}

/// A pause that doubles up to a bound.
pub(super) struct Pause {
    next: Duration,
}

impl Pause {
    pub(super) const fn new() -> Self {
        Self { next: BOOT_FIRST_PAUSE }
    }

    pub(super) async fn wait(&mut self) {
        Timer::after(self.next).await;
        self.next = (self.next * 2).min(BOOT_LONGEST_PAUSE);
    }
}

/// Counts what is under way, so that a second request joins it instead of starting another.
#[derive(Debug, Default)]
pub(super) struct Busy(Cell<bool>);

/// Something is under way for as long as this lives.
#[derive(Debug)]
pub(super) struct Working(Rc<Busy>);

impl Busy {
    /// Begins; `None` when something is under way already.
    pub(super) fn begin(self: &Rc<Self>) -> Option<Working> {
        (!self.0.replace(true)).then(|| Working(Rc::clone(self)))
    }

    /// Whether something is under way.
    pub(super) fn is_working(&self) -> bool {
        self.0.get()
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.0.set(false);
    }
}
