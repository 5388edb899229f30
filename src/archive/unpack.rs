//! gzip and zstd from front to back, in bounded memory: ciphertext pieces are fed in, plain pieces come out.
//!
//! Formats: RFC 1952 and RFC 8878; check sums are checked, several members or frames in a row are one stream. No I/O.

use std::io::{self, BufRead, Read};
use std::mem;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::error::{ArchiveError, Cut, Fault, Feature};
use crate::limits::ZSTD_WINDOW_BYTES;

/// The longest zstd block with its header and the check sum behind it (RFC 8878 section 3.1.1.2: 128 KiB, 3, 4).
const ZSTD_BLOCK_BYTES: usize = 128 * 1024 + 3 + 4;

/// The longest zstd frame header with its magic (RFC 8878 section 3.1.1.1).
const ZSTD_HEADER_BYTES: usize = 18;

/// What came of a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unpacked {
    /// So many bytes of plain text.
    Bytes(usize),
    /// Nothing without more input.
    Hungry,
    /// The stream is whole and over.
    End,
}

/// A stream that unfolds.
pub(super) enum Unpacker {
    /// gzip.
    Gzip(Box<MultiGzDecoder<Feed>>),
    /// zstd.
    Zstd(Box<Zstd>),
}

impl Unpacker {
    pub(super) fn gzip() -> Self {
        Self::Gzip(Box::new(MultiGzDecoder::new(Feed::default())))
    }

    pub(super) fn zstd() -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW_BYTES);
        Self::Zstd(Box::new(Zstd {
            feed: Feed::default(),
            decoder,
            state: ZstdState::Header,
            produced: 0,
            fresh: true,
        }))
    }

    /// Hands in the next bytes; none means that there are no more.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let feed = match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(zstd) => &mut zstd.feed,
        };
        if bytes.is_empty() {
            feed.ended = true;
        } else {
            feed.bytes.drain(..mem::take(&mut feed.start));
            feed.bytes.extend_from_slice(bytes);
        }
    }

    /// Unfolds into `out`, as far as it goes. `offset` is where the input stands, for errors.
    pub(super) fn step(&mut self, out: &mut [u8], offset: u64) -> Result<Unpacked, ArchiveError> {
        match self {
            Self::Gzip(decoder) => match decoder.read(out) {
                Ok(0) => Ok(Unpacked::End),
                Ok(n) => Ok(Unpacked::Bytes(n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Unpacked::Hungry),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(ArchiveError::Truncated(Cut::Compressed)),
                Err(e) => Err(Fault::Gzip(e).at(offset)),
            },
            Self::Zstd(zstd) => zstd.step(out, offset),
        }
    }
}

/// Input that is not read yet. When it runs dry before the end, readers are told to come again.
#[derive(Debug, Default)]
pub(super) struct Feed {
    bytes: Vec<u8>,
    start: usize,
    ended: bool,
}

impl Feed {
    fn left(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn has(&self, bytes: usize) -> bool {
        self.ended || self.left() >= bytes
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.has(1) { Ok(&self.bytes[self.start..]) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
    }
}

impl Read for Feed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

/// A zstd stream. `ruzstd` cannot stop in the middle of a block, so blocks are decoded when they are here whole.
pub(super) struct Zstd {
    feed: Feed,
    decoder: FrameDecoder,
    state: ZstdState,
    /// Plain bytes of this frame.
    produced: u64,
    /// No frame was begun yet.
    fresh: bool,
}

enum ZstdState {
    /// Between frames.
    Header,
    /// Bytes left of a skippable frame.
    Skip(usize),
    /// Inside a frame.
    Blocks,
}

impl Zstd {
    fn step(&mut self, out: &mut [u8], offset: u64) -> Result<Unpacked, ArchiveError> {
        loop {
            match self.state {
                ZstdState::Header => {
                    if !self.feed.has(ZSTD_HEADER_BYTES) {
                        return Ok(Unpacked::Hungry);
                    }
                    if self.feed.left() == 0 {
                        return Ok(Unpacked::End);
                    }
                    self.state = self.frame(offset)?;
                }
                ZstdState::Skip(left) => {
                    let n = left.min(self.feed.left());
                    self.feed.consume(n);
                    self.state = match left - n {
                        0 => ZstdState::Header,
                        _ if self.feed.ended => return Err(ArchiveError::Truncated(Cut::Compressed)),
                        left => {
                            self.state = ZstdState::Skip(left);
                            return Ok(Unpacked::Hungry);
                        }
                    };
                }
                ZstdState::Blocks if self.decoder.can_collect() > 0 => {
                    let n = self.decoder.read(out).expect("reading from memory");
                    self.produced += n as u64;
                    return Ok(Unpacked::Bytes(n));
                }
                ZstdState::Blocks if self.decoder.is_finished() => {
                    self.check(offset)?;
                    self.state = ZstdState::Header;
                }
                ZstdState::Blocks => {
                    if !self.feed.has(ZSTD_BLOCK_BYTES) {
                        return Ok(Unpacked::Hungry);
                    }
                    let one = BlockDecodingStrategy::UptoBlocks(1);
                    // Only the last frame can be short of bytes: everything else was waited for.
                    self.decoder.decode_blocks(&mut self.feed, one).map_err(|e| match self.feed.left() {
                        0 if self.feed.ended => ArchiveError::Truncated(Cut::Compressed),
                        _ => Fault::Zstd(Box::new(e)).at(offset),
                    })?;
                }
            }
        }
    }

    /// Reads a frame's header.
    fn frame(&mut self, offset: u64) -> Result<ZstdState, ArchiveError> {
        self.produced = 0;
        if self.fresh {
            // A first reset makes the decoder's state, a second one reserves the window in one piece; else it would
            // grow by doubling, old and new side by side. What is wrong with the header, the second one says.
            self.fresh = self.decoder.reset(&self.feed.bytes[self.feed.start..]).is_err();
        }
        match self.decoder.reset(&mut self.feed) {
            Ok(()) => Ok(ZstdState::Blocks),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                Ok(ZstdState::Skip(length as usize))
            }
            Err(FrameDecoderError::WindowSizeTooBig { requested, max }) => {
                Err(ArchiveError::Unsupported(Feature::ZstdWindow { needed: requested, limit: max }))
            }
            Err(FrameDecoderError::DictNotProvided { .. }) => Err(ArchiveError::Unsupported(Feature::ZstdDictionary)),
            Err(_) if self.feed.left() == 0 => Err(ArchiveError::Truncated(Cut::Compressed)),
            Err(e) => Err(Fault::Zstd(Box::new(e)).at(offset)),
        }
    }

    /// Compares what came out with what the frame promised. `ruzstd` leaves that to its caller.
    fn check(&self, offset: u64) -> Result<(), ArchiveError> {
        let sum = self.decoder.get_checksum_from_data();
        let sum_fits = sum.is_none() || sum == self.decoder.get_calculated_checksum();
        // 0 also stands for "not told".
        let promised = self.decoder.content_size();
        let size_fits = promised == 0 || promised == self.produced;
        if sum_fits && size_fits { Ok(()) } else { Err(Fault::ZstdContent.at(offset)) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn unpack(mut unpacker: Unpacker, packed: &[u8], step: usize) -> Result<Vec<u8>, ArchiveError> {
        let (mut plain, mut out, mut pieces) = (Vec::new(), vec![0; 1000], packed.chunks(step));
        loop {
            match unpacker.step(&mut out, 0)? {
                Unpacked::Bytes(n) => plain.extend_from_slice(&out[..n]),
                Unpacked::Hungry => unpacker.feed(pieces.next().unwrap_or_default()),
                Unpacked::End => return Ok(plain),
            }
        }
    }

    fn plain() -> Vec<u8> {
        (0_u32..300_000).flat_map(|i| (i / 7).to_le_bytes()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn zstd(bytes: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("memory");
        encoder.window_log(window_log).expect("a window");
        encoder.include_checksum(true).expect("a flag");
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    type Sample = (&'static str, fn() -> Unpacker, Vec<u8>);

    fn all() -> [Sample; 2] {
        [("gzip", Unpacker::gzip, gzip(&plain())), ("zstd", Unpacker::zstd, zstd(&plain(), 20))]
    }

    #[test]
    fn any_cut_gives_the_same_and_streams_may_follow_streams() {
        for (name, new, packed) in all() {
            for step in [1, 7, 1000, 65_536, usize::MAX] {
                assert!(unpack(new(), &packed, step).expect(name) == plain(), "{name} by {step}");
            }
            let twice = unpack(new(), &packed.repeat(2), 4096).expect(name);
            assert!(twice == plain().repeat(2), "{name} twice");
        }
    }

    #[test]
    fn skippable_frames_are_skipped() {
        let mut packed = vec![0x53, 0x2a, 0x4d, 0x18, 100, 0, 0, 0];
        packed.extend([9; 100]);
        packed.extend(zstd(b"content", 20));
        assert_eq!(unpack(Unpacker::zstd(), &packed, 10).expect("whole"), b"content");
        assert!(unpack(Unpacker::zstd(), &packed[..50], 10).is_err());
    }

    #[test]
    fn every_cut_is_told_as_a_cut() {
        for (name, new, packed) in all() {
            for len in (1..packed.len()).step_by(packed.len() / 50).chain(packed.len() - 12..packed.len()) {
                let cut = unpack(new(), &packed[..len], 65_536);
                assert!(matches!(cut, Err(ArchiveError::Truncated(Cut::Compressed))), "{name} {len}: {cut:?}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_changes_nothing_unseen() {
        for (name, new, packed) in all() {
            let (mut flips, mut seen) = (0, 0);
            for at in (20..packed.len()).step_by(packed.len() / 200).chain(packed.len() - 4..packed.len()) {
                let mut bad = packed.clone();
                bad[at] ^= 0x10;
                flips += 1;
                match unpack(new(), &bad, 65_536) {
                    Err(_) => seen += 1,
                    // A match may point to another place with the same bytes.
                    Ok(same) => assert!(same == plain(), "{name} {at}"),
                }
            }
            assert!(seen * 10 > flips * 9, "{name}: {seen} of {flips}");
        }
    }

    #[test]
    fn the_zstd_window_holds_at_its_bound() {
        // Longer than the window, else the encoder writes the content's size as the window.
        let long = vec![1; 17 * 1024 * 1024];
        assert!(unpack(Unpacker::zstd(), &zstd(&long, 23), 65_536).is_ok());
        match unpack(Unpacker::zstd(), &zstd(&long, 24), 65_536) {
            Err(ArchiveError::Unsupported(Feature::ZstdWindow { needed, limit })) => {
                assert_eq!((needed, limit), (2 * ZSTD_WINDOW_BYTES, ZSTD_WINDOW_BYTES));
            }
            other => panic!("{:?}", other.map(|bytes| bytes.len())),
        }
    }

    #[test]
    fn what_follows_a_gzip_stream_must_be_one() {
        let mut packed = gzip(b"content");
        packed.extend_from_slice(b"something else");
        assert!(matches!(unpack(Unpacker::gzip(), &packed, 5), Err(ArchiveError::Damaged { .. })));
    }
}
