//! Seals a resource as it streams in and cuts it in two: CONTRACT section 5.
//!
//! Where the cut lies depends on the length, which is known at the end only: so the first bytes are kept until there are
//! enough of them that the length does not matter any more.

use crate::crypto::{AesKey, BLOCK, Sealer, small_len};
use crate::limits::SPLIT_HEAD_BYTES;

/// Plain text in; out come the ciphertext of the big part, bit by bit, and at the end the small part.
pub(super) struct Splitter {
    sealer: Sealer,
    /// The small part once `is_cut`; before, all sealed bytes, fewer than [`SPLIT_HEAD_BYTES`].
    head: Vec<u8>,
    is_cut: bool,
}

impl Splitter {
    /// Starts a resource; `iv` is fresh from the system's random source.
    pub(super) fn new(key: &AesKey, iv: [u8; BLOCK]) -> Self {
        Self { sealer: Sealer::new(key, iv), head: Vec::new(), is_cut: false }
    }

    /// Takes in the next piece and appends to `big` what surely belongs to the big part.
    pub(super) fn push(&mut self, plain: &[u8], big: &mut Vec<u8>) {
        if self.is_cut {
            return self.sealer.push(plain, big);
        }
        self.sealer.push(plain, &mut self.head);
        if self.head.len() >= SPLIT_HEAD_BYTES {
            divide(&mut self.head, big);
            self.is_cut = true;
        }
    }

    /// Ends the resource: the rest of the big part goes to `big`, the small part is returned.
    pub(super) fn finish(self, big: &mut Vec<u8>) -> Vec<u8> {
        let Self { sealer, mut head, is_cut } = self;
        if is_cut {
            sealer.finish(big);
        } else {
            sealer.finish(&mut head);
            divide(&mut head, big);
        }
        head
    }
}

/// Leaves the small part in `head`. What is there is all, or at least [`SPLIT_HEAD_BYTES`]: then more would not matter.
fn divide(head: &mut Vec<u8>, big: &mut Vec<u8>) {
    let cut = usize::try_from(small_len(head.len() as u64)).expect("at most 3072");
    big.extend_from_slice(&head[cut..]);
    head.truncate(cut);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::sealed_len;
    use crate::resource::samples::{Case, cases, key};

    fn split_by(key: &AesKey, iv: [u8; BLOCK], plain: &[u8], step: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut splitter, mut big) = (Splitter::new(key, iv), Vec::new());
        plain.chunks(step).for_each(|piece| splitter.push(piece, &mut big));
        let small = splitter.finish(&mut big);
        (small, big)
    }

    #[test]
    fn every_vector_in_pieces_of_any_size() {
        for Case { key, iv, plain, small, big_sha256, .. } in cases() {
            for step in [1, 7, 16, 3072, 10_223, 10_224, 10_225, 65_536] {
                let (ours, big) = split_by(&key, iv, &plain, step);
                assert!(ours == small && crate::crypto::Digest::of(&big).hex() == big_sha256, "{}", plain.len());
            }
        }
    }

    #[test]
    fn each_side_of_the_bound() {
        // 10,223 plain bytes seal to 10,240; one block less is where three tenths still decide.
        for (plain, small) in
            [(0, 9), (15, 9), (16, 14), (10_207, 3067), (10_208, 3072), (10_223, 3072), (10_224, 3072)]
        {
            let (ours, big) = split_by(&key(1), [3; BLOCK], &vec![7; plain], 1000);
            assert_eq!((ours.len(), (ours.len() + big.len()) as u64), (small, sealed_len(plain as u64)), "{plain}");
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_resource() {
        let (mut splitter, mut big) = (Splitter::new(&key(1), [3; BLOCK]), Vec::new());
        for _ in 0..100 {
            big.clear();
            splitter.push(&vec![0; 65_536], &mut big);
            assert!(splitter.head.len() <= SPLIT_HEAD_BYTES + 65_536 && big.len() <= SPLIT_HEAD_BYTES + 65_536);
        }
        assert_eq!(splitter.head.len(), 3072);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(len in 0_usize..12_000, step in 1_usize..12_000) {
            let plain: Vec<u8> = (0..=250).cycle().take(len).collect();
            let whole = split_by(&key(1), [3; BLOCK], &plain, usize::MAX);
            prop_assert_eq!(split_by(&key(1), [3; BLOCK], &plain, step), whole);
        }
    }
}
