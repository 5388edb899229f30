//! Why a seal is refused. None of it goes outside: there every reason looks the same.

use std::fmt;

use crate::crypto::{MacMismatch, UnsealError};
use crate::json::JsonRefused;

/// Why bytes are not a seal, or not one that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealRefused {
    /// More bytes than a seal may have.
    TooLarge {
        /// Bytes there are.
        len: u64,
        /// Bytes there may be.
        limit: u64,
    },
    /// It ends within this field.
    Ends {
        /// The field.
        field: &'static str,
    },
    /// Bytes follow its end.
    Follows {
        /// How many.
        bytes: usize,
    },
    /// It does not begin as a seal does.
    NotASeal,
    /// It is of a format that came after this program.
    FormatVersion {
        /// The version it names.
        found: u8,
    },
    /// It seals something else: an archive where a resource was expected, or the reverse.
    Kind {
        /// The kind it names.
        found: u8,
    },
    /// A field has a value that it must not have.
    Field {
        /// The field.
        field: &'static str,
    },
    /// Its authentication tag is not right under this key.
    Mac(MacMismatch),
    /// The signature's file is not minisign's.
    SignatureForm,
    /// The signature is by none of the keys that count, or of the old kind that hashes nothing first.
    Signer,
    /// The signature is not of this seal.
    Signature,
    /// What is encrypted inside does not decrypt.
    Content(UnsealError),
    /// What is encrypted inside is not the JSON that it must be.
    Images(JsonRefused),
}

impl fmt::Display for SealRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, limit } => write!(f, "a seal has at most {limit} bytes, got {len}"),
            Self::Ends { field } => write!(f, "the seal ends within its {field}"),
            Self::Follows { bytes } => write!(f, "{bytes} bytes follow the seal's end"),
            Self::NotASeal => f.write_str("it does not begin as a seal"),
            Self::FormatVersion { found } => write!(f, "the seal has format version {found}, this program reads 1"),
            Self::Kind { found } => write!(f, "the seal is of kind {found}, another one was expected"),
            Self::Field { field } => write!(f, "the seal's {field} has a value that it must not have"),
            Self::Mac(_) => f.write_str("the seal was not made with this key, or was changed"),
            Self::SignatureForm => f.write_str("the seal's signature is not a file of minisign's"),
            Self::Signer => f.write_str("the seal's signature is not by a publisher's key that is configured"),
            Self::Signature => f.write_str("the signature is not of this seal"),
            Self::Content(_) => f.write_str("the seal's content does not decrypt"),
            Self::Images(_) => f.write_str("the seal's content is not a list of images"),
        }
    }
}

impl std::error::Error for SealRefused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Mac(source) => Some(source),
            Self::Content(source) => Some(source),
            Self::Images(source) => Some(source),
            Self::TooLarge { .. }
            | Self::Ends { .. }
            | Self::Follows { .. }
            | Self::NotASeal
            | Self::FormatVersion { .. }
            | Self::Kind { .. }
            | Self::Field { .. }
            | Self::SignatureForm
            | Self::Signer
            | Self::Signature => None,
        }
    }
}
