//! HMAC-SHA-256 and HMAC-SHA-384 (RFC 2104) over what passes by, verified in constant time.
//!
//! A tag is checked whole: a truncated one never verifies.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};

/// The tag does not belong to the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacMismatch;

impl fmt::Display for MacMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the authentication tag does not match")
    }
}

impl std::error::Error for MacMismatch {}

macro_rules! hmac {
    ($name:ident, $hash:ty, $bytes:literal, $what:literal) => {
        #[doc = $what]
        #[derive(Clone)]
        pub struct $name(Hmac<$hash>);

        impl $name {
            /// Starts with a key of any length (RFC 2104 section 2: longer ones are hashed).
            pub fn new(key: &[u8]) -> Self {
                Self(Hmac::new_from_slice(key).expect("HMAC takes keys of every length"))
            }

            /// Takes in more of the message.
            pub fn update(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }

            /// The tag of everything taken in.
            #[must_use]
            pub fn finish(self) -> [u8; $bytes] {
                self.0.finalize().into_bytes().into()
            }

            /// Whether `tag` is the whole tag of everything taken in, in constant time.
            pub fn verify(self, tag: &[u8]) -> Result<(), MacMismatch> {
                self.0.verify_slice(tag).map_err(|_| MacMismatch)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

hmac!(HmacSha256, sha2::Sha256, 32, "HMAC-SHA-256, 32-byte tag.");
hmac!(HmacSha384, sha2::Sha384, 48, "HMAC-SHA-384, 48-byte tag.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_verifies_whole_and_unchanged_only() {
        let mut mac = HmacSha384::new(b"key");
        mac.update(b"message");
        let mut tag = mac.clone().finish();
        assert_eq!(mac.clone().verify(&tag), Ok(()));
        assert_eq!(mac.clone().verify(&tag[..47]), Err(MacMismatch));
        assert_eq!(mac.clone().verify(&[]), Err(MacMismatch));
        tag[47] ^= 1;
        assert_eq!(mac.verify(&tag), Err(MacMismatch));
    }

    #[test]
    fn rfc_4231_case_2() {
        let mut mac = HmacSha256::new(b"Jefe");
        mac.update(b"what do ya want ");
        mac.update(b"for nothing?");
        assert_eq!(mac.finish()[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }
}
