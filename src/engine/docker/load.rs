//! The load: the plan is made, its steps run side by side, and what the engine refuses goes the next plainer way.
//!
//! ```text
//!   Thin ──refused──► Whole ──refused──► Plain
//!     └─ engine died: waited for, looked at again, planned again ─┘
//! ```
//!
//! Every image goes in without its tags; [`Docker::switch`](super::Docker::switch) sets them when all are in. Only the
//! plain way lets the engine set them.

use std::cell::Cell;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use smol::future::or;

use super::super::error::{EngineError, LoadError, Place};
use super::super::plan::{Held, Plan, Way};
use super::super::{EngineStore, Expected, Gauge, Order};
use super::thin::{Stage, ThinTar, Track};
use super::{Docker, space};
use crate::archive::{Archive, Packing};
use crate::error::chain;
use crate::limits::{ENGINE_LOAD_ATTEMPTS, ENGINE_RETURN_WAIT, ENGINE_SPARE_BYTES};

/// One load of one archive.
struct Load<'a> {
    docker: &'a Docker,
    archive: &'a Archive,
    expected: &'a [Expected],
    order: &'a Order<'a>,
    gauge: &'a dyn Gauge,
    /// Images that were not there before: a failed load takes them back.
    new: Vec<String>,
    lanes: usize,
}

/// What a plan needs of the engine's flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What stays.
    pub lasting: u64,
    /// What lies there for a while on top.
    pub passing: u64,
    /// What is free; `None` where it is not known.
    pub free: Option<u64>,
}

impl Room {
    pub(super) const fn needed(&self) -> u64 {
        self.lasting.saturating_add(self.passing).saturating_add(ENGINE_SPARE_BYTES)
    }

    fn fits(&self) -> bool {
        self.free.is_none_or(|free| self.needed() <= free)
    }
}

impl Docker {
    /// Brings in what the engine lacks. `expected` are the archive's images in its order.
    ///
    /// # Errors
    /// Images that were not there before are gone again, and tags mean what they meant, as far as the engine still
    /// answers. After an engine that went away what is in stays: the next load goes on there.
    pub async fn load(
        &self,
        archive: &Archive,
        expected: &[Expected],
        order: &Order<'_>,
        gauge: &dyn Gauge,
    ) -> Result<(), LoadError> {
        let mut load =
            Load { docker: self, archive, expected, order, gauge, new: Vec::new(), lanes: order.at_once.max(1) };
        let mut way = Way::Thin;
        if let Some(why) = only_plain(archive, expected, order.store) {
            log::info!("the archive goes in as it is, in one request: {why}");
            way = Way::Plain;
        }
        load.note_new().await?;
        let outcome = load.by(way).await;
        match &outcome {
            Ok(()) => self.remove_prefixes().await,
            Err(LoadError::Engine(error)) if error.is_away() => {}
            Err(_) => {
                self.remove_prefixes().await;
                self.take_back(&load.new).await;
            }
        }
        outcome
    }

    /// What [`Docker::load`] would do.
    pub(in crate::engine) async fn plan(
        &self,
        archive: &Archive,
        expected: &[Expected],
        order: &Order<'_>,
    ) -> Result<(Held, Option<Plan>, Room), EngineError> {
        let held = self.held(archive.images(), expected, order.brought, order.store).await?;
        let plan = match only_plain(archive, expected, order.store) {
            Some(_) => None,
            None => Plan::of(archive.images(), order.store, Way::Thin, &held),
        };
        let free = space::free(order.root).await;
        let room = match &plan {
            Some(plan) => room_of(plan, order.store, order.at_once, free),
            None if expected.iter().all(|image| held.whole.contains(&image.config)) => {
                Room { lasting: 0, passing: 0, free }
            }
            None => Room { lasting: archive.tar_len(), passing: archive.tar_len(), free },
        };
        Ok((held, plan, room))
    }
}

/// Why an archive cannot go in image by image.
fn only_plain(archive: &Archive, expected: &[Expected], store: EngineStore) -> Option<&'static str> {
    if archive.packing() != Packing::Plain {
        return Some("it is compressed as a whole");
    }
    if expected.iter().any(|image| image.id.is_none()) {
        return Some("what the engine makes of its images cannot be told beforehand");
    }
    if Plan::of(archive.images(), store, Way::Thin, &Held::default()).is_none() {
        return Some("it does not tell the digests of all its layers");
    }
    None
}

fn room_of(plan: &Plan, store: EngineStore, lanes: usize, free: Option<u64>) -> Room {
    // Beside each request that is applied, the next one may have come.
    Room { lasting: plan.lasting_bytes(store), passing: plan.passing_bytes(store, requests(lanes)), free }
}

/// Requests under way at most: of each image one that is applied and one that streams.
const fn requests(lanes: usize) -> usize {
    lanes.saturating_mul(2)
}

impl Load<'_> {
    /// Runs the way and, where the engine refuses it, the plainer ones.
    async fn by(&mut self, mut way: Way) -> Result<(), LoadError> {
        let mut tries = Tries { deaths: 0, least: u64::MAX };
        loop {
            let error = match self.once(way, &mut tries).await {
                Ok(()) => return Ok(()),
                Err(LoadError::Engine(error)) => error,
                Err(error) => return Err(error),
            };
            match error {
                error if error.is_away() && way != Way::Plain => {
                    tries.deaths += 1;
                    if tries.deaths >= ENGINE_LOAD_ATTEMPTS || !self.docker.is_back_within(ENGINE_RETURN_WAIT).await {
                        return Err(error.into());
                    }
                    log::warn!(
                        "the engine went away in mid-load; what it has taken in is looked for, and the rest sent"
                    );
                    self.lanes = 1;
                }
                EngineError::EngineFull { message } if self.lanes > 1 => {
                    log::warn!("the engine has no space left ({message}): one image at a time from here on");
                    self.lanes = 1;
                }
                error @ (EngineError::LoadFailed { .. }
                | EngineError::Refused { .. }
                | EngineError::Protocol { .. }
                | EngineError::Mismatch { .. }
                | EngineError::Http { .. })
                    if way != Way::Plain =>
                {
                    let next = if way == Way::Thin { Way::Whole } else { Way::Plain };
                    log::warn!("the engine refuses {}: {}; next: {}", words(way), chain(&error), words(next));
                    self.docker.remove_prefixes().await;
                    self.docker.take_back(&self.new).await;
                    way = next;
                }
                error => return Err(error.into()),
            }
        }
    }

    /// One run.
    async fn once(&mut self, way: Way, tries: &mut Tries) -> Result<(), LoadError> {
        let (images, store) = (self.archive.images(), self.order.store);
        if way == Way::Plain {
            self.gauge.done().set(0);
            self.gauge.expect_bytes(self.archive.tar_len());
            let loaded = self.docker.load_plain(self.archive, self.gauge.done()).await?;
            log::info!("the engine loaded {}", loaded.join(", "));
            return Ok(());
        }
        let held = match way {
            Way::Thin => self.docker.held(images, self.expected, self.order.brought, store).await?,
            Way::Whole | Way::Plain => {
                Held { named: self.docker.named(self.expected, store).await?, ..Held::default() }
            }
        };
        let Some(plan) = Plan::of(images, store, way, &held) else { return Ok(()) };
        if plan.bytes() < tries.least {
            *tries = Tries { deaths: 0, least: plan.bytes() };
        }
        self.make_room(&plan).await?;
        let done = self.gauge.done().get();
        self.gauge.expect_bytes(done + plan.bytes());
        log::info!(
            "{} of {} images are missing: {} bytes in {} requests, up to {} images side by side",
            plan.brought_by.iter().flatten().count(),
            images.len(),
            plan.bytes(),
            plan.steps.len(),
            self.lanes
        );
        self.run(&plan, done).await?;
        if store == EngineStore::Classic && !plan.steps.is_empty() && images.iter().any(|image| image.parent.is_some())
        {
            self.family().await?;
        }
        for image in self.expected {
            if let Err(difference) = self.docker.find(&Expected { tags: Vec::new(), ..image.clone() }).await? {
                return Err(EngineError::Mismatch { image: image.name(), difference }.into());
            }
        }
        Ok(())
    }

    /// Lowers the number of images side by side until they fit.
    async fn make_room(&mut self, plan: &Plan) -> Result<(), EngineError> {
        let free = space::free(self.order.root).await;
        loop {
            let room = room_of(plan, self.order.store, self.lanes, free);
            if plan.steps.is_empty() || room.fits() {
                return Ok(());
            }
            if self.lanes == 1 {
                // With one layer after the other, nothing beside the largest one lies in the temporary directory; that
                // may be on another disk, which cannot be seen.
                let needed = room.lasting.saturating_add(ENGINE_SPARE_BYTES);
                let free = free.unwrap_or(u64::MAX);
                if needed <= free {
                    return Ok(());
                }
                return Err(EngineError::NoRoom { place: Place::EngineRoot, needed, free });
            }
            self.lanes -= 1;
        }
    }

    /// Runs the steps, as many at a time as there are lanes, the most urgent ones first.
    async fn run(&self, plan: &Plan, done: u64) -> Result<(), LoadError> {
        let urgency = plan.urgency();
        let track = Track::new(plan.steps.len(), self.gauge.done());
        let mut flights = FuturesUnordered::new();
        loop {
            // A step whose tar is out lets the next one begin.
            let moved = track.moved();
            while let Some(at) = next(plan, &track, &urgency, self.lanes) {
                track.set(at, Stage::Streaming);
                let track = &track;
                let given_up = async move {
                    track.given_up(at).await;
                    Ok(())
                };
                flights.push(async move { (at, or(self.step(plan, at, track), given_up).await) });
            }
            let ended = async { flights.next().await.map(Some) };
            match or(ended, async {
                moved.await;
                Some(None)
            })
            .await
            {
                None => break,
                Some(None) => {}
                Some(Some((_, Err(error)))) => {
                    // What has its end marker the engine takes in, whoever listens: only when it has said so can it be
                    // taken back.
                    track.give_up();
                    while flights.next().await.is_some() {}
                    return Err(error);
                }
                Some(Some((at, Ok(())))) => {
                    track.set(at, Stage::Ended);
                    let is_in = |by: &Option<usize>| by.is_none_or(|by| track.stage(by) == Stage::Ended);
                    let images = plan.brought_by.iter().filter(|by| is_in(by)).count();
                    self.gauge.images(u32::try_from(images).unwrap_or(u32::MAX));
                }
            }
        }
        self.gauge.done().set(done + plan.bytes());
        Ok(())
    }

    async fn step(&self, plan: &Plan, at: usize, track: &Track<'_>) -> Result<(), LoadError> {
        let tar = ThinTar::of(self.archive, plan, at, self.order.store, track).await?;
        // That every digest is known was seen when the plan was made.
        let Some(tar) = tar else { return Ok(()) };
        let loaded = self.docker.post_load(tar, || track.stage(at) >= Stage::Applying).await?;
        log::debug!("step {} of {}: the engine loaded {}", at + 1, plan.steps.len(), loaded.join(", "));
        Ok(())
    }

    /// Tells the classic store who is whose parent, which it learns only of images that come together.
    async fn family(&self) -> Result<(), LoadError> {
        let nothing = Cell::new(0);
        let track = Track::new(1, &nothing);
        let tar = ThinTar::family(self.archive, &track).await?;
        self.docker.post_load(tar, || track.stage(0) >= Stage::Applying).await.map(|_loaded| ())
    }

    async fn note_new(&mut self) -> Result<(), EngineError> {
        for id in self.expected.iter().filter_map(|image| image.id.as_ref()) {
            if self.docker.inspect(id).await?.is_none() {
                self.new.push(id.clone());
            }
        }
        Ok(())
    }
}

/// How often the engine died without having taken anything in meanwhile.
struct Tries {
    deaths: u32,
    /// The least that was ever left to send.
    least: u64,
}

/// The step that may begin now: everything below it is applied at least, and a lane is free.
fn next(plan: &Plan, track: &Track<'_>, urgency: &[u64], lanes: usize) -> Option<usize> {
    let count = |stage: Stage| (0..plan.steps.len()).filter(|&at| track.stage(at) == stage).count();
    if count(Stage::Streaming) >= lanes || count(Stage::Streaming) + count(Stage::Applying) >= requests(lanes) {
        return None;
    }
    let may_begin = |&at: &usize| {
        let below = &plan.steps[at].after;
        track.stage(at) == Stage::Waiting && below.iter().all(|&below| track.stage(below) >= Stage::Applying)
    };
    (0..plan.steps.len()).filter(may_begin).max_by_key(|&at| (urgency[at], std::cmp::Reverse(at)))
}

const fn words(way: Way) -> &'static str {
    match way {
        Way::Thin => "images without the layers it has",
        Way::Whole => "images one by one",
        Way::Plain => "the archive as it is",
    }
}
