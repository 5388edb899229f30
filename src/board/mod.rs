//! Which board this is: its profile, its facts, its fingerprint.
//!
//! The fingerprint is the text that CONTRACT section 3 hashes: `CPU: Cortex-A76. Memory: 8 GiB. Serial: 10000000a1b2c3d4`.
//! It must be the same after every reboot, kernel update and in a container, and it is never logged. All of this runs
//! once, at start, before the loop: it reads a few small files.

mod arm;
mod probe;
mod profile;

use std::fmt;
use std::path::PathBuf;

pub use probe::{FactMissing, Found};
pub use profile::{CacheSizes, FactRule, Part, Profile, Recognise, Source};

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
    /// Its facts in the order of the profile; none when the fingerprint is fixed.
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
        /// Where the board was looked at.
        root: PathBuf,
    },
}

impl fmt::Display for BoardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownProfile { name, nearest } => {
                write!(f, "board.profile: unknown profile {name}; the nearest known is {nearest}")
            }
            Self::NotRecognised { root, arch } => write!(
                f,
                "no profile fits the board seen at {} (architecture {}); name one in board.profile",
                root.display(),
                arch.as_deref().unwrap_or("unknown")
            ),
            Self::NoFacts { profile, root } => write!(
                f,
                "no fact of the fingerprint of {profile} can be read under {}; see azaion-loader fingerprint",
                root.display()
            ),
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
        let probe = Probe::at(&config.root);
        let profiles = Profile::built_in();
        let profile = match &config.profile {
            Some(name) => named(name, profiles)?,
            None => recognised(&probe, profiles)
                .map_err(|arch| BoardError::NotRecognised { root: config.root.clone(), arch })?,
        };
        if let Some(fixed) = &config.fingerprint {
            let fingerprint = Fingerprint(fixed.expose().to_owned());
            return Ok(Self { profile, facts: Vec::new(), fingerprint, is_fixed: true });
        }
        let facts: Vec<_> =
            profile.facts.iter().map(|rule| Fact { rule: rule.clone(), value: probe.fact(rule.source) }).collect();
        match Fingerprint::of(&facts) {
            Some(fingerprint) => Ok(Self { profile, facts, fingerprint, is_fixed: false }),
            None => Err(BoardError::NoFacts { profile: profile.name, root: config.root.clone() }),
        }
    }

    /// The facts of the key that could not be read: each is worth a warning, the key is weaker without it and changes
    /// when it comes back.
    pub fn missing(&self) -> impl Iterator<Item = (&FactRule, &FactMissing)> {
        self.facts
            .iter()
            .filter(|fact| fact.rule.part == Part::Key)
            .filter_map(|fact| Some((&fact.rule, fact.value.as_ref().err()?)))
    }
}

fn named(name: &str, profiles: Vec<Profile>) -> Result<Profile, BoardError> {
    let nearest = config::keys::nearest(name, profiles.iter().map(|profile| profile.name.clone()));
    let found = profiles.into_iter().find(|profile| profile.name == name);
    found.ok_or(BoardError::UnknownProfile { name: name.to_owned(), nearest })
}

/// The profile of this architecture that names the most special entry of the device tree; else the one that names none.
fn recognised(probe: &Probe, profiles: Vec<Profile>) -> Result<Profile, Option<String>> {
    let arch = probe.arch();
    let compatible = probe.compatible();
    let rank = |profile: &Profile| {
        if !profile.recognise.arch.iter().any(|known| Some(known) == arch.as_ref()) {
            None
        } else if profile.recognise.compatible.is_empty() {
            Some(usize::MAX)
        } else {
            compatible.iter().position(|entry| profile.recognise.compatible.contains(entry))
        }
    };
    let ranked = profiles.into_iter().filter_map(|profile| Some((rank(&profile)?, profile)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, profile)| profile).ok_or(arch)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::secret::SecretText;

    fn config(root: &Path) -> config::Board {
        config::Board { profile: None, root: root.to_owned(), fingerprint: None }
    }

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/boards").join(name)
    }

    #[test]
    fn every_profile_is_recognised_and_its_fingerprint_is_fixed_for_ever() {
        for (profile, fingerprint) in [
            ("generic-arm64", "CPU: Cortex-A76. Memory: 8 GiB. Serial: 10000000a1b2c3d4"),
            ("generic-x86-64", "Product: NUC7i5BNK. CPU: Intel(R) Core(TM) i5-7260U CPU @ 2.20GHz. Memory: 16 GiB"),
        ] {
            let board = Board::detect(&config(&fixture(profile))).expect(profile);
            assert_eq!(board.profile.name, profile);
            assert_eq!(board.fingerprint.as_str(), fingerprint);
            assert_eq!(board.missing().count(), 0);
            assert!(!format!("{board:?} {:?}", board.fingerprint).contains("CPU"));
        }
        let known = Profile::built_in().len();
        assert_eq!(known, 2, "every profile has its line above and its tree in tests/fixtures/boards");
    }

    #[test]
    fn this_machine_has_a_fingerprint_or_says_why_not() {
        match Board::detect(&config(Path::new("/"))) {
            Ok(board) => assert!(!board.fingerprint.as_str().is_empty()),
            Err(error) => assert!(matches!(error, BoardError::NotRecognised { .. }), "{error}"),
        }
    }

    #[test]
    fn a_fixed_fingerprint_wins() {
        let fixed = Some(SecretText::new("desk".into()));
        let board = Board::detect(&config::Board { fingerprint: fixed, ..config(&fixture("generic-arm64")) });
        let board = board.expect("fixed");
        assert!(board.is_fixed && board.facts.is_empty());
        assert_eq!(board.fingerprint.as_str(), "desk");
    }

    #[test]
    fn a_named_profile_wins_over_what_is_recognised_and_must_exist() {
        let named = |name: &str| {
            Board::detect(&config::Board { profile: Some(name.into()), ..config(&fixture("generic-arm64")) })
        };
        let board = named("generic-x86-64").expect("it has cpu and memory");
        assert_eq!(board.fingerprint.as_str(), "CPU: Cortex-A76. Memory: 8 GiB");
        assert_eq!(board.missing().map(|(rule, _)| rule.label.as_str()).collect::<Vec<_>>(), ["Product"]);
        let error = named("generic-arm").expect_err("unknown");
        assert_eq!(error.to_string(), "board.profile: unknown profile generic-arm; the nearest known is generic-arm64");
    }

    #[test]
    fn a_tree_without_facts_gives_no_fingerprint() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("proc")).expect("created");
        let error = Board::detect(&config(dir.path())).expect_err("nothing to go by");
        assert!(matches!(error, BoardError::NotRecognised { arch: None, .. }), "{error}");
        let profile = Some("generic-arm64".into());
        let error = Board::detect(&config::Board { profile, ..config(dir.path()) }).expect_err("no facts");
        assert!(matches!(error, BoardError::NoFacts { .. }), "{error}");
    }

    #[test]
    fn the_most_special_profile_is_taken() {
        let generic = Profile::built_in().remove(0);
        let special = |name: &str, entry: &str| {
            let mut profile = Profile { name: name.into(), ..generic.clone() };
            profile.recognise.compatible = vec![entry.into()];
            profile
        };
        let all = vec![generic.clone(), special("chip", "brcm,bcm2712"), special("board", "raspberrypi,5-model-b")];
        let probe = Probe::at(&fixture("generic-arm64"));
        assert_eq!(recognised(&probe, all).map(|profile| profile.name), Ok("board".into()));
        let other = vec![special("other", "nvidia,jetson-nano"), generic];
        assert_eq!(recognised(&probe, other).map(|profile| profile.name), Ok("generic-arm64".into()));
    }
}
