//! What a self-diagnosis found: one line for each thing that was looked at, for people and for programs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How one thing, or all of them, was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// It could not be looked at, because something before it failed or is not there.
    Skip,
    /// As it should be.
    Ok,
    /// It works, and a person should know.
    Warn,
    /// It does not work.
    Fail,
}

impl Finding {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    /// The last line of a checkup.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Fail => "result: fail; mend the first line that says so, then look again",
            Self::Warn => "result: warn; nothing stands in the way, but what is marked should be seen to",
            Self::Ok | Self::Skip => "result: ok",
        }
    }
}

/// One thing that was looked at. Neither text may hold a secret or a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, as `docs/CONTROL-PORT.md` lists them.
    pub name: &'static str,
    /// How it was found.
    pub result: Finding,
    /// What was seen.
    pub text: String,
    /// What a person can do; `None` where there is nothing to do.
    pub next: Option<String>,
}

impl Check {
    /// As it should be.
    pub fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, result: Finding::Ok, text: text.into(), next: None }
    }

    /// Not looked at, and why.
    pub fn skip(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, result: Finding::Skip, text: text.into(), next: None }
    }

    /// It works, and a person should know.
    pub fn warn(name: &'static str, text: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, result: Finding::Warn, text: text.into(), next: Some(next.into()) }
    }

    /// It does not work.
    pub fn fail(name: &'static str, text: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, result: Finding::Fail, text: text.into(), next: Some(next.into()) }
    }
}

/// Two columns, and the next step below.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |text: &str| text.replace(char::is_control, " ");
        write!(f, "{:4}  {:11}  {}", self.result.as_str(), self.name, plain(&self.text))?;
        match &self.next {
            Some(next) => write!(f, "\n                   next: {}", plain(next)),
            None => Ok(()),
        }
    }
}

/// What is looked at, in the order of the answer.
pub const CHECKS: [&str; 13] = [
    "config",
    "clock",
    "name",
    "connect",
    "tls",
    "login",
    "cdn",
    "engine",
    "space",
    "archive",
    "fingerprint",
    "cache",
    "flash",
];

/// All that was looked at, in the order of the names in `docs/CONTROL-PORT.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// The worst that was found.
    pub result: Finding,
    /// Each of them.
    pub checks: Vec<Check>,
}

impl From<Vec<Check>> for Checkup {
    fn from(checks: Vec<Check>) -> Self {
        let worst = checks.iter().map(|check| check.result).max();
        Self { result: worst.unwrap_or(Finding::Ok).max(Finding::Ok), checks }
    }
}

/// A line for each, and the result last.
impl fmt::Display for Checkup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checks.iter().try_for_each(|check| writeln!(f, "{check}"))?;
        f.write_str(self.result.in_words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_and_a_skip_decides_nothing() {
        let of = |checks: &[Check]| Checkup::from(checks.to_vec()).result;
        let (ok, skip) = (Check::ok("a", "x"), Check::skip("b", "x"));
        let (warn, fail) = (Check::warn("c", "x", "y"), Check::fail("d", "x", "y"));
        assert_eq!(of(&[]), Finding::Ok);
        assert_eq!(of(std::slice::from_ref(&skip)), Finding::Ok);
        assert_eq!(of(&[ok.clone(), warn.clone(), skip.clone()]), Finding::Warn);
        assert_eq!(of(&[fail, warn, ok, skip]), Finding::Fail);
    }

    #[test]
    fn a_line_for_people_and_an_object_for_programs() {
        let checkup = Checkup::from(vec![Check::ok("clock", "right"), Check::fail("engine", "a\nb", "start it")]);
        assert_eq!(
            checkup.to_string(),
            "ok    clock        right\nfail  engine       a b\n                   next: start it\n\
             result: fail; mend the first line that says so, then look again"
        );
        let json = serde_json::to_value(&checkup).expect("JSON");
        assert_eq!(json["result"], "fail");
        assert_eq!(
            json["checks"][0],
            serde_json::json!({"name": "clock", "result": "ok", "text": "right", "next": null})
        );
    }
}
