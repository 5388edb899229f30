//! `audit`: whether the audit log is whole, and its last lines; works beside a running agent, and on a copy anywhere.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use lexopt::Parser;
use serde_json::json;

use super::args::{Command, Item, Options, Parsed, Wrong};
use super::screen::{Screen, plain};
use super::{Failure, exit, help};
use crate::audit::{Entry, Head, Known, Outcome, Unreadable, each_line, verify};
use crate::board;
use crate::config::{self, Settings, Source};
use crate::crypto::Digest;
use crate::limits::{AUDIT_HEADS, AUDIT_SHOWN, CLIENT_ANSWER_BYTES};

const COMMAND: &str = "audit";

/// Lines that `audit show` shows when it is not told how many.
const SHOWN: usize = 20;

#[derive(Debug)]
pub(super) struct AuditOptions {
    source: Source,
    dir: Option<PathBuf>,
    action: Action,
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Show { last: usize },
    Verify { heads: Vec<Head>, files: Vec<PathBuf>, as_json: bool },
}

pub(super) fn parse(parser: Parser) -> Result<Parsed, Wrong> {
    let known = &["--dir", "--head", "--head-from", "--last", "--json", "--config", "--help"];
    let mut options = Options { parser, command: COMMAND, known };
    let (mut source, mut dir, mut word, mut last) = (Source::Default, None, None, None);
    let (mut heads, mut files, mut as_json) = (Vec::new(), Vec::new(), false);
    let wrong = |option, text, allowed| Wrong::Value { command: COMMAND, option, text, allowed };
    while let Some(item) = options.item()? {
        match item {
            Item::Option("--config") => source = Source::Given(options.path()?),
            Item::Option("--dir") => dir = Some(options.path()?),
            Item::Option("--head") => {
                let text = options.text()?;
                let allowed = "NUMBER:HASH, the hash in 64 hex digits";
                heads.push(text.parse().map_err(|_| wrong("--head", text, allowed))?);
            }
            Item::Option("--head-from") => files.push(options.path()?),
            Item::Option("--last") => {
                let text = options.text()?;
                let count = text.parse().ok().filter(|count| (1..=AUDIT_SHOWN).contains(count));
                last = Some(count.ok_or_else(|| wrong("--last", text, "1 to 10000"))?);
            }
            Item::Option("--json") => as_json = true,
            Item::Option(_) => return Ok(Parsed::Text(help::AUDIT)),
            Item::Word(action) if word.is_none() && (action == "verify" || action == "show") => word = Some(action),
            Item::Word(action) => {
                return Err(wrong("the action", action.to_string_lossy().into_owned(), "one of verify, show"));
            }
        }
    }
    let together = |what| Err(Wrong::Together { command: COMMAND, what });
    let verifies = !heads.is_empty() || !files.is_empty() || as_json;
    let action = match word {
        None => return together("say what to do: verify or show"),
        Some(word) if word == "show" && verifies => return together("--head, --head-from and --json are for verify"),
        Some(word) if word == "show" => Action::Show { last: last.unwrap_or(SHOWN) },
        Some(_) if last.is_some() => return together("--last is for show"),
        Some(_) => Action::Verify { heads, files, as_json },
    };
    Ok(Parsed::Command(Command::Audit(AuditOptions { source, dir, action })))
}

pub(super) fn run(options: AuditOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    // A directory that is named may be another board's: the state of this one says nothing of it.
    let (dir, known) = match options.dir {
        Some(dir) => (dir, None),
        None => own(&options.source)?,
    };
    match options.action {
        Action::Show { last } => show(&dir, last, screen),
        Action::Verify { mut heads, files, as_json } => {
            for file in &files {
                heads_of(file, &mut heads)?;
            }
            let outcome = verify(&dir, known.as_ref(), &heads)?;
            if as_json {
                print_json(&outcome, screen);
            } else {
                print(&outcome, screen);
            }
            Ok(if outcome.is_good() { exit::DONE } else { exit::FAILED })
        }
    }
}

/// Whether this board's audit log is whole, in lines.
pub(super) fn summary(source: &Source) -> String {
    let mut lines = Vec::new();
    let verified = own(source).and_then(|(dir, known)| Ok(verify(&dir, known.as_ref(), &[])?));
    match verified {
        Ok(outcome) => print(&outcome, &mut Screen::into(&mut lines, false)),
        Err(failure) => return failure.said,
    }
    String::from_utf8_lossy(&lines).into_owned()
}

/// Where this board's files are, and what its state knows: the state first, so that the files are never behind it.
fn own(source: &Source) -> Result<(PathBuf, Option<Known>), Failure> {
    let settings = Settings::read(source, std::env::vars_os())?;
    let (board, state) = (config::Board::of(&settings)?, config::State::of(&settings)?);
    let path = Known::path(&board::directory(&board, &state.dir, |profile| &profile.state.dir));
    let known = Known::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidData => {
            let next = "next: keep a copy; the agent goes on behind the end of the files when it is removed";
            Failure::new(exit::FAILED, format_args!("{}: {source}\n{next}", path.display()))
        }
        _ => Unreadable { path: path.clone(), source }.into(),
    })?;
    let Some(dir) = config::Log::of(&settings)?.dir else {
        let head = known.map_or_else(|| "no line yet".to_owned(), |known| known.head.to_string());
        let said = format!("without [log] dir the lines are in the console's log alone; the state's head: {head}");
        return Err(Failure::new(exit::FAILED, format_args!("{said}\nnext: set [log] dir, or give a copy with --dir")));
    };
    let Some(known) = known else {
        let said = format!("{} is not there: the agent never ran here, or somebody removed it", path.display());
        return Err(Failure::new(exit::FAILED, format_args!("{said}\nnext: --dir {} and --head", dir.display())));
    };
    Ok((dir, Some(known)))
}

/// Every head in a text: lines of the console, an answer of `/status`, `audit.json`.
fn heads_of(file: &Path, heads: &mut Vec<Head>) -> Result<(), Failure> {
    let unreadable = |source: io::Error| {
        let error = Unreadable { path: file.to_owned(), source };
        Failure::from(error)
    };
    let before = heads.len();
    let mut reader = BufReader::new(File::open(file).map_err(unreadable)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A line of the console has 2 KiB, an answer of /status 8: what is longer has no head that is known here.
        let read = (&mut reader).take(CLIENT_ANSWER_BYTES as u64).read_until(b'\n', &mut line).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        heads.extend(head_in(&String::from_utf8_lossy(&line)));
        if heads.len() > AUDIT_HEADS {
            let said = format!("more than {AUDIT_HEADS} heads\nnext: give the end of {} alone", file.display());
            return Err(Failure::new(exit::USAGE, said));
        }
    }
    if heads.len() == before {
        let said =
            format!("{} holds no head\nnext: console lines with \"audit: \", or an answer of /status", file.display());
        return Err(Failure::new(exit::USAGE, said));
    }
    Ok(())
}

fn head_in(line: &str) -> Option<Head> {
    let head = |count: &str, hash: &str| {
        Some(Head { count: count.parse().ok()?, hash: Digest::from_hex(hash.get(..64)?).ok()? })
    };
    let said = line.split("audit: ").skip(1).find_map(|rest| {
        let (count, rest) = rest.split_once(' ')?;
        head(count, rest)
    });
    said.or_else(|| {
        line.split("\"count\":").skip(1).find_map(|rest| {
            let (count, rest) = rest.split_once(',')?;
            head(count.trim(), rest.trim_start().strip_prefix("\"hash\":")?.trim_start().strip_prefix('"')?)
        })
    })
}

fn print(outcome: &Outcome, screen: &mut Screen<'_>) {
    for fault in &outcome.faults {
        screen.print(&format!("wrong  {fault}"));
    }
    if outcome.more_faults > 0 {
        screen.print(&format!("wrong  {} more", outcome.more_faults));
    }
    for note in &outcome.notes {
        screen.print(&format!("note   {}", plain(note)));
    }
    if let (Some((n, since)), Some((head, until))) = (&outcome.first, &outcome.last) {
        screen.print(&format!("lines  {} ({n} to {})", outcome.lines, head.count));
        screen.print(&format!("first  {}", plain(since)));
        screen.print(&format!("last   {}", plain(until)));
        screen.print(&format!("head   {head}"));
    } else {
        screen.print("lines  0");
    }
    screen.print(if outcome.is_good() { "result ok" } else { "result fail" });
}

fn print_json(outcome: &Outcome, screen: &mut Screen<'_>) {
    let faults: Vec<_> =
        outcome.faults.iter().map(|fault| json!({ "kind": fault.kind(), "text": fault.to_string() })).collect();
    let answer = json!({
        "result": if outcome.is_good() { "ok" } else { "fail" },
        "lines": outcome.lines,
        "count": outcome.last.as_ref().map(|(head, _)| head.count),
        "hash": outcome.last.as_ref().map(|(head, _)| head.hash.hex()),
        "first": outcome.first.as_ref().map(|(n, _)| n),
        "first_time": outcome.first.as_ref().map(|(_, time)| time),
        "last_time": outcome.last.as_ref().map(|(_, time)| time),
        "faults": faults,
        "more_faults": outcome.more_faults,
        "notes": outcome.notes,
    });
    screen.print(&answer.to_string());
}

fn show(dir: &Path, last: usize, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let mut shown = VecDeque::with_capacity(last);
    each_line(dir, |entry| {
        if shown.len() == last {
            shown.pop_front();
        }
        shown.push_back(entry);
    })?;
    for entry in shown {
        screen.print(&line(&entry));
    }
    Ok(exit::DONE)
}

fn line(entry: &Entry) -> String {
    let (user, code) = (entry.user.as_deref().unwrap_or("-"), entry.code.as_deref().unwrap_or("-"));
    let times = if entry.times == 1 { String::new() } else { format!("  {} times", entry.times) };
    let said = format!("{:6}  {}  {:17}  {user}  {code}{times}", entry.n, entry.time, entry.event);
    plain(&said)
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        let next = match error.source.kind() {
            io::ErrorKind::PermissionDenied => "run it as root, or as the agent's user",
            io::ErrorKind::NotFound => {
                "see that it is there; the agent removes old files once a day: repeat the command"
            }
            _ => "see that it is a plain file on a disk that works",
        };
        Self::with_next(exit::FAILED, &error, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<AuditOptions, Wrong> {
        match parse(Parser::from_args(arguments.iter().copied()))? {
            Parsed::Command(Command::Audit(options)) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_action_is_read_and_nonsense_is_told() {
        let hash = "0f".repeat(32);
        let head = format!("7:{hash}");
        let options = parsed(&["verify", "--head", &head, "--head-from", "journal", "--json", "--dir", "d"]);
        let options = options.expect("all of verify");
        assert_eq!(options.dir, Some("d".into()));
        let heads = vec![head.parse().expect("a head")];
        assert_eq!(options.action, Action::Verify { heads, files: vec!["journal".into()], as_json: true });
        assert_eq!(parsed(&["show"]).expect("show").action, Action::Show { last: SHOWN });
        assert_eq!(parsed(&["show", "--last", "10000"]).expect("show").action, Action::Show { last: AUDIT_SHOWN });
        for wrong in [
            &[][..],
            &["rest"],
            &["verify", "show"],
            &["verify", "--last", "1"],
            &["show", "--json"],
            &["show", "--last", "10001"],
            &["show", "--last", "0"],
            &["verify", "--head", "7"],
            &["verify", "--head", &head[..60]],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
        let Ok(Parsed::Text(text)) = parse(Parser::from_args(["-h"])) else { panic!("help") };
        for option in ["--dir", "--head HEAD", "--head-from", "--last", "--json", "--config"] {
            assert!(text.contains(option), "{option}");
        }
    }

    #[test]
    fn heads_are_found_where_they_survive() {
        let hash = "0f".repeat(32);
        for line in [
            format!("2026-11-23T17:38:02.123Z INFO  audit: 57 {hash} unlock_ready user \"1\" code -"),
            format!("Nov 23 board azaion-loader[1]: audit: flash takes audit: 57 {hash} x"),
            format!("{{\"version\":\"0.1.0\",\"audit\":{{\"count\":57,\"hash\":\"{hash}\"}},\"notes\":[]}}"),
            format!("{{ \"count\": 57, \"hash\": \"{hash}\" }}"),
            format!("{{\"version\":1,\"count\":57,\"hash\":\"{hash}\",\"first\":1}}\n"),
        ] {
            assert_eq!(head_in(&line).map(|head| head.to_string()), Some(format!("57:{hash}")), "{line}");
        }
        for line in ["", "audit: waits for flash: x", "\"count\":5", "audit: 57 ш", "\"count\":5,\"hash\":\"0f\""] {
            assert_eq!(head_in(line), None, "{line}");
        }
    }
}
