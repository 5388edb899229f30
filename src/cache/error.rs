//! Why the cache did not take or give something. A cache that fails costs time, never a model: whoever asks goes on
//! without it.
//!
//! A message must never contain a path of this board: it reaches the control port.

use std::error::Error;
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::error::{Code, Explain, MAKE_ROOM, is_full, size};

/// What was being done on flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Making, opening, locking or listing the directory.
    Directory,
    /// Reading an index, a journal or a record.
    Read,
    /// Beginning an entry or an upload.
    Begin,
    /// Writing a chunk.
    Chunk,
    /// Writing a journal.
    Journal,
    /// Writing an index and giving it its name.
    Index,
    /// Keeping a small part.
    Small,
    /// Writing the record of an upload.
    Upload,
    /// Removing what makes room.
    Evict,
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "opening the cache directory",
            Self::Read => "reading an index of the cache",
            Self::Begin => "beginning an entry of the cache",
            Self::Chunk => "writing a chunk to the cache",
            Self::Journal => "writing a journal of the cache",
            Self::Index => "writing an index of the cache",
            Self::Small => "keeping a small part in the cache",
            Self::Upload => "writing the record of an upload",
            Self::Evict => "making room in the cache",
        })
    }
}

/// Why the cache did not do it.
#[derive(Debug, Clone)]
pub enum CacheError {
    /// The flash failed, or does not allow it.
    Flash {
        /// What was being done.
        duty: Duty,
        /// What the system said.
        source: Rc<io::Error>,
    },
    /// Another agent uses the directory.
    AnotherAgent,
    /// There is no room, even with everything evicted that is not in use.
    NoRoom {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that could be had.
        free: u64,
    },
    /// The object is none that is cached: too big, or its `ETag` too long.
    Unfit {
        /// Its size.
        size: u64,
    },
    /// The bytes are not those that were recorded for this chunk: the object at the CDN is another one.
    Mismatch {
        /// The chunk.
        chunk: u32,
    },
    /// The bytes are not as many as the chunk has, or there is no such chunk.
    WrongLength {
        /// The chunk.
        chunk: u32,
        /// Bytes there were.
        bytes: usize,
    },
    /// Chunks are missing.
    Unfinished {
        /// How many.
        missing: u32,
    },
    /// Another version, or a newer upload, took its place.
    Superseded,
    /// Another process looks at the entry right now (`azaion-loader cache verify`).
    Busy,
    /// More than is kept: a small part, an `ETag`, an upload's id.
    TooLong {
        /// Bytes there were.
        bytes: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// As many uploads as may wait are waiting.
    TooManyUploads,
}

impl CacheError {
    /// For `map_err`.
    pub(super) fn on(duty: Duty) -> impl Fn(io::Error) -> Self {
        move |source| Self::Flash { duty, source: Rc::new(source) }
    }

    /// Whether it says that flash as a whole cannot be written, rather than this one thing.
    pub(super) fn is_trouble(&self) -> bool {
        matches!(self, Self::AnotherAgent | Self::Flash { .. })
    }
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flash { duty, source } if is_full(source) => write!(f, "{duty} failed: no space left"),
            Self::Flash { duty, .. } => write!(f, "{duty} failed"),
            Self::AnotherAgent => f.write_str("another agent uses the cache directory"),
            Self::NoRoom { needed, free } => {
                write!(f, "the cache needs {} more, {} could be had", size(*needed), size(*free))
            }
            Self::Unfit { size } => write!(f, "an object of {size} bytes is not cached"),
            Self::Mismatch { chunk } => write!(f, "chunk {chunk} is not what was recorded for it"),
            Self::WrongLength { chunk, bytes } => write!(f, "chunk {chunk} does not have {bytes} bytes"),
            Self::Unfinished { missing } => write!(f, "{missing} chunks are missing"),
            Self::Superseded => f.write_str("a newer version took its place"),
            Self::Busy => f.write_str("another process looks at this entry of the cache"),
            Self::TooLong { bytes, limit } => write!(f, "{bytes} bytes are more than the {limit} that are kept"),
            Self::TooManyUploads => f.write_str("too many uploads wait for the cloud"),
        }
    }
}

impl Error for CacheError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Flash { source, .. } => Some(&**source),
            Self::AnotherAgent
            | Self::NoRoom { .. }
            | Self::Unfit { .. }
            | Self::Mismatch { .. }
            | Self::WrongLength { .. }
            | Self::Unfinished { .. }
            | Self::Superseded
            | Self::Busy
            | Self::TooLong { .. }
            | Self::TooManyUploads => None,
        }
    }
}

impl Explain for CacheError {
    fn code(&self) -> Code {
        match self {
            Self::NoRoom { .. } => Code::NoSpace,
            Self::Flash { source, .. } if is_full(source) => Code::NoSpace,
            Self::Mismatch { .. } => Code::CdnChanged,
            Self::TooManyUploads => Code::TooMany,
            Self::Flash { .. }
            | Self::AnotherAgent
            | Self::Unfit { .. }
            | Self::WrongLength { .. }
            | Self::Unfinished { .. }
            | Self::Superseded
            | Self::Busy
            | Self::TooLong { .. } => Code::CacheUnavailable,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoRoom { .. } => "make room on the flash, or raise [cache] max_bytes",
            Self::Flash { source, .. } if is_full(source) => MAKE_ROOM,
            Self::Flash { .. } => "see that [cache] dir exists, is writable, and its flash is healthy",
            Self::AnotherAgent => "give each agent its own [cache] dir",
            Self::Unfit { .. } | Self::WrongLength { .. } | Self::Unfinished { .. } | Self::TooLong { .. } => {
                "report it with the agent's log; models are served without the cache meanwhile"
            }
            Self::Mismatch { .. } | Self::Superseded => "ask again",
            Self::Busy => "wait for azaion-loader cache to end, then ask again",
            Self::TooManyUploads => "bring the board online with the uploader's credentials, then upload again",
        }
        .to_owned()
    }
}

/// Why a chunk was not read. Whichever it is, the chunk counts as missing from then on.
#[derive(Debug)]
pub enum ReadError {
    /// It is not here (yet).
    Absent,
    /// What is on flash is not what was recorded.
    Damaged,
    /// The flash does not give it.
    Unreadable(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "the chunk is not in the cache",
            Self::Damaged => "the chunk is damaged in the cache",
            Self::Unreadable(_) => "the flash does not give the chunk",
        })
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Absent | Self::Damaged => None,
            Self::Unreadable(source) => Some(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    #[test]
    fn a_full_flash_is_no_space_and_a_message_names_no_path() {
        let full = CacheError::on(Duty::Chunk)(io::Error::from_raw_os_error(28));
        assert_eq!(full.code(), Code::NoSpace);
        let denied = CacheError::on(Duty::Directory)(io::ErrorKind::PermissionDenied.into());
        let report = Report::of(&denied);
        assert_eq!(report.message, "opening the cache directory failed: permission denied");
        assert_eq!(report.code, Code::CacheUnavailable);
    }
}
