//! What the cache's files are called: `<hash of folder and name>.<ending>`, and for uploads `<random>.<ending>`.
//!
//! A name of a resource never becomes a file name, and no text from outside ever reaches the file system.

use std::fmt;

use crate::crypto::{Digest, Sha256};
use crate::name::{Folder, ResourceName};

/// SHA-256(folder ‖ 0 ‖ name): what all files of a resource begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Stem(pub(super) [u8; 32]);

/// What the files of an accepted upload begin with: random, for its name comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct UploadId(pub(super) [u8; 16]);

/// What a file of a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Ending {
    /// The big part, whole or with holes.
    Big,
    /// The index of a whole one.
    Index,
    /// The journal of one with holes.
    Journal,
    /// The boxed small part of an offline board.
    Kept,
    /// The seal of that.
    Seal,
    /// One of the above that is being written; a leftover when found at start.
    New,
    /// A damaged index, journal or upload record.
    Bad,
    /// What belonged to it.
    BadData,
    /// The big part of an upload.
    Stage,
    /// The record of an accepted upload.
    Upload,
}

impl Ending {
    const ALL: [Self; 10] = [
        Self::Big,
        Self::Index,
        Self::Journal,
        Self::Kept,
        Self::Seal,
        Self::New,
        Self::Bad,
        Self::BadData,
        Self::Stage,
        Self::Upload,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Big => "big",
            Self::Index => "idx",
            Self::Journal => "jnl",
            Self::Kept => "kept",
            Self::Seal => "seal",
            Self::New => "new",
            Self::Bad => "bad",
            Self::BadData => "bad-data",
            Self::Stage => "stage",
            Self::Upload => "up",
        }
    }
}

/// The order of use.
pub(super) const ORDER: &str = "order";

/// The order of use while it is written.
pub(super) const ORDER_NEW: &str = "order.new";

/// A file name taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// A file of a resource.
    Resource(Stem, Ending),
    /// A file of an upload.
    Upload(UploadId, Ending),
    /// Not the cache's: it is never touched.
    Foreign,
}

impl Stem {
    pub(super) fn of(folder: &Folder, name: &ResourceName) -> Self {
        let mut hash = Sha256::new();
        hash.update(folder.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(name.as_str().as_bytes());
        Self(*hash.finish().as_bytes())
    }

    pub(super) fn file(self, ending: Ending) -> String {
        format!("{}.{}", Digest::from(self.0).hex(), ending.as_str())
    }
}

impl UploadId {
    pub(super) fn file(self, ending: Ending) -> String {
        format!("{self}.{}", ending.as_str())
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Named {
    pub(super) fn of(file: &str) -> Self {
        let parts = || {
            let (stem, ending) = file.split_once('.')?;
            let ending = Ending::ALL.into_iter().find(|known| known.as_str() == ending)?;
            let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            match stem.len() {
                64 => Some(Self::Resource(Stem(*Digest::from_hex(stem).ok()?.as_bytes()), ending)),
                32 if stem.bytes().all(is_hex) => {
                    // The digest's parser knows hex; an upload's id is half a digest.
                    let twice = Digest::from_hex(&stem.repeat(2)).ok()?;
                    Some(Self::Upload(UploadId(*twice.as_bytes().first_chunk()?), ending))
                }
                _ => None,
            }
        };
        parts().unwrap_or(Self::Foreign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_read_as_they_are_written_and_nothing_else_is() {
        let folder = Folder::new("f").expect("plain");
        let stem = Stem::of(&folder, &ResourceName::new("x").expect("plain"));
        let id = UploadId([0xab; 16]);
        for ending in Ending::ALL {
            assert_eq!(Named::of(&stem.file(ending)), Named::Resource(stem, ending));
            assert_eq!(Named::of(&id.file(ending)), Named::Upload(id, ending));
        }
        let name = stem.file(Ending::Big);
        for foreign in ["", "order", "lock", ".", "..", "a.big", &name[1..], &name.to_uppercase(), &format!("{name}x")]
        {
            assert_eq!(Named::of(foreign), Named::Foreign, "{foreign}");
        }
    }

    #[test]
    fn folder_and_name_are_kept_apart() {
        let name = |text: &str| ResourceName::new(text).expect("plain");
        let folder = |text: &str| Folder::new(text).expect("plain");
        assert_ne!(Stem::of(&folder("a"), &name("bc")), Stem::of(&folder("ab"), &name("c")));
    }
}
