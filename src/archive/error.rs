//! What can be wrong with an archive, sorted by whose fault it is: the file system, the length, the key, the content.
//!
//! No message holds a path, and what comes out of the archive (member names) is bounded and shown escaped.

use std::fmt;
use std::io;

use ruzstd::decoding::errors::FrameDecoderError;

use crate::crypto::Digest;
use crate::error::{Code, Explain};
use crate::json::JsonRefused;

/// Why an archive is not used. [`super`] has the table of which evidence leads to which variant.
#[derive(Debug)]
pub enum ArchiveError {
    /// There is no file.
    Missing,
    /// The file cannot be opened.
    Unreadable {
        /// What the system said.
        source: io::Error,
    },
    /// The path leads to something that is not a regular file.
    NotAFile {
        /// What it is.
        kind: &'static str,
    },
    /// A read failed.
    Read {
        /// Where in the ciphertext.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The file became another one while it was read.
    Changed,
    /// The file has no bytes.
    Empty,
    /// The archive ends early.
    Truncated(Cut),
    /// Neither beginning nor end decrypt to what they must be.
    WrongKey,
    /// The key fits, and what comes out is not an image archive.
    NotAnArchive(Content),
    /// The archive is damaged at this place of the plain tar (or of the compressed one, for [`Fault::Gzip`] and zstd).
    Damaged {
        /// Where, in bytes of plain text.
        offset: u64,
        /// What is wrong there.
        fault: Fault,
    },
    /// A document of the archive, or what it names, is not right.
    Document {
        /// The document's member name.
        name: String,
        /// What is wrong with it.
        fault: DocumentFault,
    },
    /// Bytes do not have the digest that stands for them.
    Digest {
        /// The member.
        name: String,
        /// The digest there must be.
        expected: Digest,
        /// The digest there is.
        found: Digest,
    },
    /// The archive is of a kind this agent does not load.
    Unsupported(Feature),
    /// It is not what its seal says, or its seal is not the publisher's. Why exactly is in the local log alone: told
    /// outside, it would answer questions about the plain text.
    NotAuthentic,
    /// A seal, or a signature of it, is required, and there is none.
    Unsealed(Lacking),
    /// It is of an earlier version than one that this board has had.
    Older {
        /// The version in its seal.
        found: u64,
        /// The highest one that this board has brought to its end.
        highest: u64,
    },
    /// It does not hold the images that the configuration demands.
    Other {
        /// A tag that is missing, or that is there and should not be.
        tag: String,
    },
    /// The archive is compressed, and a part of it was asked for.
    NotSeekable,
    /// This stream had failed before and goes no further.
    Stopped,
}

/// What is required, and is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// The seal: the configuration demands one.
    Demanded,
    /// The seal: this board has had a sealed archive before.
    SealedBefore,
    /// The signature of the seal: the configuration names a publisher's key.
    Signature,
}

/// Where an archive was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// Shorter than an IV and one block.
    TooShort {
        /// Bytes there are.
        len: u64,
    },
    /// In the middle of a cipher block.
    InBlock {
        /// Bytes there are.
        len: u64,
    },
    /// The beginning decrypts, the last block is not padding.
    NoPadding,
    /// In the middle of a tar member.
    InMember {
        /// Where the member would end.
        end: u64,
        /// Where the tar ends.
        tar_len: u64,
    },
    /// Between members: the tar's end marker is not there.
    NoEndMarker {
        /// Where the tar ends.
        tar_len: u64,
    },
    /// The compressed stream ends before its own end.
    Compressed,
}

/// What came out instead of an image archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// No tar, gzip or zstd.
    Unknown,
    /// A tar without `manifest.json` and `index.json`.
    NoManifest,
    /// A manifest that lists no image.
    NoImage,
}

/// What is wrong at a place of the tar or of the compressed stream.
#[derive(Debug)]
pub enum Fault {
    /// The first header is nearly one, but not whole.
    Start,
    /// A header's check sum is wrong.
    Checksum,
    /// A number of a header is none.
    Number(&'static str),
    /// A name is not UTF-8.
    Name,
    /// Pax records or a long name are malformed.
    Extension,
    /// One zero block where the end marker has two.
    EndMarker,
    /// The gzip stream is damaged.
    Gzip(io::Error),
    /// The zstd stream is damaged.
    Zstd(Box<FrameDecoderError>),
    /// The zstd stream unfolds to something else than was packed.
    ZstdContent,
}

/// What is wrong with a document of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentFault {
    /// Not the JSON it must be.
    Json(JsonRefused),
    /// It names a member that the tar does not have.
    Missing {
        /// The member.
        member: String,
    },
    /// It gives a member another size than the tar does.
    Size {
        /// The member.
        member: String,
    },
    /// As many layers as `diff_ids`, there must be.
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// `diff_ids` in the config.
        diff_ids: usize,
    },
    /// An uncompressed layer whose digest is not its `diff_id`, or one layer under two of them.
    LayerDigest {
        /// The layer.
        member: String,
    },
    /// A tag that cannot be one.
    Tag,
}

/// What this agent does not load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// A compression other than gzip and zstd.
    Compression {
        /// Its name.
        name: &'static str,
    },
    /// A zstd window larger than [`crate::limits::ZSTD_WINDOW_BYTES`].
    ZstdWindow {
        /// Bytes it needs.
        needed: u64,
        /// Bytes there may be.
        limit: u64,
    },
    /// A zstd stream that needs a dictionary.
    ZstdDictionary,
    /// Sparse members.
    Sparse,
    /// More of something than a bound allows.
    Limit {
        /// Of what.
        of: &'static str,
        /// The bound.
        limit: u64,
    },
}

impl ArchiveError {
    /// Not authentic, with the reason for the log.
    pub fn not_authentic(reason: &dyn fmt::Display) -> Self {
        log::warn!("the image archive is not authentic: {reason}");
        Self::NotAuthentic
    }

    /// Behind a seal, all faults of the content are one.
    pub(super) fn behind_a_seal(self, is_sealed: bool) -> Self {
        if is_sealed && self.is_of_content() { Self::not_authentic(&self) } else { self }
    }

    /// Whether it tells something of the bytes: by its code, which every variant has to choose.
    fn is_of_content(&self) -> bool {
        matches!(self.code(), Code::ArchiveChanged | Code::ArchiveCut | Code::WrongKeyOrDamaged)
    }
}

impl Feature {
    pub(super) fn limit(of: &'static str, limit: usize) -> ArchiveError {
        ArchiveError::Unsupported(Self::Limit { of, limit: limit as u64 })
    }
}

impl Fault {
    pub(super) fn at(self, offset: u64) -> ArchiveError {
        ArchiveError::Damaged { offset, fault: self }
    }
}

impl DocumentFault {
    pub(super) fn of(self, name: &str) -> ArchiveError {
        ArchiveError::Document { name: name.to_owned(), fault: self }
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no image archive"),
            Self::Unreadable { .. } => f.write_str("open the image archive"),
            Self::NotAFile { kind } => write!(f, "the image archive must be a regular file, it is a {kind}"),
            Self::Read { offset, .. } => write!(f, "read the image archive at byte {offset}"),
            Self::Changed => f.write_str("the image archive was changed while it was read"),
            Self::Empty => f.write_str("the image archive is empty"),
            Self::Truncated(cut) => write!(f, "the image archive was cut: {cut}"),
            Self::WrongKey => f.write_str("the key does not fit the image archive"),
            Self::NotAnArchive(content) => write!(f, "not an image archive: {content}"),
            Self::Damaged { offset, fault } => write!(f, "the image archive is damaged at byte {offset}: {fault}"),
            Self::Document { name, fault } => write!(f, "the archive's document {name:?}: {fault}"),
            Self::Digest { name, expected, found } => {
                write!(f, "the archive's member {name:?} must have the digest {expected}, it has {found}")
            }
            Self::Unsupported(feature) => write!(f, "the image archive is not of a kind that is loaded: {feature}"),
            Self::NotAuthentic => f.write_str("the image archive is not what the publisher sealed for this board"),
            Self::Unsealed(lacking) => lacking.fmt(f),
            Self::Older { found, highest } => {
                write!(f, "the image archive is version {found}, this board has had version {highest}")
            }
            Self::Other { tag } => {
                write!(f, "the image archive does not hold the images of [archive] images: {tag:?} is not in both")
            }
            Self::NotSeekable => f.write_str("a compressed image archive is only read from front to back"),
            Self::Stopped => f.write_str("the archive's stream had failed before"),
        }
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Demanded => "the image archive has no seal, and [archive] require_seal is \"always\"",
            Self::SealedBefore => "the image archive has no seal, and this board has had a sealed one before",
            Self::Signature => "the image archive has no signed seal, and [archive] publisher_key demands one",
        })
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { len } => write!(f, "it has {len} bytes, the shortest has 32"),
            Self::InBlock { len } => write!(f, "it has {len} bytes, which is not a whole number of 16-byte blocks"),
            Self::NoPadding => f.write_str("it begins well, and its last block is not an end"),
            Self::InMember { end, tar_len } => {
                write!(f, "its tar ends at byte {tar_len}, in a member that would end at byte {end}")
            }
            Self::NoEndMarker { tar_len } => write!(f, "its tar ends at byte {tar_len} without the end marker"),
            Self::Compressed => f.write_str("its compressed stream ends early"),
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "the key fits, the content is no tar, gzip or zstd",
            Self::NoManifest => "the tar holds neither manifest.json nor index.json",
            Self::NoImage => "its manifest lists no image",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("its first header is not whole"),
            Self::Checksum => f.write_str("a tar header's check sum is wrong"),
            Self::Number(field) => write!(f, "a tar header's {field} is not a number"),
            Self::Name => f.write_str("a tar member's name is not utf-8"),
            Self::Extension => f.write_str("a tar member's long name or pax records are malformed"),
            Self::EndMarker => f.write_str("a zero block stands alone, the tar's end marker has two"),
            Self::Gzip(_) => f.write_str("the gzip stream"),
            Self::Zstd(_) => f.write_str("the zstd stream"),
            Self::ZstdContent => f.write_str("the zstd stream does not unfold to what was packed"),
        }
    }
}

impl fmt::Display for DocumentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(refused) => refused.fmt(f),
            Self::Missing { member } => write!(f, "names {member:?}, which the tar does not hold"),
            Self::Size { member } => write!(f, "gives {member:?} another size than the tar does"),
            Self::LayerCount { layers, diff_ids } => {
                write!(f, "{layers} layers, and {diff_ids} diff_ids in the config")
            }
            Self::LayerDigest { member } => write!(f, "layer {member:?} cannot have both digests that stand for it"),
            Self::Tag => f.write_str("a tag must be 1 to 512 visible ascii characters"),
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compression { name } => write!(f, "compressed with {name}, gzip and zstd are loaded"),
            Self::ZstdWindow { needed, limit } => {
                write!(f, "its zstd window is {needed} bytes, at most {limit} are loaded")
            }
            Self::ZstdDictionary => f.write_str("its zstd stream needs a dictionary"),
            Self::Sparse => f.write_str("its tar has sparse members"),
            Self::Limit { of, limit } => write!(f, "more than {limit} {of}"),
        }
    }
}

impl std::error::Error for ArchiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source }
            | Self::Read { source, .. }
            | Self::Damaged { fault: Fault::Gzip(source), .. } => Some(source),
            Self::Damaged { fault: Fault::Zstd(source), .. } => Some(source),
            Self::Document { fault: DocumentFault::Json(source), .. } => Some(source),
            Self::Missing
            | Self::NotAFile { .. }
            | Self::Changed
            | Self::Empty
            | Self::Truncated(_)
            | Self::WrongKey
            | Self::NotAnArchive(_)
            | Self::Damaged { .. }
            | Self::Document { .. }
            | Self::Digest { .. }
            | Self::Unsupported(_)
            | Self::NotAuthentic
            | Self::Unsealed(_)
            | Self::Older { .. }
            | Self::Other { .. }
            | Self::NotSeekable
            | Self::Stopped => None,
        }
    }
}

impl Explain for ArchiveError {
    fn code(&self) -> Code {
        match self {
            Self::Missing => Code::ArchiveMissing,
            Self::Unreadable { .. } | Self::NotAFile { .. } | Self::Read { .. } => Code::ArchiveUnreadable,
            Self::Changed => Code::ArchiveChanged,
            Self::Empty | Self::Truncated(_) => Code::ArchiveCut,
            Self::WrongKey
            | Self::NotAnArchive(_)
            | Self::Damaged { .. }
            | Self::Document { .. }
            | Self::Digest { .. } => Code::WrongKeyOrDamaged,
            Self::NotAuthentic => Code::ArchiveNotAuthentic,
            Self::Unsealed(_) => Code::ArchiveUnsealed,
            Self::Older { .. } => Code::ArchiveOlder,
            Self::Other { .. } => Code::ArchiveOther,
            Self::Unsupported(_) | Self::NotSeekable => Code::ArchiveUnsupported,
            Self::Stopped => Code::Internal,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Missing => "copy the image archive to the path in [archive] path, then unlock again",
            Self::Unreadable { .. } => "let the agent's user read the image archive, then unlock again",
            Self::NotAFile { .. } => "put the image archive itself at the path in [archive] path, then unlock again",
            Self::Read { .. } => "check the disk for errors, copy the image archive again, then unlock again",
            Self::Changed => "wait until the image archive is wholly copied, then unlock again",
            Self::Empty | Self::Truncated(_) => {
                "copy the image archive again and compare its length with the original, then unlock again"
            }
            Self::WrongKey => {
                "check that the archive and the account belong to the same release, or copy the archive again"
            }
            Self::NotAnArchive(_) => "ask the publisher for an archive made by docker save, encrypted for this release",
            Self::Damaged { .. } | Self::Document { .. } | Self::Digest { .. } => {
                "copy the image archive again and compare its check sum with the original, then unlock again"
            }
            Self::Unsupported(_) => "ask the publisher for an archive within these limits",
            Self::NotAuthentic => {
                "copy images.enc and images.enc.seal again, both of one release; if that does not help, ask the publisher \
                 for both"
            }
            Self::Unsealed(Lacking::Signature) => {
                "copy images.enc.seal and images.enc.seal.minisig beside images.enc, all of one release"
            }
            Self::Unsealed(_) => {
                "copy images.enc.seal beside images.enc; see `azaion-loader trust --help` if there shall be none"
            }
            Self::Older { .. } => {
                "copy the newest release; if the older one is meant, allow it with `azaion-loader trust allow`"
            }
            Self::Other { .. } => "copy the archive that is meant for this board, or correct [archive] images",
            Self::NotSeekable | Self::Stopped => "report this as a fault of the agent",
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    #[test]
    fn sources_are_kept_and_told_once() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let report = Report::of(&ArchiveError::Unreadable { source: denied() });
        assert_eq!(report.message, "open the image archive: permission denied");
        assert_eq!(report.code, Code::ArchiveUnreadable);
        let json = DocumentFault::Json(JsonRefused::Missing { field: "Config".into() }).of("manifest.json");
        let message = Report::of(&json).message;
        assert_eq!(message.matches("Config").count(), 1, "{message}");
    }

    #[test]
    fn names_from_the_archive_are_shown_escaped() {
        let fault = DocumentFault::Missing { member: "a\u{1b}[2Jb".into() }.of("manifest.json");
        assert!(!fault.to_string().contains('\u{1b}'));
    }
}
