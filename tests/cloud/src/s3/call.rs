//! What a call of S3 is, and the record of them.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderMap, IF_MATCH, IF_RANGE, RANGE};
use hyper::http::request::Parts;
use tokio::sync::watch;

use crate::fault::Place;
use crate::lock;

/// A call of S3; faults and records are kept by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum S3Route {
    /// The handshake, before any call; see [`crate::Route::Handshake`].
    Handshake,
    /// `GetObject`, ranged or not.
    Get,
    /// `HeadObject`.
    Head,
    /// `PutObject`.
    Put,
    /// `CreateMultipartUpload`.
    Begin,
    /// `UploadPart`.
    Part,
    /// `CompleteMultipartUpload`.
    Complete,
    /// `AbortMultipartUpload`.
    Abort,
    /// Everything else.
    Other,
}

impl S3Route {
    /// Every route that is a call, for loops over all of them.
    pub const CALLS: [Self; 8] =
        [Self::Get, Self::Head, Self::Put, Self::Begin, Self::Part, Self::Complete, Self::Abort, Self::Other];
}

impl Place for S3Route {
    const HANDSHAKE: Self = Self::Handshake;
    const OBJECTS: bool = true;
    const CUT_WITHIN: u64 = 256 << 10;
}

/// One call, recorded when its head has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Call {
    /// Which call it was.
    pub route: S3Route,
    /// The bucket; empty if none was named.
    pub bucket: String,
    /// The key, percent-decoded; empty if none was named.
    pub key: String,
    /// Whose signature it claims to be.
    pub access_key: Option<String>,
    /// `Range` as sent.
    pub range: Option<String>,
    /// `If-Range`, else `If-Match`, as sent.
    pub condition: Option<String>,
    /// The number of the part.
    pub part: Option<u32>,
    /// The multipart upload.
    pub upload_id: Option<String>,
    /// Bytes of the request's body so far.
    pub bytes_in: u64,
    /// Bytes of the answer's body handed to the connection so far.
    pub bytes_out: u64,
    /// The status that was answered; `None` while undecided, and for faults that answer none.
    pub status: Option<u16>,
    /// When its head had come in.
    pub at: Instant,
}

impl S3Call {
    pub(crate) fn of(head: &Parts) -> Self {
        let path = decoded(head.uri.path().trim_start_matches('/'));
        let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
        let query = head.uri.query().unwrap_or_default();
        let value = |name: &str| {
            let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs.into_iter().find(|(found, _)| *found == name).map(|(_, value)| decoded(value))
        };
        let upload_id = value("uploadId");
        let part = value("partNumber").and_then(|number| number.parse().ok());
        let route = match (&head.method, key.is_empty(), upload_id.is_some()) {
            (&Method::GET, false, false) => S3Route::Get,
            (&Method::HEAD, false, false) => S3Route::Head,
            (&Method::PUT, false, false) => S3Route::Put,
            (&Method::PUT, false, true) => S3Route::Part,
            (&Method::POST, false, true) => S3Route::Complete,
            (&Method::DELETE, false, true) => S3Route::Abort,
            (&Method::POST, false, false) if value("uploads").is_some() => S3Route::Begin,
            _ => S3Route::Other,
        };
        Self {
            route,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            access_key: value("X-Amz-Credential").or_else(|| in_header(&head.headers)).map(|scope| {
                // A key without its scope of date, region and service.
                scope.split('/').next().unwrap_or_default().to_owned()
            }),
            range: text(&head.headers, RANGE),
            condition: text(&head.headers, IF_RANGE).or_else(|| text(&head.headers, IF_MATCH)),
            part,
            upload_id,
            bytes_in: 0,
            bytes_out: 0,
            status: None,
            at: Instant::now(),
        }
    }

    /// Whether it was answered with bytes of an object.
    pub fn is_download(&self) -> bool {
        self.route == S3Route::Get && matches!(self.status, Some(200 | 206))
    }
}

fn in_header(headers: &HeaderMap) -> Option<String> {
    let value = text(headers, AUTHORIZATION)?;
    value.split_once("Credential=").map(|(_, scope)| scope.to_owned())
}

fn text(headers: &HeaderMap, name: hyper::header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
}

/// Percent-decoding; what is no escape stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        if let Some(byte) = escape.filter(|_| *first == b'%') {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// All calls so far. That something changed is watched apart, so that a waiter need not poll.
pub(crate) struct Record {
    calls: Mutex<Vec<S3Call>>,
    changed: watch::Sender<()>,
}

/// A call in its record.
#[derive(Clone)]
pub(crate) struct Line {
    record: Arc<Record>,
    number: usize,
}

impl Line {
    pub(crate) fn change(&self, change: impl FnOnce(&mut S3Call)) {
        change(&mut lock(&self.record.calls)[self.number]);
        self.record.changed.send_replace(());
    }
}

impl Record {
    pub(crate) fn new() -> Self {
        Self { calls: Mutex::new(Vec::new()), changed: watch::Sender::new(()) }
    }

    pub(crate) fn arrived(self: &Arc<Self>, call: S3Call) -> Line {
        let mut calls = lock(&self.calls);
        calls.push(call);
        let number = calls.len() - 1;
        drop(calls);
        self.changed.send_replace(());
        Line { record: Arc::clone(self), number }
    }

    pub(crate) fn all(&self) -> Vec<S3Call> {
        lock(&self.calls).clone()
    }

    /// Done when the calls fulfil this.
    pub(crate) async fn reached(&self, mut fulfils: impl FnMut(&[S3Call]) -> bool) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = self.changed.subscribe().wait_for(|()| fulfils(&lock(&self.calls))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &Method, uri: &str) -> S3Call {
        let request = hyper::Request::builder().method(method).uri(uri).body(()).expect("a request");
        S3Call::of(&request.into_parts().0)
    }

    #[test]
    fn routes_are_told_by_method_and_query() {
        for (method, uri, route) in [
            (Method::GET, "/models/a.big?X-Amz-Expires=60", S3Route::Get),
            (Method::HEAD, "/models/a.big", S3Route::Head),
            (Method::PUT, "/models/a.big", S3Route::Put),
            (Method::PUT, "/models/a.big?partNumber=3&uploadId=u", S3Route::Part),
            (Method::POST, "/models/a.big?uploads=", S3Route::Begin),
            (Method::POST, "/models/a.big?uploads", S3Route::Begin),
            (Method::POST, "/models/a.big?uploadId=u", S3Route::Complete),
            (Method::DELETE, "/models/a.big?uploadId=u", S3Route::Abort),
            (Method::DELETE, "/models/a.big", S3Route::Other),
            (Method::GET, "/models?list-type=2", S3Route::Other),
        ] {
            assert_eq!(call(&method, uri).route, route, "{method} {uri}");
        }
    }

    #[test]
    fn names_are_decoded() {
        let call = call(&Method::PUT, "/m/%C3%BC%20%2B+%25.big?partNumber=7&uploadId=a%2Fb&X-Amz-Credential=K%2F2026");
        assert_eq!((call.bucket.as_str(), call.key.as_str()), ("m", "ü ++%.big"));
        assert_eq!((call.part, call.upload_id.as_deref()), (Some(7), Some("a/b")));
        assert_eq!(call.access_key.as_deref(), Some("K"));
    }
}
