//! The thin tar: what a step sends, written on the fly, its length known before its first byte.
//!
//! Two forms: `<config>.json`, `<diff_id>/layer.tar`, `manifest.json` for the classic store, the OCI layout for the
//! containerd store. The end marker waits until the steps below have ended and the file was seen to be unchanged: engines
//! act on it. Every layer's digest is right before the tar goes on behind it; of a sealed archive, every chunk is.

use std::cell::Cell;
use std::collections::VecDeque;

use event_listener::{Event, EventListener};

use super::super::EngineStore;
use super::super::plan::{Leaves, Plan, Step};
use super::documents;
use crate::archive::{Archive, ArchiveError, Image, Place, Span};
use crate::crypto::Digest;
use crate::limits::PIECE_BYTES;
use crate::net::BodySource;

/// Bytes of a header, and what everything in a tar is a multiple of (POSIX pax, "ustar Interchange Format").
const UNIT: u64 = 512;

/// Two zero blocks.
const END_MARKER_BYTES: usize = 1024;

/// How far a step is, for those that wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Not begun.
    Waiting,
    /// Its tar goes out.
    Streaming,
    /// The end marker is out: the engine works on it.
    Applying,
    /// The engine said so.
    Ended,
}

/// A part of the tar.
enum Part<'a> {
    /// Headers, documents, padding.
    Bytes(Vec<u8>),
    /// Bytes of the archive; `counts` when they are a layer's.
    Span { span: Span<'a>, counts: bool },
    /// The end marker.
    End,
}

/// A tar under way.
pub(super) struct ThinTar<'a> {
    archive: &'a Archive,
    parts: VecDeque<Part<'a>>,
    length: u64,
    /// How far all steps are; this one's is set here.
    track: &'a Track<'a>,
    at: usize,
    after: &'a [usize],
    /// The piece that was given out last.
    piece: Vec<u8>,
}

/// How far all steps are, and how many bytes went out.
pub(super) struct Track<'a> {
    stages: Vec<Cell<Stage>>,
    moves: Event,
    /// A step failed: what has no end marker yet gets none.
    is_given_up: Cell<bool>,
    /// Bytes of layers that went out, of all steps together.
    done: &'a Cell<u64>,
}

impl<'a> Track<'a> {
    /// Nothing has begun.
    pub(super) fn new(steps: usize, done: &'a Cell<u64>) -> Self {
        Self {
            stages: vec![Cell::new(Stage::Waiting); steps],
            moves: Event::new(),
            is_given_up: Cell::new(false),
            done,
        }
    }

    /// How far this step is.
    pub(super) fn stage(&self, at: usize) -> Stage {
        self.stages[at].get()
    }

    /// It came on; whoever waits for a move looks again.
    pub(super) fn set(&self, at: usize, stage: Stage) {
        self.stages[at].set(stage);
        self.moves.notify(usize::MAX);
    }

    /// Ends with the next move from now on.
    pub(super) fn moved(&self) -> EventListener {
        self.moves.listen()
    }

    /// A step failed.
    pub(super) fn give_up(&self) {
        self.is_given_up.set(true);
        self.moves.notify(usize::MAX);
    }

    /// Ends when a step failed before this one had its end marker.
    pub(super) async fn given_up(&self, at: usize) {
        loop {
            let moved = self.moved();
            if self.is_given_up.get() && self.stage(at) < Stage::Applying {
                return;
            }
            moved.await;
        }
    }

    /// Waits until all of these have ended.
    async fn ended(&self, steps: &[usize]) {
        loop {
            let moved = self.moved();
            if steps.iter().all(|&step| self.stage(step) == Stage::Ended) {
                return;
            }
            moved.await;
        }
    }
}

impl<'a> ThinTar<'a> {
    /// The tar of the step at `at`; `None` when the archive does not tell enough for this store.
    pub(super) async fn of(
        archive: &'a Archive,
        plan: &'a Plan,
        at: usize,
        store: EngineStore,
        track: &'a Track<'a>,
    ) -> Result<Option<Self>, ArchiveError> {
        let step = &plan.steps[at];
        let image = &archive.images()[step.image];
        let mut parts = Parts { archive, list: VecDeque::new(), length: 0 };
        let is_written = match store {
            EngineStore::Classic => {
                parts.classic(image, step).await?;
                true
            }
            EngineStore::Containerd | EngineStore::Layout => parts.oci(image, step).await?,
        };
        if !is_written {
            return Ok(None);
        }
        Ok(Some(parts.tar(at, &step.after, track)))
    }

    /// The configs of all images and who is whose parent, for the classic store, which has all their layers.
    pub(super) async fn family(archive: &'a Archive, track: &'a Track<'a>) -> Result<Self, ArchiveError> {
        let mut parts = Parts { archive, list: VecDeque::new(), length: 0 };
        for image in archive.images() {
            let config = archive.document(image.config_place).await?;
            parts.file(&documents::config_name(&image.config), config);
        }
        parts.file("manifest.json", documents::family_json(archive.images()));
        Ok(parts.tar(0, &[], track))
    }
}

/// The parts of a tar, being put together.
struct Parts<'a> {
    archive: &'a Archive,
    list: VecDeque<Part<'a>>,
    length: u64,
}

impl<'a> Parts<'a> {
    async fn classic(&mut self, image: &Image, step: &Step) -> Result<(), ArchiveError> {
        for &layer in &step.sends {
            let layer = &image.layers[layer];
            let place = Place { offset: layer.offset, size: layer.size };
            self.span(&documents::layer_name(layer), place, layer.stored_digest(), true);
        }
        let config = self.config(image, step).await?;
        let digest = Digest::of(&config);
        self.file(&documents::config_name(&digest), config);
        self.file("manifest.json", documents::manifest_json(image, step, &digest));
        Ok(())
    }

    /// False when a digest is not known.
    async fn oci(&mut self, image: &Image, step: &Step) -> Result<bool, ArchiveError> {
        self.file("oci-layout", documents::LAYOUT.to_vec());
        for &layer in &step.sends {
            let layer = &image.layers[layer];
            let Some(digest) = layer.stored_digest() else { return Ok(false) };
            let place = Place { offset: layer.offset, size: layer.size };
            self.span(&documents::blob_name(&digest), place, Some(digest), true);
        }
        let config = self.config(image, step).await?;
        let (manifest, descriptor) = match (step.leaves, &image.manifest, &image.root) {
            (Leaves::Image, Some(manifest), Some(root)) => {
                for blob in &root.companions {
                    self.span(&documents::blob_name(&blob.digest), blob.place, Some(blob.digest), false);
                }
                (self.archive.document(manifest.place).await?, root.descriptor.clone())
            }
            (Leaves::Image, _, _) => {
                let Some(manifest) = documents::made_manifest(image) else { return Ok(false) };
                let descriptor = documents::descriptor_of_made(image, &manifest, true);
                (manifest, descriptor)
            }
            (Leaves::Prefix(_), _, _) => {
                let Some(manifest) = documents::prefix_manifest(image, step, &config) else { return Ok(false) };
                let descriptor = documents::descriptor_of_made(image, &manifest, false);
                (manifest, descriptor)
            }
        };
        self.file(&documents::blob_name(&Digest::of(&config)), config);
        self.file(&documents::blob_name(&Digest::of(&manifest)), manifest);
        self.file("index.json", documents::index(&descriptor, &step.named));
        Ok(true)
    }

    async fn config(&self, image: &Image, step: &Step) -> Result<Vec<u8>, ArchiveError> {
        match step.leaves {
            Leaves::Image => self.archive.document(image.config_place).await,
            Leaves::Prefix(key) => Ok(documents::prefix_config(image, step, key)),
        }
    }

    fn file(&mut self, name: &str, mut content: Vec<u8>) {
        let size = content.len() as u64;
        let mut bytes = header(name, size);
        bytes.append(&mut content);
        bytes.resize(bytes.len() + padding(size), 0);
        self.bytes(bytes);
    }

    fn span(&mut self, name: &str, place: Place, digest: Option<Digest>, counts: bool) {
        self.bytes(header(name, place.size));
        self.length += place.size;
        self.list.push_back(Part::Span { span: self.archive.span(place, digest), counts });
        let padding = padding(place.size);
        if padding > 0 {
            self.bytes(vec![0; padding]);
        }
    }

    fn bytes(&mut self, bytes: Vec<u8>) {
        self.length += bytes.len() as u64;
        // Together with what is there already: a piece costs a call of the system.
        match self.list.back_mut() {
            Some(Part::Bytes(last)) if last.len() + bytes.len() <= PIECE_BYTES => last.extend_from_slice(&bytes),
            _ => self.list.push_back(Part::Bytes(bytes)),
        }
    }

    fn tar(mut self, at: usize, after: &'a [usize], track: &'a Track<'a>) -> ThinTar<'a> {
        self.length += END_MARKER_BYTES as u64;
        self.list.push_back(Part::End);
        ThinTar { archive: self.archive, parts: self.list, length: self.length, track, at, after, piece: Vec::new() }
    }
}

/// What fills the last unit.
fn padding(size: u64) -> usize {
    usize::try_from(size.next_multiple_of(UNIT) - size).expect("less than a unit")
}

/// The header of a regular file; sizes from 8 GiB on are written in base 256, as GNU tar does.
fn header(name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).expect("names made here are shorter than 100 bytes");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    header.as_bytes().to_vec()
}

impl BodySource for ThinTar<'_> {
    type Error = ArchiveError;

    fn length(&self) -> Option<u64> {
        Some(self.length)
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, ArchiveError> {
        loop {
            let Some(part) = self.parts.front_mut() else { return Ok(None) };
            match part {
                Part::Bytes(bytes) => {
                    let rest = bytes.split_off(bytes.len().min(PIECE_BYTES));
                    self.piece = std::mem::replace(bytes, rest);
                    if bytes.is_empty() {
                        self.parts.pop_front();
                    }
                    if self.piece.is_empty() {
                        continue;
                    }
                    return Ok(Some(&self.piece));
                }
                Part::Span { span, counts } => {
                    self.piece = span.next(std::mem::take(&mut self.piece)).await?;
                    if self.piece.is_empty() {
                        self.parts.pop_front();
                        continue;
                    }
                    if *counts {
                        let done = self.track.done;
                        done.set(done.get() + self.piece.len() as u64);
                    }
                    return Ok(Some(&self.piece));
                }
                Part::End => {
                    self.track.ended(self.after).await;
                    if !self.archive.is_unchanged().await? {
                        return Err(ArchiveError::Changed);
                    }
                    self.parts.pop_front();
                    self.track.set(self.at, Stage::Applying);
                    self.piece.clear();
                    self.piece.resize(END_MARKER_BYTES, 0);
                    return Ok(Some(&self.piece));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_over_eight_gib_has_its_size_in_the_header() {
        for size in [0, 1, (8 << 30) - 1, 8 << 30, (8 << 30) + 5, 1 << 40] {
            let bytes = header("blobs/sha256/ab", size);
            assert_eq!(bytes.len() as u64, UNIT);
            let read = tar::Header::from_byte_slice(&bytes);
            assert_eq!(read.entry_size().expect("a size"), size);
            assert_eq!(read.path().expect("a name").to_str(), Some("blobs/sha256/ab"));
            assert_eq!((size + padding(size) as u64) % UNIT, 0);
        }
    }
}
