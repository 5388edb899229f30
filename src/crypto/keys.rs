//! Keys of scheme v1: CONTRACT section 3.
//!
//! `S384(parts…)` is the standard base64 (with padding) of SHA-384 over the parts joined by the separator. Nothing here
//! is `Clone` or printable; intermediate hashes are wiped. This module must never be given a built-in salt.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::digest::FixedOutput;
use sha2::{Digest as _, Sha256, Sha384};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::mac::HmacSha256;
use crate::limits::KEY_FRAGMENT_BYTES;
use crate::secret::{Credentials, SecretArray, SecretBytes, SecretText};

/// An AES-256 key.
#[derive(Debug)]
pub struct AesKey(SecretArray<32>);

impl AesKey {
    /// The key as it is.
    pub fn new(bytes: SecretArray<32>) -> Self {
        Self(bytes)
    }

    /// The key behind a textual one: SHA-256 over the ASCII of its base64 text.
    #[must_use]
    pub fn from_text(text: &SecretText) -> Self {
        Self::hash_of(text.expose().as_bytes())
    }

    /// A second copy, asked for by name.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.duplicate())
    }

    /// Whether the key is `other`, in constant time.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.expose().as_slice().ct_eq(other).into()
    }

    /// A key for another purpose: HMAC-SHA-256 of `label` under this one. It tells nothing of this one.
    #[must_use]
    pub fn derive(&self, label: &[u8]) -> SecretArray<32> {
        SecretArray::fill(|derived| {
            let mut mac = HmacSha256::new(self.0.expose());
            mac.update(label);
            *derived = mac.finish();
        })
    }

    /// A key for another purpose: HKDF-SHA-384 (RFC 5869) of this one, with a salt and a label. It tells nothing of this
    /// one.
    ///
    /// # Panics
    /// Never: 32 bytes are far below the 255 blocks that HKDF gives.
    #[must_use]
    pub fn expand(&self, salt: &[u8], label: &[u8]) -> SecretArray<32> {
        SecretArray::fill(|expanded| {
            let hkdf = hkdf::Hkdf::<Sha384>::new(Some(salt), self.0.expose());
            hkdf.expand(label, expanded).expect("far below the bound");
        })
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    fn hash_of(bytes: &[u8]) -> Self {
        Self(SecretArray::fill(|key| {
            let mut hash = Sha256::new();
            hash.update(bytes);
            FixedOutput::finalize_into(hash, key.into());
        }))
    }
}

/// The key fragment of CONTRACT section 1: 1 to [`KEY_FRAGMENT_BYTES`] raw bytes, the missing piece of the archive key.
#[derive(Debug)]
pub struct Fragment(SecretBytes);

impl Fragment {
    /// Takes the body of the answer over.
    pub fn new(bytes: Vec<u8>) -> Result<Self, FragmentRefused> {
        let len = bytes.len();
        // Wrapped first, so that refused bytes are wiped too.
        let bytes = SecretBytes::new(bytes);
        if (1..=KEY_FRAGMENT_BYTES).contains(&len) { Ok(Self(bytes)) } else { Err(FragmentRefused { len }) }
    }

    /// The archive key: SHA-256 over the raw fragment.
    #[must_use]
    pub fn archive_key(&self) -> AesKey {
        AesKey::hash_of(self.0.expose())
    }
}

/// A key fragment of an impossible length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentRefused {
    /// Bytes received.
    pub len: usize,
}

impl fmt::Display for FragmentRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key fragment has 1 to {KEY_FRAGMENT_BYTES} bytes, got {}", self.len)
    }
}

impl std::error::Error for FragmentRefused {}

/// The board's hardware hash, as it is sent to the Resource API. It identifies the board and opens nothing by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardwareHash(String);

impl HardwareHash {
    /// The base64 text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The `[keys]` of the configuration.
pub struct Salts {
    /// Goes into the hardware hash.
    pub hardware: String,
    /// Goes into the API key.
    pub api: String,
    /// Is all there is in the resource key.
    pub resource: String,
    /// Stands between the parts that are hashed; empty by default.
    pub separator: String,
}

impl Salts {
    /// `S384("Azaion_" + fingerprint, hardware_salt)`.
    pub fn hardware_hash(&self, fingerprint: &str) -> HardwareHash {
        let named = format!("Azaion_{fingerprint}");
        HardwareHash(self.s384(&[&named, &self.hardware]).expose().to_owned())
    }

    /// `S384(email, password, hardware_hash, api_salt)`, as text; [`AesKey::from_text`] makes the key of it.
    #[must_use]
    pub fn api_key(&self, credentials: &Credentials, hardware: &HardwareHash) -> SecretText {
        self.s384(&[credentials.email(), credentials.password().expose(), hardware.as_str(), &self.api])
    }

    /// `S384(resource_salt)`, as text; [`AesKey::from_text`] makes the key of it.
    #[must_use]
    pub fn resource_key(&self) -> SecretText {
        self.s384(&[&self.resource])
    }

    fn s384(&self, parts: &[&str]) -> SecretText {
        let mut hash = Sha384::new();
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                hash.update(self.separator.as_bytes());
            }
            hash.update(part.as_bytes());
        }
        let mut raw = Zeroizing::new([0; 48]);
        FixedOutput::finalize_into(hash, (&mut *raw).into());
        SecretText::new(STANDARD.encode(*raw))
    }
}

impl fmt::Debug for Salts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salts(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn salts() -> Salts {
        Salts {
            hardware: "canary-h".into(),
            api: "canary-a".into(),
            resource: "canary-r".into(),
            separator: "|".into(),
        }
    }

    #[test]
    fn a_fragment_holds_at_its_bounds() {
        for len in [1, KEY_FRAGMENT_BYTES] {
            assert!(Fragment::new(vec![7; len]).is_ok(), "{len}");
        }
        for len in [0, KEY_FRAGMENT_BYTES + 1] {
            assert_eq!(Fragment::new(vec![7; len]).err(), Some(FragmentRefused { len }));
        }
    }

    #[test]
    fn no_formatter_prints_a_key() {
        let key = AesKey::from_text(&salts().resource_key());
        let fragment = Fragment::new(b"canary".to_vec()).expect("six bytes");
        let shown = format!("{key:?} {fragment:?} {:?}", salts());
        assert!(!shown.contains("canary") && !shown.contains("99, 97"), "{shown}");
    }

    #[test]
    fn every_part_and_the_separator_count() {
        let api = |salts: &Salts, email: &str, password: &str| {
            let who = Credentials::new(email.into(), SecretText::new(password.into())).expect("short");
            salts.api_key(&who, &salts.hardware_hash("f")).expose().to_owned()
        };
        let base = api(&salts(), "ab", "c");
        assert_ne!(base, api(&salts(), "a", "bc"), "the separator keeps the parts apart");
        assert_ne!(base, api(&Salts { api: "x".into(), ..salts() }, "ab", "c"));
        assert_ne!(base, api(&Salts { hardware: "x".into(), ..salts() }, "ab", "c"));
        let joined = Salts { separator: String::new(), ..salts() };
        assert_eq!(api(&joined, "ab", "c"), api(&joined, "a", "bc"), "v1 without separator is ambiguous, as it was");
    }
}
