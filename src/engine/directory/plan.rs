//! Which parts of an archive become blobs, and the one way through the archive that fetches them.

use std::collections::BTreeMap;

use super::layout::{self, Descriptor};
use crate::archive::{Archive, ArchiveError, Image, Layer, Packing, TarStream};
use crate::crypto::Digest;

/// A part of the tar that becomes a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Where its bytes begin in the tar.
    pub(super) offset: u64,
    /// How many there are.
    pub(super) size: u64,
    /// Its digest; a packed layer of a classic archive has none that is known before it was read.
    pub(super) digest: Option<Digest>,
}

/// All parts, each once, in the order of the tar.
pub(super) struct Plan {
    parts: BTreeMap<u64, Part>,
}

impl Plan {
    pub(super) fn of(images: &[Image]) -> Self {
        let mut parts = BTreeMap::new();
        let mut add = |offset, size, digest| {
            parts.entry(offset).or_insert(Part { offset, size, digest });
        };
        for image in images {
            for layer in &image.layers {
                add(layer.offset, layer.size, layer.stored_digest());
            }
            add(image.config_place.offset, image.config_place.size, Some(image.config));
            if let Some(manifest) = &image.manifest {
                add(manifest.place.offset, manifest.place.size, Some(manifest.digest));
            }
        }
        Self { parts }
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.values()
    }
}

/// The manifest that the archive brings along; a classic one has none.
pub(super) fn manifest_of(image: &Image) -> Option<Descriptor> {
    image.manifest.as_ref().map(|manifest| Descriptor {
        media_type: manifest.media_type.clone(),
        digest: manifest.digest,
        size: manifest.place.size,
    })
}

/// Config and layers of an image as a manifest points to them. `digests` are those of all parts by their place.
pub(super) fn contents_of(image: &Image, digests: &BTreeMap<u64, Digest>) -> (Descriptor, Vec<Descriptor>) {
    let config =
        Descriptor { media_type: layout::CONFIG.to_owned(), digest: image.config, size: image.config_place.size };
    let layer = |layer: &Layer| Descriptor {
        media_type: match layer.packing {
            Packing::Plain => layout::LAYER.to_owned(),
            Packing::Gzip => format!("{}+gzip", layout::LAYER),
            Packing::Zstd => format!("{}+zstd", layout::LAYER),
        },
        digest: digests.get(&layer.offset).copied().or(layer.stored_digest()).unwrap_or(layer.diff_id),
        size: layer.size,
    };
    (config, image.layers.iter().map(layer).collect())
}

/// A way through the tar at rising places: by jumps where the archive can be read from anywhere, else through all of it.
pub(super) enum Passage<'a> {
    Jumps(&'a Archive),
    Stream {
        tar: Box<TarStream<'a>>,
        /// Where `piece` begins in the tar.
        at: u64,
        piece: Vec<u8>,
    },
}

impl<'a> Passage<'a> {
    pub(super) fn through(archive: &'a Archive) -> Self {
        match archive.packing() {
            Packing::Plain => Self::Jumps(archive),
            Packing::Gzip | Packing::Zstd => Self::Stream { tar: Box::new(archive.tar()), at: 0, piece: Vec::new() },
        }
    }

    /// 1 to `wanted` bytes from `offset` on, which never lies before that of an earlier call.
    pub(super) async fn read(&mut self, offset: u64, wanted: usize) -> Result<Vec<u8>, ArchiveError> {
        match self {
            Self::Jumps(archive) => {
                let piece = archive.read(offset, wanted).await?;
                if piece.is_empty() { Err(ArchiveError::Changed) } else { Ok(piece) }
            }
            Self::Stream { tar, at, piece } => {
                while *at + piece.len() as u64 <= offset {
                    *at += piece.len() as u64;
                    piece.clear();
                    match tar.next().await? {
                        Some(next) => piece.extend_from_slice(next),
                        // The index, made of the same bytes, says that there is more.
                        None => return Err(ArchiveError::Changed),
                    }
                }
                let begin = usize::try_from(offset - *at).unwrap_or(piece.len());
                let end = piece.len().min(begin + wanted);
                Ok(piece[begin..end].to_vec())
            }
        }
    }
}
