//! The documents of an archive, wherever they lie: read from the ciphertext, or kept from the pass over a compressed one.

use serde::de::DeserializeOwned;

use super::cipher::CipherReader;
use super::error::{ArchiveError, DocumentFault, Feature};
use super::look::Packing;
use super::manifest::Place;
use super::source::ReadAt;
use super::survey::{Kept, MAGIC_BYTES};
use super::tar::{Index, Member};
use crate::crypto::{Digest, Sha256};
use crate::json;
use crate::limits::{DOCUMENT_BYTES, PIECE_BYTES};
use crate::net::turn;

/// Access to documents.
pub(super) struct Store<'a, R> {
    pub(super) cipher: &'a CipherReader<R>,
    pub(super) index: &'a Index,
    pub(super) kept: Option<&'a Kept>,
}

/// Reads a document's bytes as JSON.
pub(super) fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, ArchiveError> {
    json::from_slice(bytes, bytes.len()).map_err(|refused| DocumentFault::Json(refused).of(name))
}

/// The digest of a document.
pub(super) async fn digest_of(bytes: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    for piece in bytes.chunks(PIECE_BYTES) {
        turn::spend(piece.len()).await;
        hash.update(piece);
    }
    hash.finish()
}

impl<R: ReadAt> Store<'_, R> {
    /// The bytes of a document.
    pub(super) async fn document(&self, member: &Member) -> Result<Vec<u8>, ArchiveError> {
        self.read(&member.name, member.into()).await
    }

    /// The bytes at `place`, as a document of that name.
    pub(super) async fn read(&self, name: &str, place: Place) -> Result<Vec<u8>, ArchiveError> {
        let Place { offset, size } = place;
        if size > DOCUMENT_BYTES {
            let limit = Feature::Limit { of: "bytes of one document", limit: DOCUMENT_BYTES };
            return Err(ArchiveError::Unsupported(limit));
        }
        match self.kept {
            None => self.cipher.read_at(offset, vec![0; usize::try_from(size).expect("bounded above")]).await,
            // What did not even begin like JSON was not kept: it is refused as what it is, no JSON.
            Some(kept) => match kept.get(&offset) {
                Some(bytes) => Ok(bytes.clone()),
                None => Err(DocumentFault::Json(json::JsonRefused::Syntax { line: 1, column: 1 }).of(name)),
            },
        }
    }

    /// A document, read as JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, member: &Member) -> Result<T, ArchiveError> {
        parse(&member.name, &self.document(member).await?)
    }

    /// How a layer is packed.
    pub(super) async fn packing(&self, member: &Member) -> Result<Packing, ArchiveError> {
        let seen = if let Some(seen) = member.packing {
            seen
        } else {
            let len = usize::try_from(member.size).map_or(MAGIC_BYTES, |size| size.min(MAGIC_BYTES));
            Packing::of(&self.cipher.read_at(member.offset, vec![0; len]).await?)
        };
        seen.map_err(ArchiveError::Unsupported)
    }
}
