//! Why an engine did not take the images, sorted by whose fault it is.
//!
//! A message must never contain a path of this board: it reaches the control port. Paths stand in fields.

use std::error::Error;
use std::fmt;
use std::io;

use super::answers::{LoadAnswerRefused, is_no_space, said};
use crate::archive::ArchiveError;
use crate::error::{Code, Explain, MAKE_ROOM, is_full, size};
use crate::json::JsonRefused;
use crate::limits::ENGINE_LOAD_ANSWER_BYTES;
use crate::net::NetError;

/// What the engine was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `GET /_ping`.
    Ping,
    /// `GET /version`.
    Version,
    /// `GET /info`.
    Info,
    /// `GET /images/{name}/json`.
    Inspect,
    /// `GET /images/json`.
    List,
    /// `POST /images/load`.
    Load,
    /// `POST /images/{name}/tag`.
    Tag,
    /// `DELETE /images/{name}`.
    Remove,
    /// `GET /containers/json`.
    Containers,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ping => "ping",
            Self::Version => "version",
            Self::Info => "info",
            Self::Inspect => "image inspect",
            Self::List => "image list",
            Self::Load => "image load",
            Self::Tag => "image tag",
            Self::Remove => "image removal",
            Self::Containers => "container list",
        })
    }
}

/// What was being done to the OCI directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Making the directories, removing what a cut left over.
    Prepare,
    /// Reading the index, the record or a document.
    Read,
    /// Writing a blob.
    Blob,
    /// Writing the agent's record of its blobs.
    Record,
    /// Replacing `index.json`.
    Switch,
    /// Removing blobs that nothing uses any more.
    Clean,
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "preparing the image directory",
            Self::Read => "reading the image directory",
            Self::Blob => "writing a blob of the image directory",
            Self::Record => "writing the record of the image directory",
            Self::Switch => "replacing the index of the image directory",
            Self::Clean => "cleaning the image directory",
        })
    }
}

/// Where images need room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The directory where a Docker engine keeps everything.
    EngineRoot,
    /// The OCI directory.
    Directory,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EngineRoot => "container engine's root directory",
            Self::Directory => "image directory",
        })
    }
}

/// How an answer of the engine broke its own API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A document that is not the JSON it must be.
    Document(JsonRefused),
    /// The messages of a load are longer than allowed, all together.
    AnswerTooLong,
    /// A load was called done before its tar had ended.
    DoneTooEarly,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(_) => f.write_str("the engine's answer cannot be read"),
            Self::AnswerTooLong => write!(f, "the engine's answer is longer than {ENGINE_LOAD_ANSWER_BYTES} bytes"),
            Self::DoneTooEarly => f.write_str("the engine called the load done before it was given all images"),
        }
    }
}

/// How the engine shows something else than the archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// It does not know the image under its tag, or at all.
    Missing,
    /// The image has other layers.
    Layers,
}

/// Why the container engine cannot be used, or did not take an image.
#[derive(Debug)]
pub enum EngineError {
    /// Nobody answers at the engine's socket.
    Unreachable {
        /// What the connection failed with.
        source: NetError,
    },
    /// The engine took the call and did not answer it in time.
    Silent {
        /// What it was asked.
        call: Call,
        /// Which step took too long.
        source: NetError,
    },
    /// The engine went away in the middle of a call.
    Lost {
        /// What it was asked.
        call: Call,
        /// How the connection ended.
        source: NetError,
    },
    /// The engine answered with a status that means failure.
    Refused {
        /// What it was asked.
        call: Call,
        /// The HTTP status.
        status: u16,
        /// The engine's own words, bounded and stripped.
        message: String,
    },
    /// The engine answered a load with HTTP 200 and an error in the body.
    LoadFailed {
        /// The engine's own words, bounded and stripped.
        message: String,
    },
    /// The engine's own flash is full.
    EngineFull {
        /// The engine's own words, bounded and stripped.
        message: String,
    },
    /// The engine's answer is not what its API allows.
    Protocol {
        /// What it was asked.
        call: Call,
        /// What is wrong.
        fault: Fault,
    },
    /// The exchange broke HTTP itself.
    Http {
        /// What it was asked.
        call: Call,
        /// What is wrong.
        source: NetError,
    },
    /// After the load the engine does not show what the archive holds.
    Mismatch {
        /// The image's tag, or its config digest.
        image: String,
        /// What is different.
        difference: Difference,
    },
    /// The flash has too little room, told before anything is written.
    NoRoom {
        /// Whose flash.
        place: Place,
        /// Bytes the images need.
        needed: u64,
        /// Bytes there are.
        free: u64,
    },
    /// The flash under the OCI directory failed.
    Flash {
        /// What was being done.
        duty: Duty,
        /// What the system said.
        source: io::Error,
    },
    /// A document in the OCI directory, ours or someone else's, cannot be read; nothing was changed.
    Layout {
        /// The document: `index.json`, "a manifest".
        document: &'static str,
        /// What is wrong with it.
        source: JsonRefused,
    },
}

impl EngineError {
    /// An exchange that failed on the way.
    pub(super) fn net(call: Call, source: NetError) -> Self {
        match source {
            NetError::Connect { .. } | NetError::Resolve { .. } | NetError::Tls { .. } => Self::Unreachable { source },
            NetError::TimedOut { .. } => Self::Silent { call, source },
            NetError::ClosedEarly { .. } | NetError::Io { .. } => Self::Lost { call, source },
            NetError::Protocol { .. }
            | NetError::TooLarge { .. }
            | NetError::BodyLength { .. }
            | NetError::Request { .. } => Self::Http { call, source },
        }
    }

    /// A status that means failure, with the message of its body.
    pub(super) fn refused(call: Call, status: u16, message: &str) -> Self {
        let message = said(message);
        if is_no_space(&message) { Self::EngineFull { message } } else { Self::Refused { call, status, message } }
    }

    /// An error inside the answer to a load.
    pub(super) fn load_failed(message: &str) -> Self {
        let message = said(message);
        if is_no_space(&message) { Self::EngineFull { message } } else { Self::LoadFailed { message } }
    }

    /// A load's answer that cannot be read.
    pub(super) fn load_answer(refused: LoadAnswerRefused) -> Self {
        let fault = match refused {
            LoadAnswerRefused::TooLong => Fault::AnswerTooLong,
            LoadAnswerRefused::Message(refused) => Fault::Document(refused),
        };
        Self::Protocol { call: Call::Load, fault }
    }

    /// Whether the engine may only have gone away for a moment.
    pub(super) const fn is_away(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => true,
            Self::Silent { .. }
            | Self::Refused { .. }
            | Self::LoadFailed { .. }
            | Self::EngineFull { .. }
            | Self::Protocol { .. }
            | Self::Http { .. }
            | Self::Mismatch { .. }
            | Self::NoRoom { .. }
            | Self::Flash { .. }
            | Self::Layout { .. } => false,
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { .. } => f.write_str("the container engine cannot be reached"),
            Self::Silent { call, .. } => write!(f, "the container engine did not answer in time ({call})"),
            Self::Lost { call, .. } => write!(f, "the container engine went away in the middle of a call ({call})"),
            Self::Refused { call, status, message } => {
                write!(f, "the container engine refused ({call}, HTTP {status}): {message}")
            }
            Self::LoadFailed { message } => write!(f, "the container engine could not load the images: {message}"),
            Self::EngineFull { message } => write!(f, "the container engine has no space left: {message}"),
            Self::Protocol { call, fault } => write!(f, "{fault} ({call})"),
            Self::Http { call, .. } => write!(f, "the exchange with the container engine broke down ({call})"),
            Self::Mismatch { image, difference } => match difference {
                Difference::Missing => write!(f, "the container engine does not show {}", said(image)),
                Difference::Layers => write!(f, "the container engine shows other layers for {}", said(image)),
            },
            Self::NoRoom { place, needed, free } => {
                write!(f, "the images need {} in the {place}, {} are free", size(*needed), size(*free))
            }
            Self::Flash { duty, source } if is_full(source) => write!(f, "{duty} failed: no space left"),
            Self::Flash { duty, .. } => write!(f, "{duty} failed"),
            Self::Layout { document, .. } => write!(f, "{document} in the image directory cannot be read"),
        }
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreachable { source }
            | Self::Silent { source, .. }
            | Self::Lost { source, .. }
            | Self::Http { source, .. } => Some(source),
            Self::Protocol { fault: Fault::Document(source), .. } | Self::Layout { source, .. } => Some(source),
            Self::Flash { source, .. } => Some(source),
            Self::Protocol { fault: Fault::AnswerTooLong | Fault::DoneTooEarly, .. }
            | Self::Refused { .. }
            | Self::LoadFailed { .. }
            | Self::EngineFull { .. }
            | Self::Mismatch { .. }
            | Self::NoRoom { .. } => None,
        }
    }
}

impl Explain for EngineError {
    fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. } => Code::EngineUnreachable,
            Self::Silent { .. } => Code::EngineTimeout,
            Self::Lost { .. } => Code::EngineLost,
            Self::Mismatch { .. } => Code::EngineMismatch,
            Self::EngineFull { .. } | Self::NoRoom { .. } => Code::NoSpace,
            Self::Flash { source, .. } if is_full(source) => Code::NoSpace,
            Self::Refused { .. }
            | Self::LoadFailed { .. }
            | Self::Protocol { .. }
            | Self::Http { .. }
            | Self::Flash { .. }
            | Self::Layout { .. } => Code::EngineFailed,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Unreachable { source: NetError::Connect { source, .. } }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                "let the agent's user use the engine's socket: add it to the docker group"
            }
            Self::Unreachable { .. } => {
                "sudo systemctl start docker; if it runs: [engine] socket must be where it listens"
            }
            Self::Silent { .. } | Self::Lost { .. } => {
                "look into the container engine's log (journalctl -u docker), then unlock again"
            }
            Self::Refused { .. } | Self::LoadFailed { .. } | Self::Mismatch { .. } => {
                "unlock again; if it stays, look into the container engine's log (journalctl -u docker)"
            }
            Self::EngineFull { .. } | Self::NoRoom { .. } => MAKE_ROOM,
            Self::Flash { source, .. } if is_full(source) => MAKE_ROOM,
            Self::Flash { .. } => "see that the image directory exists, is writable, and its flash is healthy",
            Self::Protocol { .. } | Self::Http { .. } => {
                "see that [engine] socket is a Docker Engine API (Docker 20.10 or newer)"
            }
            Self::Layout { .. } => {
                "repair or empty the image directory; the agent does not overwrite what it cannot read"
            }
        }
        .to_owned()
    }
}

/// Why a load ended without the images in the engine: the engine's fault or the archive's.
#[derive(Debug)]
pub enum LoadError {
    /// The engine.
    Engine(EngineError),
    /// The archive, while it was read; nothing unverified was completed in the engine.
    Archive(ArchiveError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Archive(error) => error.fmt(f),
        }
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Engine(error) => error.source(),
            Self::Archive(error) => error.source(),
        }
    }
}

impl Explain for LoadError {
    fn code(&self) -> Code {
        match self {
            Self::Engine(error) => error.code(),
            Self::Archive(error) => error.code(),
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Engine(error) => error.next_step(),
            Self::Archive(error) => error.next_step(),
        }
    }
}

impl From<EngineError> for LoadError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<ArchiveError> for LoadError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    #[test]
    fn a_full_flash_is_no_space_whoever_says_it() {
        let words = "write /x: no space left on device";
        assert_eq!(EngineError::refused(Call::Load, 500, words).code(), Code::NoSpace);
        assert_eq!(EngineError::load_failed(words).code(), Code::NoSpace);
        assert_eq!(EngineError::NoRoom { place: Place::Directory, needed: 2, free: 1 }.code(), Code::NoSpace);
        let source = io::Error::from_raw_os_error(28);
        assert_eq!(EngineError::Flash { duty: Duty::Blob, source }.code(), Code::NoSpace);
        assert_eq!(EngineError::load_failed("invalid diffID").code(), Code::EngineFailed);
    }

    #[test]
    fn a_report_tells_the_numbers_and_the_engines_words() {
        let report = Report::of(&EngineError::NoRoom { place: Place::EngineRoot, needed: 4711, free: 42 });
        assert!(report.message.contains("need 4.6 KiB") && report.message.contains("42 B are free"), "{report:?}");
        let report = Report::of(&LoadError::from(EngineError::load_failed("invalid\ndiffID")));
        assert!(report.message.ends_with("invalid diffID"), "{report:?}");
    }

    #[test]
    fn a_socket_without_permission_has_its_own_remedy() {
        let refused = |kind: io::ErrorKind| {
            let source = NetError::Connect { to: "the unix socket".into(), source: kind.into() };
            EngineError::net(Call::Ping, source).next_step()
        };
        assert!(refused(io::ErrorKind::PermissionDenied).contains("group"));
        assert!(refused(io::ErrorKind::NotFound).contains("start"));
    }
}
