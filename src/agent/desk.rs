//! What the control port asks of the agent, answered from the parts.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use smol::{LocalExecutor, Task};

use super::check::{self, Checker, Live};
use super::herald;
use super::models::{Arriving, Leaving, ModelDesk};
use super::parts::{Parts, Ticket};
use super::unlocker::{Look, Unlocker};
use super::watch::Watch;
use crate::archive::{ArchiveError, Identity};
use crate::audit::{Audit, Event};
use crate::control::{
    self, AuditView, Checkup, EngineView, Feed, Gauges, StatusView, UnlockAnswer, UnlockView, UserView, Wanted,
};
use crate::engine::EngineStore;
use crate::error::{Code, Report};
use crate::limits::CHECK_STEP;
use crate::net::Clock;
use crate::secret::Credentials;
use crate::unlock::State;

/// The agent as the control port sees it.
pub(super) struct Desk {
    /// The board's profile.
    pub(super) board: String,
    /// What is remembered of the board.
    pub(super) watch: Rc<Watch>,
    /// Where the archive is expected.
    pub(super) archive: std::path::PathBuf,
    /// What `[boot]` holds: used by an empty `POST /unlock` when nobody is logged in.
    pub(super) credentials: Option<Credentials>,
    /// The parts.
    pub(super) parts: Rc<Parts>,
    /// Runs unlocks.
    pub(super) unlocker: Rc<Unlocker>,
    /// Takes down who logged in.
    pub(super) audit: Rc<Audit>,
    /// Where an unlock that was asked for runs on.
    pub(super) executor: Rc<LocalExecutor<'static>>,
    /// The last one of those.
    pub(super) running: RefCell<Option<Task<()>>>,
    /// Models.
    pub(super) models: Rc<ModelDesk>,
    /// What happens.
    pub(super) feed: Rc<Feed>,
    /// Looks at everything that can be wrong.
    pub(super) checker: Checker,
    /// When the agent began.
    pub(super) began: Duration,
    pub(super) clock: Clock,
}

impl control::Desk for Desk {
    fn status(&self) -> StatusView {
        let user = self.parts.cloud.held().map(|session| {
            let user = session.user();
            UserView { email: user.email, role: user.role.as_str() }
        });
        let engine = self.parts.engine.facts().map(|facts| EngineView {
            kind: if self.parts.engine.is_directory() { "directory" } else { "docker" },
            version: facts.version.unwrap_or_default(),
            api_version: facts.api_version.unwrap_or_default(),
            store: match facts.store {
                EngineStore::Classic => "classic",
                EngineStore::Containerd => "containerd",
                EngineStore::Layout => "oci-layout",
            }
            .into(),
        });
        StatusView {
            version: env!("CARGO_PKG_VERSION"),
            board: self.board.clone(),
            user,
            unlock: self.unlocker.meter().state(),
            seal: self.unlocker.seal(),
            engine,
            cache: Some(self.models.view()),
            audit: self.audit.head().map(|head| AuditView { count: head.count, hash: head.hash.hex() }),
            last_error: self.unlocker.error(),
            notes: self.notes(),
        }
    }

    fn unlock_status(&self) -> UnlockView {
        herald::view(&self.unlocker)
    }

    async fn unlock_turns(&self) {
        self.unlocker.meter().moved().await;
    }

    fn feed(&self) -> Rc<Feed> {
        Rc::clone(&self.feed)
    }

    async fn gauges(&self) -> Gauges {
        let meter = self.unlocker.meter();
        Gauges {
            version: env!("CARGO_PKG_VERSION"),
            uptime: self.clock.now().saturating_sub(self.began),
            unlock: meter.state(),
            stages: meter.stages().map(|(state, took)| (state.as_str(), took)).collect(),
            logged_in: self.parts.cloud.held().is_some(),
            board_changed: !self.watch.notes().is_empty(),
            audit_lines: self.audit.head().map(|head| head.count),
            cache: Some(self.models.view()),
            free: self.checker.free().await,
            clients: 0,
        }
    }

    async fn check(&self) -> Checkup {
        let live = async |answers: bool| Live {
            session: if answers {
                check::in_time(CHECK_STEP, Box::pin(self.models.session())).await
            } else {
                self.parts.cloud.held().ok_or_else(not_logged_in)
            },
            changes: self.watch.notes(),
            cache: Some(self.models.facts()),
            unlock: self.unlocker.meter().state(),
        };
        self.checker.run(live).await
    }

    fn turned_away(&self, why: Code) {
        self.audit.note(Event::PortRefused, None, Some(why));
    }

    async fn login(&self, credentials: Credentials) -> Result<(), Report> {
        match self.parts.cloud.log_in(&credentials).await {
            Ok(session) => {
                self.audit.note(Event::LoginAccepted, Some(&session.user().id), None);
                self.feed.note(&format!("logged in with the role {}", session.user().role.as_str()));
                Ok(())
            }
            Err(error) => {
                let report = Report::of(&error);
                self.audit.note(Event::LoginRefused, None, Some(report.code));
                log::warn!("log-in failed: {} ({})", report.message, report.code);
                self.feed.error(&report);
                Err(report)
            }
        }
    }

    async fn unlock(&self, credentials: Option<Credentials>) -> Result<UnlockAnswer, Report> {
        let state = self.unlocker.meter().state();
        if state.is_running() {
            return Ok(UnlockAnswer::Running(state));
        }
        let place = self.unlocker.place().ok_or_else(too_many)?;
        match self.unlocker.look().await {
            Look::Ready => return Ok(UnlockAnswer::Ready),
            Look::Running => return Ok(UnlockAnswer::Running(self.unlocker.meter().state())),
            Look::NeedsUnlock => self.see_archive().await?,
            Look::Unreadable(report) => {
                self.see_archive().await?;
                // So it is the state on flash that cannot be read: an unlock does without, and writes it anew.
                log::warn!("{} ({}); unlocking all the same", report.message, report.code);
            }
            // Nothing that an unlock does helps against an engine that does not answer; who has credentials may try.
            Look::EngineAway(report) if credentials.is_none() => return Err(report),
            Look::EngineAway(_) => {}
        }
        drop(place);
        // Another one may have begun it meanwhile, and then nothing is needed from this one.
        let state = self.unlocker.meter().state();
        if state.is_running() {
            return Ok(UnlockAnswer::Running(state));
        }
        let ticket = self.ticket(credentials)?;
        let Some(working) = self.unlocker.begin() else {
            return Ok(UnlockAnswer::Running(self.unlocker.meter().state()));
        };
        let unlocker = Rc::clone(&self.unlocker);
        let task = self.executor.spawn(async move {
            // The outcome is kept for observers; a technician decides about another try.
            let _ = unlocker.run(working, ticket).await;
        });
        // The one before has ended: two never run at once.
        self.running.replace(Some(task));
        Ok(UnlockAnswer::Started(State::Authenticating))
    }

    type Model = Leaving;

    async fn load(&self, wanted: Wanted) -> Result<Leaving, Report> {
        self.models.load(&wanted).await
    }

    type Upload = Arriving;

    async fn upload(&self) -> Result<Arriving, Report> {
        self.models.upload().await
    }
}

impl Desk {
    /// Ends an unlock that was asked for, and what models are under way, before the agent gives the state directory back.
    pub(super) async fn stop(&self) {
        let running = self.running.take();
        if let Some(task) = running {
            task.cancel().await;
        }
        self.models.stop().await;
    }

    /// An archive that is missing or cannot be read is told at once, before anyone logs in for nothing.
    async fn see_archive(&self) -> Result<(), Report> {
        let seen = Identity::of(&self.archive).await;
        seen.map(|_identity| ()).map_err(|error: ArchiveError| Report::of(&error))
    }

    /// What to log in with: what was sent, else the session that is held, else what `[boot]` holds.
    fn ticket(&self, sent: Option<Credentials>) -> Result<Ticket, Report> {
        if let Some(credentials) = sent {
            return Ok(Ticket::Fresh(credentials));
        }
        if let Some(session) = self.parts.cloud.held() {
            return Ok(Ticket::Held(session));
        }
        self.credentials.as_ref().map(|held| Ticket::Fresh(held.duplicate())).ok_or_else(not_logged_in)
    }

    /// What a person should know about this board and how safe it is, in plain words.
    fn notes(&self) -> Vec<String> {
        let mut notes = self.safety();
        notes.extend(self.watch.notes());
        notes
    }

    fn safety(&self) -> Vec<String> {
        let engine: &[&str] = if self.parts.engine.is_directory() {
            &["the images lie in the clear in the OCI directory"]
        } else {
            &["the engine writes images in the clear into its own temporary directory while it loads"]
        };
        let seal = match self.unlocker.seal() {
            Some("unsealed") => "the archive is unsealed: a change is noticed only where a digest covers it",
            Some("sealed") => "the archive is sealed, not signed: any board that holds the key could have sealed it",
            Some(_) | None => return engine.iter().map(|&note| note.into()).collect(),
        };
        engine.iter().chain([&seal]).map(|&note| note.into()).collect()
    }
}

fn too_many() -> Report {
    Report {
        code: Code::TooMany,
        message: "others ask for the same, and the container engine has not answered yet".into(),
        next: "wait a moment and repeat the call".into(),
    }
}

pub(super) fn not_logged_in() -> Report {
    Report {
        code: Code::NotLoggedIn,
        message: "no credentials are held".into(),
        next: "send {\"email\":…,\"password\":…} with this request, or POST /login first".into(),
    }
}
