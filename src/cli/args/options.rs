//! One command's options, as they come.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use super::wrong::Wrong;
use crate::config::keys::nearest;

pub(in crate::cli) fn spelt(argument: &Arg<'_>) -> String {
    match argument {
        Arg::Short(letter) => format!("-{letter}"),
        Arg::Long(name) => format!("--{name}"),
        Arg::Value(text) => text.to_string_lossy().into_owned(),
    }
}

/// One command's options, as they come.
pub(in crate::cli) struct Options {
    pub(in crate::cli) parser: Parser,
    pub(in crate::cli) command: &'static str,
    pub(in crate::cli) known: &'static [&'static str],
}

/// What stands next in the arguments.
pub(in crate::cli) enum Item {
    /// An option, by its long name.
    Option(&'static str),
    /// A word that is no option.
    Word(OsString),
}

impl Options {
    /// The next option or word; `None` at the end.
    pub(in crate::cli) fn item(&mut self) -> Result<Option<Item>, Wrong> {
        let command = self.command;
        let argument = self.parser.next().map_err(|error| Wrong::Shape { command, said: error.to_string() })?;
        let name = match argument {
            None => return Ok(None),
            Some(Arg::Value(word)) => return Ok(Some(Item::Word(word))),
            Some(Arg::Short('h')) => "--help".to_owned(),
            Some(other) => spelt(&other),
        };
        self.known_option(name).map(Item::Option).map(Some)
    }

    /// The next option by its long name; `None` at the end. `-h` is `--help`.
    pub(in crate::cli) fn next(&mut self) -> Result<Option<&'static str>, Wrong> {
        match self.item()? {
            None => Ok(None),
            Some(Item::Option(name)) => Ok(Some(name)),
            Some(Item::Word(word)) => self.known_option(word.to_string_lossy().into_owned()).map(Some),
        }
    }

    fn known_option(&self, name: String) -> Result<&'static str, Wrong> {
        let found = self.known.iter().copied().find(|known| *known == name);
        found.ok_or_else(|| {
            let nearest =
                name.starts_with('-').then(|| nearest(&name, self.known.iter().map(|&known| known.to_owned())));
            Wrong::Option { command: self.command, name, nearest }
        })
    }

    pub(in crate::cli) fn value(&mut self) -> Result<OsString, Wrong> {
        let command = self.command;
        self.parser.value().map_err(|error| Wrong::Shape { command, said: error.to_string() })
    }

    pub(in crate::cli) fn path(&mut self) -> Result<PathBuf, Wrong> {
        self.value().map(PathBuf::from)
    }

    pub(in crate::cli) fn text(&mut self) -> Result<String, Wrong> {
        let command = self.command;
        self.value()?.string().map_err(|error| Wrong::Shape { command, said: error.to_string() })
    }
}
