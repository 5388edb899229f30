//! The plain tar from front to back, decrypted and, where needed, unfolded, in pieces of at most [`PIECE_BYTES`].

use std::mem;

use super::cipher::{CipherReader, Run};
use super::error::{ArchiveError, Feature};
use super::look::Packing;
use super::source::ReadAt;
use super::unpack::{Unpacked, Unpacker};
use crate::limits::{PIECE_BYTES, TAR_BYTES};
use crate::net::turn;

/// A reading of the whole tar. Its buffers are made once.
pub(super) struct Flow {
    run: Run,
    /// The last piece of decrypted bytes.
    decrypted: Vec<u8>,
    unpacking: Option<Unpacking>,
}

struct Unpacking {
    unpacker: Unpacker,
    out: Vec<u8>,
    /// Plain tar bytes so far.
    produced: u64,
}

impl Flow {
    pub(super) fn new<R: ReadAt>(cipher: &CipherReader<R>, packing: Packing) -> Self {
        let unpacking = |unpacker| Some(Unpacking { unpacker, out: vec![0; PIECE_BYTES], produced: 0 });
        let unpacking = match packing {
            Packing::Plain => None,
            Packing::Gzip => unpacking(Unpacker::gzip()),
            Packing::Zstd => unpacking(Unpacker::zstd()),
        };
        Self { run: cipher.run(), decrypted: Vec::with_capacity(PIECE_BYTES), unpacking }
    }

    /// Ciphertext bytes passed.
    pub(super) fn ciphertext(&self) -> u64 {
        self.run.ciphertext()
    }

    /// The next piece; empty at the end, when all check sums on the way were right.
    pub(super) async fn next<R: ReadAt>(&mut self, cipher: &CipherReader<R>) -> Result<&[u8], ArchiveError> {
        loop {
            if let Some(Unpacking { unpacker, out, produced }) = &mut self.unpacking {
                // Unfolding costs at least as much as decrypting the same number of bytes.
                turn::spend(PIECE_BYTES).await;
                match unpacker.step(out, self.run.ciphertext())? {
                    Unpacked::Bytes(n) => {
                        *produced += n as u64;
                        if *produced > TAR_BYTES {
                            let limit = Feature::Limit { of: "bytes of tar", limit: TAR_BYTES };
                            return Err(ArchiveError::Unsupported(limit));
                        }
                        return Ok(self.unpacking.as_ref().map_or(&[], |unpacking| &unpacking.out[..n]));
                    }
                    Unpacked::End => return Ok(&[]),
                    Unpacked::Hungry => {}
                }
            }
            self.decrypted = cipher.next_piece(&mut self.run, mem::take(&mut self.decrypted)).await?;
            match &mut self.unpacking {
                Some(unpacking) => unpacking.unpacker.feed(&self.decrypted),
                None => return Ok(&self.decrypted),
            }
        }
    }
}
