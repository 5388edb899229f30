//! Keys, CBC streams, MACs and digests: pure bytes in, pure bytes out.
//!
//! The scheme is CONTRACT section 3 (keys, ciphertext) and section 5 (split). It is frozen, weaknesses and all: CBC
//! has no MAC, so nothing here tells a flipped bit from a right one. This room must never do I/O, never wait, never
//! draw its own random numbers and never format a key.

mod cbc;
mod digest;
mod keys;
mod mac;
mod message;
mod split;

pub use cbc::{BLOCK, BadPadding, Decryptor, Encryptor, pad, unpad};
pub use digest::{Digest, DigestRefused, Sha256};
pub use keys::{AesKey, Fragment, FragmentRefused, HardwareHash, Salts};
pub use mac::{HmacSha256, HmacSha384, MacMismatch};
pub use message::{Sealer, UnsealError, Unsealer, sealed_len, unseal};
pub use split::small_len;
