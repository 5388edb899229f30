//! Profiles: what is known of a kind of board, as data. `boards/*.toml`, compiled in; `boards/README.md` documents the
//! format.

use std::fmt;

use serde::Deserialize;

/// The profiles this binary carries.
const BUILT_IN: &[&str] =
    &[include_str!("../../boards/generic-arm64.toml"), include_str!("../../boards/generic-x86-64.toml")];

/// What is known of a kind of board.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name in `[board] profile`.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// The light that shows the state: a name under `/sys/class/leds`, or `none`.
    pub led: String,
    /// How the board is recognised.
    pub recognise: Recognise,
    /// The facts of the fingerprint, in order.
    #[serde(rename = "fact")]
    pub facts: Vec<FactRule>,
    /// Sizes that suit its flash, where the configuration sets none.
    pub cache: CacheSizes,
}

/// How a board is recognised: by its architecture and, if any are named, one of its device-tree names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recognise {
    /// Architectures as `uname -m` names them.
    pub arch: Vec<String>,
    /// Entries of `/proc/device-tree/compatible`; one is enough, none means any.
    pub compatible: Vec<String>,
}

/// One fact of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactRule {
    /// What stands before it in the fingerprint. It is hashed: it must never change.
    pub label: String,
    /// Where it comes from.
    pub source: Source,
    /// What it is for.
    pub part: Part,
}

/// Where a fact comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The processor's model.
    CpuModel,
    /// The memory, rounded up to whole GiB: what firmware and kernel keep for themselves changes with their versions.
    Memory,
    /// The system-on-chip's serial number.
    SocSerial,
    /// The product's name in the firmware's tables.
    DmiProductName,
    /// The installation's id.
    MachineId,
}

impl Source {
    /// The name in the profile.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CpuModel => "cpu-model",
            Self::Memory => "memory",
            Self::SocSerial => "soc-serial",
            Self::DmiProductName => "dmi-product-name",
            Self::MachineId => "machine-id",
        }
    }
}

/// What a fact is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// It goes into the fingerprint and so into the key.
    Key,
    /// It changes in ordinary life; only its change is reported.
    Drift,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Drift => "drift",
        })
    }
}

/// Sizes of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSizes {
    /// What it may take at most.
    pub max_bytes: u64,
    /// What it leaves free.
    pub reserve_bytes: u64,
}

impl Profile {
    /// Parses one profile. Unknown keys are refused: a misspelt fact would silently change the key.
    ///
    /// # Errors
    /// What TOML or serde say, in one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.message().replace('\n', ", "))
    }

    /// The profiles this binary carries. Each parses: a test sees to it.
    pub fn built_in() -> Vec<Self> {
        BUILT_IN.iter().filter_map(|text| Self::parse(text).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_that_is_compiled_in_parses_and_can_make_a_fingerprint() {
        for text in BUILT_IN {
            let profile = Profile::parse(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
            assert!(profile.facts.iter().any(|fact| fact.part == Part::Key), "{}", profile.name);
            assert!(!profile.recognise.arch.is_empty(), "{}", profile.name);
            let source = profile.facts[0].source;
            assert!(text.contains(&format!("source = \"{}\"", source.as_str())), "{source:?} is spelt otherwise");
        }
        assert_eq!(
            BUILT_IN.len(),
            std::fs::read_dir("boards")
                .expect("boards")
                .filter(|entry| {
                    entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|e| e == "toml"))
                })
                .count(),
            "a profile in boards/ is not compiled in"
        );
    }

    #[test]
    fn what_a_profile_cannot_have_is_refused() {
        let good = BUILT_IN[0];
        for (from, to) in [
            ("label = \"CPU\"", "label = \"CPU\"\ncolour = 1"),
            ("source = \"memory\"", "source = \"memori\""),
            ("part = \"drift\"", "part = \"maybe\""),
            ("led = \"none\"", ""),
            ("max_bytes = 4", "max_bytes = -4"),
            ("[recognise]", "[recognize]"),
        ] {
            assert!(good.contains(from), "{from}");
            assert!(Profile::parse(&good.replace(from, to)).is_err(), "{to}");
        }
    }
}
