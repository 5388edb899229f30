//! The publisher's signature of a seal: minisign's format, the ordinary tool's keys and files.

use std::fmt;
use std::str::FromStr;

use minisign_verify::{PublicKey, Signature};

use super::error::SealRefused;
use crate::limits::PIECE_BYTES;
use crate::net::turn;

/// A publisher's public key.
#[derive(Clone)]
pub struct PublisherKey {
    text: String,
    key: PublicKey,
}

/// A text that is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublisherKeyRefused;

impl PublisherKeyRefused {
    /// What is allowed.
    pub const ALLOWED: &str = "minisign public keys: the 56 characters, \"RW…\", of the second line of minisign.pub";
}

impl fmt::Display for PublisherKeyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALLOWED)
    }
}

impl std::error::Error for PublisherKeyRefused {}

impl FromStr for PublisherKey {
    type Err = PublisherKeyRefused;

    fn from_str(text: &str) -> Result<Self, PublisherKeyRefused> {
        let key = PublicKey::from_base64(text).map_err(|_| PublisherKeyRefused)?;
        Ok(Self { text: text.to_owned(), key })
    }
}

impl fmt::Display for PublisherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PublisherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublisherKey({})", self.text)
    }
}

/// Whether one of the keys made this signature of these bytes.
pub(super) async fn verify(bytes: &[u8], signature: &[u8], keys: &[PublisherKey]) -> Result<(), SealRefused> {
    let text = std::str::from_utf8(signature).map_err(|_| SealRefused::SignatureForm)?;
    let signature = Signature::decode(text).map_err(|_| SealRefused::SignatureForm)?;
    for key in keys {
        // It is of another key, or hashes nothing before it signs: minisign before 0.10.
        let Ok(mut verifier) = key.key.verify_stream(&signature) else { continue };
        for piece in bytes.chunks(PIECE_BYTES) {
            turn::spend(piece.len()).await;
            verifier.update(piece);
        }
        return verifier.finalize().map_err(|_| SealRefused::Signature);
    }
    Err(SealRefused::Signer)
}
