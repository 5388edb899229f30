//! `cdn.yaml`: one flat mapping of texts.
//!
//! Read as events, so that a scalar stays the text it is (`secret: 0123` is no number) and nothing is ever expanded. It
//! must never repeat a value in an error.

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::error::SettingsFault;
use crate::limits::{CDN_VALUE_BYTES, CDN_YAML_BYTES, CDN_YAML_DEPTH};
use crate::secret::SecretText;

/// Calls `take` with each entry of the top mapping whose key is in `keys`, and skips the others.
pub(super) fn entries(
    bytes: &[u8],
    keys: &[&'static str],
    mut take: impl FnMut(&'static str, SecretText),
) -> Result<(), SettingsFault> {
    if bytes.len() > CDN_YAML_BYTES {
        return Err(SettingsFault::TooLong);
    }
    let text = str::from_utf8(bytes).map_err(|_| SettingsFault::Encoding)?;
    let mut parser = Parser::new_from_str(text);
    let mut next = || -> Result<Event<'_>, SettingsFault> {
        match parser.next_event() {
            Some(Ok((event, _))) => Ok(event),
            // The scanner's own words may hold a piece of the text.
            Some(Err(error)) => Err(SettingsFault::Syntax { line: error.marker().line() }),
            None => Ok(Event::StreamEnd),
        }
    };
    loop {
        match next()? {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            Event::MappingStart(..) => break,
            _ => return Err(SettingsFault::NotAMapping),
        }
    }
    let mut seen = Vec::new();
    loop {
        let key = match next()? {
            Event::MappingEnd => break,
            Event::Scalar(key, ..) => key,
            Event::Alias(_) => return Err(SettingsFault::Alias),
            _ => return Err(SettingsFault::NotAMapping),
        };
        if seen.contains(&key) {
            return Err(SettingsFault::Twice);
        }
        let known = keys.iter().find(|known| **known == key).copied();
        seen.push(key);
        match (next()?, known) {
            (Event::Scalar(value, style, ..), Some(key)) => {
                if is_null(&value, style) {
                    continue;
                }
                if value.is_empty() || value.len() > CDN_VALUE_BYTES || value.chars().any(char::is_control) {
                    return Err(SettingsFault::Value { key });
                }
                take(key, SecretText::new(value.into_owned()));
            }
            (Event::Scalar(..), None) => {}
            (Event::SequenceStart(..) | Event::MappingStart(..), None) => skip(&mut next)?,
            (Event::Alias(_), _) => return Err(SettingsFault::Alias),
            (_, Some(key)) => return Err(SettingsFault::Value { key }),
            (_, None) => return Err(SettingsFault::NotAMapping),
        }
    }
    loop {
        match next()? {
            Event::DocumentEnd | Event::Nothing => {}
            Event::StreamEnd => return Ok(()),
            _ => return Err(SettingsFault::Documents),
        }
    }
}

/// Reads over a value to its end.
fn skip<'a>(next: &mut impl FnMut() -> Result<Event<'a>, SettingsFault>) -> Result<(), SettingsFault> {
    let mut depth = 1;
    while depth > 0 {
        match next()? {
            Event::SequenceStart(..) | Event::MappingStart(..) if depth == CDN_YAML_DEPTH => {
                return Err(SettingsFault::TooDeep);
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth -= 1,
            Event::Alias(_) => return Err(SettingsFault::Alias),
            Event::StreamEnd => return Err(SettingsFault::NotAMapping),
            _ => {}
        }
    }
    Ok(())
}

/// The core schema's null (YAML 1.2.2 section 10.3.2): a key that is there without a value.
fn is_null(value: &str, style: ScalarStyle) -> bool {
    style == ScalarStyle::Plain && matches!(value, "" | "~" | "null" | "Null" | "NULL")
}
