//! What the first bytes and the padding say about key and archive. The table is in [`super`].

use super::error::{ArchiveError, Content, Cut, Fault, Feature};
use super::header;
use crate::crypto::{BLOCK, BadPadding};

/// Bytes of plain text that are looked at: one tar header.
pub(super) const LOOK_BYTES: usize = header::BYTES;

/// How the archive or a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// A plain tar.
    Plain,
    /// gzip (RFC 1952).
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
}

impl Packing {
    /// What the first bytes of a layer say; `Err` names a compression that is not loaded.
    pub(super) fn of(start: &[u8]) -> Result<Self, Feature> {
        match start {
            // RFC 1952 section 2.3: ID1, ID2, CM = 8; the reserved flags are zero.
            [0x1f, 0x8b, 0x08, flags, ..] if flags & 0xe0 == 0 => Ok(Self::Gzip),
            // RFC 8878 sections 3.1.1 and 3.1.2: a frame, or a skippable one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(Feature::Compression { name: "xz" }),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => Err(Feature::Compression { name: "bzip2" }),
            _ => Ok(Self::Plain),
        }
    }
}

/// Judges an archive by its first bytes of plain text and by its padding.
pub(super) fn judge(start: &[u8], padding: Result<usize, BadPadding>) -> Result<Packing, ArchiveError> {
    let begins_well = match Packing::of(start) {
        Ok(Packing::Plain) => match start.first_chunk() {
            Some(first) => header::is_sound(first).then_some(Packing::Plain),
            // Less than a header is left: a tar that was cut, if it is readable.
            None => None,
        },
        Ok(packed) => Some(packed),
        // Six bytes of magic are no accident.
        Err(feature) => return Err(ArchiveError::Unsupported(feature)),
    };
    // Of wrong keys, one in 2^8 shows one byte of padding, one in 2^24 three.
    let certain_padding = padding.is_ok_and(|plain| BLOCK - plain >= 3);
    let whole = start.len() == LOOK_BYTES;
    match (begins_well, padding) {
        (Some(packing), Ok(_)) => Ok(packing),
        (Some(_), Err(BadPadding)) => Err(ArchiveError::Truncated(Cut::NoPadding)),
        (None, _) if whole && reads_like_a_header(start) => Err(Fault::Start.at(0)),
        (None, _) if nearly_packed(start) => Err(Fault::Start.at(0)),
        (None, Err(BadPadding)) if !whole && is_readable(start) => Err(ArchiveError::Truncated(Cut::NoPadding)),
        (None, _) if certain_padding || is_readable(start) => Err(ArchiveError::NotAnArchive(Content::Unknown)),
        (None, _) => Err(ArchiveError::WrongKey),
    }
}

/// Whether the bytes are mostly zeros and ASCII. Of random bytes 97 in 256 are; a flipped bit makes 16 of 512 bytes of
/// a header random.
fn is_readable(start: &[u8]) -> bool {
    let fitting = start.iter().filter(|byte| matches!(byte, 0 | b'\n' | b' '..=b'~')).count();
    // 16 bytes are the least there can be; 7 of 8 random ones fit in one of 10^5 cases.
    fitting * 8 >= start.len() * 7
}

/// Whether a header stood here: readable, and the fields' fillers are there.
fn reads_like_a_header(start: &[u8]) -> bool {
    let zeros: usize = start.iter().map(|&byte| usize::from(byte == 0)).sum();
    is_readable(start) && zeros >= LOOK_BYTES / 8
}

/// Whether one flipped bit is all that keeps the start from being gzip or zstd.
fn nearly_packed(start: &[u8]) -> bool {
    let distance = |magic: &[u8]| -> u32 { start.iter().zip(magic).map(|(a, b)| (a ^ b).count_ones()).sum() };
    start.len() >= 4 && (distance(&[0x1f, 0x8b, 0x08, 0]) <= 1 || distance(&[0x28, 0xb5, 0x2f, 0xfd]) <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that look like nothing at all.
    fn noise() -> Vec<u8> {
        crate::crypto::HmacSha256::new(b"noise").finish().iter().cycle().map(|b| b | 0x80).take(LOOK_BYTES).collect()
    }

    #[test]
    fn a_zero_block_begins_well() {
        assert_eq!(judge(&[0; LOOK_BYTES], Ok(0)).ok(), Some(Packing::Plain));
    }

    #[test]
    fn noise_with_a_chance_padding_is_a_wrong_key_and_with_a_long_one_it_is_not() {
        assert!(matches!(judge(&noise(), Err(BadPadding)), Err(ArchiveError::WrongKey)));
        assert!(matches!(judge(&noise(), Ok(15)), Err(ArchiveError::WrongKey)));
        assert!(matches!(judge(&noise(), Ok(14)), Err(ArchiveError::WrongKey)));
        assert!(matches!(judge(&noise(), Ok(13)), Err(ArchiveError::NotAnArchive(Content::Unknown))));
    }

    #[test]
    fn text_is_no_archive_whatever_the_padding() {
        let text = b"not an archive at all, ".repeat(50);
        for padding in [Ok(15), Ok(3)] {
            let judged = judge(&text[..LOOK_BYTES], padding);
            assert!(matches!(judged, Err(ArchiveError::NotAnArchive(Content::Unknown))), "{judged:?}");
        }
    }

    #[test]
    fn nearly_gzip_is_damage() {
        let mut start = noise();
        start[..4].copy_from_slice(&[0x1f, 0x8b, 0x08, 0]);
        assert_eq!(judge(&start, Ok(3)).ok(), Some(Packing::Gzip));
        assert!(matches!(judge(&start, Err(BadPadding)), Err(ArchiveError::Truncated(Cut::NoPadding))));
        start[1] ^= 0x40;
        assert!(matches!(judge(&start, Ok(3)), Err(ArchiveError::Damaged { offset: 0, .. })));
    }

    #[test]
    fn other_compressions_are_named() {
        let mut start = noise();
        start[..6].copy_from_slice(b"\xfd7zXZ\0");
        let judged = judge(&start, Ok(3));
        assert!(matches!(judged, Err(ArchiveError::Unsupported(Feature::Compression { name: "xz" }))), "{judged:?}");
    }
}
