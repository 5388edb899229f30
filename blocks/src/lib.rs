//! AES-256-CBC over whole blocks, in place, chained over any number of calls: the one loop of the agent that every byte
//! goes through and that is generic code, compiled by whoever calls it.
//!
//! A crate of its own, because Cargo sets the optimisation by crate: this one is compiled for speed, the agent around it
//! for size. Functions here are neither generic nor inlined, or they would be compiled over there. Blocks go to the
//! cipher many at a time, so that its parallel backend runs (AES instructions where the processor has them, found at run
//! time). Key schedule and chaining value are wiped on drop. Nothing here authenticates anything.

#![no_std]

use aes::Aes256;
use cbc::cipher::array::Array;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, SetIvState};

/// Bytes of an AES block, and of an IV.
pub const BLOCK: usize = 16;

/// Bytes of a key.
pub const KEY: usize = 32;

/// Decrypts whole blocks in place.
pub struct Decryptor(cbc::Decryptor<Aes256>);

impl Decryptor {
    /// Starts at the beginning of a message.
    #[inline(never)]
    pub fn new(key: &[u8; KEY], iv: &[u8; BLOCK]) -> Self {
        Self(cbc::Decryptor::new(key.into(), iv.into()))
    }

    /// Goes on at another place: `previous` is the ciphertext block before it, or the IV.
    #[inline(never)]
    pub fn chain_from(&mut self, previous: &[u8; BLOCK]) {
        self.0.set_iv(previous.into());
    }

    /// Decrypts `buf`, which holds whole blocks.
    ///
    /// # Panics
    ///
    /// When the length is not a multiple of [`BLOCK`].
    #[inline(never)]
    pub fn blocks(&mut self, buf: &mut [u8]) {
        let (blocks, rest) = Array::slice_as_chunks_mut(buf);
        assert!(rest.is_empty(), "CBC works on whole blocks");
        self.0.decrypt_blocks(blocks);
    }
}

/// Encrypts whole blocks in place.
pub struct Encryptor(cbc::Encryptor<Aes256>);

impl Encryptor {
    /// Starts a message. The same IV is never used twice with one key.
    #[inline(never)]
    pub fn new(key: &[u8; KEY], iv: &[u8; BLOCK]) -> Self {
        Self(cbc::Encryptor::new(key.into(), iv.into()))
    }

    /// Encrypts `buf`, which holds whole blocks.
    ///
    /// # Panics
    ///
    /// When the length is not a multiple of [`BLOCK`].
    #[inline(never)]
    pub fn blocks(&mut self, buf: &mut [u8]) {
        let (blocks, rest) = Array::slice_as_chunks_mut(buf);
        assert!(rest.is_empty(), "CBC works on whole blocks");
        self.0.encrypt_blocks(blocks);
    }
}
