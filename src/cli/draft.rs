//! Files that appear whole or not at all.
//!
//! Until it is finished a file has no name (`O_TMPFILE`): whatever ends the program, a power cut included, leaves nothing
//! behind. Where the file system knows no such files, the name ends in `.new`, and signals take it away.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Once;
use std::thread;

use async_signal::{Signal, Signals};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use smol::stream::StreamExt;

use crate::flash;

/// A file that is not there yet.
#[derive(Debug)]
pub(super) struct Draft {
    /// What it becomes.
    path: PathBuf,
    file: File,
    /// The name it has meanwhile, which goes with the draft.
    meanwhile: Option<PathBuf>,
}

impl Draft {
    /// Begins a file that becomes `path`.
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(flash::directory(path), flags, Mode::from_raw_mode(0o644)) {
            Ok(file) => Ok(Self { path: path.to_owned(), file: file.into(), meanwhile: None }),
            // File systems without it, and kernels that take the flag for a directory's (open(2)).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Self::begin_named(path),
            Err(error) => Err(error.into()),
        }
    }

    fn begin_named(path: &Path) -> io::Result<Self> {
        let name = flash::beside(path);
        remove_on_signal(name.clone());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o644).open(&name)?;
        Ok(Self { path: path.to_owned(), file, meanwhile: Some(name) })
    }

    /// To be written and read.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Puts the content on flash and gives it the name that it has until [`publish`].
    fn settle(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.meanwhile.is_none() {
            let name = flash::beside(&self.path);
            match fs::remove_file(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // By its descriptor: open(2), "O_TMPFILE".
            let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, unnamed, CWD, &name, AtFlags::SYMLINK_FOLLOW)?;
            self.meanwhile = Some(name);
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(name) = &self.meanwhile {
            // Best effort: what went wrong is being told already.
            let _ = fs::remove_file(name);
        }
    }
}

/// Gives the files their names, one after the other, and puts the names on flash.
///
/// # Errors
/// Those that have no name yet are gone; before the first one nothing has changed.
pub(super) fn publish(drafts: Vec<Draft>) -> io::Result<()> {
    let mut drafts = drafts;
    for draft in &mut drafts {
        draft.settle()?;
    }
    for draft in &mut drafts {
        if let Some(name) = &draft.meanwhile {
            fs::rename(name, &draft.path)?;
            draft.meanwhile = None;
        }
    }
    drafts.iter().try_for_each(|draft| flash::sync_directory(&draft.path))
}

/// Takes a named file away when a signal ends the program. SIGKILL and power cuts leave it; the next run begins it anew.
fn remove_on_signal(name: PathBuf) {
    static ONCE: Once = Once::new();
    static NAMES: std::sync::Mutex<Vec<PathBuf>> = std::sync::Mutex::new(Vec::new());
    let names = || NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    names().push(name);
    ONCE.call_once(|| {
        // Without the handler the signal ends the program as it would have done, and the file stays.
        let Ok(mut signals) = Signals::new([Signal::Term, Signal::Int, Signal::Hup]) else { return };
        thread::spawn(move || {
            let signal = smol::block_on(signals.next());
            for name in names().iter() {
                let _gone_already = fs::remove_file(name);
            }
            // What a shell says of a program that a signal ended.
            let number = signal.and_then(Result::ok).map_or(0, |signal| signal as i32);
            process::exit(128 + number);
        });
    });
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("there");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("read").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn both_files_appear_together_and_replace_what_was_there() {
        for begin in [Draft::begin, Draft::begin_named] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let (one, other) = (dir.path().join("one"), dir.path().join("other"));
            fs::write(&one, "old").expect("written");
            fs::write(flash::beside(&one), "left by a cut").expect("written");
            let drafts: Vec<_> = [&one, &other].map(|path| begin(path).expect("begun")).into();
            for draft in &drafts {
                draft.file().write_all(b"new").expect("written");
            }
            assert_eq!(fs::read(&one).expect("there"), b"old");
            publish(drafts).expect("published");
            assert_eq!(names(dir.path()), ["one", "other"]);
            assert_eq!(
                (fs::read(&one).expect("there"), fs::read(&other).expect("there")),
                (b"new".into(), b"new".into())
            );
        }
    }

    #[test]
    fn a_draft_that_is_dropped_leaves_nothing() {
        for begin in [Draft::begin, Draft::begin_named] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let draft = begin(&dir.path().join("one")).expect("begun");
            draft.file().write_all(b"new").expect("written");
            drop(draft);
            assert!(names(dir.path()).is_empty());
        }
    }

    #[test]
    fn a_name_that_cannot_be_had_leaves_nothing_new() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let blocked = dir.path().join("blocked");
        fs::create_dir(&blocked).expect("made");
        fs::write(blocked.join("x"), "").expect("made");
        let drafts = vec![Draft::begin(&blocked).expect("begun")];
        publish(drafts).expect_err("a directory is in the way");
        assert_eq!(names(dir.path()), ["blocked"]);
    }

    #[test]
    fn an_unfinished_file_has_no_name_here() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let draft = Draft::begin(&dir.path().join("one")).expect("begun");
        draft.file().write_all(b"new").expect("written");
        assert!(names(dir.path()).is_empty(), "this file system knows no unnamed files");
    }
}
