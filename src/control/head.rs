//! The request head: found in the bytes as they arrive, checked raw, then read with `httparse`.
//!
//! RFC 9112 lets a recipient be lenient in many places; whatever two recipients may read in two ways is refused here:
//! bare CR or LF, folded lines, two lengths, a length beside a coding, a second `Host`. One empty line before the
//! request line is skipped (RFC 9112 section 2.2). This module does no I/O.

use http::Method;

use super::authority::Authority;
use super::refusal::Refusal;
use super::target::Target;
use crate::limits::{CLIENT_HEAD_BYTES, REQUEST_HEADERS, REQUEST_LINE_BYTES};
use crate::secret::SecretText;

/// A request head, taken apart.
#[expect(clippy::struct_excessive_bools, reason = "each is one fact that a client states or does not")]
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) target: Target,
    /// Absent in HTTP/1.0 only.
    pub(super) host: Option<Authority>,
    pub(super) framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// The client wants the connection closed after the answer, or is HTTP/1.0.
    pub(super) closing: bool,
    /// HTTP/1.0: a body without a known length cannot be sent to this client.
    pub(super) old: bool,
    /// The head says how long the body is, be it 0. Without, there is none.
    pub(super) announces_body: bool,
    /// The body is only a part of something.
    pub(super) is_partial: bool,
    pub(super) authorization: Option<SecretText>,
    pub(super) content_type: Option<String>,
    pub(super) accept: Option<String>,
    /// The event that a browser's `EventSource` saw last; what is no number means nothing here.
    pub(super) last_event: Option<u64>,
    pub(super) origin: Option<String>,
    pub(super) fetch_site: Option<String>,
}

/// How the body ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes; 0 when there is no body.
    Length(u64),
    /// With its last chunk.
    Chunked,
}

/// Looks for the end of a head, and at every byte only once.
#[derive(Debug, Default)]
pub(super) struct Scan {
    seen: usize,
    line_start: usize,
    /// Where the request line starts: 0, or 2 after an empty line.
    first: usize,
    previous: u8,
}

impl Scan {
    /// Bytes looked at: once the head is whole, what it takes up, the empty line before it included.
    pub(super) const fn seen(&self) -> usize {
        self.seen
    }

    /// Takes note of what has arrived since; `arrived` starts where the head starts. Returns the head when it is whole.
    ///
    /// # Errors
    /// As soon as a byte stands where none such may stand, or a bound is passed.
    pub(super) fn advance<'a>(&mut self, arrived: &'a [u8]) -> Result<Option<&'a [u8]>, Refusal> {
        while let Some(&byte) = arrived.get(self.seen) {
            let at = self.seen;
            self.seen += 1;
            let previous = std::mem::replace(&mut self.previous, byte);
            if previous == b'\r' && byte != b'\n' {
                return Err(Refusal::Malformed("a carriage return alone"));
            }
            match byte {
                b'\n' if previous != b'\r' => return Err(Refusal::Malformed("a line feed alone")),
                b'\n' => {
                    let empty = at == self.line_start + 1;
                    let first_line = self.line_start == self.first;
                    self.line_start = self.seen;
                    match (empty, first_line) {
                        (true, true) if self.first == 0 => self.first = self.seen,
                        (true, true) => return Err(Refusal::Malformed("empty lines before the request")),
                        (true, false) => return Ok(Some(&arrived[self.first..self.seen])),
                        (false, _) => {}
                    }
                }
                b'\r' | b'\t' => {}
                0..=0x1f | 0x7f => return Err(Refusal::Malformed("a control character in the head")),
                _ => {}
            }
            if self.line_start == self.first && self.seen - self.first > REQUEST_LINE_BYTES + usize::from(byte == b'\r')
            {
                return Err(Refusal::LineTooLong);
            }
            if self.seen - self.first >= CLIENT_HEAD_BYTES {
                // The head's last byte returned above, so at this length it is not whole.
                return Err(Refusal::HeadTooLong);
            }
        }
        Ok(None)
    }
}

impl Head {
    /// Reads a whole head, from its request line to its empty line, as [`Scan`] found it.
    ///
    /// # Errors
    /// [`Refusal`] tells the first fault.
    pub(super) fn parse(head: &[u8]) -> Result<Self, Refusal> {
        let line_end = head.iter().position(|&byte| byte == b'\r').ok_or(Refusal::Malformed("no request line"))?;
        let (method, target, old) = request_line(&head[..line_end])?;
        let rest = head.get(line_end + 2..).unwrap_or_default();

        let mut room = [httparse::EMPTY_HEADER; REQUEST_HEADERS];
        let fields = match httparse::parse_headers(rest, &mut room) {
            Ok(httparse::Status::Complete((_, fields))) => fields,
            Ok(httparse::Status::Partial) => return Err(Refusal::Malformed("the head is cut")),
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLong),
            Err(_) => return Err(Refusal::Malformed("a header line is none")),
        };
        let known = Known::collect(fields)?;
        let target = Target::parse(&method, target).map_err(Refusal::Malformed)?;
        Ok(Self {
            host: host(&known, &target, old)?,
            framing: framing(&known, old)?,
            // RFC 9110 section 10.1.1: an HTTP/1.0 client's expectation is ignored.
            expects_continue: match known.expect {
                Some(expect) if expect.eq_ignore_ascii_case(b"100-continue") => !old,
                Some(_) => return Err(Refusal::Expectation),
                None => false,
            },
            closing: old || known.close,
            old,
            announces_body: known.length.is_some() || known.coding.is_some(),
            is_partial: known.range.is_some(),
            authorization: text(known.authorization)?.map(SecretText::new),
            content_type: text(known.content_type)?,
            accept: text(known.accept)?,
            last_event: known.last_event.and_then(|id| str::from_utf8(id).ok()?.parse().ok()),
            origin: text(known.origin)?,
            fetch_site: text(known.fetch_site)?,
            method,
            target,
        })
    }
}

/// Method, target, and whether the version is HTTP/1.0.
fn request_line(line: &[u8]) -> Result<(Method, &[u8], bool), Refusal> {
    const FORM: Refusal = Refusal::Malformed("the request line is not method, target and version");
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(FORM);
    };
    let old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Refusal::Version);
        }
        _ => return Err(FORM),
    };
    Ok((Method::from_bytes(method).map_err(|_| FORM)?, target, old))
}

/// The fields that mean something here, as they stand.
#[derive(Default)]
struct Known<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    expect: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    accept: Option<&'a [u8]>,
    last_event: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    fetch_site: Option<&'a [u8]>,
    range: Option<&'a [u8]>,
    close: bool,
}

impl<'a> Known<'a> {
    fn collect(fields: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut known = Self::default();
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            let place = if is("host") {
                &mut known.host
            } else if is("content-length") {
                &mut known.length
            } else if is("transfer-encoding") {
                &mut known.coding
            } else if is("expect") {
                &mut known.expect
            } else if is("authorization") {
                &mut known.authorization
            } else if is("content-type") {
                &mut known.content_type
            } else if is("origin") {
                &mut known.origin
            } else if is("sec-fetch-site") {
                &mut known.fetch_site
            } else if is("content-range") {
                &mut known.range
            } else if is("connection") {
                known.close |= field
                    .value
                    .split(|&byte| byte == b',')
                    .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
                continue;
            } else if is("accept") {
                // A list that may be split over fields; the first says enough about a taste.
                known.accept.get_or_insert(field.value);
                continue;
            } else if is("last-event-id") {
                &mut known.last_event
            } else {
                continue;
            };
            if place.replace(field.value).is_some() {
                return Err(Refusal::Malformed("a header that may stand once stands twice"));
            }
        }
        Ok(known)
    }
}

fn text(value: Option<&[u8]>) -> Result<Option<String>, Refusal> {
    value
        .map(|bytes| str::from_utf8(bytes).map(str::to_owned).map_err(|_| Refusal::Malformed("a header is not UTF-8")))
        .transpose()
}

fn host(known: &Known<'_>, target: &Target, old: bool) -> Result<Option<Authority>, Refusal> {
    let Some(value) = known.host else {
        return if old { Ok(target.authority.clone()) } else { Err(Refusal::Malformed("there is no Host header")) };
    };
    let host = str::from_utf8(value).ok().and_then(Authority::parse).ok_or(Refusal::Malformed("Host is no host"))?;
    match &target.authority {
        // RFC 9112 section 3.2 wants them equal; whoever reads the other one would judge another request.
        Some(authority) if !authority.same_place(&host, 80) => Err(Refusal::Malformed("Host and target differ")),
        Some(_) | None => Ok(Some(host)),
    }
}

fn framing(known: &Known<'_>, old: bool) -> Result<Framing, Refusal> {
    match (known.length, known.coding) {
        (Some(_), Some(_)) => Err(Refusal::Malformed("a length beside a transfer coding")),
        (None, None) => Ok(Framing::Length(0)),
        (Some(digits), None) => {
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return Err(Refusal::Malformed("Content-Length is not a number"));
            }
            // A number past u64 is a length all the same; it will be found too long.
            let length = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX);
            Ok(Framing::Length(length))
        }
        // RFC 9112 section 6.1: the framing of such a message is faulty.
        (None, Some(_)) if old => Err(Refusal::Malformed("a transfer coding in HTTP/1.0")),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (None, Some(coding)) => {
            let mut codings = coding.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).rev();
            let last_is_chunked = codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
            if last_is_chunked && !codings.any(|other| other.is_empty() || other.eq_ignore_ascii_case(b"chunked")) {
                Err(Refusal::Coding)
            } else {
                Err(Refusal::Malformed("Transfer-Encoding does not end in one chunked"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
