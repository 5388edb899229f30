//! The load plan: what of an archive an engine lacks, and in which requests it goes in.
//!
//! ```text
//!   base ──► base+a ──► image A          a step is one request: a tar with the layers it adds. It may begin while the
//!     └────► base+b ──► image B          step below it is applied, and ends only when that one has ended.
//! ```
//!
//! Layers form a tree, because an engine knows a layer only on top of those below it. A large image goes in as growing
//! prefixes, so that each step costs the room of a layer or two and a cut costs no more; what images share is a prefix
//! of its own and goes in once. Pure: nothing here asks an engine.

use std::collections::{BTreeMap, BTreeSet};

use super::EngineStore;
use super::chain::{self, ChainKey};
use crate::archive::Image;
use crate::crypto::Digest;
use crate::limits::{ENGINE_REST_BYTES, ENGINE_STEP_BYTES};

/// What an engine has of an archive, as far as it can be told.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Images that are whole, by the digest of their config.
    pub(super) whole: BTreeSet<Digest>,
    /// Stacks of layers.
    pub(super) chains: BTreeSet<ChainKey>,
    /// Tags that mean their image already although it is not known to be whole, by the digest of its config. Only asked
    /// of the containerd store, where an image that comes without a name is shown beside the one that has it.
    pub(super) named: BTreeMap<Digest, Vec<String>>,
}

/// How images are cut into requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Without what is there, large images layer by layer.
    Thin,
    /// Each image by itself, with all its layers.
    Whole,
    /// The archive as it is, in one request, with its tags.
    Plain,
}

/// What a step leaves in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// The image itself.
    Image,
    /// A prefix of it, which is removed again.
    Prefix(ChainKey),
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// Which image of the archive.
    pub(super) image: usize,
    /// How many of its layers the engine has when the step has ended.
    pub(super) upto: usize,
    /// Which of its layers go out.
    pub(super) sends: Vec<usize>,
    /// Steps that must have ended before this one may.
    pub(super) after: Vec<usize>,
    pub(super) leaves: Leaves,
    /// Tags that the image has already and keeps.
    pub(super) named: Vec<String>,
    /// Bytes of the layers that go out.
    pub(super) bytes: u64,
    /// Bytes of layers that the engine unpacks.
    pub(super) unpacked: u64,
}

/// All requests, each behind those it builds on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) way: Way,
    pub(super) steps: Vec<Step>,
    /// Of each image the step that brings it; `None` when it is there.
    pub(super) brought_by: Vec<Option<usize>>,
}

impl Plan {
    /// The plan for what is not held; `None` when the engine can only take the archive as it is.
    pub(super) fn of(images: &[Image], store: EngineStore, way: Way, held: &Held) -> Option<Self> {
        let mut draft =
            Draft { plan: Self { way, steps: Vec::new(), brought_by: vec![None; images.len()] }, ..Draft::default() };
        draft.named.clone_from(&held.named);
        let mut missing = Vec::new();
        for (at, image) in images.iter().enumerate() {
            let links = chain::links(image, store)?;
            if !held.whole.contains(&image.config) {
                missing.push(Missing { at, image, keys: chain::keys(&links), links });
            }
        }
        // Who is a prefix of another comes first, so that the other builds on it.
        missing.sort_by_key(|missing| missing.keys.len());
        match way {
            Way::Thin => {
                draft.held.clone_from(&held.chains);
                draft.cuts = cuts(&missing, held);
                for missing in &missing {
                    for (key, link) in missing.keys.iter().zip(&missing.links) {
                        if held.chains.contains(key) {
                            draft.blobs.insert(*link, None);
                        }
                    }
                }
                for missing in &missing {
                    draft.add(missing, store);
                }
            }
            Way::Whole => {
                for missing in &missing {
                    draft.step(missing, 0, missing.keys.len(), None, EngineStore::Classic);
                }
            }
            Way::Plain => return None,
        }
        Some(draft.plan)
    }

    /// Bytes of layers that go out.
    pub(super) fn bytes(&self) -> u64 {
        self.steps.iter().map(|step| step.bytes).sum()
    }

    /// Bytes of layers that the engine adds to its store for good, at least: packed layers become larger.
    pub(super) fn lasting_bytes(&self, store: EngineStore) -> u64 {
        let unpacked: u64 = self.steps.iter().map(|step| step.unpacked).sum();
        match store {
            EngineStore::Classic => unpacked,
            // The blobs stay beside what is unpacked of them.
            EngineStore::Containerd | EngineStore::Layout => unpacked + self.bytes(),
        }
    }

    /// Bytes of the tars that lie in the engine's temporary directory when `lanes` requests are under way.
    pub(super) fn passing_bytes(&self, store: EngineStore, lanes: usize) -> u64 {
        if store != EngineStore::Classic {
            return 0;
        }
        let mut bytes: Vec<u64> = self.steps.iter().map(|step| step.bytes).collect();
        bytes.sort_unstable_by(|a, b| b.cmp(a));
        bytes.iter().take(lanes).sum()
    }

    /// Of each step, the bytes of the longest way from it to the last step that waits for it: the longest goes first.
    pub(super) fn urgency(&self) -> Vec<u64> {
        let mut urgency: Vec<u64> = self.steps.iter().map(|step| step.unpacked).collect();
        for (at, step) in self.steps.iter().enumerate().rev() {
            for &below in &step.after {
                urgency[below] = urgency[below].max(self.steps[below].unpacked + urgency[at]);
            }
        }
        urgency
    }
}

/// An image that is not there.
struct Missing<'a> {
    at: usize,
    image: &'a Image,
    links: Vec<Digest>,
    keys: Vec<ChainKey>,
}

impl Missing<'_> {
    fn bytes(&self, layers: std::ops::Range<usize>) -> u64 {
        self.image.layers[layers].iter().map(|layer| layer.size).sum()
    }
}

/// Stacks where a step ends although the image goes on: an image ends there, or several images part there and what they
/// share is large.
fn cuts(missing: &[Missing<'_>], held: &Held) -> BTreeSet<ChainKey> {
    let mut cuts: BTreeSet<_> = missing.iter().filter_map(|missing| missing.keys.last().copied()).collect();
    let mut above: BTreeMap<ChainKey, BTreeSet<ChainKey>> = BTreeMap::new();
    for missing in missing {
        for pair in missing.keys.windows(2) {
            above.entry(pair[0]).or_default().insert(pair[1]);
        }
    }
    for missing in missing {
        let from = missing.keys.iter().take_while(|key| held.chains.contains(key)).count();
        for upto in from + 1..missing.keys.len() {
            let key = missing.keys[upto - 1];
            let parts = above.get(&key).is_some_and(|above| above.len() > 1);
            if parts && missing.bytes(from..upto) >= ENGINE_REST_BYTES {
                cuts.insert(key);
            }
        }
    }
    cuts
}

/// A plan that grows.
struct Draft {
    plan: Plan,
    held: BTreeSet<ChainKey>,
    cuts: BTreeSet<ChainKey>,
    /// The step that brings a stack.
    covered: BTreeMap<ChainKey, usize>,
    /// Blobs that are there, or the step that brings them.
    blobs: BTreeMap<Digest, Option<usize>>,
    named: BTreeMap<Digest, Vec<String>>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            plan: Plan { way: Way::Thin, steps: Vec::new(), brought_by: Vec::new() },
            held: BTreeSet::new(),
            cuts: BTreeSet::new(),
            covered: BTreeMap::new(),
            blobs: BTreeMap::new(),
            named: BTreeMap::new(),
        }
    }
}

impl Draft {
    /// Adds the steps of one image, on top of what is there or will be.
    fn add(&mut self, missing: &Missing<'_>, store: EngineStore) {
        let layers = missing.keys.len();
        let known = |key: &&ChainKey| self.held.contains(key) || self.covered.contains_key(key);
        let mut from = missing.keys.iter().take_while(known).count();
        let mut below = from.checked_sub(1).and_then(|at| self.covered.get(&missing.keys[at]).copied());
        let mut upto = from;
        loop {
            upto += usize::from(upto < layers);
            let ends = upto == layers || {
                let is_full = missing.bytes(from..upto) >= ENGINE_STEP_BYTES;
                let leaves_much = missing.bytes(upto..layers) >= ENGINE_REST_BYTES;
                self.cuts.contains(&missing.keys[upto - 1]) || (is_full && leaves_much)
            };
            if ends {
                below = Some(self.step(missing, from, upto, below, store));
                from = upto;
            }
            if upto == layers {
                return;
            }
        }
    }

    fn step(
        &mut self,
        missing: &Missing<'_>,
        from: usize,
        upto: usize,
        below: Option<usize>,
        store: EngineStore,
    ) -> usize {
        let layers = &missing.image.layers;
        let at = self.plan.steps.len();
        let mut after: Vec<usize> = below.into_iter().collect();
        let mut sends: Vec<usize> = Vec::new();
        if store == EngineStore::Classic {
            for layer in from..upto {
                // A layer that comes twice lies in the tar once.
                if !sends.iter().any(|&sent| layers[sent].offset == layers[layer].offset) {
                    sends.push(layer);
                }
            }
        } else {
            for layer in 0..upto {
                match self.blobs.get(&missing.links[layer]) {
                    Some(Some(step)) if *step != at => after.push(*step),
                    Some(_) => {}
                    None => {
                        self.blobs.insert(missing.links[layer], Some(at));
                        sends.push(layer);
                    }
                }
            }
        }
        after.sort_unstable();
        after.dedup();
        for key in &missing.keys[from..upto] {
            self.covered.insert(*key, at);
        }
        let leaves = if upto == layers.len() {
            self.plan.brought_by[missing.at] = Some(at);
            Leaves::Image
        } else {
            Leaves::Prefix(missing.keys[upto - 1])
        };
        let bytes = sends.iter().map(|&layer| layers[layer].size).sum();
        let unpacked = missing.bytes(from..upto);
        let named = match leaves {
            Leaves::Image => self.named.get(&missing.image.config).cloned().unwrap_or_default(),
            Leaves::Prefix(_) => Vec::new(),
        };
        self.plan.steps.push(Step { image: missing.at, upto, sends, after, leaves, named, bytes, unpacked });
        at
    }
}

#[cfg(test)]
mod tests;
