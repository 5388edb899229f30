//! The walk from header to header of a tar, and the index it leaves.
//!
//! [`Walk`] does no I/O: it says which bytes it wants next, so that the same walk runs over a file read from anywhere
//! and over a stream that passes once. What follows the end marker is not looked at.

use std::ops::Range;

use super::error::{ArchiveError, Cut, DocumentFault, Fault, Feature};
use super::header::{self, BYTES, Extended, UNIT};
use super::look::Packing;
use crate::limits::{TAR_BYTES, TAR_EXTENSION_BYTES, TAR_HEADERS, TAR_LINK_HOPS, TAR_NAME_BYTES, TAR_NAMES_BYTES};

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Another name of the member that is named, from the root of the tar.
    HardLink(Box<str>),
    /// A link; the target is meant from the link's own directory.
    SymLink(Box<str>),
    /// Anything else.
    Other,
}

/// A member of the tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name, without `.` and `..` and without a slash at either end.
    pub name: Box<str>,
    /// What it is.
    pub kind: Kind,
    /// Where its bytes begin in the plain tar.
    pub offset: u64,
    /// How many there are.
    pub size: u64,
    /// How a file is packed, where that was seen in passing.
    pub(super) packing: Option<Result<Packing, Feature>>,
}

impl Member {
    /// Where its bytes lie in the plain tar.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.size
    }
}

/// What a [`Walk`] needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// These bytes.
    Bytes { offset: u64, len: usize },
    /// Nothing: the end marker ends here.
    Done { end: u64 },
}

#[derive(Debug)]
enum State {
    Header,
    /// Body of a long name, a long link or pax records.
    Extension {
        flag: u8,
        size: u64,
    },
    /// The second block of the end marker.
    EndMarker,
    Done,
}

/// The walk.
#[derive(Debug)]
pub(super) struct Walk {
    state: State,
    /// Where the next bytes are wanted.
    next: u64,
    /// Length of the tar, where it is known.
    tar_len: Option<u64>,
    extended: Extended,
    headers: usize,
    name_bytes: usize,
    members: Vec<Member>,
}

impl Walk {
    /// Starts at the first header. Without a length, the caller tells the end by [`Walk::ended`].
    pub(super) fn new(tar_len: Option<u64>) -> Self {
        Self {
            state: State::Header,
            next: 0,
            tar_len,
            extended: Extended::default(),
            headers: 0,
            name_bytes: 0,
            members: Vec::new(),
        }
    }

    /// What is needed next.
    pub(super) fn want(&self) -> Result<Want, ArchiveError> {
        let len = match self.state {
            State::Header | State::EndMarker => BYTES,
            State::Extension { size, .. } => usize::try_from(size).expect("bounded when the header was read"),
            State::Done => return Ok(Want::Done { end: self.next }),
        };
        match self.tar_len {
            Some(tar_len) if self.next + len as u64 > tar_len => Err(self.ended(tar_len)),
            _ => Ok(Want::Bytes { offset: self.next, len }),
        }
    }

    /// The error of a tar that ends at `tar_len` while more is wanted.
    pub(super) fn ended(&self, tar_len: u64) -> ArchiveError {
        match self.members.last() {
            Some(last) if last.offset + last.size > tar_len => {
                ArchiveError::Truncated(Cut::InMember { end: last.offset + last.size, tar_len })
            }
            _ => ArchiveError::Truncated(Cut::NoEndMarker { tar_len }),
        }
    }

    /// Takes the bytes that [`Walk::want`] asked for; gives the index of the member whose header they ended.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>, ArchiveError> {
        let offset = self.next;
        match self.state {
            State::Header => {
                let block = bytes.first_chunk().expect("a header was asked for");
                self.next += UNIT;
                if header::is_zero(block) {
                    self.state = State::EndMarker;
                    return Ok(None);
                }
                self.header(header::parse(block, offset)?, offset)
            }
            State::Extension { flag, size } => {
                match flag {
                    b'L' => self.extended.name = Some(header::text(bytes).to_vec()),
                    b'K' => self.extended.link = Some(header::text(bytes).to_vec()),
                    _ => self.extended.records(bytes, offset)?,
                }
                self.next += size.next_multiple_of(UNIT);
                self.state = State::Header;
                Ok(None)
            }
            State::EndMarker => {
                if bytes.iter().any(|&byte| byte != 0) {
                    return Err(Fault::EndMarker.at(offset));
                }
                self.next += UNIT;
                self.state = State::Done;
                Ok(None)
            }
            State::Done => unreachable!("nothing is wanted after the end"),
        }
    }

    fn header(&mut self, header: header::Header, offset: u64) -> Result<Option<usize>, ArchiveError> {
        self.headers += 1;
        if self.headers > TAR_HEADERS {
            return Err(Feature::limit("tar headers", TAR_HEADERS));
        }
        match header.flag {
            b'x' | b'L' | b'K' => {
                if header.size > TAR_EXTENSION_BYTES {
                    return Err(ArchiveError::Unsupported(Feature::Limit {
                        of: "bytes of tar extension header",
                        limit: TAR_EXTENSION_BYTES,
                    }));
                }
                self.state = State::Extension { flag: header.flag, size: header.size };
                Ok(None)
            }
            // Global pax records: Go's reader applies them to no member either.
            b'g' => self.skip(header.size, offset).map(|()| None),
            b'S' => Err(ArchiveError::Unsupported(Feature::Sparse)),
            _ => self.member(header, offset).map(Some),
        }
    }

    fn member(&mut self, header: header::Header, offset: u64) -> Result<usize, ArchiveError> {
        let Extended { name, link, size } = std::mem::take(&mut self.extended);
        let raw_name = name.unwrap_or(header.name);
        let is_directory = header.flag == b'5' || raw_name.ends_with(b"/");
        let name = normal(self.name(raw_name, offset)?.split('/'));
        let link = self.name(link.unwrap_or(header.link), offset)?;
        let kind = match header.flag {
            b'0' | 0 | b'7' if is_directory => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink(link.into()),
            b'2' => Kind::SymLink(link.into()),
            b'5' => Kind::Directory,
            _ => Kind::Other,
        };
        // Links, devices, directories and fifos have no bytes, whatever the field says.
        let size = if matches!(header.flag, b'1'..=b'6') { 0 } else { size.unwrap_or(header.size) };
        self.skip(size, offset)?;
        self.members.push(Member { name: name.into(), kind, offset: offset + UNIT, size, packing: None });
        Ok(self.members.len() - 1)
    }

    fn name(&mut self, raw: Vec<u8>, offset: u64) -> Result<String, ArchiveError> {
        if raw.len() > TAR_NAME_BYTES {
            return Err(Feature::limit("bytes in a tar member's name", TAR_NAME_BYTES));
        }
        self.name_bytes += raw.len();
        if self.name_bytes > TAR_NAMES_BYTES {
            return Err(Feature::limit("bytes in all tar members' names", TAR_NAMES_BYTES));
        }
        String::from_utf8(raw).map_err(|_| Fault::Name.at(offset))
    }

    /// Goes on behind `size` bytes that follow the header at `offset`.
    fn skip(&mut self, size: u64, offset: u64) -> Result<(), ArchiveError> {
        if size > TAR_BYTES || offset + size > TAR_BYTES {
            return Err(ArchiveError::Unsupported(Feature::Limit { of: "bytes of tar", limit: TAR_BYTES }));
        }
        if let Some(tar_len) = self.tar_len {
            let end = offset + UNIT + size;
            if end > tar_len {
                return Err(ArchiveError::Truncated(Cut::InMember { end, tar_len }));
            }
        }
        self.next = offset + UNIT + size.next_multiple_of(UNIT);
        self.state = State::Header;
        Ok(())
    }

    /// Notes how a member is packed, seen in passing.
    pub(super) fn saw_packing(&mut self, member: usize, start: &[u8]) {
        self.members[member].packing = Some(Packing::of(start));
    }

    /// The members so far.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The index, when the walk is done.
    pub(super) fn into_index(self) -> Index {
        let mut by_name: Vec<usize> = (0..self.members.len()).collect();
        // Stable: of one name, the last member in the tar comes last.
        by_name.sort_by(|&a, &b| self.members[a].name.cmp(&self.members[b].name));
        Index { members: self.members, by_name }
    }
}

/// All members of a tar. Of several with one name the last counts, as it does when a tar is unpacked.
#[derive(Debug)]
pub(super) struct Index {
    members: Vec<Member>,
    by_name: Vec<usize>,
}

impl Index {
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The name of the member whose bytes begin at `offset`, for errors.
    pub(super) fn name_at(&self, offset: u64) -> &str {
        // Members stand in the order of the tar; one without bytes may begin where its follower's header does.
        let at = self.members.partition_point(|member| member.offset < offset);
        self.members.get(at).map_or("", |member| &member.name)
    }

    /// The member of this name, itself.
    pub(super) fn member(&self, name: &str) -> Option<&Member> {
        let end = self.by_name.partition_point(|&i| &*self.members[i].name <= name);
        let last = &self.members[*self.by_name[..end].last()?];
        (&*last.name == name).then_some(last)
    }

    /// The regular file this name leads to, over links; `None` where there is none.
    pub(super) fn file(&self, name: &str) -> Option<&Member> {
        let mut name = normal(name.split('/'));
        for _ in 0..=TAR_LINK_HOPS {
            let member = self.member(&name)?;
            name = match &member.kind {
                Kind::File => return Some(member),
                Kind::HardLink(target) => normal(target.split('/')),
                // An absolute target starts at the root of the tar: there is no other.
                Kind::SymLink(target) if target.starts_with('/') => normal(target.split('/')),
                Kind::SymLink(target) => {
                    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                    normal(directory.split('/').chain(target.split('/')))
                }
                Kind::Directory | Kind::Other => return None,
            };
        }
        None
    }

    /// As [`Index::file`], for what `document` names.
    pub(super) fn named_by(&self, document: &str, name: &str) -> Result<&Member, ArchiveError> {
        self.file(name).ok_or_else(|| DocumentFault::Missing { member: bounded(name) }.of(document))
    }
}

/// A name from a document, short enough to be shown.
fn bounded(name: &str) -> String {
    name.chars().take(TAR_NAME_BYTES / 4).collect()
}

/// The parts of a path without `.` and empty ones; `..` takes one back and never leads out.
fn normal<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut kept = Vec::new();
    for part in parts {
        match part {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(part),
        }
    }
    kept.join("/")
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
