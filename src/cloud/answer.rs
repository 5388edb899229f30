//! What an answer of the API means, and what of its words may be shown.
//!
//! A server's message is untrusted text: it is read up to a bound, freed of control characters and of secrets it may
//! repeat, and cut.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::error::{ApiFault, CloudError, Operation, RetryAfter};
use crate::json;
use crate::limits::{ERROR_BODY_BYTES, SERVER_MESSAGE_BYTES};
use crate::net::Response;

/// What a failed answer said.
pub(super) struct Said {
    pub(super) error_code: Option<i64>,
    pub(super) message: String,
}

/// Passes a success on and turns everything else into its error; `scrub` takes the secrets out of the server's words.
///
/// A 401 or 403 is [`CloudError::Refused`] here, on `/login` too: the caller knows what it means there.
pub(super) async fn judge(
    response: Response,
    operation: Operation,
    host: &str,
    scrub: impl Fn(String) -> String,
) -> Result<Response, CloudError> {
    let status = response.status;
    let protocol = |fault| Err(CloudError::Protocol { operation, host: host.to_owned(), fault });
    // CONTRACT section 1: any 2xx says that an upload was taken.
    if status == StatusCode::OK || (operation == Operation::PutResource && status.is_success()) {
        return Ok(response);
    }
    if status.is_redirection() {
        let location = location(&response.headers, &scrub);
        return protocol(ApiFault::Redirect { status: status.as_u16(), location });
    }
    if !status.is_client_error() && !status.is_server_error() {
        return protocol(ApiFault::Status(status.as_u16()));
    }
    let retry_after = retry_after(&response.headers);
    let Said { error_code, message } = said(response, &scrub).await;
    let status = status.as_u16();
    Err(match status {
        401 | 403 => CloudError::Refused { operation, status, message },
        _ => CloudError::Failed { operation, status, error_code, message, retry_after },
    })
}

/// Seconds as they are; anything else that stands there is a date, or as good as one.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    let value = headers.get(header::RETRY_AFTER)?;
    let seconds = value.to_str().ok().map(str::trim).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    Some(match seconds.map(str::parse) {
        Some(Ok(seconds)) => RetryAfter::Seconds(Duration::from_secs(seconds)),
        // More than 2^64 seconds, or no digit at all.
        Some(Err(_)) | None => RetryAfter::Date,
    })
}

/// Where a redirect leads, without query or fragment: they may carry a credential.
pub(super) fn location(headers: &HeaderMap, scrub: &impl Fn(String) -> String) -> String {
    let bytes = headers.get(header::LOCATION).map_or(&b""[..], |value| value.as_bytes());
    let end = bytes.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(bytes.len());
    shown(&scrub(String::from_utf8_lossy(&bytes[..end]).into_owned()))
}

/// Reads the message of a failure: `{"ErrorCode":…,"Message":…}`, else text. What cannot be read is no message.
async fn said(mut response: Response, scrub: &impl Fn(String) -> String) -> Said {
    let mut body = vec![0; ERROR_BODY_BYTES];
    let mut length = 0;
    while length < body.len() {
        // A body that is cut or late leaves what came before; the status stands in any case.
        match response.chunk(&mut body[length..]).await {
            Ok(0) | Err(_) => break,
            Ok(read) => length += read,
        }
    }
    let body = &body[..length];
    let (error_code, text) = if let Ok(object) = json::from_slice::<Map<String, Value>>(body, ERROR_BODY_BYTES) {
        let message = object.get("Message").and_then(Value::as_str).unwrap_or_default();
        (object.get("ErrorCode").and_then(Value::as_i64), message.to_owned())
    } else {
        let text = String::from_utf8_lossy(body);
        // A page of a proxy in between: markup tells nobody anything.
        (None, if text.trim_start().starts_with('<') { String::new() } else { text.into_owned() })
    };
    Said { error_code, message: shown(&scrub(text)) }
}

/// `text` with `secret` blotted out wherever it stands. One of less than four bytes would show by the holes it leaves
/// in words, so then the whole text goes.
pub(super) fn without(text: String, secret: &str) -> String {
    if secret.is_empty() || !text.contains(secret) {
        text
    } else if secret.len() < 4 {
        String::new()
    } else {
        text.replace(secret, "…")
    }
}

/// `text` as it may be shown: one line, no control or direction characters, at most [`SERVER_MESSAGE_BYTES`].
pub(super) fn shown(text: &str) -> String {
    let harmless = |c: char| if c.is_control() || is_direction(c) { ' ' } else { c };
    let line = text.chars().map(harmless).collect::<String>();
    let mut line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > SERVER_MESSAGE_BYTES {
        let end = line.floor_char_boundary(SERVER_MESSAGE_BYTES - '…'.len_utf8());
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Characters that turn the text after them round (Unicode Standard Annex 9, section 2), and line separators.
const fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_at_its_bound_and_at_a_character() {
        let fits = "x".repeat(SERVER_MESSAGE_BYTES);
        assert_eq!(shown(&fits), fits);
        assert_eq!(shown(&format!("{fits}x")).len(), SERVER_MESSAGE_BYTES);
        let cut = shown(&"ж".repeat(SERVER_MESSAGE_BYTES));
        assert!(cut.len() <= SERVER_MESSAGE_BYTES && cut.ends_with("ж…"), "{cut}");
    }

    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(shown("\u{1b}[31mred\r\n\0 line\u{202e}two\u{7f}"), "[31mred line two");
    }

    #[test]
    fn secrets_are_blotted_out() {
        assert_eq!(without("no hunter2 here, hunter2".into(), "hunter2"), "no … here, …");
        assert_eq!(without("a cat".into(), "a"), "");
        assert_eq!(without("a cat".into(), "b"), "a cat");
        assert_eq!(without("text".into(), ""), "text");
    }

    #[test]
    fn retry_after_is_seconds_or_as_good_as_a_date() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().expect("a value"));
            retry_after(&headers)
        };
        assert_eq!(retry_after(&HeaderMap::new()), None);
        assert_eq!(read("0"), Some(RetryAfter::Seconds(Duration::ZERO)));
        assert_eq!(read("121"), Some(RetryAfter::Seconds(Duration::from_secs(121))));
        for date in ["Fri, 31 Dec 1999 23:59:59 GMT", "99999999999999999999999", "-1", "+1", "1.5", ""] {
            assert_eq!(read(date), Some(RetryAfter::Date), "{date}");
        }
    }
}
