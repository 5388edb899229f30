//! Brings accepted uploads to the clouds: the big part to the CDN, then, when it is confirmed there, the seal and after it
//! the small part to the API, and last the staged file becomes the cache's own entry.
//!
//! ```text
//!   staged ─┬─ one part: put ────────────────────────────────────┬─ confirmed ── seal ── small part ── entry
//!           └─ begun ── part 1 … n, each journaled ── finished ──┘
//! ```
//!
//! A seal is made anew for each attempt, and never stands behind its small part: whoever has the new small part finds a
//! seal that fits it.
//!
//! Each step is durable before the next begins, and each can be made twice. A cloud that is away is waited for without
//! end; a refusal for good ends the upload. Two uploads of one resource are never sent side by side: the newer one waits
//! until the older one, which then is superseded, has noticed.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use event_listener::Event;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::or;
use smol::lock::Semaphore;
use smol::{LocalExecutor, Task, Timer};

use super::Models;
use super::error::ResourceError;
use super::join::END_BYTES;
use super::login::{Guest, Login};
use super::small::Small;
use super::upload::Outcome;
use crate::cache::{ReadError, Upload, UploadStep};
use crate::cloud::{Cdn, CdnError, PutError};
use crate::error::chain;
use crate::limits::{
    PUBLISH_FIRST_PAUSE, PUBLISH_LONGEST_PAUSE, PUBLISHING, UPLOAD_PART_BYTES, UPLOAD_PARTS, UPLOAD_RESTARTS,
};
use crate::net::BodySource;

/// What the client of an upload is told first.
type Told = Result<Outcome, ResourceError>;

/// All uploads that are under way.
pub(super) struct Publisher {
    /// In the order in which they were accepted.
    running: Rc<RefCell<Vec<Running>>>,
    slots: Semaphore,
    /// A log-in, or an upload that ended or is superseded.
    news: Rc<Event>,
    /// Short work beside: at most one.
    beside: RefCell<Option<Task<()>>>,
}

struct Running {
    upload: Rc<Upload>,
    task: Task<()>,
}

impl Default for Publisher {
    fn default() -> Self {
        Self {
            running: Rc::default(),
            slots: Semaphore::new(PUBLISHING),
            news: Rc::default(),
            beside: RefCell::default(),
        }
    }
}

/// How one attempt ended that did not fail.
enum Attempt {
    Published,
    Superseded,
}

impl Publisher {
    /// Runs `work` on its own; what ran before is ended.
    pub(super) fn beside(&self, executor: &LocalExecutor<'static>, work: impl Future<Output = ()> + 'static) {
        self.beside.replace(Some(executor.spawn(work)));
    }

    /// Ends all uploads where they are.
    pub(super) async fn stop(&self) {
        let beside = self.beside.take();
        if let Some(task) = beside {
            task.cancel().await;
        }
        let running = std::mem::take(&mut *self.running.borrow_mut());
        for running in running {
            running.task.cancel().await;
        }
    }

    fn is_running(&self, upload: &Upload) -> bool {
        self.running.borrow().iter().any(|running| is_same(&running.upload, upload))
    }

    /// Whether an older upload of the same resource has not ended yet.
    fn has_elder(&self, upload: &Rc<Upload>) -> bool {
        let running = self.running.borrow();
        let elders = running.iter().take_while(|running| !Rc::ptr_eq(&running.upload, upload));
        let same = |elder: &Upload| elder.folder() == upload.folder() && elder.name() == upload.name();
        elders.into_iter().any(|elder| same(&elder.upload))
    }
}

fn is_same(one: &Upload, other: &Upload) -> bool {
    one.version() == other.version() && one.folder() == other.folder() && one.name() == other.name()
}

impl Models {
    /// Goes on with the uploads of this user.
    pub(super) fn resume_uploads(self: &Rc<Self>, login: &Rc<Login>) {
        for upload in self.parts.cache.uploads() {
            if *upload.owner() == login.owner && !self.publisher.is_running(&upload) {
                log::info!("an upload that was accepted before goes on");
                let _nobody_waits = self.publish(&upload, Some(Rc::clone(login)));
            }
        }
        self.publisher.news.notify(usize::MAX);
    }

    /// Publishes an upload by itself; the receiver gets what its client is to be told.
    pub(super) fn publish(self: &Rc<Self>, upload: &Rc<Upload>, login: Option<Rc<Login>>) -> Receiver<Told> {
        let (tell, told) = bounded(1);
        let (models, upload) = (Rc::clone(self), Rc::clone(upload));
        let task = self.parts.executor.spawn({
            let upload = Rc::clone(&upload);
            async move {
                models.publish_until_done(&upload, login, &tell).await;
                models.publisher.forget(&upload);
            }
        });
        self.publisher.running.borrow_mut().push(Running { upload, task });
        // An older one of the same resource may sit in a pause.
        self.publisher.news.notify(usize::MAX);
        told
    }

    async fn publish_until_done(
        self: &Rc<Self>,
        upload: &Rc<Upload>,
        mut login: Option<Rc<Login>>,
        tell: &Sender<Told>,
    ) {
        let news = Rc::clone(&self.publisher.news);
        loop {
            let listener = news.listen();
            if !self.publisher.has_elder(upload) {
                break;
            }
            listener.await;
        }
        let mut pause = PUBLISH_FIRST_PAUSE;
        loop {
            let listener = news.listen();
            if upload.is_superseded() {
                let _nobody_listens = tell.try_send(Ok(Outcome::Accepted));
                return;
            }
            // Credentials are not held longer than the agent holds them: after a pause it is the last log-in's turn.
            let Some(held) = login.take().or_else(|| self.login_for(*upload.owner())) else {
                listener.await;
                continue;
            };
            let attempt = {
                let _slot = self.publisher.slots.acquire().await;
                self.publish_once(&held, upload).await
            };
            drop(held);
            let error = match attempt {
                Ok(Attempt::Published) => {
                    log::info!("an upload of {} bytes is published", upload.size());
                    let _nobody_listens = tell.try_send(Ok(Outcome::Published));
                    return;
                }
                Ok(Attempt::Superseded) => continue,
                Err(error) => error,
            };
            // A newer one came while this one was at it: that is no failure.
            if upload.is_superseded() {
                continue;
            }
            // The big part is published: without this small part nobody could read it again. A log-in by who may, or a
            // newer upload, mends that.
            if upload.progress().confirmed.is_some() && !error.is_away() {
                log::error!(
                    "seal or small part of an upload cannot be published, both are kept for a log-in: {}",
                    chain(&error)
                );
                let _nobody_listens = tell.try_send(Err(error));
                listener.await;
                continue;
            }
            // A client that waits is told, and what it is told has failed is gone. Afterwards only a refusal for good
            // ends what was accepted.
            let is_waited_for = !tell.is_closed() && !tell.is_full();
            if error.is_final() || (is_waited_for && !error.is_away()) {
                log::error!("an upload is given up: {}", chain(&error));
                upload.discard().await;
                let _nobody_listens = tell.try_send(Err(error));
                return;
            }
            log::warn!("an upload waits: {}; once more within {pause:.0?}", chain(&error));
            let _nobody_listens = tell.try_send(Ok(Outcome::Accepted));
            or(listener, async {
                Timer::after(jittered(pause)).await;
            })
            .await;
            pause = (pause * 2).min(PUBLISH_LONGEST_PAUSE);
        }
    }

    /// Makes every step that is not made yet.
    async fn publish_once(&self, login: &Rc<Login>, upload: &Rc<Upload>) -> Result<Attempt, ResourceError> {
        let (folder, name) = (upload.folder(), upload.name());
        // Before anything is sent: a small part that does not open would leave a big one without it.
        let vault = self.vault(&Guest::Login(Rc::clone(login))).await?;
        let small = vault.open(folder, name, upload.small_boxed()).map_err(ResourceError::Vault)?.small;
        let seal = self.seal_upload(upload, small.expose()).await?;
        let cdn = self.cdn_for_upload(login).await?;
        if let Some(confirmed) = upload.progress().confirmed {
            // Hours may lie between: a small part is never put beside somebody else's big one.
            let there = cdn.confirm(folder, name).await.map_err(ResourceError::Cdn)?;
            if !there.is_some_and(|(size, tag)| size == upload.size() && is_tag(&tag, &confirmed)) {
                upload.note(UploadStep::Restarted).await?;
            }
        }
        if upload.progress().confirmed.is_none() {
            // The role may have been lowered since the upload was taken in.
            let (needed, held) = (self.parts.upload_role, login.session.user().role);
            if held < needed {
                return Err(ResourceError::RoleTooLow { needed, held });
            }
            if self.send_big(&cdn, upload).await?.is_none() {
                if let Some(id) = upload.progress().upload_id {
                    // Best effort: the store throws it away by its age.
                    let _left_behind = cdn.abort_upload(folder, name, &id).await;
                }
                return Ok(Attempt::Superseded);
            }
        }
        if upload.is_superseded() {
            return Ok(Attempt::Superseded);
        }
        self.parts.api.put_resource(&login.session, folder, &name.seal(), seal.bytes()).await?;
        self.parts.api.put_resource(&login.session, folder, &name.small(), small.expose()).await?;
        upload.publish().await?;
        let small = Small::new(small.expose().to_vec())?.sealed(seal);
        self.keep(&Guest::Login(Rc::clone(login)), folder, name, &small).await;
        Ok(Attempt::Published)
    }

    /// Brings the big part to the CDN and sees it there; `None` when a newer upload took its place.
    ///
    /// What the CDN does not find here is the bucket, not a big part: its errors are passed on as they are.
    async fn send_big(&self, cdn: &Cdn, upload: &Rc<Upload>) -> Result<Option<()>, ResourceError> {
        let (folder, name, size) = (upload.folder(), upload.name(), upload.size());
        let mut restarts = 0;
        loop {
            let sent = if size <= UPLOAD_PART_BYTES {
                let body = Piece::new(upload, 0..upload.chunks());
                cdn.put(folder, name, body).await.map(Some).map_err(put_error)
            } else {
                self.send_parts(cdn, upload).await
            };
            let stored = match sent {
                Ok(Some(tag)) => tag,
                Ok(None) => return Ok(None),
                Err(ResourceError::Cdn(CdnError::NoSuchUpload)) => match self.there(cdn, upload).await? {
                    // Joined before, and only the answer was lost.
                    Some(tag) => tag,
                    // Too old for the store: begun anew.
                    None if restarts < UPLOAD_RESTARTS => {
                        restarts += 1;
                        upload.note(UploadStep::Restarted).await?;
                        continue;
                    }
                    None => return Err(ResourceError::Cdn(CdnError::NoSuchUpload)),
                },
                Err(error) => return Err(error),
            };
            match cdn.confirm(folder, name).await.map_err(ResourceError::Cdn)? {
                Some((at_cdn, tag)) if at_cdn == size && is_tag(&tag, &stored) => {
                    upload.note(UploadStep::Confirmed(tag)).await?;
                    return Ok(Some(()));
                }
                // Another board's upload came in between, or the store lies: ours is sent again.
                Some(_) | None if restarts < UPLOAD_RESTARTS => {
                    restarts += 1;
                    upload.note(UploadStep::Restarted).await?;
                }
                Some(_) | None => return Err(ResourceError::Cdn(CdnError::Changed)),
            }
        }
    }

    /// The tag of the object at the CDN, if it is this upload's: it ends in the same two blocks. By their chaining they depend on
    /// every byte before them and on an IV that was drawn for this upload alone.
    async fn there(&self, cdn: &Cdn, upload: &Upload) -> Result<Option<String>, ResourceError> {
        let mut last = Vec::new();
        upload.read(upload.chunks().saturating_sub(1), &mut last).await.map_err(ResourceError::Staged)?;
        let end = &last[last.len().saturating_sub(END_BYTES)..];
        match cdn.tail(upload.folder(), upload.name(), end.len() as u64).await {
            Ok(tail) => Ok((tail.size == upload.size() && tail.bytes == end).then_some(tail.etag)),
            // A store tells 403 of what is not there to who may not list.
            Err(CdnError::NotFound { .. } | CdnError::Refused { .. }) => Ok(None),
            Err(error) => Err(ResourceError::Cdn(error)),
        }
    }

    /// The parts that are not there yet, and the end.
    async fn send_parts(&self, cdn: &Cdn, upload: &Rc<Upload>) -> Result<Option<String>, ResourceError> {
        let (folder, name) = (upload.folder(), upload.name());
        let mark = upload.version().to_string();
        let progress = upload.progress();
        let (id, per_part) = if let Some(id) = progress.upload_id {
            // As it was begun, should this program have learnt to cut parts otherwise since.
            (id, u32::try_from(progress.part_bytes / upload.chunk_bytes()).unwrap_or(u32::MAX).max(1))
        } else {
            let per_part = chunks_per_part(upload.size(), upload.chunk_bytes());
            let id = cdn.begin_upload(folder, name, &mark).await.map_err(ResourceError::Cdn)?;
            upload.note(UploadStep::Begun(id.clone(), u64::from(per_part) * upload.chunk_bytes())).await?;
            (id, per_part)
        };
        let mut first = 0_u32;
        let mut number = 0_u32;
        while first < upload.chunks() {
            let end = first.saturating_add(per_part).min(upload.chunks());
            number += 1;
            if !progress.parts.iter().any(|(there, _)| *there == number) {
                if upload.is_superseded() {
                    return Ok(None);
                }
                let body = Piece::new(upload, first..end);
                let tag = cdn.put_part(folder, name, &id, number, body).await.map_err(put_error)?;
                upload.note(UploadStep::Part(number, tag)).await?;
            }
            first = end;
        }
        if upload.is_superseded() {
            return Ok(None);
        }
        let parts = upload.progress().parts;
        cdn.finish_upload(folder, name, &id, &parts, &mark).await.map(Some).map_err(ResourceError::Cdn)
    }
}

impl Publisher {
    /// What has ended makes way for the next one of the same resource.
    fn forget(&self, ended: &Rc<Upload>) {
        let mut running = self.running.borrow_mut();
        if let Some(at) = running.iter().position(|running| Rc::ptr_eq(&running.upload, ended)) {
            // It is the task that says so: it may run to its end.
            running.remove(at).task.detach();
        }
        drop(running);
        self.news.notify(usize::MAX);
    }
}

/// Whether two entity tags are one: XML has them with quotes or without.
fn is_tag(one: &str, other: &str) -> bool {
    one.trim_matches('"') == other.trim_matches('"')
}

/// Whole chunks, at least [`UPLOAD_PART_BYTES`] of them, in at most [`UPLOAD_PARTS`] parts.
fn chunks_per_part(size: u64, chunk_bytes: u64) -> u32 {
    let part = UPLOAD_PART_BYTES.max(size.div_ceil(UPLOAD_PARTS));
    u32::try_from(part.div_ceil(chunk_bytes)).unwrap_or(u32::MAX).max(1)
}

/// Evenly between half of it and all of it: boards that lost the same server do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    let chance = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    pause.mul_f64(0.5 + chance / 2.0)
}

fn put_error(error: PutError<ReadError>) -> ResourceError {
    match error {
        PutError::Cdn(error) => ResourceError::Cdn(error),
        PutError::Source(error) => ResourceError::Staged(error),
    }
}

/// Chunks of a staged upload as a request's body, each verified as it is read.
struct Piece {
    upload: Rc<Upload>,
    chunks: Range<u32>,
    next: u32,
    buffer: Vec<u8>,
}

impl Piece {
    fn new(upload: &Rc<Upload>, chunks: Range<u32>) -> Self {
        Self { upload: Rc::clone(upload), next: chunks.start, chunks, buffer: Vec::new() }
    }
}

impl BodySource for Piece {
    type Error = ReadError;

    fn length(&self) -> Option<u64> {
        let chunk_bytes = self.upload.chunk_bytes();
        let end = (u64::from(self.chunks.end) * chunk_bytes).min(self.upload.size());
        Some(end - u64::from(self.chunks.start) * chunk_bytes)
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, ReadError> {
        if self.next == self.chunks.end {
            return Ok(None);
        }
        self.upload.read(self.next, &mut self.buffer).await?;
        self.next += 1;
        Ok(Some(&self.buffer))
    }

    fn rewind(&mut self) -> bool {
        self.next = self.chunks.start;
        true
    }
}
