//! The effective configuration as TOML, each value with where it came from: what a support call starts with.
//!
//! Hidden values are shown as `…` and never otherwise.

use std::fmt::{self, Write as _};

use super::keys::{KEYS, Kind};
use super::settings::{Origin, Settings};

/// Columns that a value takes before its origin.
const VALUE_COLUMNS: usize = 56;

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file() {
            Some(path) => writeln!(f, "# from {}", path.display())?,
            None => writeln!(f, "# no file was read")?,
        }
        let mut section = "";
        for key in KEYS {
            if key.section != section {
                section = key.section;
                writeln!(f, "\n[{section}]")?;
            }
            let (texts, origin) = match (self.said(key), key.default) {
                (Some(said), _) => (said.texts.clone(), said.origin.clone()),
                (None, Some(default)) => (vec![default.to_owned()], Origin::Default),
                (None, None) => {
                    let line = format!("# {} is not set", key.name);
                    writeln!(f, "{line:VALUE_COLUMNS$} # environment {}", key.env())?;
                    continue;
                }
            };
            let quoted = |text: &String| if key.hidden { "\"…\"".to_owned() } else { quote(text) };
            let value = match key.kind {
                Kind::Text => quoted(&texts[0]),
                Kind::Size if texts[0].parse::<u64>().is_err() => quoted(&texts[0]),
                Kind::Number | Kind::Switch | Kind::Size => texts[0].clone(),
                Kind::Texts => format!("[{}]", texts.iter().map(quoted).collect::<Vec<_>>().join(", ")),
                Kind::Numbers => format!("[{}]", texts.join(", ")),
            };
            let line = format!("{} = {value}", key.name);
            writeln!(f, "{line:VALUE_COLUMNS$} # {origin}")?;
        }
        Ok(())
    }
}

/// A TOML basic string (TOML 1.0, section String).
fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // Writing to a `String` cannot fail.
            c if c.is_control() => write!(quoted, "\\u{:04X}", c as u32).unwrap_or_default(),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn every_key_is_shown_with_its_origin_and_no_hidden_one_with_its_value() {
        let environment = [
            ("AZAION_KEYS_API_SALT", "canary"),
            ("AZAION_KEYS_SEPARATOR", "\"\\\n"),
            ("AZAION_CACHE_MAX_BYTES", "8 GiB"),
            ("AZAION_CONTROL_LISTEN", "127.0.0.1:1, unix:/x"),
        ];
        let pairs = environment.map(|(n, v)| (OsString::from(n), OsString::from(v)));
        let shown = Settings::of_environment(pairs).expect("known names").to_string();
        for key in KEYS {
            assert!(shown.contains(&format!("{} ", key.name)), "{} in\n{shown}", key.name);
        }
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("api_salt = \"…\""));
        assert!(shown.contains("# environment AZAION_CACHE_MAX_BYTES"));
        let table: toml::Table = toml::from_str(&shown).expect("it is TOML again");
        assert_eq!(table["keys"]["separator"].as_str(), Some("\"\\\n"));
        assert_eq!(table["cache"]["max_bytes"].as_str(), Some("8 GiB"));
        assert_eq!(table["control"]["listen"].as_array().map(Vec::len), Some(2));
    }
}
