//! Reads the whole log line by line and says what is wrong with it: against itself, and against heads that survived
//! elsewhere. One file is open at a time and one line is in memory.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::chain::{Entry, Head};
use super::event::Event;
use super::files::{self, Piece};
use super::state::Known;
use crate::limits::{AUDIT_FAULTS, AUDIT_LINE_BYTES};

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The file's name.
    pub file: String,
    /// The row in it, from 1.
    pub row: u64,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} row {}", self.file, self.row)
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This row is no line as the agent writes it.
    NoLine(Spot),
    /// This line does not stand behind the one before it.
    Changed {
        /// Its number.
        n: u64,
        /// Where it stands.
        at: Spot,
    },
    /// This line is not the one that a head speaks of.
    Differs {
        /// The head.
        head: Head,
        /// Where the line stands.
        at: Spot,
    },
    /// These lines are not there.
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// This line stands where another one should.
    OutOfOrder {
        /// Its number.
        n: u64,
        /// Where it stands.
        at: Spot,
    },
    /// The last lines are not there.
    Cut {
        /// The head that knows more.
        head: Head,
        /// The last line that there is; 0: none.
        last: u64,
    },
}

impl Fault {
    /// A word for programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NoLine(_) => "no_line",
            Self::Changed { .. } => "changed",
            Self::Differs { .. } => "differs",
            Self::Missing { .. } => "missing",
            Self::OutOfOrder { .. } => "out_of_order",
            Self::Cut { .. } => "cut",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLine(at) => write!(f, "{at}: it is no line of the audit log: it was changed"),
            Self::Changed { n: 1, at } => write!(f, "line 1 was changed, it is not the first of its log ({at})"),
            Self::Changed { n, at } => write!(f, "line {} was changed, or line {n} ({at})", n - 1),
            Self::Differs { head, at } => {
                write!(f, "line {} was changed, or one before it: the head {head} says otherwise ({at})", head.count)
            }
            Self::Missing { from, to } if from == to => write!(f, "line {from} is missing"),
            Self::Missing { from, to } => write!(f, "lines {from} to {to} are missing"),
            Self::OutOfOrder { n, at } => write!(f, "line {n} stands where it does not belong ({at})"),
            Self::Cut { head, last: 0 } => write!(f, "the tail is cut: the head says {}, there is no line", head.count),
            Self::Cut { head, last } => {
                write!(f, "the tail is cut: the head says {}, the last line is {last}", head.count)
            }
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The first faults.
    pub faults: Vec<Fault>,
    /// Further ones.
    pub more_faults: u64,
    /// What is no fault, and good to know.
    pub notes: Vec<String>,
    /// The number of the first line, and its time.
    pub first: Option<(u64, String)>,
    /// The last line, and its time.
    pub last: Option<(Head, String)>,
    /// Lines that are there.
    pub lines: u64,
}

impl Outcome {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }

    fn note(&mut self, note: String) {
        // Each is one more line to read: the first ones tell enough.
        if self.notes.len() < AUDIT_FAULTS {
            self.notes.push(note);
        }
    }

    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < AUDIT_FAULTS { self.faults.push(fault) } else { self.more_faults += 1 }
    }
}

/// A file that cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// The file or directory.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read {}", self.path.display())
    }
}

impl std::error::Error for Unreadable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Reads the log in `dir` and compares it with what the state knows and with `heads`, in whatever order.
///
/// # Errors
/// A file that cannot be read; the agent removes old ones once a day.
pub fn verify(dir: &Path, known: Option<&Known>, heads: &[Head]) -> Result<Outcome, Unreadable> {
    let mut heads: Vec<Head> = heads.iter().copied().chain(known.map(|known| known.head)).collect();
    heads.retain(|head| head.count > 0);
    heads.sort_by_key(|head| (head.count, *head.hash.as_bytes()));
    heads.dedup();
    let first = known.filter(|known| known.first <= known.head.count).map(|known| known.first);
    let mut walk =
        Walk { heads, compared: 0, first, before: None, doubtful: 0, torn: None, outcome: Outcome::default() };
    each(dir, |spot, found| walk.row(spot, &found))?;
    walk.end(known);
    Ok(walk.outcome)
}

/// Hands out every line that can be read, in their order.
///
/// # Errors
/// A file that cannot be read.
pub fn each_line(dir: &Path, mut take: impl FnMut(Entry)) -> Result<(), Unreadable> {
    each(dir, |_, found| {
        if let Found::Line(line) = found {
            Entry::parse(line).into_iter().for_each(&mut take);
        }
    })
}

/// What stands in a row.
enum Found<'a> {
    /// This, and a newline.
    Line(&'a [u8]),
    /// More than any line has.
    Long,
    /// Something at the end of the file, without a newline.
    Torn,
}

fn each(dir: &Path, mut take: impl FnMut(Spot, Found<'_>)) -> Result<(), Unreadable> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| Unreadable { path, source }
    };
    for Piece { path, .. } in files::pieces(dir).map_err(unreadable(dir))? {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut rows =
            Rows { reader: BufReader::new(files::open(&path).map_err(unreadable(&path))?), line: Vec::new() };
        let mut row = 0;
        while let Some(found) = rows.next().map_err(unreadable(&path))? {
            row += 1;
            take(Spot { file: file.clone(), row }, found);
        }
    }
    Ok(())
}

struct Rows {
    reader: BufReader<File>,
    line: Vec<u8>,
}

impl Rows {
    fn next(&mut self) -> io::Result<Option<Found<'_>>> {
        self.line.clear();
        let read = (&mut self.reader).take(AUDIT_LINE_BYTES as u64 + 1).read_until(b'\n', &mut self.line)?;
        if let Some(line) = self.line.strip_suffix(b"\n") {
            return Ok(Some(Found::Line(line)));
        }
        if read == 0 {
            return Ok(None);
        }
        if read <= AUDIT_LINE_BYTES {
            return Ok(Some(Found::Torn));
        }
        self.reader.skip_until(b'\n')?;
        Ok(Some(Found::Long))
    }
}

/// On the way through the lines.
struct Walk {
    /// In the order of their lines.
    heads: Vec<Head>,
    /// How many of them were passed.
    compared: usize,
    /// The first line that should be there.
    first: Option<u64>,
    before: Option<Head>,
    /// Rows since then that are no lines, and may have been.
    doubtful: u64,
    /// A row without an end. A power cut leaves one behind the last line, of which nobody was told yet.
    torn: Option<Spot>,
    outcome: Outcome,
}

impl Walk {
    fn row(&mut self, at: Spot, found: &Found<'_>) {
        if let Some(torn) = self.torn.take() {
            self.no_line(torn);
        }
        let line = match found {
            Found::Line(line) => line,
            Found::Torn => return self.torn = Some(at),
            Found::Long => return self.no_line(at),
        };
        let Some(entry) = Entry::parse(line) else { return self.no_line(at) };
        match self.before {
            None => self.begin(&entry, &at),
            Some(before) => {
                let next = before.count.saturating_add(1);
                if entry.n < next {
                    return self.outcome.fault(Fault::OutOfOrder { n: entry.n, at });
                }
                if entry.n == next && !entry.follows(&before.hash) {
                    self.outcome.fault(Fault::Changed { n: entry.n, at: at.clone() });
                }
                self.missing(next, entry.n);
            }
        }
        if entry.event == Event::AuditBroken.as_str() {
            self.outcome.note(format!("line {}: the agent found its log broken, at {}", entry.n, entry.time));
        } else if entry.event == Event::AuditLost.as_str() {
            let (n, lost, time) = (entry.n, entry.times, &entry.time);
            self.outcome.note(format!("line {n}: {lost} events were lost before, flash did not take them, at {time}"));
        }
        let head = Head::after(entry.n, line);
        self.compare(&head, &at);
        self.outcome.lines += 1;
        self.outcome.first.get_or_insert_with(|| (entry.n, entry.time.clone()));
        self.outcome.last = Some((head, entry.time));
        self.before = Some(head);
        self.doubtful = 0;
    }

    fn begin(&mut self, entry: &Entry, at: &Spot) {
        if entry.n == 1 && !entry.follows(&Head::none().hash) {
            self.outcome.fault(Fault::Changed { n: 1, at: at.clone() });
        }
        if let Some(first) = self.first {
            self.missing(first, entry.n);
        }
        let older: Vec<_> = self.heads.iter().copied().take_while(|head| head.count < entry.n).collect();
        self.compared = older.len();
        for head in older {
            if head.count + 1 < entry.n {
                self.outcome.note(format!("the head {head} is older than the oldest line: not compared"));
            } else if !entry.follows(&head.hash) {
                // A head of the line before this one is what this one says it stands behind.
                self.outcome.fault(Fault::Differs { head, at: at.clone() });
            }
        }
    }

    /// What lies between the line that should come and the one that does, but for rows that may have been lines.
    fn missing(&mut self, next: u64, found: u64) {
        let from = next.saturating_add(self.doubtful);
        if from < found {
            self.outcome.fault(Fault::Missing { from, to: found - 1 });
        }
    }

    /// Heads of this line, and past those of lines that are missing before it.
    fn compare(&mut self, head: &Head, at: &Spot) {
        while let Some(other) = self.heads.get(self.compared).filter(|other| other.count <= head.count) {
            if other.count == head.count && other.hash != head.hash {
                self.outcome.fault(Fault::Differs { head: *other, at: at.clone() });
            }
            self.compared += 1;
        }
    }

    fn no_line(&mut self, at: Spot) {
        self.outcome.fault(Fault::NoLine(at));
        self.doubtful += 1;
    }

    fn end(&mut self, known: Option<&Known>) {
        if let Some(torn) = self.torn.take() {
            self.outcome.note(format!("{torn}: an unfinished line, as a power cut leaves one: it does not count"));
        }
        let last = self.before.map_or(0, |head| head.count);
        // What stands in the place of the last lines was told already.
        if let Some(head) = self.heads.last().copied().filter(|head| head.count > last.saturating_add(self.doubtful)) {
            self.outcome.fault(Fault::Cut { head, last });
        }
        match known {
            Some(known) if last > known.head.count => {
                let ahead = last - known.head.count;
                self.outcome
                    .note(format!("{ahead} lines behind the state's head: a power cut, or the agent writes now"));
            }
            None if self.heads.is_empty() => {
                self.outcome.note("no head to compare with: a cut tail would not be found".into());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
