//! `fingerprint`: each fact, where it was read, the text they make and its hash.

use std::io;

use super::args::FingerprintOptions;
use super::screen::{Screen, plain};
use super::{Failure, exit};
use crate::board::Board;
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
    let board = Board::detect(&wanted).map_err(|error| Failure::new(exit::FAILED, error))?;
    for row in rows(&board) {
        screen.print(&row);
    }
    let hash = match settings.salts() {
        Ok(salts) => salts.hardware_hash(board.fingerprint.as_str()).as_str().to_owned(),
        Err(error) => format!("not computed: {error}"),
    };
    screen.print(&format!("hash         {hash}"));
    Ok(exit::DONE)
}

fn rows(board: &Board) -> Vec<String> {
    let mut rows = vec![format!("board        {} ({})", board.profile.name, board.profile.title)];
    for fact in &board.facts {
        let (label, part) = (&fact.rule.label, fact.rule.part);
        rows.push(match &fact.value {
            Ok(found) => format!("{label:12} {} [{part}, {}]", found.text, plain(&found.place)),
            Err(missing) => format!("{label:12} missing: {} [{part}]", plain(&chain(missing))),
        });
    }
    let origin = if board.is_fixed { " [fixed by the configuration]" } else { "" };
    rows.push(format!("fingerprint  {}{origin}", plain(board.fingerprint.as_str())));
    rows
}
