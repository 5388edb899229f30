//! SHA-256 digests as containers write them: `sha256:` and 64 lower-case hex digits.
//!
//! For public bytes only (layers, configs, chunks of ciphertext). A secret is hashed in [`super::keys`], where the
//! result is wiped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Digest as _;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The raw 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Takes 64 lower-case hex digits, without the name of the algorithm.
    pub fn from_hex(hex: &str) -> Result<Self, DigestRefused> {
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return Err(DigestRefused);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }

    /// 64 lower-case hex digits, without the name of the algorithm: a file name under `blobs/sha256/`.
    pub fn hex(&self) -> String {
        let mut text = self.to_string();
        text.drain(.."sha256:".len());
        text
    }
}

/// The value of one lower-case hex digit; the image specification allows no upper-case ones.
fn nibble(digit: u8) -> Result<u8, DigestRefused> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestRefused),
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Digest {
    type Err = DigestRefused;

    fn from_str(text: &str) -> Result<Self, DigestRefused> {
        Self::from_hex(text.strip_prefix("sha256:").ok_or(DigestRefused)?)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A text that is not a SHA-256 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestRefused;

impl fmt::Display for DigestRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest is \"sha256:\" and 64 lower-case hex digits")
    }
}

impl std::error::Error for DigestRefused {}

/// SHA-256 of what passes by.
#[derive(Clone, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Starts over nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything taken in.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of nothing (FIPS 180-4, example values).
    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_and_digest_are_two_forms_of_one() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(digest));
        assert_eq!(Digest::from_hex(&digest.hex()), Ok(digest));
        let json = serde_json::to_string(&digest).expect("a digest is a JSON text");
        assert_eq!(serde_json::from_str::<Digest>(&json).expect("and comes back"), digest);
    }

    #[test]
    fn only_the_one_spelling_is_taken() {
        for wrong in [
            "",
            "sha256:",
            &EMPTY[..70],
            &format!("{EMPTY}0"),
            &EMPTY.to_uppercase(),
            &EMPTY.replace("sha256", "sha512"),
            &EMPTY.replace('e', "E"),
            &EMPTY.replace('e', "g"),
        ] {
            assert_eq!(wrong.parse::<Digest>(), Err(DigestRefused), "{wrong}");
        }
    }

    #[test]
    fn cuts_do_not_matter() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut hash = Sha256::new();
        for piece in bytes.chunks(7) {
            hash.update(piece);
        }
        assert_eq!(hash.finish(), Digest::of(&bytes));
    }
}
