//! Downloads of big parts into the cache: one per version, shared by everybody who reads it.
//!
//! ```text
//!   workers ── claim the lowest missing chunks (a waiting reader's first) ── CDN range ── Entry::write ── readers wake
//! ```
//!
//! One worker, until a range takes long; then up to four, which is what fills a long thin link. A reader that leaves
//! stops nothing. A download that failed leaves what it has: the next one goes on from there. A chunk that is not what
//! was sealed is fetched once more by itself; the same again ends the download.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use smol::lock::{Mutex, MutexGuardArc};
use smol::{LocalExecutor, Task};

use super::error::ResourceError;
use super::sealed::Forged;
use super::small::Target;
use crate::cache::{CacheError, Entry};
use crate::cloud::{Cdn, CdnRead};
use crate::limits::{DOWNLOAD_WORKERS, DOWNLOADS, SEGMENT_FIRST_BYTES, SEGMENT_LONGEST_BYTES, SEGMENT_SLOW};
use crate::net::Clock;

/// One worker, at what it is at.
type Worker<'a> = Pin<Box<dyn Future<Output = Result<(), ResourceError>> + 'a>>;

/// How a download ended.
type Ending = Result<(), Rc<ResourceError>>;

/// All downloads, and the gates before them.
#[derive(Default)]
pub(super) struct Downloads {
    places: Rc<RefCell<Vec<Place>>>,
}

struct Place {
    target: Rc<Target>,
    /// Who looks at this version, until it is known who downloads it.
    gate: std::sync::Arc<Mutex<()>>,
    running: Option<(Rc<Download>, Task<()>)>,
}

/// Alone with one version: nobody else begins a download of it.
pub(super) struct Gate {
    _held: MutexGuardArc<()>,
}

impl Downloads {
    /// Waits until nobody else is about to begin a download of this version.
    pub(super) async fn gate(&self, target: &Rc<Target>) -> Gate {
        let gate = {
            let mut places = self.places.borrow_mut();
            places.retain(Place::is_used);
            if let Some(place) = places.iter().find(|place| place.target == *target) {
                std::sync::Arc::clone(&place.gate)
            } else {
                let gate = std::sync::Arc::<Mutex<()>>::default();
                places.push(Place { target: Rc::clone(target), gate: std::sync::Arc::clone(&gate), running: None });
                gate
            }
        };
        Gate { _held: gate.lock_arc().await }
    }

    /// The download of this version that runs.
    pub(super) fn find(&self, target: &Target) -> Option<Rc<Download>> {
        let places = self.places.borrow();
        let running = places.iter().find(|place| *place.target == *target)?.running.as_ref();
        running.map(|(download, _)| Rc::clone(download)).filter(|download| download.ending().is_none())
    }

    /// How many run.
    pub(super) fn running(&self) -> usize {
        self.places.borrow().iter().filter(|place| place.is_running()).count()
    }

    /// Begins a download, or finds the one that runs; `None` when too many run.
    pub(super) fn begin(
        &self,
        target: &Rc<Target>,
        entry: &Rc<Entry>,
        cdn: Rc<Cdn>,
        clock: &Clock,
        executor: &LocalExecutor<'static>,
    ) -> Option<Rc<Download>> {
        if let Some(running) = self.find(target) {
            // One version, and yet another entry: its object was replaced at the CDN. Who still reads the old one is not
            // served by this.
            return Rc::ptr_eq(running.entry(), entry).then_some(running);
        }
        if self.running() >= DOWNLOADS {
            return None;
        }
        let download = Rc::new(Download::new(target, entry, cdn, clock));
        let task = executor.spawn({
            let (download, places) = (Rc::clone(&download), Rc::clone(&self.places));
            async move {
                download.run().await;
                forget(&places, &download);
            }
        });
        let mut places = self.places.borrow_mut();
        if let Some(place) = places.iter_mut().find(|place| place.target == *target) {
            place.running = Some((Rc::clone(&download), task));
        } else {
            let gate = std::sync::Arc::default();
            places.push(Place { target: Rc::clone(target), gate, running: Some((Rc::clone(&download), task)) });
        }
        Some(download)
    }

    /// Ends all downloads where they are, so that the next run resumes them.
    pub(super) async fn stop(&self) {
        let places = std::mem::take(&mut *self.places.borrow_mut());
        for (download, task) in places.into_iter().filter_map(|place| place.running) {
            task.cancel().await;
            if download.ending().is_none() {
                download.entry.give_up().await;
                download.end(Err(Rc::new(ResourceError::Stopping)));
            }
        }
    }
}

/// What has ended holds its entry no longer.
fn forget(places: &RefCell<Vec<Place>>, ended: &Rc<Download>) {
    let is_it =
        |place: &mut Place| place.running.take_if(|(download, _)| Rc::ptr_eq(download, ended)).map(|(_, task)| task);
    let task = places.borrow_mut().iter_mut().find_map(is_it);
    // It is the task that says so: it may run to its end.
    task.into_iter().for_each(Task::detach);
}

impl Place {
    fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|(download, _)| download.ending().is_none())
    }

    /// Whether it runs, or somebody stands at its gate.
    fn is_used(&self) -> bool {
        self.is_running() || std::sync::Arc::strong_count(&self.gate) > 1
    }
}

/// One download.
pub(super) struct Download {
    target: Rc<Target>,
    entry: Rc<Entry>,
    cdn: Rc<Cdn>,
    clock: Clock,
    /// Chunks that readers wait for, in the order in which they came; as many as there are readers.
    wanted: RefCell<Vec<u32>>,
    /// What workers are at; as many as there are workers.
    claimed: RefCell<Vec<Range<u32>>>,
    segment_bytes: Cell<u64>,
    hands: Cell<usize>,
    ending: RefCell<Option<Ending>>,
}

impl Download {
    fn new(target: &Rc<Target>, entry: &Rc<Entry>, cdn: Rc<Cdn>, clock: &Clock) -> Self {
        Self {
            target: Rc::clone(target),
            entry: Rc::clone(entry),
            cdn,
            clock: clock.clone(),
            wanted: RefCell::default(),
            claimed: RefCell::default(),
            segment_bytes: Cell::new(SEGMENT_FIRST_BYTES),
            hands: Cell::new(1),
            ending: RefCell::default(),
        }
    }

    /// What it fills.
    pub(super) fn entry(&self) -> &Rc<Entry> {
        &self.entry
    }

    /// How it ended, if it has.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending.borrow().clone()
    }

    /// Says that a reader waits for this chunk; [`Entry::listen`] tells when it may be there.
    pub(super) fn want(&self, chunk: u32) {
        let mut wanted = self.wanted.borrow_mut();
        if chunk < self.entry.chunks() && !wanted.contains(&chunk) {
            wanted.push(chunk);
        }
    }

    fn end(&self, ending: Ending) {
        self.ending.replace(Some(ending));
        self.entry.wake();
    }

    async fn run(&self) {
        let filled = self.fill().await;
        let ending = match filled {
            Ok(()) => self.entry.finish().await.map_err(ResourceError::from),
            Err(error) => {
                // What there is stays for the next one.
                self.entry.give_up().await;
                Err(error)
            }
        };
        if let Err(error) = &ending {
            log::warn!("a download ended early: {}", crate::error::chain(error));
        }
        self.end(ending.map_err(Rc::new));
    }

    /// Until nothing is missing.
    async fn fill(&self) -> Result<(), ResourceError> {
        while self.entry.missing().next().is_some() {
            let mut workers: Vec<Worker<'_>> = Vec::new();
            poll_fn(|cx| {
                loop {
                    let mut at = 0;
                    while at < workers.len() {
                        match workers[at].as_mut().poll(cx) {
                            Poll::Pending => at += 1,
                            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                            Poll::Ready(Ok(())) => drop(workers.swap_remove(at)),
                        }
                    }
                    if !self.needs_hand(workers.len()) {
                        return if workers.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending };
                    }
                    workers.push(Box::pin(self.work()));
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Whether there is more to do than is being done.
    fn needs_hand(&self, workers: usize) -> bool {
        workers < self.hands.get() && self.first_free().is_some()
    }

    /// One worker, until everything is claimed.
    async fn work(&self) -> Result<(), ResourceError> {
        let mut buffer = Vec::new();
        while let Some(segment) = self.claim() {
            let began = self.clock.now();
            let fetched = self.fetch(segment.clone(), &mut buffer).await;
            self.claimed.borrow_mut().retain(|claimed| *claimed != segment);
            fetched?;
            if self.clock.now().saturating_sub(began) > SEGMENT_SLOW {
                self.hands.set((self.hands.get() + 1).min(DOWNLOAD_WORKERS));
            } else {
                self.segment_bytes.set((self.segment_bytes.get() * 2).min(SEGMENT_LONGEST_BYTES));
            }
        }
        Ok(())
    }

    fn is_free(&self, chunk: u32) -> bool {
        !self.entry.has(chunk) && !self.claimed.borrow().iter().any(|claimed| claimed.contains(&chunk))
    }

    /// Where to begin: at a waiting reader's chunk, or else at the lowest that is missing.
    fn first_free(&self) -> Option<u32> {
        self.wanted.borrow_mut().retain(|chunk| !self.entry.has(*chunk));
        let wanted = self.wanted.borrow().iter().copied().find(|chunk| self.is_free(*chunk));
        wanted.or_else(|| self.entry.missing().find(|chunk| self.is_free(*chunk)))
    }

    fn claim(&self) -> Option<Range<u32>> {
        let first = self.first_free()?;
        let most = u32::try_from(self.segment_bytes.get() / self.entry.chunk_bytes()).unwrap_or(u32::MAX).max(1);
        let end = first.saturating_add(most).min(self.entry.chunks());
        let end = (first..end).find(|chunk| !self.is_free(*chunk)).unwrap_or(end);
        self.claimed.borrow_mut().push(first..end);
        Some(first..end)
    }

    /// One range, chunk by chunk.
    async fn fetch(&self, segment: Range<u32>, buffer: &mut Vec<u8>) -> Result<(), ResourceError> {
        let entry = &self.entry;
        let range = entry.chunk_range(segment.start).start..entry.chunk_range(segment.end - 1).end;
        let mut read = self.read(range).await?;
        for chunk in segment {
            let range = entry.chunk_range(chunk);
            buffer.resize(usize::try_from(range.end - range.start).unwrap_or(usize::MAX), 0);
            read.fill(buffer).await?;
            match entry.write(chunk, buffer).await {
                // Nobody else can say what it should have been.
                Err(CacheError::Mismatch { .. }) if entry.is_sealed() => {
                    log::warn!("chunk {chunk} of a model came as something else than was sealed: it is fetched again");
                    self.read(range).await?.fill(buffer).await?;
                    match entry.write(chunk, buffer).await {
                        Err(CacheError::Mismatch { .. }) => return Err(Forged::Chunk { chunk: chunk.into() }.refuse()),
                        written => written?,
                    }
                }
                written => written?,
            }
        }
        Ok(())
    }

    async fn read(&self, range: Range<u64>) -> Result<CdnRead, ResourceError> {
        let Target { folder, name, .. } = &*self.target;
        Ok(self.cdn.read(folder, name, &self.entry.object().etag, range).await?)
    }
}
