//! The plain text behind the ciphertext, from anywhere: block *i* needs only ciphertext block *i − 1*.
//!
//! Nothing here knows what the plain text is. It must never write plain text anywhere.

use std::cell::RefCell;
use std::io;

use super::error::{ArchiveError, Cut};
use super::look::LOOK_BYTES;
use super::source::ReadAt;
use crate::crypto::{AesKey, BLOCK, BadPadding, Decryptor, unpad};
use crate::limits::PIECE_BYTES;
use crate::net::turn;

const BLOCK_BYTES: u64 = BLOCK as u64;

/// Reads plain text from anywhere.
#[derive(Debug)]
pub(super) struct CipherReader<R> {
    source: R,
    /// Borrowed only between two awaits.
    decryptor: RefCell<Decryptor>,
    iv: [u8; BLOCK],
    plain_len: u64,
}

/// What the two ends of the ciphertext show; the plain text of a reader with bad padding is not to be trusted.
#[derive(Debug)]
pub(super) struct Ends {
    /// The first bytes of plain text, up to [`LOOK_BYTES`].
    pub(super) start: Vec<u8>,
    /// Plain bytes in the last block.
    pub(super) padding: Result<usize, BadPadding>,
}

impl<R: ReadAt> CipherReader<R> {
    /// Checks the length, reads both ends.
    ///
    /// # Errors
    ///
    /// A length that cannot be, or a failed read. What the ends mean is judged by the caller.
    pub(super) async fn open(source: R, key: &AesKey) -> Result<(Self, Ends), ArchiveError> {
        let len = source.len();
        if len == 0 {
            return Err(ArchiveError::Empty);
        }
        if len < 2 * BLOCK_BYTES {
            return Err(ArchiveError::Truncated(Cut::TooShort { len }));
        }
        if !len.is_multiple_of(BLOCK_BYTES) {
            return Err(ArchiveError::Truncated(Cut::InBlock { len }));
        }
        let iv = block(&whole(&source, 0, vec![0; BLOCK]).await?);
        let decryptor = RefCell::new(Decryptor::new(key, &iv));
        let mut reader = Self { source, decryptor, iv, plain_len: len - BLOCK_BYTES };
        let start_len = reader.plain_len.min(LOOK_BYTES as u64);
        let mut start = reader.read_at(0, vec![0; usize::try_from(start_len).unwrap_or(LOOK_BYTES)]).await?;
        let last = reader.read_at(reader.plain_len - BLOCK_BYTES, vec![0; BLOCK]).await?;
        let padding = unpad(&block(&last));
        if let Ok(plain) = padding {
            reader.plain_len -= (BLOCK - plain) as u64;
            start.truncate(usize::try_from(reader.plain_len).unwrap_or(LOOK_BYTES));
        }
        Ok((reader, Ends { start, padding }))
    }

    /// Bytes of plain text.
    pub(super) fn plain_len(&self) -> u64 {
        self.plain_len
    }

    /// Where the ciphertext lies.
    pub(super) fn source(&self) -> &R {
        &self.source
    }

    /// Fills `buf` with the plain text from `offset` on, and gives it back.
    ///
    /// # Errors
    ///
    /// A failed read; also one beyond the end of the plain text.
    pub(super) async fn read_at(&self, offset: u64, mut buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        let len = buf.len();
        if offset.checked_add(len as u64).is_none_or(|end| end > self.plain_len) {
            return Err(ArchiveError::Read { offset, source: io::ErrorKind::UnexpectedEof.into() });
        }
        // The ciphertext block before the first one that is wanted stands where, without the IV, the first would.
        let from = offset - offset % BLOCK_BYTES;
        let skip = within_block(offset);
        buf.resize(BLOCK + (skip + len).next_multiple_of(BLOCK), 0);
        let mut buf = whole(&self.source, from, buf).await?;
        let (previous, wanted) = buf.split_at_mut(BLOCK);
        let mut previous = block(previous);
        for piece in wanted.chunks_mut(PIECE_BYTES) {
            self.decrypt(&mut previous, piece).await;
        }
        buf.copy_within(BLOCK + skip..BLOCK + skip + len, 0);
        buf.truncate(len);
        Ok(buf)
    }

    /// Decrypts at most a turn's worth in place; `previous` becomes the last ciphertext block of `piece`.
    async fn decrypt(&self, previous: &mut [u8; BLOCK], piece: &mut [u8]) {
        turn::spend(piece.len()).await;
        let next = block(&piece[piece.len() - BLOCK..]);
        let mut decryptor = self.decryptor.borrow_mut();
        decryptor.chain_from(previous);
        decryptor.blocks(piece);
        *previous = next;
    }

    /// A reading from front to back.
    pub(super) fn run(&self) -> Run {
        Run { at: 0, previous: self.iv }
    }

    /// A reading from `offset`, the beginning of a block, on.
    pub(super) async fn run_from(&self, offset: u64) -> Result<Run, ArchiveError> {
        debug_assert!(offset.is_multiple_of(BLOCK_BYTES), "inside a block nothing begins");
        // The ciphertext block before the first one that is wanted stands where, without the IV, the first would.
        let previous = block(&whole(&self.source, offset, vec![0; BLOCK]).await?);
        Ok(Run { at: offset, previous })
    }

    /// The next piece of plain text in the place of `buf`, at most [`PIECE_BYTES`]; empty at the end.
    pub(super) async fn next_piece(&self, run: &mut Run, mut buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
        let left = self.source.len() - BLOCK_BYTES - run.at;
        let n = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        if n == 0 {
            buf.clear();
            return Ok(buf);
        }
        buf.resize(n, 0);
        let mut buf = whole(&self.source, BLOCK_BYTES + run.at, buf).await?;
        self.decrypt(&mut run.previous, &mut buf).await;
        // Cuts the padding off the last piece. Only after `open` had found it good is there a run.
        buf.truncate(usize::try_from(self.plain_len - run.at).unwrap_or(n));
        run.at += n as u64;
        Ok(buf)
    }
}

/// Where a reading from front to back stands.
#[derive(Debug)]
pub(super) struct Run {
    /// Plain bytes passed, padding counted.
    at: u64,
    previous: [u8; BLOCK],
}

impl Run {
    /// Ciphertext bytes passed.
    pub(super) fn ciphertext(&self) -> u64 {
        BLOCK_BYTES + self.at
    }
}

/// A slice of one block as an array.
fn block(slice: &[u8]) -> [u8; BLOCK] {
    slice.try_into().expect("slices are cut to one block")
}

/// How far inside its block a byte lies.
fn within_block(offset: u64) -> usize {
    usize::try_from(offset % BLOCK_BYTES).expect("less than a block")
}

/// Fills `buf`: there must be so much, the length was looked at before.
async fn whole<R: ReadAt>(source: &R, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
    let asked = buf.len();
    let buf = source.read_at(offset, buf).await?;
    if buf.len() == asked { Ok(buf) } else { Err(ArchiveError::Changed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smol::LocalExecutor;

    use super::*;
    use crate::crypto::Sealer;
    use crate::secret::SecretArray;

    fn key() -> AesKey {
        AesKey::new(SecretArray::fill(|key| key.fill(3)))
    }

    fn run<T>(main: impl Future<Output = T>) -> T {
        turn::block_on(&LocalExecutor::new(), main)
    }

    fn seal(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sealer = Sealer::new(&key(), [5; BLOCK]);
        sealer.push(plain, &mut out);
        sealer.finish(&mut out);
        out
    }

    fn plain(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from(i * 31 % 251).expect("below 251")).collect()
    }

    proptest! {
        #[test]
        fn decryption_from_any_offset_equals_the_plain_slice(
            len in 0_usize..200_000, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(),
        ) {
            let plain = plain(len);
            let (a, b) = (a.index(len + 1), b.index(len + 1));
            let (from, to) = (a.min(b), a.max(b));
            let read = run(async {
                let (reader, ends) = CipherReader::open(seal(&plain), &key()).await.expect("sealed whole");
                assert!(ends.padding.is_ok());
                assert_eq!(reader.plain_len(), len as u64);
                assert!(reader.read_at(from as u64, vec![0; len - from + 1]).await.is_err(), "beyond the end");
                reader.read_at(from as u64, vec![0; to - from]).await.expect("inside")
            });
            prop_assert_eq!(&read, &plain[from..to]);
        }
    }

    #[test]
    fn a_run_gives_everything_in_order() {
        for len in [0, 1, 15, 16, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 77] {
            let plain = plain(len);
            run(async {
                let (reader, _) = CipherReader::open(seal(&plain), &key()).await.expect("sealed whole");
                let (mut run, mut all, mut buf) = (reader.run(), Vec::new(), Vec::new());
                // The padding may be a piece of its own: nothing of it is plain text.
                while run.ciphertext() < reader.source().len() as u64 {
                    buf = reader.next_piece(&mut run, buf).await.expect("memory");
                    all.extend_from_slice(&buf);
                }
                assert_eq!(all, plain, "{len}");
                assert!(reader.next_piece(&mut run, buf).await.expect("the end").is_empty());
            });
        }
    }

    #[test]
    fn impossible_lengths_are_told_apart() {
        let open = |len: usize| run(CipherReader::open(vec![1; len], &key())).map(|_| ());
        assert!(matches!(open(0), Err(ArchiveError::Empty)));
        for len in [1, 16, 31] {
            assert!(matches!(open(len), Err(ArchiveError::Truncated(Cut::TooShort { .. }))), "{len}");
        }
        for len in [33, 47, 1000] {
            assert!(matches!(open(len), Err(ArchiveError::Truncated(Cut::InBlock { .. }))), "{len}");
        }
        assert!(open(32).is_ok());
    }
}
