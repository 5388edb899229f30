//! What an answer of the CDN says: its tag, its range, its XML, its errors.
//!
//! A server's words are untrusted text: read up to a bound and shown as [`crate::cloud`] shows those of the API.

use std::borrow::Cow;
use std::ops::Range;

use http::{HeaderMap, StatusCode, header};

use super::super::answer::{location, retry_after, shown};
use super::error::{CdnError, CdnFault, CdnOperation};
use crate::limits::{CDN_ETAG_BYTES, ERROR_BODY_BYTES};
use crate::net::Response;

/// Passes a success on and turns everything else into its error.
pub(super) async fn judge(
    response: Response,
    operation: CdnOperation,
    host: &str,
    scrub: impl Fn(String) -> String,
) -> Result<Response, CdnError> {
    let status = response.status;
    let protocol = |fault| CdnError::Protocol { operation, host: host.to_owned(), fault };
    if status.is_success() {
        return Ok(response);
    }
    // 304 answers conditions that nothing here sets.
    if status.is_redirection() && response.headers.contains_key(header::LOCATION) {
        let location = location(&response.headers, &scrub);
        return Err(protocol(CdnFault::Redirect { status: status.as_u16(), location }));
    }
    if !status.is_client_error() && !status.is_server_error() {
        return Err(protocol(CdnFault::Status(status.as_u16())));
    }
    let retry_after = retry_after(&response.headers);
    let body = beginning(response).await;
    Err(failure(operation, status, &body, retry_after, scrub))
}

/// The error that `body` of an answer with `status` stands for.
pub(super) fn failure(
    operation: CdnOperation,
    status: StatusCode,
    body: &str,
    retry_after: Option<super::super::error::RetryAfter>,
    scrub: impl Fn(String) -> String,
) -> CdnError {
    let said = |name| shown(&scrub(element(body, name).unwrap_or_default().into_owned()));
    let (code, message) = (said("Code"), said("Message"));
    let number = status.as_u16();
    match (number, code.as_str()) {
        // Parts that cannot be joined are as good as none: the upload begins anew.
        (_, "NoSuchUpload" | "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall") => CdnError::NoSuchUpload,
        (_, "NoSuchKey" | "NoSuchBucket") | (404, _) => CdnError::NotFound { operation, code },
        (412, _) => CdnError::Changed,
        (401 | 403, _) => CdnError::Refused { operation, status: number, code, message },
        _ => CdnError::Failed { operation, status: number, code, message, retry_after },
    }
}

/// The beginning of a body; one that is cut or late is what came before, the status stands in any case.
async fn beginning(mut response: Response) -> String {
    let mut body = vec![0; ERROR_BODY_BYTES];
    let mut length = 0;
    while length < body.len() {
        match response.chunk(&mut body[length..]).await {
            Ok(0) | Err(_) => break,
            Ok(read) => length += read,
        }
    }
    String::from_utf8_lossy(&body[..length]).into_owned()
}

/// The text of the first element called `name`, whatever stands around it.
///
/// No reader of XML: S3's answers are flat, and stores disagree about namespaces and declarations. What is not found is
/// none, and what is found is only ever compared, sent back or shown.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut rest = xml;
    loop {
        let at = rest.find('<')?;
        rest = &rest[at + 1..];
        let Some(tag) = rest.strip_prefix(name) else { continue };
        // `<Code>` and `<Code xmlns="…">`, not `<CodePage>`, and not the empty `<Code/>`.
        if !tag.starts_with(['>', ' ', '\t', '\r', '\n']) {
            continue;
        }
        let (attributes, content) = tag.split_once('>')?;
        if attributes.ends_with('/') {
            return None;
        }
        let (text, end) = content.split_once('<')?;
        return end.strip_prefix('/')?.starts_with(name).then(|| unescaped(text));
    }
}

/// The five entities that XML has by itself (XML 1.0 section 4.6), and character references.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let known = after.split_once(';').and_then(|(name, rest)| Some((entity(name)?, rest)));
        if let Some((c, behind)) = known {
            plain.push(c);
            rest = behind;
        } else {
            plain.push('&');
            rest = after;
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

fn entity(name: &str) -> Option<char> {
    let number = match name {
        "amp" => return Some('&'),
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        _ => name.strip_prefix('#')?,
    };
    let number = match number.strip_prefix('x') {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => number.parse(),
    };
    char::from_u32(number.ok()?)
}

/// The entity tag as it came, quotes and all.
pub(super) fn etag(headers: &HeaderMap) -> Result<String, CdnFault> {
    let text = headers.get(header::ETAG).and_then(|value| value.to_str().ok()).ok_or(CdnFault::Etag)?;
    if text.is_empty() || text.len() > CDN_ETAG_BYTES { Err(CdnFault::Etag) } else { Ok(text.to_owned()) }
}

/// The length of the object that `HEAD` told of.
pub(super) fn content_length(headers: &HeaderMap) -> Result<u64, CdnFault> {
    let text = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).ok_or(CdnFault::Length)?;
    digits(text).ok_or(CdnFault::Length)
}

/// Which bytes of how many an answer holds: `bytes 0-4/10` (RFC 9110 section 14.4). The size is `None` for `*`.
pub(super) fn content_range(headers: &HeaderMap) -> Result<(Range<u64>, Option<u64>), CdnFault> {
    let mut values = headers.get_all(header::CONTENT_RANGE).iter();
    let text = values.next().and_then(|value| value.to_str().ok()).ok_or(CdnFault::Range)?;
    if values.next().is_some() {
        return Err(CdnFault::Range);
    }
    parse_range(text).ok_or(CdnFault::Range)
}

fn parse_range(text: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let range = digits(first)?..digits(last)?.checked_add(1)?;
    let size = if size == "*" { None } else { Some(digits(size)?) };
    (range.start < range.end && size.is_none_or(|size| range.end <= size)).then_some((range, size))
}

/// A number as HTTP writes it: digits, no sign.
fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_element_is_found_whatever_stands_around_it() {
        for (xml, text) in [
            ("<Error><Code>NoSuchKey</Code></Error>", Some("NoSuchKey")),
            (
                "<?xml version=\"1.0\"?>\n<Error xmlns=\"x\">\n <CodePage>1</CodePage><Code a='b'>A&amp;B</Code>",
                Some("A&B"),
            ),
            ("<Code>&quot;&#34;&#x22;&lt;&gt;&apos;&nope;&</Code>", Some("\"\"\"<>'&nope;&")),
            ("<Code></Code>", Some("")),
            ("<Code/>", None),
            ("<Code >", None),
            ("<Code>cut", None),
            ("<Code><B>x</B></Code>", None),
            ("", None),
            ("<<<<", None),
            ("Code", None),
        ] {
            assert_eq!(element(xml, "Code").as_deref(), text, "{xml}");
        }
    }

    #[test]
    fn a_range_is_one_that_can_be() {
        assert_eq!(parse_range("bytes 0-4/10"), Some((0..5, Some(10))));
        assert_eq!(parse_range("bytes 9-9/10"), Some((9..10, Some(10))));
        assert_eq!(parse_range("bytes 9-9/*"), Some((9..10, None)));
        for text in [
            "",
            "bytes",
            "bytes 0-4",
            "bytes */10",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes -4/10",
            "bytes 0-/10",
            "bytes +0-4/10",
            "items 0-4/10",
            "bytes 0-18446744073709551615/*",
            "bytes 0-4/x",
            "bytes 0-4,6-7/10",
        ] {
            assert_eq!(parse_range(text), None, "{text}");
        }
    }

    #[test]
    fn failures_are_told_apart_by_code_and_status() {
        let read = CdnOperation::Read;
        let told = |status: u16, code: &str| {
            let status = StatusCode::from_u16(status).expect("a status");
            failure(read, status, &format!("<Error><Code>{code}</Code><Message>m</Message></Error>"), None, |text| text)
        };
        assert!(matches!(told(404, "NoSuchKey"), CdnError::NotFound { code, .. } if code == "NoSuchKey"));
        assert!(matches!(told(404, ""), CdnError::NotFound { .. }));
        assert!(matches!(told(404, "NoSuchUpload"), CdnError::NoSuchUpload));
        for code in ["InvalidPart", "InvalidPartOrder", "EntityTooSmall"] {
            assert!(matches!(told(400, code), CdnError::NoSuchUpload), "{code}");
        }
        assert!(matches!(told(412, "PreconditionFailed"), CdnError::Changed));
        assert!(matches!(told(403, "AccessDenied"), CdnError::Refused { message, .. } if message == "m"));
        for (status, code, passes) in [
            (503, "SlowDown", true),
            (500, "", true),
            (429, "", true),
            (400, "RequestTimeout", true),
            (200, "InternalError", true),
            (416, "InvalidRange", false),
            (501, "NotImplemented", false),
        ] {
            let error = told(status, code);
            assert!(matches!(&error, CdnError::Failed { .. }), "{error:?}");
            assert_eq!(error.may_pass(), passes, "{status} {code}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(<|>|/|Code|&|;|#x|[0-9]|\u{e9}| ){0,30}", range in "bytes [0-9*/ -]{0,30}") {
            let _any = element(&text, "Code");
            let _any = parse_range(&range);
        }
    }
}
