//! What was said and where: every key's text with its origin, before anyone asks what it means.
//!
//! The environment wins over the file, the file over the default (CONTRACT section 7). A variable or text that is
//! empty counts as not said: that is how `docker compose` and systemd pass what nobody set. Of two variables for one
//! key the `AZAION_` one wins: it speaks to this program alone.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::file::read_small;
use super::keys::{ENV_PREFIX, KEYS, Key, Kind, find, nearest};
use crate::limits::CONFIG_BYTES;

/// Where the file is looked for when `--config` does not say.
pub const DEFAULT_FILE: &str = "/etc/azaion/loader.toml";

/// Who said a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody; it is the default.
    Default,
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// This environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line, .. } => write!(f, "line {line}"),
            Self::Variable(name) => write!(f, "environment {name}"),
        }
    }
}

/// One value as text; a list has any number of texts, everything else exactly one.
pub(super) struct Said {
    pub(super) texts: Vec<String>,
    pub(super) origin: Origin,
}

impl Said {
    fn is_empty(&self) -> bool {
        self.texts.iter().all(String::is_empty)
    }
}

/// Which file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// [`DEFAULT_FILE`], which may be absent.
    Default,
    /// The one named with `--config`, which must be there.
    Given(PathBuf),
}

impl Source {
    /// The file's path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Default => Path::new(DEFAULT_FILE),
            Self::Given(path) => path,
        }
    }
}

/// All that was said, key by key in the order of [`KEYS`]. Shows no value.
pub struct Settings {
    file: Option<PathBuf>,
    said: Vec<Option<Said>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the file and the given environment.
    ///
    /// # Errors
    /// [`ConfigError`] for an unreadable file, for what is not TOML, and for every name that is not known.
    pub fn read(
        source: &Source,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let path = source.path();
        let unreadable = |source| ConfigError::Unreadable { key: None, path: path.to_owned(), source };
        let text = match (read_small(path, CONFIG_BYTES), source) {
            (Ok(bytes), _) => Some(
                String::from_utf8(bytes)
                    .map_err(|_| unreadable(io::Error::new(io::ErrorKind::InvalidData, "not UTF-8")))?,
            ),
            (Err(error), Source::Default) if error.kind() == io::ErrorKind::NotFound => None,
            (Err(error), _) => return Err(unreadable(error)),
        };
        let mut settings = Self::nothing();
        if let Some(text) = text {
            settings.take_file(path, &text)?;
        }
        settings.take_environment(environment)?;
        Ok(settings)
    }

    /// Only the given environment, as for a client that may not read the agent's file.
    ///
    /// # Errors
    /// [`ConfigError`] for a variable that is not known or not UTF-8.
    pub fn of_environment(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let mut settings = Self::nothing();
        settings.take_environment(environment)?;
        Ok(settings)
    }

    fn nothing() -> Self {
        Self { file: None, said: KEYS.iter().map(|_| None).collect() }
    }

    /// The file that was read, if there was one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What was said for `key`; `None` when nobody said anything.
    pub(super) fn said(&self, key: &Key) -> Option<&Said> {
        let at = KEYS.iter().position(|known| **known == *key)?;
        self.said[at].as_ref()
    }

    fn say(&mut self, key: &Key, texts: Vec<String>, origin: Origin) {
        let said = Said { texts, origin };
        if let (false, Some(at)) = (said.is_empty(), KEYS.iter().position(|known| **known == *key)) {
            self.said[at] = Some(said);
        }
    }

    fn take_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let line = |at: usize| text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1;
        let unknown = |what, name: &str, at: usize, known: &mut dyn Iterator<Item = String>| ConfigError::Unknown {
            path: path.to_owned(),
            line: line(at),
            what,
            name: name.escape_debug().collect(),
            nearest: nearest(name, known),
        };
        let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: line(error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', ", "),
        })?;
        for (section, table) in in_order(document.get_ref()) {
            let at = section.span().start;
            let section = section.get_ref().as_ref();
            let known = KEYS.iter().any(|key| key.section == section);
            let DeValue::Table(table) = table.get_ref() else {
                return Err(unknown("key", section, at, &mut KEYS.iter().map(|key| key.dotted())));
            };
            if !known {
                return Err(unknown("section", section, at, &mut KEYS.iter().map(|key| key.section.to_owned())));
            }
            for (name, value) in in_order(table) {
                let at = name.span().start;
                let Some(key) = find(section, name.get_ref()) else {
                    let name = format!("{section}.{}", name.get_ref());
                    return Err(unknown("key", &name, at, &mut KEYS.iter().map(|key| key.dotted())));
                };
                let origin = Origin::File { path: path.to_owned(), line: line(at) };
                let Some(texts) = texts_of(key.kind, value.get_ref()) else {
                    let text = if key.hidden { "…" } else { &text[value.span()] };
                    return Err(ConfigError::Value {
                        key: key.dotted(),
                        origin: Some(origin),
                        text: text.to_owned(),
                        allowed: key.kind.in_words().to_owned(),
                    });
                };
                self.say(key, texts, origin);
            }
        }
        self.file = Some(path.to_owned());
        Ok(())
    }

    fn take_environment(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        let mut own = Vec::new();
        for (name, value) in environment {
            let Some(name) = name.to_str() else { continue };
            let key = KEYS.iter().copied().find(|key| key.also == Some(name) || key.env() == name);
            let Some(key) = key else {
                if name.starts_with(ENV_PREFIX) {
                    let nearest = nearest(name, KEYS.iter().map(|key| key.env()));
                    return Err(ConfigError::UnknownVariable { name: name.to_owned(), nearest });
                }
                continue;
            };
            let value = value.into_string().map_err(|_| ConfigError::VariableNotText { name: name.to_owned() })?;
            let texts = if key.kind.is_list() {
                value.split(',').map(|item| item.trim().to_owned()).collect()
            } else {
                vec![value]
            };
            if key.also == Some(name) {
                self.say(key, texts, Origin::Variable(name.to_owned()));
            } else {
                own.push((key, texts, name.to_owned()));
            }
        }
        // Second, because they win over the names shared with other programs.
        for (key, texts, name) in own {
            self.say(key, texts, Origin::Variable(name));
        }
        Ok(())
    }
}

/// A table's entries as they stand in the file, so that the first mistake is the one that is told.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Entry<'t, 'i>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

type Entry<'t, 'i> = (&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>);

/// The value as text, if it is of that kind.
fn texts_of(kind: Kind, value: &DeValue<'_>) -> Option<Vec<String>> {
    let whole = |value: &DeValue<'_>| {
        let number = value.as_integer()?;
        i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
    };
    let text = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
    match kind {
        Kind::Text => Some(vec![text(value)?]),
        Kind::Number => Some(vec![whole(value)?]),
        Kind::Size => Some(vec![whole(value).or_else(|| text(value))?]),
        Kind::Switch => Some(vec![value.as_bool()?.to_string()]),
        Kind::Texts => value.as_array()?.iter().map(|item| text(item.get_ref())).collect(),
        Kind::Numbers => value.as_array()?.iter().map(|item| whole(item.get_ref())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("loader.toml");
        std::fs::write(&path, text).expect("written");
        let environment = environment.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
        Settings::read(&Source::Given(path.clone()), environment)
            .map_err(|error| error.to_string().replace(path.to_str().expect("UTF-8"), "F"))
    }

    fn refused(text: &str, environment: &[(&str, &str)]) -> String {
        read(text, environment).expect_err("refused")
    }

    #[test]
    fn names_that_nobody_knows_are_told_with_their_line_and_the_nearest() {
        assert_eq!(
            refused("[cloud]\n\nresource_url = 'x'\n", &[]),
            "F line 3: unknown key cloud.resource_url; the nearest known is cloud.resource_api_url"
        );
        assert_eq!(refused("[clowd]\n", &[]), "F line 1: unknown section clowd; the nearest known is cloud");
        assert_eq!(refused("level = 'info'\n", &[]), "F line 1: unknown key level; the nearest known is log.level");
        assert_eq!(
            refused("[cloud.ca_file]\nx = 1\n", &[]),
            "F line 1: cloud.ca_file cannot be \"[cloud.ca_file]\"; allowed: a text in quotes"
        );
        assert_eq!(
            refused("", &[("AZAION_LOG_LEVL", "x")]),
            "unknown environment variable AZAION_LOG_LEVL; the nearest known is AZAION_LOG_LEVEL"
        );
    }

    #[test]
    fn the_first_mistake_of_the_file_is_told() {
        assert!(refused("[log]\nzz = 1\naa = 1\n[board]\nbb = 1\n", &[]).contains("log.zz"));
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_line() {
        let error = refused("[log]\nlevel = \n", &[]);
        assert!(error.starts_with("F line 2: not TOML: "), "{error}");
        assert!(!error.contains('\n'), "{error}");
        assert!(refused("[log]\nlevel = 'a'\nlevel = 'b'\n", &[]).contains("duplicate key"));
    }

    #[test]
    fn a_value_of_another_kind_is_told_and_a_hidden_one_not_shown() {
        assert_eq!(
            refused("[cache]\noffline = 'yes'\n", &[]),
            "F line 2: cache.offline cannot be \"'yes'\"; allowed: true or false"
        );
        assert!(!refused("[keys]\napi_salt = 4711\n", &[]).contains("4711"));
        assert!(read("[cache]\nmax_bytes = 0x10\nreserve_bytes = '1 GiB'\n", &[]).is_ok());
        assert!(refused("[control]\nlisten = 'a:1'\n", &[]).ends_with("allowed: a list of texts"));
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_own_name_over_the_shared_one() {
        let text = "[engine]\nsocket = '/file'\n";
        let said = |environment: &[(&str, &str)]| {
            let settings = read(text, environment).expect("read");
            let said = settings.said(&super::super::keys::ENGINE_SOCKET).expect("said");
            (said.texts[0].clone(), said.origin.to_string())
        };
        assert_eq!(said(&[]), ("/file".into(), "line 2".into()));
        assert_eq!(said(&[("DOCKER_HOST", "")]), ("/file".into(), "line 2".into()));
        assert_eq!(said(&[("DOCKER_HOST", "/shared")]).0, "/shared");
        for order in [[0, 1], [1, 0]] {
            let both = [("DOCKER_HOST", "/shared"), ("AZAION_ENGINE_SOCKET", "/own")];
            assert_eq!(said(&order.map(|n| both[n])).0, "/own");
        }
    }

    #[test]
    fn the_file_may_be_absent_only_when_nobody_named_it() {
        let gone = Source::Given(PathBuf::from("/nonexistent/loader.toml"));
        let error = Settings::read(&gone, []).expect_err("it was named");
        assert_eq!(error.to_string(), "cannot read /nonexistent/loader.toml");
    }

    #[test]
    fn the_file_is_bounded() {
        assert!(read(&"#".repeat(CONFIG_BYTES), &[]).is_ok());
        assert!(read(&"#".repeat(CONFIG_BYTES + 1), &[]).is_err());
    }
}
