//! `images.enc`, CONTRACT section 4: `IV ‖ AES-256-CBC(tar)`, read from anywhere.
//!
//! CBC decrypts from any block on, so the encrypted tar is walked header by header without reading what lies between;
//! from the index come the manifests, from these the images and where every layer lies. A tar that is compressed as a
//! whole is read once from front to back instead. Nothing here writes plain text anywhere or holds more of it than one
//! piece, one document, one decompression window.
//!
//! v1 has no MAC: what is found right here was not *made* by the publisher for sure, unless a [seal](crate::seal) stands
//! before it ([`Sealed`]): then every chunk is compared before a byte of it is used, and whatever is wrong is one error.
//! Without one, what is found is accident: a wrong key, a cut, a flipped bit. All of it is told before the engine is touched, except damage inside the layers of a
//! plain archive, which is told while they pass and before the tar's end goes out.
//!
//! # Which evidence says what
//!
//! | length | |
//! |---|---|
//! | 0 | `Empty` |
//! | < 32, or not a multiple of 16 | `Truncated` |
//!
//! | first plain bytes | padding good | padding bad |
//! |---|---|---|
//! | sound tar header, zero block, gzip, zstd | goes on | `Truncated` |
//! | xz, bzip2 | `Unsupported` | `Unsupported` |
//! | nearly a tar header (zeros and ASCII) or one bit off gzip or zstd | `Damaged` at 0 | `Damaged` at 0 |
//! | readable, less than a header in all | `NotAnArchive` | `Truncated` |
//! | readable, something else | `NotAnArchive` | `NotAnArchive` |
//! | noise | 3 bytes or more: `NotAnArchive`; 1 or 2, as one wrong key in 256 shows: `WrongKey` | `WrongKey` |
//!
//! A cut archive has bad padding in 255 of 256 cases; in the last one its tar ends in a member or without the end
//! marker, or its compressed stream ends early: `Truncated` too. A flipped bit makes a block noise and flips one bit of
//! the next: in a header, the check sum shows it (`Damaged`, with the place); in a config or OCI manifest, the digest;
//! in `manifest.json` and `index.json`, the JSON or a name that is not there; in a layer, the layer's digest; in a
//! compressed archive, the stream's own check sum.

mod check;
mod cipher;
mod error;
mod flow;
mod header;
mod identity;
mod look;
mod manifest;
mod oci;
mod reader;
mod sealed;
#[cfg(test)]
mod sealed_tests;
mod source;
mod span;
mod store;
mod stream;
mod survey;
mod tar;
mod unpack;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use check::WholeCheck;
pub use error::{ArchiveError, Content, Cut, DocumentFault, Fault, Feature, Lacking};
pub use identity::Identity;
pub use look::Packing;
pub use manifest::{Image, Layer, Manifest, Place};
pub use oci::{Blob, Root};
pub use reader::Archive;
pub use sealed::{Sealed, Source};
pub use source::{File, ReadAt};
pub use span::Span;
pub use stream::TarStream;
pub use tar::{Kind, Member};
