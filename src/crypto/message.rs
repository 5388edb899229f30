//! Whole messages, `IV ‖ AES-256-CBC(plain)` with PKCS#7 padding (CONTRACT section 3), taken in pieces cut anywhere.
//!
//! For `cdn.yaml` and models. The image archive has its own reader: it is read from anywhere, not front to back.

use std::fmt;
use std::mem;

use zeroize::{Zeroize, Zeroizing};

use super::cbc::{BLOCK, BadPadding, Decryptor, Encryptor, pad, unpad};
use super::keys::AesKey;
use crate::secret::SecretBytes;

/// Length of the message that seals `plain_len` bytes: IV, plain text, 1 to 16 bytes of padding.
pub const fn sealed_len(plain_len: u64) -> u64 {
    const BLOCK_BYTES: u64 = BLOCK as u64;
    BLOCK_BYTES + (plain_len / BLOCK_BYTES + 1) * BLOCK_BYTES
}

/// A message that does not unseal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsealError {
    /// Shorter than an IV and one block.
    TooShort {
        /// Bytes there were.
        len: u64,
    },
    /// Not a whole number of blocks: the message was cut.
    NotWholeBlocks {
        /// Bytes there were.
        len: u64,
    },
    /// The end is not padding: the key is wrong, or the message was cut or changed.
    Padding(BadPadding),
}

impl fmt::Display for UnsealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { len } => write!(f, "a sealed message has at least 32 bytes, got {len}"),
            Self::NotWholeBlocks { len } => write!(f, "a sealed message has whole blocks of 16 bytes, got {len} bytes"),
            Self::Padding(_) => f.write_str("the key does not fit the sealed message, or its end is damaged"),
        }
    }
}

impl std::error::Error for UnsealError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooShort { .. } | Self::NotWholeBlocks { .. } => None,
            Self::Padding(source) => Some(source),
        }
    }
}

/// Decrypts a message as it arrives. The last block is held back until [`Unsealer::finish`] knows that it is the last.
pub struct Unsealer {
    decryptor: Decryptor,
    /// Ciphertext that is not decrypted yet: never more than one block.
    held: [u8; BLOCK],
    held_len: usize,
    /// Bytes taken in, the IV among them.
    len: u64,
}

impl Unsealer {
    /// Starts before the IV.
    pub fn new(key: &AesKey) -> Self {
        Self { decryptor: Decryptor::new(key, &[0; BLOCK]), held: [0; BLOCK], held_len: 0, len: 0 }
    }

    /// Takes in the next piece and appends to `plain` what is surely plain text.
    pub fn push(&mut self, mut sealed: &[u8], plain: &mut Vec<u8>) {
        while !sealed.is_empty() {
            if self.held_len == BLOCK {
                self.release(plain);
            }
            // With nothing held and more than a block at hand, all but the last block goes through in one go.
            let bulk = if self.held_len == 0 && self.len > 0 { (sealed.len() - 1) / BLOCK * BLOCK } else { 0 };
            let taken = if bulk > 0 {
                let start = plain.len();
                plain.extend_from_slice(&sealed[..bulk]);
                self.decryptor.blocks(&mut plain[start..]);
                bulk
            } else {
                let taken = sealed.len().min(BLOCK - self.held_len);
                self.held[self.held_len..][..taken].copy_from_slice(&sealed[..taken]);
                self.held_len += taken;
                taken
            };
            sealed = &sealed[taken..];
            self.len += taken as u64;
        }
    }

    /// Checks length and padding and appends the last bytes to `plain`.
    ///
    /// # Errors
    ///
    /// What was appended before must not be used then.
    pub fn finish(mut self, plain: &mut Vec<u8>) -> Result<(), UnsealError> {
        check_len(self.len)?;
        self.decryptor.blocks(&mut self.held);
        let kept = unpad(&self.held).map_err(UnsealError::Padding)?;
        plain.extend_from_slice(&self.held[..kept]);
        Ok(())
    }

    /// The held block is followed by more: it is the IV or plain text.
    fn release(&mut self, plain: &mut Vec<u8>) {
        if self.len == BLOCK as u64 {
            self.decryptor.chain_from(&self.held);
        } else {
            self.decryptor.blocks(&mut self.held);
            plain.extend_from_slice(&self.held);
        }
        self.held_len = 0;
    }
}

impl Drop for Unsealer {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

impl fmt::Debug for Unsealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unsealer({} bytes)", self.len)
    }
}

/// Encrypts a message as it is made.
pub struct Sealer {
    encryptor: Encryptor,
    iv: Option<[u8; BLOCK]>,
    /// Plain text that does not fill a block yet.
    held: [u8; BLOCK],
    held_len: usize,
}

impl Sealer {
    /// Starts a message; `iv` is fresh from the system's random source and goes out first.
    pub fn new(key: &AesKey, iv: [u8; BLOCK]) -> Self {
        Self { encryptor: Encryptor::new(key, &iv), iv: Some(iv), held: [0; BLOCK], held_len: 0 }
    }

    /// Takes in the next piece and appends to `sealed` what is ready.
    pub fn push(&mut self, mut plain: &[u8], sealed: &mut Vec<u8>) {
        sealed.extend(self.iv.take().into_iter().flatten());
        if self.held_len > 0 {
            let taken = plain.len().min(BLOCK - self.held_len);
            self.held[self.held_len..][..taken].copy_from_slice(&plain[..taken]);
            self.held_len += taken;
            plain = &plain[taken..];
            if self.held_len < BLOCK {
                return;
            }
            self.encryptor.blocks(&mut self.held);
            sealed.extend_from_slice(&self.held);
        }
        let (bulk, tail) = plain.split_at(plain.len() / BLOCK * BLOCK);
        let start = sealed.len();
        sealed.extend_from_slice(bulk);
        self.encryptor.blocks(&mut sealed[start..]);
        self.held[..tail.len()].copy_from_slice(tail);
        self.held_len = tail.len();
    }

    /// Appends the padded last block.
    pub fn finish(mut self, sealed: &mut Vec<u8>) {
        self.push(&[], sealed);
        let mut last = pad(&self.held[..self.held_len]);
        self.encryptor.blocks(&mut last);
        sealed.extend_from_slice(&last);
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

/// Decrypts a whole small message (`cdn.yaml`) in its own place, so that no second copy of the plain text exists.
pub fn unseal(key: &AesKey, sealed: Vec<u8>) -> Result<SecretBytes, UnsealError> {
    // Wiped on every way out.
    let mut sealed = Zeroizing::new(sealed);
    check_len(sealed.len() as u64)?;
    let len = sealed.len() as u64;
    let Some((iv, body)) = sealed.split_first_chunk_mut::<BLOCK>() else { return Err(UnsealError::TooShort { len }) };
    Decryptor::new(key, iv).blocks(body);
    let Some(last) = body.last_chunk() else { return Err(UnsealError::TooShort { len }) };
    let padding = BLOCK - unpad(last).map_err(UnsealError::Padding)?;
    let end = sealed.len() - padding;
    sealed.truncate(end);
    // Moves the plain text down over the IV; what stood behind it is wiped with the vector's whole capacity.
    sealed.drain(..BLOCK);
    Ok(SecretBytes::new(mem::take(&mut *sealed)))
}

fn check_len(len: u64) -> Result<(), UnsealError> {
    if len < 2 * BLOCK as u64 {
        Err(UnsealError::TooShort { len })
    } else if !len.is_multiple_of(BLOCK as u64) {
        Err(UnsealError::NotWholeBlocks { len })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretArray;

    fn key(byte: u8) -> AesKey {
        AesKey::new(SecretArray::fill(|key| key.fill(byte)))
    }

    fn seal_by(plain: &[u8], step: usize) -> Vec<u8> {
        let mut sealer = Sealer::new(&key(1), [9; BLOCK]);
        let mut out = Vec::new();
        plain.chunks(step).for_each(|piece| sealer.push(piece, &mut out));
        sealer.finish(&mut out);
        out
    }

    #[test]
    fn every_step_gives_the_same_both_ways() {
        for len in [0, 1, 15, 16, 17, 31, 32, 33, 100, 256] {
            let plain: Vec<u8> = (0..=255).cycle().take(len).collect();
            let sealed = seal_by(&plain, usize::MAX);
            assert_eq!(sealed.len() as u64, sealed_len(len as u64));
            assert_eq!(unseal(&key(1), sealed.clone()).expect("the key is right").expose(), plain);
            for step in 1..=sealed.len() {
                assert_eq!(seal_by(&plain, step), sealed, "{len} by {step}");
                let mut unsealer = Unsealer::new(&key(1));
                let mut back = Vec::new();
                sealed.chunks(step).for_each(|piece| unsealer.push(piece, &mut back));
                unsealer.finish(&mut back).expect("the key is right");
                assert_eq!(back, plain, "{len} by {step}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_message_is_told_apart() {
        let sealed = seal_by(b"forty bytes of plain text, cut somewhere", 40);
        let both = |sealed: &[u8], key: &AesKey| {
            let mut unsealer = Unsealer::new(key);
            unsealer.push(sealed, &mut Vec::new());
            let pushed = unsealer.finish(&mut Vec::new()).err();
            assert_eq!(unseal(key, sealed.to_vec()).err(), pushed);
            pushed
        };
        for len in [0, 1, 16, 31] {
            assert_eq!(both(&sealed[..len], &key(1)), Some(UnsealError::TooShort { len: len as u64 }));
        }
        assert_eq!(both(&sealed[..47], &key(1)), Some(UnsealError::NotWholeBlocks { len: 47 }));
        assert_eq!(both(&sealed[..48], &key(1)), Some(UnsealError::Padding(BadPadding)));
        assert_eq!(both(&sealed, &key(2)), Some(UnsealError::Padding(BadPadding)));
        assert_eq!(both(&sealed, &key(1)), None);
    }
}
