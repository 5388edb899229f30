//! Joins the two parts of a resource and decrypts them in place: CONTRACT section 5.
//!
//! ```text
//!   sealed  =  IV │ c1 │ c2 │ … │ cn          small = the first bytes of it, big = the rest
//!              └── small ──┴──── big ────┘
//! ```
//!
//! A resource is told whole from its ends before its first byte is handed out: the lengths of the parts must be those of
//! a cut, and the last block, which the one before it decrypts, must end in padding. From 10,240 sealed bytes on the cut
//! lies between two blocks, so that the big part is decrypted piece by piece where it lies; shorter ones are joined in
//! memory. What CBC cannot tell, this cannot either: a change in the middle.

use std::fmt;

use zeroize::Zeroizing;

use crate::crypto::{AesKey, BLOCK, BadPadding, Decryptor, UnsealError, Unsealer, small_len, unpad};
use crate::limits::SPLIT_HEAD_BYTES;

/// Bytes of IV and of a block, as lengths of whole resources are counted.
const BLOCK_BYTES: u64 = BLOCK as u64;

/// Bytes at the end of a sealed resource that tell its plain length: the last block and the one before it.
pub(super) const END_BYTES: usize = 2 * BLOCK;

/// Why two parts do not make a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unjoined {
    /// The big part cannot belong to this small one: another cut, or no whole blocks.
    Lengths {
        /// Bytes of the small part.
        small: u64,
        /// Bytes of the big part.
        big: u64,
    },
    /// The end is not padding: the resource key is wrong, or the parts are of different uploads.
    End(BadPadding),
}

impl fmt::Display for Unjoined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lengths { small, big } => {
                write!(f, "a small part of {small} bytes and a big one of {big} are not the two parts of one resource")
            }
            Self::End(_) => f.write_str("the parts do not decrypt with the resource key, or the end is damaged"),
        }
    }
}

impl std::error::Error for Unjoined {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Lengths { .. } => None,
            Self::End(source) => Some(source),
        }
    }
}

/// The lengths of two parts that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    small: u64,
    big: u64,
}

impl Shape {
    /// Checks that the parts can be of one resource.
    pub(super) fn of(small: &[u8], big: u64) -> Result<Self, Unjoined> {
        let small = small.len() as u64;
        let refused = Unjoined::Lengths { small, big };
        let sealed = small.checked_add(big).ok_or(refused)?;
        let is_message = sealed >= 2 * BLOCK_BYTES && sealed.is_multiple_of(BLOCK_BYTES);
        if is_message && small_len(sealed) == small { Ok(Self { small, big }) } else { Err(refused) }
    }

    /// Whether it is joined in memory, whole.
    pub(super) const fn is_tiny(self) -> bool {
        self.small + self.big < SPLIT_HEAD_BYTES as u64
    }

    /// How many bytes of the end of the big part are needed before anything is handed out.
    pub(super) fn end(self) -> u64 {
        if self.is_tiny() { self.big } else { END_BYTES as u64 }
    }
}

/// How many bytes of the end of a big part to ask for when only the small part is known.
pub(super) const fn end_to_ask(small: &[u8]) -> u64 {
    // A small part this long is that of a resource that is not tiny.
    if small_len(SPLIT_HEAD_BYTES as u64) == small.len() as u64 { END_BYTES as u64 } else { SPLIT_HEAD_BYTES as u64 }
}

/// Both parts of a tiny resource in memory: the plain text.
pub(super) fn join_tiny(key: &AesKey, small: &[u8], big: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unjoined> {
    let mut plain = Zeroizing::new(Vec::with_capacity(small.len() + big.len()));
    let mut unsealer = Unsealer::new(key);
    unsealer.push(small, &mut plain);
    unsealer.push(big, &mut plain);
    unsealer.finish(&mut plain).map_err(|error| match error {
        UnsealError::Padding(source) => Unjoined::End(source),
        UnsealError::TooShort { .. } | UnsealError::NotWholeBlocks { .. } => {
            Unjoined::Lengths { small: small.len() as u64, big: big.len() as u64 }
        }
    })?;
    Ok(plain)
}

/// Decrypts a resource that is not tiny, front to back.
pub(super) struct Join {
    decryptor: Decryptor,
    /// Bytes of plain text that are still to come out of the big part.
    left: u64,
    /// How many of the last block's bytes are plain text, as the end said.
    kept: usize,
    /// Sealed bytes of the big part that are still to go in.
    sealed_left: u64,
}

impl Join {
    /// Checks the end and decrypts the small part: what stands before the big part's first byte.
    pub(super) fn begin(
        key: &AesKey,
        shape: Shape,
        small: &[u8],
        end: &[u8; END_BYTES],
    ) -> Result<(Self, Zeroizing<Vec<u8>>), Unjoined> {
        let refused = Unjoined::Lengths { small: shape.small, big: shape.big };
        let (before, last) = end.split_at(BLOCK);
        let mut last: [u8; BLOCK] = last.try_into().map_err(|_| refused)?;
        let mut decryptor = Decryptor::new(key, before.try_into().map_err(|_| refused)?);
        decryptor.blocks(&mut last);
        let kept = unpad(&last).map_err(Unjoined::End)?;
        zeroize::Zeroize::zeroize(&mut last);

        let (iv, blocks) = small.split_first_chunk::<BLOCK>().ok_or(refused)?;
        let chain = small.last_chunk::<BLOCK>().ok_or(refused)?;
        let mut plain = Zeroizing::new(blocks.to_vec());
        decryptor.chain_from(iv);
        decryptor.blocks(&mut plain);
        decryptor.chain_from(chain);
        let left = shape.big - BLOCK_BYTES + kept as u64;
        Ok((Self { decryptor, left, kept, sealed_left: shape.big }, plain))
    }

    /// Bytes of plain text that are still to come out of the big part.
    pub(super) const fn left(&self) -> u64 {
        self.left
    }

    /// Decrypts the next piece of the big part where it lies and says how many of its bytes are plain text.
    ///
    /// # Errors
    /// The last piece does not end as the end that was seen first.
    ///
    /// # Panics
    /// When the piece is not whole blocks, or more than there is.
    pub(super) fn piece(&mut self, piece: &mut [u8]) -> Result<usize, Unjoined> {
        self.sealed_left = self.sealed_left.checked_sub(piece.len() as u64).expect("no more than the big part has");
        self.decryptor.blocks(piece);
        if self.sealed_left == 0
            && let Some(last) = piece.last_chunk::<BLOCK>()
        {
            let kept = unpad(last).map_err(Unjoined::End)?;
            if kept != self.kept {
                return Err(Unjoined::End(BadPadding));
            }
        }
        let plain = usize::try_from(self.left).map_or(piece.len(), |left| left.min(piece.len()));
        self.left -= plain as u64;
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resource::samples::{Case, cases, key, sealed};

    fn join(key: &AesKey, small: &[u8], big: &[u8], step: usize) -> Result<Vec<u8>, Unjoined> {
        let shape = Shape::of(small, big.len() as u64)?;
        if shape.is_tiny() {
            assert!(big.len() as u64 <= end_to_ask(small));
            return join_tiny(key, small, big).map(|plain| plain.to_vec());
        }
        assert_eq!(end_to_ask(small), END_BYTES as u64);
        let (mut join, plain) = Join::begin(key, shape, small, big.last_chunk().expect("not tiny"))?;
        let mut plain = plain.to_vec();
        let length = plain.len() as u64 + join.left();
        for piece in big.to_vec().chunks_mut(step * BLOCK) {
            let kept = join.piece(piece)?;
            plain.extend_from_slice(&piece[..kept]);
        }
        assert_eq!((plain.len() as u64, join.left()), (length, 0));
        Ok(plain)
    }

    #[test]
    fn every_vector_in_pieces_of_any_size() {
        for Case { key, plain, small, big, .. } in cases() {
            for step in [1, 7, 256, 4096] {
                assert!(join(&key, &small, &big, step).expect("a good resource") == plain, "{}", plain.len());
            }
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_told() {
        let two = |len: usize, iv: u8| {
            let mut small = sealed(&key(1), [iv; BLOCK], &vec![0xa0 | iv; len]);
            let big = small.split_off(usize::try_from(small_len(small.len() as u64)).expect("small"));
            (small, big)
        };
        let (tiny, large) = (two(100, 1), two(20_000, 2));
        for (small, big) in [(&tiny.0, &large.1), (&large.0, &tiny.1)] {
            let (small, big) = (small.as_slice(), big.as_slice());
            let lengths = Unjoined::Lengths { small: small.len() as u64, big: big.len() as u64 };
            assert_eq!(join(&key(1), small, big, 1), Err(lengths));
        }
        for (small, big) in [&tiny, &large] {
            assert_eq!(join(&key(2), small, big, 1), Err(Unjoined::End(BadPadding)), "another key");
            let cut = &big[..big.len() - 1];
            assert!(matches!(join(&key(1), small, cut, 1), Err(Unjoined::Lengths { .. })), "cut within a block");
            let mut damaged = big.clone();
            let at = damaged.len() - BLOCK - 1;
            damaged[at] ^= 0x40;
            assert_eq!(join(&key(1), small, &damaged, 1), Err(Unjoined::End(BadPadding)), "its padding damaged");
        }
        let (small, big) = &large;
        assert_eq!(
            join(&key(1), small, &big[..big.len() - BLOCK], 1),
            Err(Unjoined::End(BadPadding)),
            "cut at a block"
        );
        for (small, big) in [(0, 0), (0, 32), (9, 22), (9, u64::MAX), (3072, u64::MAX - 3071), (3072, 7152)] {
            assert!(Shape::of(&vec![0; small], big).is_err(), "{small} {big}");
        }
        assert!(Shape::of(&[0; 3072], 7168).is_ok_and(|shape| !shape.is_tiny()));
        assert!(Shape::of(&[0; 9], 23).is_ok_and(Shape::is_tiny));
    }

    proptest! {
        #[test]
        fn what_was_split_joins(len in prop_oneof![0_usize..100, 10_200..10_300_usize, 0..30_000_usize], step in 1_usize..300) {
            let plain: Vec<u8> = (0..=250).cycle().take(len).collect();
            let mut splitter = crate::resource::splitter::Splitter::new(&key(1), [9; BLOCK]);
            let mut big = Vec::new();
            plain.chunks(step * 3).for_each(|piece| splitter.push(piece, &mut big));
            let small = splitter.finish(&mut big);
            prop_assert_eq!(join(&key(1), &small, &big, step), Ok(plain));
        }

        #[test]
        fn nothing_makes_it_panic(small in prop::collection::vec(any::<u8>(), 0..3100), big in prop::collection::vec(any::<u8>(), 0..12_000)) {
            if let Ok(shape) = Shape::of(&small, big.len() as u64) {
                let _whatever = if shape.is_tiny() { join_tiny(&key(1), &small, &big).is_ok() } else { join(&key(1), &small, &big, 9).is_ok() };
            }
        }
    }
}
