//! Reads small files whole, under a bound: configuration, credentials, PEM files, `/proc` and `/sys`.
//!
//! Must never block on what is not a plain file and never take in more than the bound.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Reads a plain file of at most `limit` bytes. For start-up and for [`crate::net::lend`]: it blocks on flash.
///
/// # Errors
/// What the system says; [`io::ErrorKind::InvalidInput`] for a directory, pipe, socket or device;
/// [`io::ErrorKind::FileTooLarge`] beyond `limit`.
pub fn read_small(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    read_checked(path, limit, |_| Ok(()))
}

/// As [`read_small`], with a look at the open file before a byte is read.
///
/// # Errors
/// As [`read_small`], and what `check` refuses.
pub(super) fn read_checked(
    path: &Path,
    limit: usize,
    check: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    // NONBLOCK: opening a pipe that nobody writes to would otherwise wait for ever.
    let file = File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
    }
    check(&file)?;
    // Room for one byte more than allowed, taken once: a secret must not be left behind by a growing buffer. What
    // the file says of its length is not asked: files of /proc and /sys say 0 or 4096.
    let mut bytes = Vec::with_capacity(limit.min(64 * 1024).saturating_add(1));
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_to_the_byte() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("f");
        std::fs::write(&path, [7; 100]).expect("written");
        assert_eq!(read_small(&path, 100).expect("fits").len(), 100);
        let error = read_small(&path, 99).expect_err("one too many");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn what_is_not_a_plain_file_is_refused_at_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(read_small(dir.path(), 9).expect_err("a directory").kind(), io::ErrorKind::InvalidInput);
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
        assert_eq!(read_small(&pipe, 9).expect_err("a pipe").kind(), io::ErrorKind::InvalidInput);
    }
}
