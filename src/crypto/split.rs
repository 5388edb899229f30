//! Where a sealed resource is cut in two: CONTRACT section 5.
//!
//! A pure function; who stores which part where is the business of the rooms above.

/// Upper bound of the small part, in bytes (CONTRACT section 5).
const SMALL_MOST_BYTES: u64 = 3072;

/// Length of the small part of a sealed resource of `sealed_len` bytes: `min(3072, floor(0.3 × sealed_len))`.
pub const fn small_len(sealed_len: u64) -> u64 {
    // Beyond this the bound decides; below it, 3 × length cannot overflow. Floating point never enters.
    if sealed_len >= SMALL_MOST_BYTES * 10 / 3 { SMALL_MOST_BYTES } else { sealed_len * 3 / 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_tenths_up_to_the_bound() {
        for (sealed, small) in [(0, 0), (3, 0), (4, 1), (32, 9), (48, 14), (10_236, 3070), (10_239, 3071)] {
            assert_eq!(small_len(sealed), small, "{sealed}");
        }
        for sealed in [10_240, 10_241, 1 << 40, u64::MAX] {
            assert_eq!(small_len(sealed), SMALL_MOST_BYTES, "{sealed}");
        }
    }
}
