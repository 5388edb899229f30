//! `fingerprint`: each fact, where it was read, the text they make and its hash.

use std::io;
use std::path::{Path, PathBuf};

use super::args::FingerprintOptions;
use super::screen::{Screen, plain};
use super::{Failure, exit};
use crate::board::{Board, Part, Record, RecordError};
use crate::config::{self, ConfigError, Settings, Source};
use crate::error::chain;

pub(super) fn fingerprint(options: &FingerprintOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let settings = match Settings::read(&options.source, std::env::vars_os()) {
        // Whoever may not read the salts may still see the facts.
        Err(ConfigError::Unreadable { source, .. })
            if options.source == Source::Default && source.kind() == io::ErrorKind::PermissionDenied =>
        {
            Settings::of_environment(std::env::vars_os())
        }
        other => other,
    }?;
    let mut wanted = config::Board::of(&settings)?;
    if let Some(root) = &options.root {
        wanted.root.clone_from(root);
        // A fixed text of this machine's configuration says nothing of another board.
        wanted.fingerprint = None;
    }
    if let Some(name) = &options.profile {
        wanted.profile = Some(name.clone());
    }
    let state = config::State::of(&settings)?;
    let mut remembered = Ok(None);
    let mut state_dir = PathBuf::new();
    let board = Board::detect_as(&wanted, |profile| {
        state_dir = seen_under(options.root.as_deref(), state.dir.or(&profile.state.dir));
        remembered = Record::read(&state_dir);
        Some(remembered.as_ref().ok()?.as_ref()?.profile().to_owned())
    });
    let board = board.map_err(|error| Failure::new(exit::FAILED, error))?;
    for row in rows(&board) {
        screen.print(&row);
    }
    let hash = match settings.salts() {
        Ok(salts) => salts.hardware_hash(board.fingerprint.as_str()).as_str().to_owned(),
        Err(error) => format!("not computed: {error}"),
    };
    screen.print(&format!("hash         {hash}"));
    screen.print(&format!("remembered   {}", compared(&board, &remembered)));
    if options.accept {
        let accepted = Record::of(&board).and_then(|now| now.map(|now| now.write(&state_dir)).transpose());
        match accepted {
            Ok(Some(())) => screen.print("accepted     what is found now is remembered"),
            Ok(None) => screen.print("accepted     nothing: a fixed fingerprint has no facts"),
            Err(error) => {
                let next = format!("run it as root, or as the owner of {}", plain(&state_dir.display().to_string()));
                return Err(Failure::with_next(exit::FAILED, &error, next));
            }
        }
    }
    Ok(exit::DONE)
}

/// What is at `path` of the board that is seen under `root`.
fn seen_under(root: Option<&Path>, path: &Path) -> PathBuf {
    match (root, path.strip_prefix("/")) {
        (Some(root), Ok(inside)) => root.join(inside),
        _ => path.to_owned(),
    }
}

/// What is found beside what is remembered, in one line.
fn compared(board: &Board, remembered: &Result<Option<Record>, RecordError>) -> String {
    match remembered {
        _ if board.is_fixed => "nothing: the fingerprint is fixed".into(),
        Ok(None) => "nothing yet: the agent has not run here".into(),
        Ok(Some(record)) => {
            let changes = record.compare(board);
            if changes.is_empty() { "the same".into() } else { format!("{}: {changes}", changes.verdict().in_words()) }
        }
        Err(error) => format!("not compared: {}", plain(&chain(error))),
    }
}

fn rows(board: &Board) -> Vec<String> {
    let mut rows = vec![format!("board        {} ({})", board.profile.name, board.profile.title)];
    if board.facts_of != board.profile.name {
        rows.push(format!("facts of     {}: the keys of this board are made by them", board.facts_of));
    }
    for fact in &board.facts {
        let (label, part) = (&fact.rule.label, fact.rule.part);
        rows.push(match &fact.value {
            Ok(found) => format!("{label:12} {} [{part}, {}]", found.text, plain(&found.place)),
            Err(missing) if (fact.rule.optional || part == Part::Drift) && missing.is_absence() => {
                format!("{label:12} none [{part}]")
            }
            Err(missing) => format!("{label:12} missing: {} [{part}]", plain(&chain(missing))),
        });
    }
    let origin = if board.is_fixed { " [fixed by the configuration]" } else { "" };
    rows.push(format!("fingerprint  {}{origin}", plain(board.fingerprint.as_str())));
    rows
}
