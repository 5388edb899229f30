//! Which board this is: its profile, its facts, its fingerprint.
//!
//! The fingerprint is the text that CONTRACT section 3 hashes: `CPU: Cortex-A76. Memory: 8 GiB. Serial: 10000000a1b2c3d4`.
//! It must be the same after every reboot, kernel update and in a container, and it is never logged. All of this runs
//! once, at start, before the loop: it reads a few small files. [`Record`] remembers the facts so that a change can be
//! named; [`Light`] is the board's status light.

mod arm;
mod devices;
mod led;
mod probe;
mod profile;
mod record;
#[cfg(test)]
mod tests;
mod wear;

use std::fmt;
use std::path::{Path, PathBuf};

pub use led::{Light, LightError, Pattern, Phase};
pub use probe::{FactMissing, Found};
pub use profile::{Cache, Crypto, FactRule, Led, Part, Profile, ProfileRefused, Recognise, Source, State};
pub use record::{Change, Changes, Kind, Record, RecordError, Verdict};
pub use wear::{Wear, wear};

use crate::config;
use probe::Probe;

/// The canonical text of a board. Not a secret, but personal to the board: shown by `azaion-loader fingerprint` alone.
#[derive(PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The text that is hashed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `label: text`, joined by a full stop and a space; `None` when there is nothing to join.
    fn of(facts: &[Fact]) -> Option<Self> {
        let known: Vec<_> = facts
            .iter()
            .filter(|fact| fact.rule.part == Part::Key)
            .filter_map(|fact| Some(format!("{}: {}", fact.rule.label, fact.value.as_ref().ok()?.text)))
            .collect();
        (!known.is_empty()).then(|| Self(known.join(". ")))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(…)")
    }
}

/// One fact of the profile, as it was found.
pub struct Fact {
    /// What the profile asks for.
    pub rule: FactRule,
    /// What there is.
    pub value: Result<Found, FactMissing>,
}

/// This board.
pub struct Board {
    /// What is known of its kind.
    pub profile: Profile,
    /// The name of the profile that says which facts the fingerprint is made of. Most often that one; a board that has
    /// keys by another one keeps it.
    pub facts_of: String,
    /// Its facts in the order of that profile; none when the fingerprint is fixed.
    pub facts: Vec<Fact>,
    /// What its keys are made of.
    pub fingerprint: Fingerprint,
    /// Whether the fingerprint is a text of the configuration, for development.
    pub is_fixed: bool,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("profile", &self.profile.name).finish_non_exhaustive()
    }
}

/// Why there is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoardError {
    /// A file of `[board] profiles_dir` cannot be used.
    Profile(ProfileRefused),
    /// `[board] profile` names none that there is.
    UnknownProfile {
        /// The name.
        name: String,
        /// The one most like it.
        nearest: String,
    },
    /// No profile fits.
    NotRecognised {
        /// Where the board was looked at.
        root: PathBuf,
        /// Its architecture, if that could be told.
        arch: Option<String>,
    },
    /// Not one fact of the key could be read.
    NoFacts {
        /// The profile.
        profile: String,
        /// Each of its facts, and why it is not there.
        missing: Vec<String>,
    },
}

impl fmt::Display for BoardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(refused) => refused.fmt(f),
            Self::UnknownProfile { name, nearest } => {
                write!(f, "board.profile: unknown profile {name}; the nearest known is {nearest}")
            }
            Self::NotRecognised { root, arch } => write!(
                f,
                "no profile fits the board seen at {} (architecture {}); name one in board.profile",
                root.display(),
                arch.as_deref().unwrap_or("unknown")
            ),
            Self::NoFacts { profile, missing } => {
                write!(f, "no fact of the fingerprint of {profile} can be read: {}", missing.join("; "))
            }
        }
    }
}

impl std::error::Error for BoardError {}

impl Board {
    /// Finds the profile and reads the facts. Blocks on files: call it before the loop runs, or lend it.
    ///
    /// # Errors
    /// [`BoardError`] when there is no profile or no fingerprint.
    pub fn detect(config: &config::Board) -> Result<Self, BoardError> {
        Self::detect_as(config, |_| None)
    }

    /// The same for a board whose fingerprint was made by the profile that `recorded` names, told which profile fits best.
    /// A profile that a later agent brings must not change the keys of a board that has some: as long as the recorded one
    /// fits too, and no other is configured, the facts stay its facts.
    ///
    /// # Errors
    /// As [`Board::detect`].
    pub fn detect_as(
        config: &config::Board,
        recorded: impl FnOnce(&Profile) -> Option<String>,
    ) -> Result<Self, BoardError> {
        let probe = Probe::at(&config.root);
        let profiles = Profile::all(&config.profiles_dir).map_err(BoardError::Profile)?;
        let profile = chosen(config, &probe, &profiles)?.clone();
        if let Some(fixed) = &config.fingerprint {
            let fingerprint = Fingerprint(fixed.expose().to_owned());
            return Ok(Self {
                facts_of: profile.name.clone(),
                profile,
                facts: Vec::new(),
                fingerprint,
                is_fixed: true,
            });
        }
        let recorded = recorded(&profile).filter(|_| config.profile.is_none());
        let by = recorded
            .and_then(|name| profiles.iter().find(|other| other.name == name))
            .filter(|other| fit(&Seen::of(&probe), other).is_some())
            .unwrap_or(&profile);
        let facts: Vec<_> =
            by.facts.iter().map(|rule| Fact { rule: rule.clone(), value: probe.fact(rule.source) }).collect();
        let facts_of = by.name.clone();
        if let Some(fingerprint) = Fingerprint::of(&facts) {
            return Ok(Self { facts_of, profile, facts, fingerprint, is_fixed: false });
        }
        let keys = facts.iter().filter(|fact| fact.rule.part == Part::Key);
        let missing = keys.filter_map(|fact| Some(format!("{}: {}", fact.rule.label, fact.value.as_ref().err()?)));
        Err(BoardError::NoFacts { profile: facts_of, missing: missing.collect() })
    }

    /// The facts of the key that could not be read: each is worth a warning, the key is weaker without it and changes
    /// when it comes back.
    pub fn missing(&self) -> impl Iterator<Item = (&FactRule, &FactMissing)> {
        self.facts
            .iter()
            .filter(|fact| fact.rule.part == Part::Key)
            .filter_map(|fact| Some((&fact.rule, fact.value.as_ref().err()?)))
            .filter(|(rule, why)| !(rule.optional && why.is_absence()))
    }
}

/// The directory for `said`, where the configuration leaves it to the board's profile; the default where no profile fits.
/// For commands that work without a board's facts. Blocks on files.
pub fn directory(config: &config::Board, said: &config::Directory, of: fn(&Profile) -> &Path) -> PathBuf {
    let profiles = || Profile::all(&config.profiles_dir).ok();
    let profile = || chosen(config, &Probe::at(&config.root), &profiles()?).ok().map(|profile| of(profile).to_owned());
    if said.is_said { said.path.clone() } else { profile().unwrap_or_else(|| said.path.clone()) }
}

/// The profile that is configured, else the one that recognises the board.
fn chosen<'p>(config: &config::Board, probe: &Probe, profiles: &'p [Profile]) -> Result<&'p Profile, BoardError> {
    match &config.profile {
        Some(name) => named(name, profiles),
        None => {
            recognised(probe, profiles).map_err(|arch| BoardError::NotRecognised { root: config.root.clone(), arch })
        }
    }
}

fn named<'p>(name: &str, profiles: &'p [Profile]) -> Result<&'p Profile, BoardError> {
    profiles.iter().find(|profile| profile.name == name).ok_or_else(|| {
        let nearest = config::keys::nearest(name, profiles.iter().map(|profile| profile.name.clone()));
        BoardError::UnknownProfile { name: name.to_owned(), nearest }
    })
}

/// What a board is recognised by.
struct Seen {
    arch: Option<String>,
    compatible: Vec<String>,
    model: String,
}

impl Seen {
    fn of(probe: &Probe) -> Self {
        Self { arch: probe.arch(), compatible: probe.compatible(), model: probe.model() }
    }
}

/// How well a profile fits, the least is the best: by how special its entry of the device tree is, then whether it names
/// the model. `None`: it does not.
fn fit(seen: &Seen, profile: &Profile) -> Option<(usize, bool)> {
    let Recognise { arch, compatible, model } = &profile.recognise;
    let is_arch = arch.iter().any(|known| Some(known) == seen.arch.as_ref());
    let is_model = model.is_empty() || model.iter().any(|known| seen.model.starts_with(known));
    let place = if compatible.is_empty() {
        Some(usize::MAX)
    } else {
        seen.compatible.iter().position(|entry| compatible.contains(entry))
    };
    place.filter(|_| is_arch && is_model).map(|place| (place, model.is_empty()))
}

/// The profile that fits best; the architecture where none does.
fn recognised<'p>(probe: &Probe, profiles: &'p [Profile]) -> Result<&'p Profile, Option<String>> {
    let seen = Seen::of(probe);
    let ranked = profiles.iter().filter_map(|profile| Some((fit(&seen, profile)?, profile)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, profile)| profile).ok_or(seen.arch)
}
