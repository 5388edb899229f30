//! A line of the audit log, and the chain that the lines make.
//!
//! Line n holds `prev`, the SHA-256 of the whole line before it without its newline; line 1 holds 64 zeros. The head is the
//! number of the last line and its SHA-256: who knows the head knows every line before it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::crypto::Digest;
use crate::json;
use crate::limits::AUDIT_LINE_BYTES;

/// How many lines there are, and the SHA-256 of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the last line, from 1; 0 before the first.
    pub count: u64,
    /// Its SHA-256; zeros before the first.
    pub hash: Digest,
}

impl Head {
    /// Before the first line. Zeros and no random number: whoever begins the log anew could make up a random number as
    /// well, and so `audit verify` sees from line 1 alone that nothing stood before it.
    pub(super) fn none() -> Self {
        Self { count: 0, hash: Digest::from([0; 32]) }
    }

    /// The head once this line stands behind it.
    pub(super) fn after(count: u64, line: &[u8]) -> Self {
        Self { count, hash: Digest::of(line) }
    }
}

/// `57:3fa9…`
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.count, self.hash.hex())
    }
}

/// A text that is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoHead;

impl FromStr for Head {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Self, NoHead> {
        let (count, hash) = text.split_once(':').ok_or(NoHead)?;
        Ok(Self { count: count.parse().map_err(|_| NoHead)?, hash: Digest::from_hex(hash).map_err(|_| NoHead)? })
    }
}

/// One line, its fields in the order in which they are written; none is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number, from 1.
    pub n: u64,
    /// SHA-256 of the line before, in hex.
    pub prev: String,
    /// The wall clock, which may be wrong and may jump.
    pub time: String,
    /// Milliseconds since the board was started: orders lines where the wall clock jumps.
    pub boot_ms: u64,
    /// What happened.
    pub event: Cow<'static, str>,
    /// The user's id, as the token has it.
    pub user: Option<String>,
    /// The error's code.
    pub code: Option<Cow<'static, str>>,
    /// How often it happened since the line before of its kind.
    pub times: u64,
}

impl Entry {
    /// As it is written, without the newline.
    pub(super) fn to_line(&self) -> String {
        // Numbers and texts: nothing here can fail to be JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a line without its newline; `None` unless it is written exactly as the agent writes it.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let entry: Self = json::from_slice(line, AUDIT_LINE_BYTES).ok()?;
        (entry.to_line().as_bytes() == line).then_some(entry)
    }

    /// Whether it stands behind the line with this hash.
    pub(super) fn follows(&self, hash: &Digest) -> bool {
        self.prev == hash.hex()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::AUDIT_USER_BYTES;

    /// Lines 1 to `count`, as an agent chains them.
    pub(in crate::audit) fn lines(count: u64) -> Vec<String> {
        let mut head = Head::none();
        (1..=count)
            .map(|n| {
                let entry = Entry {
                    n,
                    prev: head.hash.hex(),
                    time: format!("2026-11-23T17:38:02.{n:03}Z"),
                    boot_ms: 1000 + n,
                    event: "login_refused".into(),
                    user: (n % 2 == 0).then(|| format!("user {n}")),
                    code: Some("credentials_wrong".into()),
                    times: 1,
                };
                let line = entry.to_line();
                head = Head::after(n, line.as_bytes());
                line
            })
            .collect()
    }

    #[test]
    fn a_line_has_the_fields_of_the_documentation_in_their_order() {
        let zeros = "0".repeat(64);
        let expected = format!(
            "{{\"n\":1,\"prev\":\"{zeros}\",\"time\":\"2026-11-23T17:38:02.001Z\",\"boot_ms\":1001,\
             \"event\":\"login_refused\",\"user\":null,\"code\":\"credentials_wrong\",\"times\":1}}"
        );
        assert_eq!(lines(1), [expected]);
    }

    #[test]
    fn the_longest_line_fits_and_nothing_breaks_out_of_its_field() {
        for user in ["\u{1}".repeat(AUDIT_USER_BYTES), "\"},{\"".repeat(9), "ш\n".repeat(AUDIT_USER_BYTES / 3)] {
            let entry = Entry {
                n: u64::MAX,
                prev: "f".repeat(64),
                time: "2026-11-23T17:38:02.001Z".into(),
                boot_ms: u64::MAX,
                event: "unsealed_accepted".into(),
                user: Some(user.clone()),
                code: Some("resource_not_authentic".into()),
                times: u64::MAX,
            };
            let line = entry.to_line();
            assert!(line.len() < AUDIT_LINE_BYTES && !line.contains('\n'), "{}", line.len());
            assert_eq!(Entry::parse(line.as_bytes()).expect("it parses").user.as_deref(), Some(user.as_str()));
        }
    }

    #[test]
    fn a_line_that_is_not_exact_is_none() {
        let line = lines(1).remove(0);
        assert!(Entry::parse(line.as_bytes()).is_some());
        let spaced = line.replace(",\"code\"", ", \"code\"");
        let short = line.replace("\"user\":null,", "");
        let more = line.replace("\"times\":1", "\"times\":1,\"more\":1");
        for wrong in [&spaced, &short, &more, &format!("{line} "), ""] {
            assert!(Entry::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_head_is_read_as_it_is_shown() {
        let head = Head::after(57, b"x");
        assert_eq!(head.to_string().parse(), Ok(head));
        for wrong in ["", "57", "57:", "57:00", ":", "x:0", &format!("-1:{}", head.hash.hex())] {
            assert_eq!(wrong.parse::<Head>(), Err(NoHead), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(line in proptest::collection::vec(any::<u8>(), 0..900)) {
            let _none_or_exact = Entry::parse(&line);
        }
    }
}
