use std::fs;
use std::path::Path;

use super::super::chain::Entry;
use super::super::verify::{Fault, Outcome, verify};
use super::*;
use crate::logging::parse_day;

/// A board: a state directory and a log directory.
struct Board(tempfile::TempDir);

impl Board {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("state")).expect("made");
        Self(dir)
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }

    fn state(&self) -> PathBuf {
        Known::path(&self.0.path().join("state"))
    }

    fn place(&self) -> Place {
        Place { state_dir: self.0.path().join("state"), dir: Some(self.log()), retention_days: 30 }
    }

    fn open(&self) -> (Store, Option<String>) {
        Store::open(self.place())
    }

    /// Opens what must be whole.
    fn open_whole(&self) -> Store {
        let (store, broken) = self.open();
        assert_eq!(broken, None);
        store
    }

    fn verify(&self) -> Outcome {
        let known = Known::read(&self.state()).expect("readable").expect("there");
        verify(&self.log(), Some(&known), &[]).expect("readable")
    }

    fn files(&self) -> Vec<PathBuf> {
        files::pieces(&self.log()).expect("readable").into_iter().map(|piece| piece.path).collect()
    }
}

fn date(text: &str) -> Date {
    parse_day(text).expect("a date")
}

fn today() -> Date {
    date("2026-11-23")
}

/// The next lines behind this head.
fn batch(mut head: Head, count: u64) -> Batch {
    let mut bytes = Vec::new();
    for n in head.count + 1..=head.count + count {
        let prev = head.hash.hex();
        let (time, event, code) = ("2026-11-23T17:38:02.000Z".into(), "login_refused".into(), None);
        let line = Entry { n, prev, time, boot_ms: n, event, user: None, code, times: 1 }.to_line();
        head = Head::after(n, line.as_bytes());
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    Batch { bytes, head }
}

fn take(store: &mut Store, count: u64) {
    let lines = batch(store.head(), count);
    assert!(store.take(&lines, today()).expect("taken").is_none());
}

#[test]
fn a_restart_goes_on_in_the_same_file() {
    let board = Board::new();
    take(&mut board.open_whole(), 3);
    take(&mut board.open_whole(), 2);
    assert_eq!(board.files(), [board.log().join("audit-2026-11-23.1.jsonl")]);
    let outcome = board.verify();
    assert!(outcome.is_good() && outcome.notes.is_empty() && outcome.lines == 5, "{outcome:?}");
}

#[test]
fn a_power_cut_at_every_byte_of_an_append_leaves_the_old_lines_or_more_of_the_new_ones() {
    for (before, new_day) in [(0, false), (2, false), (2, true)] {
        let board = Board::new();
        let mut store = board.open_whole();
        if before > 0 {
            take(&mut store, before);
        }
        let old_state = fs::read(board.state()).expect("the state is there before any line");
        let old_lines = board.files().first().map(|file| fs::read(file).expect("read")).unwrap_or_default();
        let first = board.log().join("audit-2026-11-23.1.jsonl");
        let (path, old_file) = if new_day {
            (board.log().join("audit-2026-11-24.3.jsonl"), Vec::new())
        } else {
            (first.clone(), old_lines.clone())
        };
        let lines = batch(store.head(), 3);
        for end in 0..=lines.bytes.len() {
            // The file system may also leave zeros where the bytes are to come.
            for tail in [&b""[..], b"\0\0\0"].iter().take(1 + usize::from(end % 16 == 0)) {
                let _none_at_first = fs::remove_dir_all(board.log());
                fs::create_dir(board.log()).expect("made");
                fs::write(&first, &old_lines).expect("written");
                fs::write(&path, [&old_file, &lines.bytes[..end], tail].concat()).expect("written");
                fs::write(board.state(), &old_state).expect("the head was not written");
                let whole = lines.bytes[..end].split(|byte| *byte == b'\n').count() as u64 - 1;
                let mut store = board.open_whole();
                assert_eq!(store.head().count, before + whole, "{end}");
                take(&mut store, 1);
                let outcome = board.verify();
                assert!(outcome.is_good() && outcome.lines == before + whole + 1, "{end}: {outcome:?}");
            }
        }
    }
}

#[test]
fn what_is_behind_the_state_or_another_row_is_broken_and_goes_on_from_the_state() {
    type Change = fn(&Path);
    let cases: [(&str, Change); 5] = [
        ("the last line is gone", |file| {
            let text = fs::read_to_string(file).expect("text");
            let end = text.trim_end().rfind('\n').expect("two lines");
            fs::write(file, &text[..=end]).expect("written");
        }),
        ("all of it is gone", |file| fs::remove_file(file).expect("removed")),
        ("emptied", |file| fs::write(file, "").expect("written")),
        ("garbage", |file| fs::write(file, "x\n").expect("written")),
        ("the last line is another one", |file| {
            let text = fs::read_to_string(file).expect("text").replace("\"boot_ms\":3", "\"boot_ms\":4");
            fs::write(file, text).expect("written");
        }),
    ];
    for (what, change) in cases {
        let board = Board::new();
        take(&mut board.open_whole(), 3);
        let file = board.files().remove(0);
        change(&file);
        assert!(!board.verify().is_good(), "{what}: found before the agent is there");
        let (mut store, broken) = board.open();
        assert!(broken.is_some(), "{what}");
        assert_eq!(store.head().count, 3, "{what}: it goes on from the state");
        take(&mut store, 1);
        assert_eq!(board.open_whole().head().count, 4, "{what}: once is enough");
        assert!(!board.verify().is_good(), "{what}: and it stays to be found");
    }
}

#[test]
fn a_state_that_is_gone_or_damaged_is_broken_and_the_files_say_where_it_stood() {
    for damage in [None, Some("{"), Some("{\"version\":1,\"count\":5,\"hash\":\"0\",\"first\":1}")] {
        let board = Board::new();
        take(&mut board.open_whole(), 3);
        match damage {
            None => fs::remove_file(board.state()).expect("removed"),
            Some(text) => fs::write(board.state(), text).expect("written"),
        }
        let (mut store, broken) = board.open();
        assert!(broken.is_some_and(|why| why.contains("head")));
        take(&mut store, 1);
        let outcome = board.verify();
        assert!(outcome.is_good() && outcome.lines == 4, "{outcome:?}");
    }
}

#[test]
fn a_full_disk_takes_nothing_and_what_is_handed_in_again_stands_there_once() {
    let board = Board::new();
    let mut store = board.open_whole();
    // A file in the directory's place fails for root as well, as a read-only disk does.
    fs::write(board.log(), "in the way").expect("written");
    let lines = batch(store.head(), 2);
    for _ in 0..2 {
        assert!(matches!(store.take(&lines, today()), Err(NotTaken::Files(_))));
        assert_eq!(store.head().count, 0);
    }
    fs::remove_file(board.log()).expect("out of the way");
    assert!(store.take(&lines, today()).expect("taken").is_none());
    assert!(board.verify().is_good());

    // The state does not take the head: the lines are there, once, and no further ones before it does.
    let beside = crate::flash::beside(&board.state());
    fs::create_dir(&beside).expect("in the way");
    assert!(store.take(&batch(store.head(), 1), today()).expect("taken").is_some());
    assert_eq!(store.head().count, 3);
    let lines = batch(store.head(), 1);
    assert!(matches!(store.take(&lines, today()), Err(NotTaken::State(_))));
    let outcome = board.verify();
    assert!(outcome.is_good() && outcome.lines == 3 && outcome.notes.len() == 1, "{outcome:?}");
    fs::remove_dir(&beside).expect("out of the way");
    assert!(store.take(&lines, today()).expect("taken").is_none());
    let outcome = board.verify();
    assert!(outcome.is_good() && outcome.lines == 4 && outcome.notes.is_empty(), "{outcome:?}");
}

#[test]
fn a_file_that_is_touched_while_the_agent_runs_is_told_and_another_is_begun() {
    let board = Board::new();
    let mut store = board.open_whole();
    take(&mut store, 2);
    let file = board.files().remove(0);
    let text = fs::read_to_string(&file).expect("text");
    fs::write(&file, &text[..=text.find('\n').expect("a line")]).expect("cut");
    let lines = batch(store.head(), 1);
    assert!(matches!(store.take(&lines, today()), Err(NotTaken::Touched)));
    assert!(store.take(&lines, today()).expect("taken").is_none());
    assert_eq!(board.files().len(), 2);
    assert_eq!(board.verify().faults, [Fault::Missing { from: 2, to: 2 }]);
}

#[test]
fn without_a_directory_the_chain_goes_on_in_the_state() {
    let board = Board::new();
    let (mut bare, broken) = Store::open(Place { dir: None, ..board.place() });
    assert_eq!(broken, None);
    take(&mut bare, 2);
    take(&mut bare, 1);
    // A directory from now on: nothing is missing in it.
    let mut store = board.open_whole();
    take(&mut store, 2);
    let outcome = board.verify();
    assert!(outcome.is_good() && outcome.first.as_ref().is_some_and(|(n, _)| *n == 4), "{outcome:?}");
    // And back, and forth.
    let (mut bare, broken) = Store::open(Place { dir: None, ..board.place() });
    assert_eq!(broken, None);
    take(&mut bare, 1);
    let mut store = board.open_whole();
    take(&mut store, 1);
    assert_eq!(store.head().count, 7);
    assert_eq!(board.files().len(), 2, "a line never stands in a file whose lines do not lead to it");
}

#[test]
fn old_files_go_by_age_and_the_state_says_what_should_be_there() {
    let board = Board::new();
    let mut store = board.open_whole();
    let mut take_on = |day: &str| {
        let lines = batch(store.head(), 2);
        assert!(store.take(&lines, date(day)).expect("taken").is_none());
    };
    // A clock that was not set, one that jumps, and one that goes back.
    for day in ["1970-01-01", "2026-10-23", "2026-11-22", "2026-11-21"] {
        take_on(day);
    }
    assert_eq!(board.files().len(), 4);
    assert!(board.verify().is_good());
    take_on("2026-11-23");
    let names: Vec<_> = board.files().iter().map(|file| file.file_name().expect("a name").to_owned()).collect();
    assert_eq!(names, ["audit-2026-11-22.5.jsonl", "audit-2026-11-21.7.jsonl", "audit-2026-11-23.9.jsonl"]);
    let outcome = board.verify();
    assert!(outcome.is_good() && outcome.lines == 6, "{outcome:?}");
    // Another one that goes, goes by somebody else's hand.
    fs::remove_file(&board.files()[0]).expect("removed");
    assert_eq!(board.verify().faults, [Fault::Missing { from: 5, to: 6 }]);
}
