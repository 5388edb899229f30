//! The one way by which received JSON is read: bounded in size and depth, no key twice, nothing behind the end.
//!
//! `serde_json` itself lets a later key win over an earlier one where types ignore unknown fields, so two readers could
//! see two documents in one. Hence a first pass over the whole text that only counts and compares keys. Refusals tell
//! places, never values: the text may hold a password.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use crate::limits::JSON_DEPTH;

/// JSON that is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonRefused {
    /// Longer than the caller allows.
    TooLarge {
        /// Bytes there are.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not JSON, not UTF-8, or something follows the value.
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// Nested deeper than [`JSON_DEPTH`].
    TooDeep {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// An object holds one key twice.
    DuplicateKey {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A required field is not there.
    Missing {
        /// Its name, as the reader's own type spells it.
        field: String,
    },
    /// JSON, but not of the shape that was asked for.
    Shape {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
}

impl fmt::Display for JsonRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, limit } => write!(f, "json of {len} bytes, at most {limit} are read"),
            Self::Syntax { line, column } => write!(f, "not json at line {line} column {column}"),
            Self::TooDeep { line, column } => {
                write!(f, "json nested deeper than {JSON_DEPTH} at line {line} column {column}")
            }
            Self::DuplicateKey { line, column } => write!(f, "json key given twice at line {line} column {column}"),
            Self::Missing { field } => write!(f, "json field {field:?} is missing"),
            Self::Shape { line, column } => {
                write!(f, "json value of another kind than expected at line {line} column {column}")
            }
        }
    }
}

impl std::error::Error for JsonRefused {}

/// Reads one value of at most `max_bytes` bytes of text.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8], max_bytes: usize) -> Result<T, JsonRefused> {
    if bytes.len() > max_bytes {
        return Err(JsonRefused::TooLarge { len: bytes.len(), limit: max_bytes });
    }
    let mut first = serde_json::Deserializer::from_slice(bytes);
    Walk { depth: 0 }.deserialize(&mut first).and_then(|()| first.end()).map_err(|e| refused(&e))?;
    serde_json::from_slice(bytes).map_err(|e| refused(&e))
}

/// What [`Walk`] says through `serde_json`'s error; matched again in [`refused`].
const TOO_DEEP: &str = "nested too deep";
const TWICE: &str = "key given twice";

fn refused(error: &serde_json::Error) -> JsonRefused {
    let (line, column) = (error.line(), error.column());
    let said = error.to_string();
    match error.classify() {
        Category::Io | Category::Syntax | Category::Eof => JsonRefused::Syntax { line, column },
        Category::Data if said.starts_with(TOO_DEEP) => JsonRefused::TooDeep { line, column },
        Category::Data if said.starts_with(TWICE) => JsonRefused::DuplicateKey { line, column },
        // The only one of serde's own texts that is made of names in this program alone.
        Category::Data => match said.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
            Some((field, _)) => JsonRefused::Missing { field: field.to_owned() },
            None => JsonRefused::Shape { line, column },
        },
    }
}

/// Walks over any value and keeps nothing of it.
#[derive(Clone, Copy)]
struct Walk {
    /// Containers around this value.
    depth: usize,
}

impl Walk {
    fn inner<E: de::Error>(self) -> Result<Self, E> {
        if self.depth < JSON_DEPTH { Ok(Self { depth: self.depth + 1 }) } else { Err(E::custom(TOO_DEEP)) }
    }
}

impl<'de> DeserializeSeed<'de> for Walk {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any json value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !seen.insert(key) {
                return Err(de::Error::custom(TWICE));
            }
            entries.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    fn any(text: &str) -> Result<Value, JsonRefused> {
        from_slice(text.as_bytes(), 10_000)
    }

    #[test]
    fn size_holds_at_its_bound() {
        assert!(from_slice::<Value>(b"12345", 5).is_ok());
        assert_eq!(from_slice::<Value>(b"12345", 4), Err(JsonRefused::TooLarge { len: 5, limit: 4 }));
    }

    #[test]
    fn depth_holds_at_its_bound() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
            assert!(any(&nested(JSON_DEPTH)).is_ok());
            assert!(matches!(any(&nested(JSON_DEPTH + 1)), Err(JsonRefused::TooDeep { .. })));
            assert!(any(&nested(1000)).is_err());
        }
    }

    #[test]
    fn no_key_twice_at_any_level_not_even_unread_or_escaped() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Narrow {
            a: u8,
        }
        let read = |text: &str| from_slice::<Narrow>(text.as_bytes(), 100);
        assert_eq!(read(r#"{"a":1,"b":{"c":1,"d":2}}"#), Ok(Narrow { a: 1 }));
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"b":{"c":1,"c":1}}"#, r#"{"a":1,"b":[{"c":1,"\u0063":1}]}"#] {
            assert!(matches!(read(text), Err(JsonRefused::DuplicateKey { .. })), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "[1,]", "01", "1 2", "{} x", "\"\\ud800\"", "nul", "'a'", "{a:1}", "1e999"] {
            assert!(matches!(any(text), Err(JsonRefused::Syntax { .. })), "{text}: {:?}", any(text));
        }
        assert!(from_slice::<Value>(b"\"\xff\"", 10).is_err());
    }

    #[test]
    fn a_refusal_names_the_missing_field_and_no_value() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only the refusal is looked at")]
        struct Login {
            email: String,
            password: String,
        }
        let refusal = |text: &str| from_slice::<Login>(text.as_bytes(), 100).expect_err("not a login");
        assert_eq!(refusal(r#"{"email":"a"}"#), JsonRefused::Missing { field: "password".into() });
        let shape = refusal(r#"{"email":"a","password":271828}"#);
        assert!(matches!(shape, JsonRefused::Shape { .. }));
        assert!(!shape.to_string().contains("271828") && !format!("{shape:?}").contains("271828"));
    }
}
