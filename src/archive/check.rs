//! Everything in an archive that has a digest, compared with it in one reading from front to back: blobs as they lie
//! there, layers also unpacked.
//!
//! For the publisher's commands, which have threads and no loop: nothing here waits or does I/O. The caller hands in the
//! ciphertext piece by piece.

use super::error::{ArchiveError, Feature};
use super::look::Packing;
use super::manifest::digest_in_name;
use super::reader::Archive;
use super::source::ReadAt;
use super::tar::Kind;
use super::unpack::{Unpacked, Unpacker};
use crate::crypto::{AesKey, BLOCK, Decryptor, Digest, Sha256};
use crate::limits::{PIECE_BYTES, TAR_BYTES};

/// A check of the whole archive, from [`Archive::check`].
pub struct WholeCheck {
    decryptor: Decryptor,
    /// Whether the IV has passed.
    begun: bool,
    /// Plain bytes still to come, without padding.
    left: u64,
    /// For an archive that is compressed as a whole.
    unpacking: Option<Unpacking>,
    tar: Spans,
    /// Bytes of the tar there must be.
    tar_len: u64,
}

impl<R: ReadAt> Archive<R> {
    /// A check of this archive, whose key is `key`.
    pub fn check(&self, key: &AesKey) -> WholeCheck {
        WholeCheck {
            decryptor: Decryptor::new(key, &[0; BLOCK]),
            begun: false,
            left: self.cipher.plain_len(),
            unpacking: Unpacking::of(self.packing(), 0),
            tar: Spans::of(self),
            tar_len: self.tar_len(),
        }
    }
}

impl WholeCheck {
    /// Takes the next ciphertext, which is decrypted in its place: whole blocks, the IV in front of the first.
    ///
    /// # Errors
    /// [`ArchiveError::Digest`] names the member that is not what stands for it. The check must then not go on.
    ///
    /// # Panics
    /// When the length is not a multiple of [`BLOCK`].
    pub fn take(&mut self, ciphertext: &mut [u8]) -> Result<(), ArchiveError> {
        let mut iv = 0;
        if !self.begun
            && let Some(first) = ciphertext.first_chunk()
        {
            self.decryptor.chain_from(first);
            self.begun = true;
            iv = BLOCK;
        }
        let (_, ciphertext) = ciphertext.split_at_mut(iv);
        for piece in ciphertext.chunks_mut(PIECE_BYTES) {
            self.decryptor.blocks(piece);
            let plain = usize::try_from(self.left).map_or(piece.len(), |left| left.min(piece.len()));
            self.left -= plain as u64;
            let plain = &piece[..plain];
            match &mut self.unpacking {
                Some(unpacking) => unpacking.feed(plain, |tar| self.tar.pass(tar))?,
                None => self.tar.pass(plain)?,
            }
        }
        Ok(())
    }

    /// All of the ciphertext has passed.
    ///
    /// # Errors
    /// As [`WholeCheck::take`], and [`ArchiveError::Changed`] when it was not all.
    pub fn finish(mut self) -> Result<(), ArchiveError> {
        if let Some(unpacking) = &mut self.unpacking {
            unpacking.end(|tar| self.tar.pass(tar))?;
        }
        let is_whole = self.left == 0 && self.tar.at == self.tar_len && self.tar.left.is_empty();
        if is_whole { Ok(()) } else { Err(ArchiveError::Changed) }
    }
}

/// A stretch of the tar and what it must be.
struct Span {
    name: Box<str>,
    start: u64,
    end: u64,
    /// Digest of the bytes as they lie there.
    stored: Option<Digest>,
    /// How they are packed, and the digest of what they unfold to.
    unpacked: Option<(Packing, Digest)>,
}

/// All stretches, in the order of the tar.
struct Spans {
    /// The last is the next.
    left: Vec<Span>,
    /// Bytes of the tar that have passed.
    at: u64,
    hash: Sha256,
    /// The layer that is passing, and the hash of what it unfolds to.
    layer: Option<(Unpacking, Sha256)>,
}

impl Spans {
    fn of<R: ReadAt>(archive: &Archive<R>) -> Self {
        let layers = archive.images().iter().flat_map(|image| &image.layers).map(|layer| Span {
            name: archive.name_at(layer.offset).into(),
            start: layer.offset,
            end: layer.offset + layer.size,
            stored: layer.stored_digest(),
            unpacked: (layer.packing != Packing::Plain).then_some((layer.packing, layer.diff_id)),
        });
        let files = archive.members().iter().filter(|member| member.kind == Kind::File);
        let blobs = files.filter_map(|member| {
            let stored = Some(digest_in_name(&member.name)?);
            let (start, end) = (member.offset, member.offset + member.size);
            Some(Span { name: member.name.clone(), start, end, stored, unpacked: None })
        });
        let mut spans: Vec<Span> = layers.chain(blobs).collect();
        // Of one stretch, what is to be unpacked stays: that a layer has one digest was seen when the images were read.
        spans.sort_by_key(|span| (std::cmp::Reverse((span.start, span.end)), span.unpacked.is_none()));
        spans.dedup_by_key(|span| (span.start, span.end));
        Self { left: spans, at: 0, hash: Sha256::new(), layer: None }
    }

    /// Takes in the next piece of the tar.
    fn pass(&mut self, piece: &[u8]) -> Result<(), ArchiveError> {
        let from = self.at;
        let to = from + piece.len() as u64;
        self.at = to;
        let within = |at: u64| usize::try_from(at.clamp(from, to) - from).expect("a piece fits");
        while let Some(span) = self.left.last().filter(|span| span.start <= to) {
            let part = &piece[within(span.start)..within(span.end)];
            if span.stored.is_some() {
                self.hash.update(part);
            }
            if let Some((packing, _)) = span.unpacked
                && self.layer.is_none()
            {
                let unpacking = Unpacking::of(packing, span.start);
                self.layer = unpacking.map(|unpacking| (unpacking, Sha256::new()));
            }
            if let Some((unpacking, hash)) = &mut self.layer {
                unpacking.feed(part, |bytes| {
                    hash.update(bytes);
                    Ok(())
                })?;
            }
            if span.end > to {
                break;
            }
            self.close()?;
        }
        Ok(())
    }

    /// The next stretch has passed.
    fn close(&mut self) -> Result<(), ArchiveError> {
        let Some(span) = self.left.pop() else { return Ok(()) };
        let wrong = |expected, found| ArchiveError::Digest { name: span.name.clone().into(), expected, found };
        let found = std::mem::take(&mut self.hash).finish();
        if let Some(expected) = span.stored.filter(|stored| *stored != found) {
            return Err(wrong(expected, found));
        }
        if let (Some((mut unpacking, mut hash)), Some((_, expected))) = (self.layer.take(), span.unpacked) {
            unpacking.end(|bytes| {
                hash.update(bytes);
                Ok(())
            })?;
            let found = hash.finish();
            if found != expected {
                return Err(wrong(expected, found));
            }
        }
        Ok(())
    }
}

/// Something compressed that passes by.
struct Unpacking {
    unpacker: Unpacker,
    out: Vec<u8>,
    /// Where the next bytes stand, for errors.
    at: u64,
    /// Bytes that came out.
    produced: u64,
}

impl Unpacking {
    fn of(packing: Packing, at: u64) -> Option<Self> {
        let unpacker = match packing {
            Packing::Plain => return None,
            Packing::Gzip => Unpacker::gzip(),
            Packing::Zstd => Unpacker::zstd(),
        };
        Some(Self { unpacker, out: vec![0; PIECE_BYTES], at, produced: 0 })
    }

    fn feed(&mut self, bytes: &[u8], see: impl FnMut(&[u8]) -> Result<(), ArchiveError>) -> Result<(), ArchiveError> {
        // No bytes would mean that there are no more.
        if !bytes.is_empty() {
            self.unpacker.feed(bytes);
            self.at += bytes.len() as u64;
        }
        self.unfold(see)
    }

    fn end(&mut self, see: impl FnMut(&[u8]) -> Result<(), ArchiveError>) -> Result<(), ArchiveError> {
        self.unpacker.feed(&[]);
        self.unfold(see)
    }

    fn unfold(&mut self, mut see: impl FnMut(&[u8]) -> Result<(), ArchiveError>) -> Result<(), ArchiveError> {
        while let Unpacked::Bytes(n) = self.unpacker.step(&mut self.out, self.at)? {
            self.produced += n as u64;
            if self.produced > TAR_BYTES {
                return Err(ArchiveError::Unsupported(Feature::Limit { of: "bytes of tar", limit: TAR_BYTES }));
            }
            see(&self.out[..n])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use smol::LocalExecutor;

    use super::super::samples::{self, Layers};
    use super::*;
    use crate::crypto::Sealer;
    use crate::net::turn;
    use crate::secret::SecretArray;

    fn key() -> AesKey {
        AesKey::new(SecretArray::fill(|key| key.fill(1)))
    }

    fn encrypted(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sealer = Sealer::new(&key(), [9; BLOCK]);
        sealer.push(plain, &mut out);
        sealer.finish(&mut out);
        out
    }

    fn open(tar: &[u8]) -> Archive<Vec<u8>> {
        let done = Cell::new(0);
        let opening = Archive::open_source(encrypted(tar), key(), &done);
        turn::block_on(&LocalExecutor::new(), opening).expect("a good archive")
    }

    /// Opens one archive and hands in another one of the same length, `step` bytes at a time.
    fn check(opened: &[u8], passed: &[u8], step: usize) -> Result<(), ArchiveError> {
        let mut check = open(opened).check(&key());
        let mut bytes = encrypted(passed);
        for piece in bytes.chunks_mut(step) {
            check.take(piece)?;
        }
        check.finish()
    }

    /// The names say which.
    fn archives() -> Vec<(&'static str, Vec<u8>)> {
        let zstd = samples::oci(Layers::Zstd, true);
        vec![
            ("classic", samples::classic()),
            ("oci", samples::oci(Layers::Plain, true)),
            ("gzip layers", samples::oci(Layers::Gzip, false)),
            ("zstd layers in gzip", samples::gzip(&zstd)),
            ("zstd layers in zstd", samples::zstd(&zstd)),
            ("zstd layers", zstd),
        ]
    }

    #[test]
    fn a_good_archive_passes_however_it_is_cut() {
        for (name, tar) in archives() {
            for step in [BLOCK, 48, 4096, PIECE_BYTES, 256 * 1024, 1 << 30] {
                check(&tar, &tar, step).unwrap_or_else(|error| panic!("{name} by {step}: {error}"));
            }
        }
    }

    #[test]
    fn one_other_byte_in_any_layer_or_blob_is_found() {
        for (name, tar) in archives() {
            if name.contains(" in ") {
                continue;
            }
            let spans = Spans::of(&open(&tar)).left;
            assert!(spans.len() >= 5, "{name}: {}", spans.len());
            for span in spans {
                for at in [span.start, span.end - 1] {
                    let mut bad = tar.clone();
                    bad[usize::try_from(at).expect("small")] ^= 1;
                    match check(&tar, &bad, PIECE_BYTES) {
                        Err(ArchiveError::Digest { name, .. }) => assert_eq!(name, *span.name),
                        // Where a layer is packed, its own check sums may see it first.
                        Err(ArchiveError::Damaged { offset, .. }) if span.unpacked.is_some() => {
                            assert!((span.start..=span.end).contains(&offset), "{name} {offset}");
                        }
                        other => panic!("{name} {} {other:?}", span.name),
                    }
                }
            }
        }
    }

    #[test]
    fn a_layer_that_unfolds_to_another_one_is_found() {
        let mut config = samples::config(&[samples::layer(1, 3000)]);
        config.push(b'\n');
        let mut tar = samples::Tar::new();
        // Blob and name agree; only the config knows what it should have been.
        let layer = tar.blob(&samples::gzip(&samples::layer(2, 3000)));
        let config = tar.blob(&config);
        let path = |digest: &str| format!("blobs/sha256/{}", &digest["sha256:".len()..]);
        tar.json("manifest.json", &serde_json::json!([{"Config": path(&config), "Layers": [path(&layer)]}]));
        let tar = tar.finish();
        match check(&tar, &tar, PIECE_BYTES) {
            Err(ArchiveError::Digest { expected, found, .. }) => {
                assert_eq!(expected, Digest::of(&samples::layer(1, 3000)));
                assert_eq!(found, Digest::of(&samples::layer(2, 3000)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_not_all_is_told() {
        let tar = samples::classic();
        let mut bytes = encrypted(&tar);
        let mut check = open(&tar).check(&key());
        let half = bytes.len() / 2 / BLOCK * BLOCK;
        check.take(&mut bytes[..half]).expect("right so far");
        assert!(matches!(check.finish(), Err(ArchiveError::Changed)));
    }
}
