//! The request target: path segments and parameters, decoded once and never normalised.
//!
//! Dot segments and double slashes stay what they are, so they meet no route. `%2F` stays inside its segment. Visible
//! bytes beyond RFC 3986 are taken, raw UTF-8 among them: `curl` sends names as they were typed.

use super::authority::Authority;
use crate::limits::PATH_SEGMENTS;

/// A target in origin-form, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The first decoded segments of the path; none for `*`.
    pub(super) segments: heapless::Vec<String, PATH_SEGMENTS>,
    /// The path has more segments than any route.
    pub(super) is_deeper: bool,
    /// What stands behind the `?`.
    query: Option<String>,
    /// The authority, when the target was in absolute-form.
    pub(super) authority: Option<Authority>,
}

impl Target {
    /// Takes the target of a request with this method apart.
    ///
    /// Absolute-form is taken (RFC 9112 section 3.2.2 demands it), authority-form is not, `*` only with OPTIONS.
    ///
    /// # Errors
    /// What is wrong with it, for a 400.
    pub(super) fn parse(method: &http::Method, target: &[u8]) -> Result<Self, &'static str> {
        let target = str::from_utf8(target).map_err(|_| "the target is not UTF-8")?;
        if target.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'#') {
            return Err("the target holds a control character or a fragment");
        }
        if target == "*" && method == http::Method::OPTIONS {
            return Ok(Self { segments: heapless::Vec::new(), is_deeper: false, query: None, authority: None });
        }
        let (authority, local) = if target.starts_with('/') {
            (None, target)
        } else {
            let (scheme, rest) = target.split_once("://").ok_or("the target is neither a path nor a URL")?;
            if !scheme.eq_ignore_ascii_case("http") {
                return Err("the target is a URL of another scheme");
            }
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(Authority::parse(&rest[..end]).ok_or("the target's host is none")?), &rest[end..])
        };
        let (path, query) = local.split_once('?').map_or((local, None), |(path, query)| (path, Some(query)));
        // RFC 9112 section 3.2.1: an empty path of an absolute-form is `/`.
        let (segments, is_deeper) = segments(path.strip_prefix('/').unwrap_or(path))?;
        Ok(Self { segments, is_deeper, query: query.map(str::to_owned), authority })
    }

    /// The decoded value of a parameter of the query; a `+` stays what it is.
    ///
    /// # Errors
    /// What is wrong with it, for a 400: a fault in it, or a second one of the same name.
    pub(super) fn parameter(&self, name: &str) -> Result<Option<String>, &'static str> {
        let query = self.query.as_deref().unwrap_or_default();
        let mut found = query.split('&').filter_map(|pair| match pair.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (pair == name).then_some(""),
        });
        let value = found.next().map(decode).transpose()?;
        if found.next().is_some() { Err("a parameter that may stand once stands twice") } else { Ok(value) }
    }
}

fn segments(path: &str) -> Result<(heapless::Vec<String, PATH_SEGMENTS>, bool), &'static str> {
    let mut segments = heapless::Vec::new();
    let mut is_deeper = false;
    for segment in path.split('/') {
        // Decoded even when it is one too many: a path is malformed wherever its fault stands.
        let decoded = decode(segment)?;
        is_deeper |= segments.push(decoded).is_err();
    }
    Ok((segments, is_deeper))
}

/// Percent-decodes one segment or value once.
fn decode(segment: &str) -> Result<String, &'static str> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (Some(high), Some(low)) = (bytes.next().and_then(hex), bytes.next().and_then(hex)) else {
                return Err("a percent sign without two hex digits");
            };
            decoded.push(high << 4 | low);
        } else {
            decoded.push(byte);
        }
    }
    let decoded = String::from_utf8(decoded).map_err(|_| "the decoded path is not UTF-8")?;
    if decoded.chars().any(char::is_control) {
        return Err("the decoded path holds a control character");
    }
    Ok(decoded)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn path(target: &str) -> Result<Option<Vec<String>>, &'static str> {
        Target::parse(&Method::GET, target.as_bytes())
            .map(|target| (!target.is_deeper).then(|| target.segments.into_iter().collect()))
    }

    fn is(target: &str, segments: &[&str]) {
        assert_eq!(path(target), Ok(Some(segments.iter().map(ToString::to_string).collect())), "{target}");
    }

    #[test]
    fn segments_are_decoded_once_and_never_normalised() {
        is("/", &[""]);
        is("/health", &["health"]);
        is("/%68ealth?a=/b", &["health"]);
        is("/health/", &["health", ""]);
        is("//health", &["", "health"]);
        is("/./a/../b", &[".", "a", "..", "b"]);
        is("/a%2Fb", &["a/b"]);
        is("/%2541", &["%41"]);
        is("/модель", &["модель"]);
        is("/%D1%8F+ ".trim_end(), &["я+"]);
        is("http://h", &[""]);
        is("HTTP://h:1/health?x", &["health"]);
        is("http://h?x", &[""]);
    }

    #[test]
    fn a_path_longer_than_any_route_is_none() {
        is("/1/2/3/4", &["1", "2", "3", "4"]);
        assert_eq!(path("/1/2/3/4/5"), Ok(None));
        assert!(path("/1/2/3/4/5%").is_err());
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for target in [
            "",
            "health",
            "h:80",
            "*",
            "https://h/",
            "http://",
            "http:///x",
            "http://u@h/",
            "/a#b",
            "/%",
            "/%4",
            "/%zz",
            "/%00",
            "/%0a",
            "/%ff",
            "/%C3",
            "/\u{7f}",
            "/a b",
        ] {
            assert!(path(target).is_err(), "{target}");
        }
        assert!(Target::parse(&Method::GET, b"/\xff").is_err());
        let all = Target::parse(&Method::OPTIONS, b"*").expect("the server itself");
        assert!(all.segments.is_empty() && all.authority.is_none());
    }

    #[test]
    fn parameters_are_decoded_once_and_stand_once() {
        let folder = |query: &str| Target::parse(&Method::PUT, format!("/x{query}").as_bytes())?.parameter("folder");
        for (query, value) in [
            ("", None),
            ("?", None),
            ("?a=b", None),
            ("?Folder=b", None),
            ("?folder", Some("")),
            ("?folder=", Some("")),
            ("?folder=m", Some("m")),
            ("?a=%&folder=%6d+=?&b", Some("m+=?")),
            ("?folder=%2541", Some("%41")),
        ] {
            assert_eq!(folder(query), Ok(value.map(str::to_owned)), "{query}");
        }
        for query in ["?folder=%", "?folder=%00", "?folder=%ff", "?folder=a&folder=a", "?folder&folder"] {
            assert!(folder(query).is_err(), "{query}");
        }
    }
}
