//! Models on the control port: who asks, by which log-in, and the way from the port to the room of models.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use smol::lock::Mutex;

use super::parts::Parts;
use super::unlocker::Pause;
use super::watch::Watch;
use crate::audit::{Audit, Event};
use crate::cache::CacheFacts;
use crate::cloud::{CloudError, Session};
use crate::control::{self, CacheView, Feed, Outgoing, UploadAnswer, Wanted};
use crate::error::{Code, Report};
use crate::limits::AWAY_PAUSE;
use crate::metrics;
use crate::net::Clock;
use crate::resource::{self, Held, Model, Models, Outcome, ResourceError};
use crate::secret::Credentials;

/// Whom is told of what happens.
pub(super) struct Voices {
    pub(super) watch: Rc<Watch>,
    pub(super) audit: Rc<Audit>,
    pub(super) feed: Rc<Feed>,
}

/// Loads and uploads, for the desk.
pub(super) struct ModelDesk {
    models: Rc<Models>,
    parts: Rc<Parts>,
    /// What `[boot]` holds: as good as a log-in, for models.
    credentials: Option<Credentials>,
    voices: Voices,
    clock: Clock,
    /// However many ask at once, one logs in.
    gate: Mutex<()>,
    /// Until then no log-in is tried again for a load: the API did not answer the last one.
    away_until: Cell<Duration>,
    /// What the API said to the credentials of `[boot]`, and until when it is not asked again.
    refusal: RefCell<Option<(Duration, Report)>>,
}

impl ModelDesk {
    /// Models are told of every log-in from now on.
    pub(super) fn new(
        models: Rc<Models>,
        parts: Rc<Parts>,
        credentials: Option<Credentials>,
        voices: Voices,
        clock: Clock,
    ) -> Self {
        let told = Rc::clone(&models);
        parts.cloud.greet(move |session| told.logged_in(session));
        Self {
            models,
            parts,
            credentials,
            voices,
            clock,
            gate: Mutex::new(()),
            away_until: Cell::default(),
            refusal: RefCell::default(),
        }
    }

    /// The cache, as it is.
    pub(super) fn facts(&self) -> CacheFacts {
        self.models.view().cache
    }

    /// What `/status` shows.
    pub(super) fn view(&self) -> CacheView {
        let view = self.models.view();
        CacheView {
            entries: view.cache.entries,
            bytes: view.cache.bytes,
            max_bytes: Some(view.cache.max_bytes),
            bytes_written: view.cache.bytes_written,
            uploads_waiting: u64::try_from(view.uploads_waiting).unwrap_or(u64::MAX),
            usable: view.cache.unusable.is_none(),
        }
    }

    /// Opens a model for a client.
    pub(super) async fn load(&self, wanted: &Wanted) -> Result<Leaving, Report> {
        let (held, log_in) = self.held().await?;
        let model = self.models.load(held, &wanted.folder, &wanted.name).await;
        model.map(Leaving).map_err(|error| match (&error, log_in) {
            // What kept the log-in from happening says more than that there was none.
            (ResourceError::Offline { cause: None, .. }, Some(failed)) => {
                Report { next: Report::of(&error).next, ..failed }
            }
            _ => self.told("load", self.voices.watch.explain(Report::of(&error))),
        })
    }

    /// Lets an upload begin.
    pub(super) async fn upload(&self) -> Result<Arriving, Report> {
        let session = self.session().await?;
        let user = session.user().id;
        match self.models.upload(session).await {
            Ok(incoming) => Ok(Arriving {
                incoming,
                audit: Rc::clone(&self.voices.audit),
                feed: Rc::clone(&self.voices.feed),
                user,
            }),
            Err(error) => {
                let report = self.told("upload", self.voices.watch.explain(Report::of(&error)));
                self.voices.audit.note(Event::UploadRefused, Some(&user), Some(report.code));
                Err(report)
            }
        }
    }

    /// Whoever is logged in; nobody is, but `[boot]` holds credentials: one attempt to log in with them, and without an
    /// answer the credentials alone, with what the attempt said.
    async fn held(&self) -> Result<(Held, Option<Report>), Report> {
        if let Some(session) = self.parts.cloud.held() {
            return Ok((Held::Session(session), None));
        }
        let Some(credentials) = &self.credentials else { return Err(super::desk::not_logged_in()) };
        if self.clock.now() < self.away_until.get() {
            return Ok((Held::Credentials(credentials.duplicate()), Some(still_away())));
        }
        let _alone = self.gate.lock().await;
        if let Some(session) = self.parts.cloud.held() {
            return Ok((Held::Session(session), None));
        }
        if self.clock.now() < self.away_until.get() {
            return Ok((Held::Credentials(credentials.duplicate()), Some(still_away())));
        }
        self.refused_before()?;
        match self.parts.cloud.log_in_at_once(credentials).await {
            Ok(session) => {
                self.note_log_in(&session);
                Ok((Held::Session(session), None))
            }
            Err(error) => {
                let report = self.failed(&error);
                if resource::is_unreachable(&error) {
                    return Ok((Held::Credentials(credentials.duplicate()), Some(report)));
                }
                Err(report)
            }
        }
    }

    /// Whoever is logged in, or a log-in with what `[boot]` holds.
    pub(super) async fn session(&self) -> Result<Rc<Session>, Report> {
        if let Some(session) = self.parts.cloud.held() {
            return Ok(session);
        }
        let Some(credentials) = &self.credentials else { return Err(super::desk::not_logged_in()) };
        let _alone = self.gate.lock().await;
        if let Some(session) = self.parts.cloud.held() {
            return Ok(session);
        }
        self.refused_before()?;
        match self.parts.cloud.log_in_at_once(credentials).await {
            Ok(session) => {
                self.note_log_in(&session);
                Ok(session)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// The credentials of `[boot]` were wrong a moment ago: they are not tried by every call (CONTRACT section 1).
    fn refused_before(&self) -> Result<(), Report> {
        match &*self.refusal.borrow() {
            Some((until, report)) if self.clock.now() < *until => Err(report.clone()),
            Some(_) | None => Ok(()),
        }
    }

    /// After a start: uploads wait, and nobody may come for days to log in.
    pub(super) async fn finish_uploads(&self) {
        if self.credentials.is_none() {
            return;
        }
        // An unlock by itself logs in with the same credentials: it goes first.
        let mut pause = Pause::new();
        pause.wait().await;
        while self.models.view().uploads_waiting > 0 && self.parts.cloud.held().is_none() {
            match self.session().await {
                Ok(_) => return,
                Err(report) if report.code == Code::CredentialsWrong => return,
                Err(_) => pause.wait().await,
            }
        }
    }

    /// Ends downloads and uploads where they are.
    pub(super) async fn stop(&self) {
        self.models.stop().await;
    }

    /// For the log, for who follows, and for the client.
    fn told(&self, what: &str, report: Report) -> Report {
        self.voices.feed.error(&report);
        told(what, report)
    }

    fn note_log_in(&self, session: &Session) {
        self.voices.audit.note(Event::LoginAccepted, Some(&session.user().id), None);
    }

    fn failed(&self, error: &CloudError) -> Report {
        let report = Report::of(error);
        if resource::is_unreachable(error) {
            self.away_until.set(self.clock.now() + AWAY_PAUSE);
        } else {
            self.voices.audit.note(Event::LoginRefused, None, Some(report.code));
            self.refusal.replace(Some((self.clock.now() + AWAY_PAUSE, report.clone())));
        }
        log::warn!("no log-in for a model: {} ({})", report.message, report.code);
        report
    }
}

/// A model on its way out.
pub(super) struct Leaving(Model);

impl Outgoing for Leaving {
    fn length(&self) -> Option<u64> {
        self.0.length()
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, Report> {
        self.0.next().await.map_err(|error| told("load", Report::of(&error)))
    }
}

/// A model on its way in.
pub(super) struct Arriving {
    incoming: resource::Incoming,
    audit: Rc<Audit>,
    feed: Rc<Feed>,
    user: String,
}

impl control::Incoming for Arriving {
    async fn push(&mut self, piece: &[u8]) -> Result<(), Report> {
        metrics::MODELS.received.add(piece.len() as u64);
        self.incoming.push(piece).await.map_err(|error| Report::of(&error))
    }

    async fn finish(self, wanted: Wanted) -> Result<UploadAnswer, Report> {
        let Self { incoming, audit, feed, user } = self;
        match incoming.finish(wanted.folder, wanted.name).await {
            Ok(Outcome::Published) => {
                audit.note(Event::UploadPublished, Some(&user), None);
                feed.note("a model was uploaded, and the cloud has it");
                Ok(UploadAnswer::Published)
            }
            Ok(Outcome::Accepted) => {
                audit.note(Event::UploadAccepted, Some(&user), None);
                feed.note("a model was taken in; the board sends it when the cloud answers again");
                Ok(UploadAnswer::Accepted)
            }
            Err(error) => {
                let report = told("upload", Report::of(&error));
                feed.error(&report);
                audit.note(Event::UploadRefused, Some(&user), Some(report.code));
                Err(report)
            }
        }
    }
}

/// For the log as for the client.
fn told(what: &str, report: Report) -> Report {
    log::warn!("{what}: {} ({}); next: {}", report.message, report.code, report.next);
    report
}

fn still_away() -> Report {
    Report {
        code: Code::ApiUnreachable,
        message: "the API did not answer a moment ago".into(),
        next: "check the board's network, wait half a minute and try again".into(),
    }
}
