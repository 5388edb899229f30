//! One tar header: 512 bytes as of POSIX.1-1988 (ustar), GNU tar and the older V7, and the pax records of POSIX.1-2001.
//!
//! Where readers differ this one reads as Go's `archive/tar` does, because the engines are written with it. Pure bytes.

use super::error::{ArchiveError, Fault, Feature};

/// Bytes of a header, and what everything in a tar is a multiple of.
pub(super) const BYTES: usize = 512;

/// Length of a header and of the unit of padding.
pub(super) const UNIT: u64 = BYTES as u64;

/// A header whose check sum is right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The type flag as it stands there.
    pub(super) flag: u8,
    /// Bytes that follow.
    pub(super) size: u64,
    /// Name, with the ustar prefix in front.
    pub(super) name: Vec<u8>,
    /// Target of a link.
    pub(super) link: Vec<u8>,
}

/// Whether this is a header with a right check sum, or a block of the end marker.
pub(super) fn is_sound(block: &[u8; BYTES]) -> bool {
    is_zero(block) || sums_fit(block)
}

pub(super) fn is_zero(block: &[u8; BYTES]) -> bool {
    block.iter().all(|&byte| byte == 0)
}

/// Reads a header that stands at `offset`.
pub(super) fn parse(block: &[u8; BYTES], offset: u64) -> Result<Header, ArchiveError> {
    if !sums_fit(block) {
        return Err(Fault::Checksum.at(offset));
    }
    let size = number(&block[124..136]).ok_or_else(|| Fault::Number("size").at(offset))?;
    let mut name = text(&block[..100]).to_vec();
    let ustar = &block[257..263] == b"ustar\0";
    if ustar && block[345] != 0 {
        let prefix = text(&block[345..500]);
        name.splice(..0, prefix.iter().copied().chain([b'/']));
    }
    Ok(Header { flag: block[156], size, name, link: text(&block[157..257]).to_vec() })
}

/// The sum of all bytes, its own eight taken as spaces. Sums of signed bytes, as some writers of the eighties made them
/// and Go still takes, are not taken: they are blind to one in 700 blocks of noise, and noise is what a flipped bit
/// leaves.
fn sums_fit(block: &[u8; BYTES]) -> bool {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    number(&block[148..156]) == Some(sum(&block[..148]) + 8 * u64::from(b' ') + sum(&block[156..]))
}

/// A number in octal, or in base 256 when the first bit is set (GNU, for sizes over 8 GiB).
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        // The next bit is the sign; nothing here is negative.
        let first = (field[0] & 0x40 == 0).then_some(field[0] & 0x3f)?;
        return field[1..]
            .iter()
            .try_fold(u64::from(first), |value, &byte| value.checked_mul(256).map(|value| value + u64::from(byte)));
    }
    let trimmed = field.trim_ascii_start();
    let digits = trimmed.split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    digits.iter().try_fold(0_u64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value + u64::from(digit - b'0')),
        _ => None,
    })
}

/// A field up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// What pax records change of the member behind them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) name: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
}

impl Extended {
    /// Takes in the records `"<length> <key>=<value>\n"` of an extended header that stands at `offset`.
    pub(super) fn records(&mut self, mut bytes: &[u8], offset: u64) -> Result<(), ArchiveError> {
        let malformed = || Fault::Extension.at(offset);
        while !bytes.is_empty() {
            let space = bytes.iter().take(20).position(|&byte| byte == b' ').ok_or_else(malformed)?;
            let len: usize =
                std::str::from_utf8(&bytes[..space]).ok().and_then(|n| n.parse().ok()).ok_or_else(malformed)?;
            let record = bytes.get(space + 1..len).ok_or_else(malformed)?;
            bytes = &bytes[len..];
            let [record @ .., b'\n'] = record else { return Err(malformed()) };
            let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(malformed)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            // An empty value takes back what was said before (POSIX, pax).
            let said = || (!value.is_empty()).then(|| value.to_vec());
            match key {
                b"path" => self.name = said(),
                b"linkpath" => self.link = said(),
                b"size" if value.is_empty() => self.size = None,
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|n| n.parse().ok());
                    self.size = Some(size.ok_or_else(malformed)?);
                }
                _ if key.starts_with(b"GNU.sparse.") => return Err(ArchiveError::Unsupported(Feature::Sparse)),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ustar(name: &str, size: u64) -> [u8; BYTES] {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).expect("fits");
        header.set_size(size);
        header.set_cksum();
        *header.as_bytes()
    }

    #[test]
    fn names_and_sizes_of_all_dialects() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
        let header = parse(&ustar(&long, 8 << 30), 0).expect("a header");
        assert_eq!((header.name, header.size), (long.into_bytes(), 8 << 30));

        let mut gnu = tar::Header::new_gnu();
        gnu.set_path("big").expect("fits");
        gnu.set_size(u64::MAX >> 2);
        gnu.set_cksum();
        assert_eq!(parse(gnu.as_bytes(), 0).expect("base 256").size, u64::MAX >> 2);

        let mut old = tar::Header::new_old();
        old.set_path("v7").expect("fits");
        old.set_size(5);
        old.set_cksum();
        let header = parse(old.as_bytes(), 0).expect("v7");
        assert_eq!((header.name.as_slice(), header.size, header.flag), (b"v7".as_slice(), 5, 0));
    }

    #[test]
    fn every_flipped_bit_breaks_the_sum() {
        let good = ustar("blobs/sha256/0f8a", 10_240);
        assert!(is_sound(&good));
        for at in 0..BYTES {
            for bit in 0..8 {
                let mut bad = good;
                bad[at] ^= 1 << bit;
                // The bytes around the sum's digits are fillers: a space or NUL either way.
                let harmless =
                    (148..156).contains(&at) && parse(&bad, 0).is_ok_and(|h| h == parse(&good, 0).expect("good"));
                assert!(
                    harmless || matches!(parse(&bad, 7), Err(ArchiveError::Damaged { offset: 7, .. })),
                    "{at}.{bit}"
                );
            }
        }
    }

    #[test]
    fn numbers_that_are_none() {
        assert_eq!(number(b"00000000017\0"), Some(15));
        assert_eq!(number(b"       17 \0\0"), Some(15));
        assert_eq!(number(&[0; 12]), Some(0));
        assert_eq!(number(b"00000000018\0"), None);
        assert_eq!(number(b"-0000000001\0"), None);
        assert_eq!(number(&[0xff; 12]), None, "negative");
        assert_eq!(number(&[0xbf; 12]), None, "beyond 64 bits");
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(8 << 30));
    }

    #[test]
    fn pax_records() {
        let read = |bytes: &[u8]| {
            let mut extended = Extended::default();
            extended.records(bytes, 0).map(|()| extended)
        };
        let all = read(b"14 path=a/b=c\n20 size=99999999999\n11 mtime=1\n14 linkpath=d\n").expect("records");
        assert_eq!(all.name.as_deref(), Some(b"a/b=c".as_slice()));
        assert_eq!(all.link.as_deref(), Some(b"d".as_slice()));
        assert_eq!(all.size, Some(99_999_999_999));
        assert_eq!(read(b"8 path=\n").expect("taken back").name, None);
        for wrong in
            [&b"x path=a\n"[..], b"9 path=ab\n", b"99 path=a\n", b"1 \n", b"0 path=a\n", b"8 patha\n", b"9 size=x\n"]
        {
            assert!(matches!(read(wrong), Err(ArchiveError::Damaged { fault: Fault::Extension, .. })), "{wrong:?}");
        }
        let sparse = read(b"22 GNU.sparse.major=1\n");
        assert!(matches!(sparse, Err(ArchiveError::Unsupported(Feature::Sparse))));
    }
}
