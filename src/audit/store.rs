//! The log on flash and the head in the state, kept together over power cuts.
//!
//! Lines first, flushed; then the head, as a small durable write. So after a cut at any instant the files may be ahead of
//! the state, by less than one full queue, and never behind it. All of this blocks on flash.

use std::io;
use std::path::PathBuf;

use time::{Date, Duration};

use super::chain::Head;
use super::files::{self, Current, NotAppended, Piece, Tail};
use super::state::Known;
use crate::limits::AUDIT_BYTES;
use crate::logging::is_clock_set;

/// Where the log is kept, and for how long.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where the state is.
    pub state_dir: PathBuf,
    /// Where the files are; `None`: lines go to the console alone, and the chain goes on in the state.
    pub dir: Option<PathBuf>,
    /// How long they are kept.
    pub retention_days: u32,
}

/// The log as it is on flash.
#[derive(Debug)]
pub(super) struct Store {
    place: Place,
    known: Known,
    current: Option<Current>,
    /// The files have lines that the state does not know yet.
    is_behind: bool,
}

/// Why lines were not taken.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// The files cannot be written.
    Files(io::Error),
    /// The state cannot be written.
    State(io::Error),
    /// The file is not as it was left; the next try begins another one.
    Touched,
}

/// Lines on their way, and the head that they make.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) head: Head,
}

impl Store {
    /// Opens the log; the second is what is wrong with it, for a line of its own.
    pub(super) fn open(place: Place) -> (Self, Option<String>) {
        let mut store = Self { place, known: Known::nothing(), current: None, is_behind: false };
        let broken = store.recover();
        (store, broken)
    }

    pub(super) fn head(&self) -> Head {
        self.known.head
    }

    pub(super) fn has_files(&self) -> bool {
        self.place.dir.is_some()
    }

    /// Finds out where the log stands. What is behind the state's head and no whole line is the leftover of a cut.
    fn recover(&mut self) -> Option<String> {
        let state = Known::read(&Known::path(&self.place.state_dir));
        let unseen = state.as_ref().ok().and_then(Option::as_ref).map(|known| known.head.count.saturating_add(1));
        let end = match self.end(unseen) {
            Ok(end) => end,
            Err(error) => {
                log::warn!("the audit files cannot be read: {error}");
                None
            }
        };
        let last = end.as_ref().and_then(|(_, tail)| tail.lines.last()).map(|seen| seen.head);
        let known = match state {
            Ok(Some(known)) => known,
            Ok(None) if end.is_none() => {
                // Now, and not with the first line: files without a state were then never the agent's doing.
                self.is_behind = self.write_state().is_err();
                return None;
            }
            unknown => {
                let why =
                    unknown.err().map_or_else(|| "is gone".to_owned(), |error| format!("cannot be read ({error})"));
                // What the files say is all there is.
                self.known = Known { head: last.unwrap_or_else(Head::none), first: 1 };
                self.is_behind = true;
                return Some(format!("the state's head {why}, and the files are there"));
            }
        };
        self.known = known;
        self.place.dir.as_ref()?;
        let Some((piece, tail)) = end else {
            return (known.first <= known.head.count)
                .then(|| format!("lines {} to {} are not in the files", known.first, known.head.count));
        };
        let is_last = last == Some(known.head);
        let is_ahead = tail
            .lines
            .iter()
            .any(|seen| Some(seen.head.count) == known.head.count.checked_add(1) && seen.prev == Some(known.head.hash));
        if let (true, Some(last)) = (is_last || is_ahead, last) {
            if is_ahead {
                log::info!("the audit log is {} lines ahead of the state: a cut", last.count - known.head.count);
                self.known.head = last;
                self.is_behind = true;
            }
            self.go_on_with(piece, &tail);
            return None;
        }
        if known.first > known.head.count && last.is_none_or(|last| last.count <= known.head.count) {
            // There was no [log] dir meanwhile.
            return None;
        }
        let there = last.map_or("nothing".to_owned(), |last| format!("line {}", last.count));
        Some(format!(
            "the state's head is line {}, and the files end with {there} or with another line",
            known.head.count
        ))
    }

    /// The newest file that has a line, and its end. Newer ones are emptied where a cut left them: `next` would be their
    /// first line, so nothing that anybody was told of stands in them.
    fn end(&self, next: Option<u64>) -> io::Result<Option<(Piece, Tail)>> {
        let Some(dir) = &self.place.dir else { return Ok(None) };
        for piece in files::pieces(dir)?.into_iter().rev() {
            let tail = files::tail(&piece.path)?;
            if tail.lines.is_empty() && tail.torn == 0 {
                continue;
            }
            if !tail.lines.is_empty() || Some(piece.first) != next {
                return Ok(Some((piece, tail)));
            }
            log::warn!("{}: {} bytes that are no line are cut off", piece.path.display(), tail.torn);
            files::cut(&piece.path, 0)?;
        }
        Ok(None)
    }

    fn go_on_with(&mut self, piece: Piece, tail: &Tail) {
        if tail.torn > 0 {
            log::warn!("{}: {} bytes that are no line are cut off", piece.path.display(), tail.torn);
            if let Err(error) = files::cut(&piece.path, tail.whole) {
                // The next line begins another file, and these bytes stay to be told by `audit verify`.
                log::warn!("{}: they stay: {error}", piece.path.display());
                return;
            }
        }
        self.current = Some(Current::new(piece, tail.whole));
    }

    /// Lines of `today` onto flash, and the head behind them. `Ok(Some)` when they are there and the state does not know
    /// it yet.
    ///
    /// # Errors
    /// None of them counts: they are to be handed in again.
    pub(super) fn take(&mut self, batch: &Batch, today: Date) -> Result<Option<io::Error>, NotTaken> {
        if self.is_behind {
            // So that the files are never further ahead than by what one call takes.
            self.write_state().map_err(NotTaken::State)?;
            self.is_behind = false;
        }
        let before = self.known;
        let Some(dir) = self.place.dir.clone() else {
            self.known = Known { head: batch.head, first: batch.head.count.saturating_add(1) };
            return self.write_state().map(|()| None).map_err(|error| {
                self.known = before;
                NotTaken::State(error)
            });
        };
        let more = batch.bytes.len() as u64;
        let begins = self.current.as_ref().is_none_or(|current| !current.takes(today, more));
        let first = before.head.count.saturating_add(1);
        if begins {
            self.current = Some(Current::new(Piece::new(&dir, today, first), 0));
        }
        if let Some(current) = &mut self.current {
            match current.append(&batch.bytes) {
                Ok(()) => {}
                Err(NotAppended::Failed(error)) => return Err(NotTaken::Files(error)),
                Err(NotAppended::Touched) => {
                    self.current = None;
                    return Err(NotTaken::Touched);
                }
            }
        }
        self.known.head = batch.head;
        if before.first > before.head.count {
            self.known.first = first;
        }
        let old = if begins { self.outdated(today) } else { Vec::new() };
        match self.write_state() {
            Ok(()) => {
                remove(&old);
                Ok(None)
            }
            Err(error) => {
                self.is_behind = true;
                Ok(Some(error))
            }
        }
    }

    /// Files that go, and with them what the state says should be there: the state first, or a cut would leave a hole.
    fn outdated(&mut self, today: Date) -> Vec<Piece> {
        let Some(dir) = &self.place.dir else { return Vec::new() };
        let pieces = match files::pieces(dir) {
            Ok(pieces) => pieces,
            Err(error) => {
                log::warn!("old audit files stay: {error}");
                return Vec::new();
            }
        };
        let sized = |piece: Piece| {
            let len = std::fs::symlink_metadata(&piece.path).map_or(0, |found| found.len());
            (piece, len)
        };
        let pieces: Vec<_> = pieces.into_iter().map(sized).collect();
        let kept_since = today.checked_sub(Duration::days(self.place.retention_days.into()));
        let old = files::outdated(&pieces, kept_since.filter(|_| is_clock_set(today)), AUDIT_BYTES);
        if let Some((oldest, _)) = pieces.get(old.len()).filter(|_| !old.is_empty()) {
            self.known.first = self.known.first.max(oldest.first);
        }
        old
    }

    fn write_state(&self) -> io::Result<()> {
        self.known.write(&Known::path(&self.place.state_dir))
    }
}

fn remove(old: &[Piece]) {
    for piece in old {
        if let Err(error) = std::fs::remove_file(&piece.path) {
            log::warn!("{} is old and stays: {error}", piece.path.display());
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
