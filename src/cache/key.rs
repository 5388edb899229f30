//! The key behind the tags of the cache's own files and behind the names hidden in them.
//!
//! It keeps out damage and meddling. It keeps nothing from whoever has the salts, and it is no key of any resource.

use std::fmt;

use crate::crypto::{AesKey, HmacSha256, MacMismatch};
use crate::limits::{FOLDER_BYTES, NAME_BYTES};
use crate::name::{Folder, ResourceName};
use crate::secret::SecretArray;

/// What [`CacheKey`] is derived with.
const LABEL: &[u8] = b"azaion cache v1";

/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 32;

/// A tag: HMAC-SHA-256, whole.
pub(super) type Tag = [u8; TAG_BYTES];

/// Random bytes in front of a hidden name.
const NONCE_BYTES: usize = 16;

/// A name with its folder, filled up, so that its length does not show either: whole blocks of the key stream.
const PADDED_BYTES: usize = (2 + FOLDER_BYTES + NAME_BYTES).next_multiple_of(TAG_BYTES);

/// A hidden name.
pub(super) const HIDDEN_BYTES: usize = NONCE_BYTES + PADDED_BYTES;

/// HMAC-SHA-256(resource key, `azaion cache v1`).
pub struct CacheKey(SecretArray<32>);

impl CacheKey {
    /// The key of the cache that belongs to this resource key.
    #[must_use]
    pub fn of(resource_key: &AesKey) -> Self {
        Self(resource_key.derive(LABEL))
    }

    /// A second copy, asked for by name.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.duplicate())
    }

    /// The beginning of a tag; `purpose` keeps tags of different files apart.
    pub(super) fn tag(&self, purpose: &'static [u8]) -> Tagger {
        let mut mac = HmacSha256::new(self.0.expose());
        mac.update(purpose);
        mac.update(&[0]);
        Tagger(mac)
    }

    /// Hides folder and name. `nonce` must be fresh.
    pub(super) fn hide(&self, folder: &Folder, name: &ResourceName, nonce: [u8; NONCE_BYTES]) -> [u8; HIDDEN_BYTES] {
        let mut hidden = [0; HIDDEN_BYTES];
        let (front, text) = hidden.split_at_mut(NONCE_BYTES);
        front.copy_from_slice(&nonce);
        let (folder, name) = (folder.as_str().as_bytes(), name.as_str().as_bytes());
        // Both lengths fit into a byte by the rule of names.
        text[0] = u8::try_from(folder.len()).unwrap_or(u8::MAX);
        text[1] = u8::try_from(name.len()).unwrap_or(u8::MAX);
        text[2..2 + folder.len()].copy_from_slice(folder);
        text[2 + folder.len()..2 + folder.len() + name.len()].copy_from_slice(name);
        self.mask(&nonce, text);
        hidden
    }

    /// The folder and name that were hidden; `None` if they were not.
    pub(super) fn reveal(&self, hidden: &[u8; HIDDEN_BYTES]) -> Option<(Folder, ResourceName)> {
        let (nonce, text) = hidden.split_at(NONCE_BYTES);
        let mut text = text.to_vec();
        self.mask(nonce, &mut text);
        let (folder_bytes, name_bytes) = (usize::from(text[0]), usize::from(text[1]));
        let names = text.get(2..2 + folder_bytes + name_bytes)?;
        let folder = Folder::new(str::from_utf8(&names[..folder_bytes]).ok()?).ok()?;
        Some((folder, ResourceName::from_bytes(&names[folder_bytes..]).ok()?))
    }

    /// Counter mode with HMAC as the pseudo-random function.
    fn mask(&self, nonce: &[u8], text: &mut [u8]) {
        for (n, block) in text.chunks_mut(TAG_BYTES).enumerate() {
            let mut stream = self.tag(b"name");
            stream.take(nonce);
            stream.take(&(n as u64).to_le_bytes());
            for (byte, mask) in block.iter_mut().zip(stream.finish()) {
                *byte ^= mask;
            }
        }
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheKey(…)")
    }
}

/// A tag in the making.
pub(super) struct Tagger(HmacSha256);

impl Tagger {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Tag {
        self.0.finish()
    }

    pub(super) fn verify(self, tag: &[u8]) -> Result<(), MacMismatch> {
        self.0.verify(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> CacheKey {
        CacheKey::of(&AesKey::new(SecretArray::fill(|key| key.fill(byte))))
    }

    #[test]
    fn the_longest_names_come_back_and_nothing_of_them_shows() {
        for (folder, name) in [("", "a".to_owned()), (&"f".repeat(FOLDER_BYTES), "n".repeat(NAME_BYTES))] {
            let (folder, name) = (Folder::new(folder).expect("short"), ResourceName::new(name).expect("short"));
            let hidden = key(1).hide(&folder, &name, [7; NONCE_BYTES]);
            assert_eq!(key(1).reveal(&hidden), Some((folder.clone(), name.clone())));
            assert_ne!(key(2).reveal(&hidden), Some((folder.clone(), name.clone())));
            assert_ne!(hidden, key(1).hide(&folder, &name, [8; NONCE_BYTES]));
            assert!(!hidden.windows(4).any(|four| four == b"nnnn"));
        }
    }

    #[test]
    fn tags_of_one_purpose_are_no_tags_of_another() {
        assert_ne!(key(1).tag(b"a").finish(), key(1).tag(b"b").finish());
        assert_ne!(key(1).tag(b"a").finish(), key(2).tag(b"a").finish());
        assert_eq!(format!("{:?}", key(1)), "CacheKey(…)");
    }
}
