//! AES-256-CBC over whole blocks, in place, chained over any number of calls, and its padding.
//!
//! CBC decrypts from anywhere: block *i* needs only ciphertext block *i − 1* ([`Decryptor::chain_from`]). The loops are in
//! a crate of their own, `blocks/`, which is compiled for speed where the agent is compiled for size. Key schedule and
//! chaining value are wiped on drop. Nothing here authenticates anything.

use std::fmt;

use cbc::cipher::block_padding::{Padding, Pkcs7};

use super::AesKey;

/// Bytes of an AES block, of an IV, and of the most padding there can be.
pub use azaion_blocks::BLOCK;

/// Decrypts whole blocks in place.
pub struct Decryptor(azaion_blocks::Decryptor);

impl Decryptor {
    /// Starts at the beginning of a message.
    pub fn new(key: &AesKey, iv: &[u8; BLOCK]) -> Self {
        Self(azaion_blocks::Decryptor::new(key.expose(), iv))
    }

    /// Goes on at another place: `previous` is the ciphertext block before it, or the IV.
    pub fn chain_from(&mut self, previous: &[u8; BLOCK]) {
        self.0.chain_from(previous);
    }

    /// Decrypts `buf`, which holds whole blocks.
    ///
    /// # Panics
    ///
    /// When the length is not a multiple of [`BLOCK`].
    pub fn blocks(&mut self, buf: &mut [u8]) {
        self.0.blocks(buf);
    }
}

impl fmt::Debug for Decryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decryptor(…)")
    }
}

/// Encrypts whole blocks in place.
pub struct Encryptor(azaion_blocks::Encryptor);

impl Encryptor {
    /// Starts a message. The same IV is never used twice with one key.
    pub fn new(key: &AesKey, iv: &[u8; BLOCK]) -> Self {
        Self(azaion_blocks::Encryptor::new(key.expose(), iv))
    }

    /// Encrypts `buf`, which holds whole blocks.
    ///
    /// # Panics
    ///
    /// When the length is not a multiple of [`BLOCK`].
    pub fn blocks(&mut self, buf: &mut [u8]) {
        self.0.blocks(buf);
    }
}

impl fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encryptor(…)")
    }
}

/// The last block does not end in PKCS#7 padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPadding;

impl fmt::Display for BadPadding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the last block does not end in PKCS#7 padding")
    }
}

impl std::error::Error for BadPadding {}

/// How many of the bytes of the last decrypted block are plain text (0 to 15): the rest is PKCS#7 padding.
pub fn unpad(last: &[u8; BLOCK]) -> Result<usize, BadPadding> {
    Pkcs7::raw_unpad(last).map(<[u8]>::len).map_err(|_| BadPadding)
}

/// The last block to encrypt: up to 15 bytes of plain text and PKCS#7 padding.
///
/// # Panics
///
/// When `tail` holds a whole block or more.
#[must_use]
pub fn pad(tail: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..tail.len()].copy_from_slice(tail);
    Pkcs7::raw_pad(&mut block, tail.len());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretArray;

    fn key() -> AesKey {
        AesKey::new(SecretArray::fill(|key| key.fill(0x42)))
    }

    #[test]
    fn any_cut_at_a_block_gives_the_same() {
        let plain: Vec<u8> = (0..=255).cycle().take(40 * BLOCK).collect();
        let mut sealed = plain.clone();
        Encryptor::new(&key(), &[1; BLOCK]).blocks(&mut sealed);
        for step in 1..=40 {
            let mut cut = plain.clone();
            let mut encryptor = Encryptor::new(&key(), &[1; BLOCK]);
            cut.chunks_mut(step * BLOCK).for_each(|piece| encryptor.blocks(piece));
            assert_eq!(cut, sealed);
            let mut decryptor = Decryptor::new(&key(), &[1; BLOCK]);
            cut.chunks_mut(step * BLOCK).for_each(|piece| decryptor.blocks(piece));
            assert_eq!(cut, plain);
        }
    }

    #[test]
    fn decryption_starts_anywhere() {
        let plain: Vec<u8> = (0..=255).cycle().take(20 * BLOCK).collect();
        let mut sealed = plain.clone();
        Encryptor::new(&key(), &[1; BLOCK]).blocks(&mut sealed);
        let mut decryptor = Decryptor::new(&key(), &[0; BLOCK]);
        for block in 1..20 {
            let (before, from) = sealed.split_at(block * BLOCK);
            decryptor.chain_from(before.last_chunk().expect("at least one block"));
            let mut rest = from.to_vec();
            decryptor.blocks(&mut rest);
            assert_eq!(rest, plain[block * BLOCK..]);
        }
    }

    #[test]
    fn padding_comes_back_or_is_bad() {
        for len in 0..BLOCK {
            assert_eq!(unpad(&pad(&vec![0xff; len])), Ok(len));
        }
        assert_eq!(unpad(&[0; BLOCK]), Err(BadPadding));
        assert_eq!(unpad(&[17; BLOCK]), Err(BadPadding));
        let mut wrong = pad(b"abc");
        wrong[4] ^= 1;
        assert_eq!(unpad(&wrong), Err(BadPadding));
    }

    #[test]
    #[should_panic(expected = "whole blocks")]
    fn half_a_block_is_a_fault_of_the_caller() {
        Decryptor::new(&key(), &[0; BLOCK]).blocks(&mut [0; 17]);
    }
}
