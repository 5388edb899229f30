//! What is remembered of a board's facts, so that a change can be named: `board.json` in the state directory.
//!
//! It holds no fact, only a hash of each under a random salt. The hash keeps values out of a file that is copied about;
//! it does not hide them from somebody who tries all values that a memory size can have.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::profile::{Part, Source};
use super::{Board, Fact};
use crate::config::read_small;
use crate::crypto::Digest;
use crate::flash;
use crate::json;
use crate::limits::BOARD_RECORD_BYTES;

/// The only version this agent writes and reads.
const VERSION: u32 = 1;

/// A board's facts as the cloud last accepted them, or as they were when the agent first ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// The profile whose facts the fingerprint is made of.
    profile: String,
    salt: String,
    /// Of the whole text: the same facts in another order or under other names make other keys.
    fingerprint: Digest,
    facts: Vec<Noted>,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    source: Source,
    part: Part,
    hash: Digest,
}

/// The record cannot be had.
#[derive(Debug)]
pub enum RecordError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The file is damaged, or of another version.
    Damaged(PathBuf),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, _) => write!(f, "cannot read {}", path.display()),
            Self::Damaged(path) => write!(f, "{} is damaged", path.display()),
        }
    }
}

impl std::error::Error for RecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(_, source) => Some(source),
            Self::Damaged(_) => None,
        }
    }
}

impl Record {
    /// What the facts of `board` are now, under a salt of their own; `None` where the fingerprint is fixed.
    ///
    /// # Errors
    /// The board has no randomness.
    pub fn of(board: &Board) -> io::Result<Option<Self>> {
        if board.is_fixed {
            return Ok(None);
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        let salt = Digest::of(&salt).hex();
        let facts = board.facts.iter().filter_map(|fact| {
            let text = &fact.value.as_ref().ok()?.text;
            let Fact { rule, .. } = fact;
            Some(Noted { source: rule.source, part: rule.part, hash: hash(&salt, rule.source, text) })
        });
        let facts = facts.collect();
        let fingerprint = whole(&salt, board);
        Ok(Some(Self { version: VERSION, profile: board.facts_of.clone(), salt, fingerprint, facts }))
    }

    /// The record in `state_dir`; `None` where there is none. It blocks on flash.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn read(state_dir: &Path) -> Result<Option<Self>, RecordError> {
        let path = state_dir.join(FILE);
        let content = match read_small(&path, BOARD_RECORD_BYTES) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RecordError::Unreadable(path, error)),
        };
        match json::from_slice::<Self>(&content, BOARD_RECORD_BYTES) {
            Ok(record) if record.version == VERSION => Ok(Some(record)),
            Ok(_) | Err(_) => Err(RecordError::Damaged(path)),
        }
    }

    /// Replaces the record in `state_dir`. It blocks on flash.
    ///
    /// # Errors
    /// The one that was there stands.
    pub fn write(&self, state_dir: &Path) -> io::Result<()> {
        flash::replace(&state_dir.join(FILE), &serde_json::to_vec(self)?)
    }

    /// The profile whose facts the fingerprint was made of.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// What is different now.
    pub fn compare(&self, board: &Board) -> Changes {
        let mut list = Vec::new();
        for noted in &self.facts {
            let now = board.facts.iter().find(|fact| fact.rule.source == noted.source);
            let kind = match now.map(|fact| &fact.value) {
                None => Kind::NotAsked,
                Some(Err(_)) => Kind::Lost,
                Some(Ok(found)) if hash(&self.salt, noted.source, &found.text) == noted.hash => continue,
                Some(Ok(_)) => Kind::Changed,
            };
            list.push(Change { source: noted.source, part: noted.part, kind });
        }
        for fact in &board.facts {
            let is_new = !self.facts.iter().any(|noted| noted.source == fact.rule.source);
            if is_new && fact.value.is_ok() {
                list.push(Change { source: fact.rule.source, part: fact.rule.part, kind: Kind::Found });
            }
        }
        // Interfaces and cards come late, or are set aside by hand: of what changes in ordinary life only a new value
        // is worth a word.
        list.retain(|change| change.part == Part::Key || change.kind == Kind::Changed);
        let explained = list.iter().any(|change| change.part == Part::Key);
        let is_rearranged = !explained && whole(&self.salt, board) != self.fingerprint;
        let knew = |source| self.facts.iter().any(|noted| noted.source == source);
        Changes { list, is_rearranged, lives_on_card: knew(Source::MachineId) && !knew(Source::EmmcCid) }
    }
}

/// The file in the state directory.
const FILE: &str = "board.json";

fn whole(salt: &str, board: &Board) -> Digest {
    Digest::of(format!("{salt}\n{}", board.fingerprint.as_str()).as_bytes())
}

fn hash(salt: &str, source: Source, text: &str) -> Digest {
    Digest::of(format!("{salt}\n{}\n{text}", source.as_str()).as_bytes())
}

/// One fact that is not as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub source: Source,
    /// What it is for.
    pub part: Part,
    /// How.
    pub kind: Kind,
}

/// How a fact is not as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It has another value.
    Changed,
    /// It cannot be read any more.
    Lost,
    /// It could not be read then.
    Found,
    /// The profile does not ask for it any more.
    NotAsked,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.kind {
            Kind::Changed => "changed",
            Kind::Lost => "cannot be read any more",
            Kind::Found => "can be read now and could not before",
            Kind::NotAsked => "is not asked for any more by the profile",
        };
        write!(f, "{} {how}", self.source.in_words())
    }
}

/// What is different from what is remembered. Shows which facts, never what they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    list: Vec<Change>,
    /// Whether the keys are others though each fact is the same: another profile.
    is_rearranged: bool,
    /// Whether the card is where the installation lies: there is no soldered flash.
    lives_on_card: bool,
}

/// What the changes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The board as it was.
    Same,
    /// Only what changes in ordinary life has changed.
    Drift,
    /// What the keys are made of has changed, on the same board.
    KeysChanged,
    /// This installation came from another board, and what it lies on does not say that it is a copy.
    Moved,
    /// This installation is a copy of another board's: other flash, other board.
    Cloned,
    /// The installation on this card was copied from another card of this board.
    Copied,
}

impl Verdict {
    /// What a person should know, as one sentence without its full stop; empty for [`Verdict::Same`].
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Drift => "something of this board changed, its keys are the same",
            Self::KeysChanged => "this board is not as its keys knew it",
            Self::Moved => "this installation ran on another board before",
            Self::Cloned => "this installation is a copy of another board's",
            Self::Copied => "this board's installation was copied to another card",
        }
    }
}

impl Changes {
    /// In words, fact by fact.
    pub fn in_words(&self) -> Vec<String> {
        let rearranged = self.is_rearranged.then(|| "another profile makes the keys of the same facts".to_owned());
        self.list.iter().map(ToString::to_string).chain(rearranged).collect()
    }

    /// Whether everything is as it was.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && !self.is_rearranged
    }

    /// Whether what the keys are made of has changed.
    pub fn touches_keys(&self) -> bool {
        self.is_rearranged || self.list.iter().any(|change| change.part == Part::Key)
    }

    /// What they mean together. The state directory lies beside the installation: where it speaks of another board, the
    /// card was moved or copied. A copy keeps the machine-id and has another card.
    pub fn verdict(&self) -> Verdict {
        let changed =
            |source: Source| self.list.iter().any(|change| change.source == source && change.kind == Kind::Changed);
        let is_other_board = self.list.iter().any(|change| change.source.is_unique() && change.kind == Kind::Changed);
        let is_other_card = changed(Source::SdCid);
        if self.is_empty() {
            Verdict::Same
        } else if is_other_board && (is_other_card || changed(Source::EmmcCid)) {
            Verdict::Cloned
        } else if is_other_board {
            Verdict::Moved
        } else if is_other_card && self.lives_on_card && !changed(Source::MachineId) {
            Verdict::Copied
        } else if self.touches_keys() {
            Verdict::KeysChanged
        } else {
            Verdict::Drift
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words().join(", "))
    }
}
