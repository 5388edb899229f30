//! Reading against servers that answer by a script.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use smol::future::{pending, poll_once};

use super::*;
use crate::cloud::RetryPolicy;
use crate::config;
use crate::error::{Code, Explain, Report};
use crate::limits::{CDN_ETAG_BYTES, CDN_PROGRESS_BYTES, CDN_SKIPPED_BYTES, CDN_TAIL_BYTES};
use crate::name::{Folder, ResourceName};
use crate::net::scripted::{Request, Server, client, race, run};
use crate::net::{Clock, Timeouts};
use crate::secret::SecretText;

pub(super) const POLICY: RetryPolicy = RetryPolicy {
    attempts: 4,
    total: Duration::from_mins(1),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(2),
};

/// Tue, 24 Nov 2026 00:00:00 GMT.
pub(super) const NOW: i64 = 1_795_478_400;

pub(super) fn settings(port: u16) -> CdnSettings {
    let text = |text: &str| Some(text.to_owned());
    let over = config::Cdn {
        host: Some(format!("http://127.0.0.1:{port}/s3")),
        region: None,
        downloader_access_key: text("AKDOWN"),
        downloader_access_secret: Some(SecretText::new("canary-down".into())),
        uploader_access_key: text("AKUP"),
        uploader_access_secret: Some(SecretText::new("canary-up".into())),
    };
    CdnSettings::from_yaml(None, &over).expect("complete")
}

pub(super) fn cdn(server: &Server) -> Cdn {
    let clock = CdnClock::manual(NOW, Clock::manual());
    Cdn::new(Rc::new(client()), settings(server.port()), clock).with_policy(POLICY)
}

pub(super) fn folder() -> Folder {
    Folder::new("models").expect("a folder")
}

pub(super) fn name() -> ResourceName {
    ResourceName::new("модель 1+%2F.onnx").expect("a name")
}

/// An answer after which the server closes.
pub(super) fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

pub(super) fn xml_error(status: u16, code: &str) -> String {
    answer(status, "", &format!("<Error><Code>{code}</Code><Message>what it says</Message></Error>"))
}

/// Serves `answers`, each on its own connection, and returns the requests.
pub(super) async fn script(server: &Server, answers: &[String]) -> Vec<Request> {
    let mut requests = Vec::new();
    for answer in answers {
        let (request, peer) = server.serve(answer).await;
        peer.close().await;
        requests.push(request);
    }
    requests
}

/// Makes `call`, which is answered with `answers`, all of which it must ask for, and nothing after them.
pub(super) fn with<T>(answers: &[String], call: impl AsyncFnOnce(Cdn) -> T) -> (T, Vec<Request>) {
    let server = Server::bind();
    let cdn = cdn(&server);
    run(
        async {
            let result = call(cdn).await;
            assert!(poll_once(server.accept()).await.is_none(), "one call too many");
            result
        },
        script(&server, answers),
    )
}

pub(super) fn field<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

const OBJECT: &str = "0123456789abcdef";
const TAG: &str = "\"tag\"";

/// The part `from..to` of an object of `size` bytes, all of them `OBJECT` over and over.
fn part(tag: &str, from: usize, to: usize, size: usize) -> String {
    let body: String = OBJECT.chars().cycle().skip(from).take(to - from).collect();
    answer(206, &format!("ETag: {tag}\r\nContent-Range: bytes {from}-{}/{size}\r\n", to - 1), &body)
}

async fn read_all(cdn: &Cdn, tag: &str, range: std::ops::Range<u64>) -> Result<String, CdnError> {
    let mut read = cdn.read(&folder(), &name(), tag, range).await?;
    let (mut all, mut some) = (Vec::new(), [0; 7]);
    loop {
        match read.chunk(&mut some).await? {
            0 => return Ok(String::from_utf8(all).expect("ascii")),
            n => all.extend_from_slice(&some[..n]),
        }
    }
}

fn read_with(answers: &[String]) -> (Result<String, CdnError>, Vec<Request>) {
    with(answers, async |cdn| read_all(&cdn, TAG, 2..12).await)
}

fn tail_with(answers: &[String]) -> (Result<Tail, CdnError>, Vec<Request>) {
    with(answers, async |cdn| cdn.tail(&folder(), &name(), 4).await)
}

fn ranges(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| field(request, "range").unwrap_or("-")).collect()
}

#[test]
fn a_read_is_signed_and_conditional() {
    let (read, requests) = read_with(&[part(TAG, 2, 12, 16)]);
    assert_eq!(read.expect("read"), &OBJECT[2..12]);
    let head = &requests[0].head;
    let path =
        "GET /s3/models/%D0%BC%D0%BE%D0%B4%D0%B5%D0%BB%D1%8C%201%2B%252F.onnx.big?X-Amz-Algorithm=AWS4-HMAC-SHA256";
    assert!(head.starts_with(path), "{head}");
    assert!(head.contains("X-Amz-Credential=AKDOWN%2F20261124%2Fus-east-1%2Fs3%2Faws4_request"), "{head}");
    assert!(head.contains("X-Amz-Date=20261124T000000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&"), "{head}");
    assert_eq!(field(&requests[0], "range"), Some("bytes=2-11"));
    assert_eq!((field(&requests[0], "if-match"), field(&requests[0], "if-range")), (Some(TAG), Some(TAG)));
    assert!(!head.contains("canary") && !head.contains("authorization"), "{head}");
}

#[test]
fn a_weak_tag_is_compared_here_and_nowhere_else() {
    let weak = "W/\"tag\"";
    let (read, requests) = with(&[part(weak, 2, 12, 16)], async |cdn| read_all(&cdn, weak, 2..12).await);
    assert_eq!(read.expect("read"), &OBJECT[2..12]);
    assert_eq!((field(&requests[0], "if-match"), field(&requests[0], "if-range")), (None, None));
}

#[test]
fn an_empty_range_asks_for_nothing() {
    for range in [0..0, 7..7] {
        let (read, requests) = with(&[], async |cdn| read_all(&cdn, TAG, range).await);
        assert_eq!((read.expect("nothing to read"), requests.len()), (String::new(), 0));
    }
}

#[test]
fn a_cut_answer_is_asked_for_again_from_where_it_ended() {
    let cut = |from: usize, to: usize| {
        let whole = part(TAG, from, 12, 16);
        whole[..whole.len() - (12 - to)].to_owned()
    };
    let (read, requests) = read_with(&[cut(2, 5), cut(5, 5), cut(5, 11), part(TAG, 11, 12, 16)]);
    assert_eq!(read.expect("read"), &OBJECT[2..12]);
    assert_eq!(ranges(&requests), ["bytes=2-11", "bytes=5-11", "bytes=5-11", "bytes=11-11"]);
}

#[test]
fn a_server_may_give_less_than_was_asked_for() {
    let (read, requests) = read_with(&[part(TAG, 2, 6, 16), part(TAG, 6, 12, 16)]);
    assert_eq!(read.expect("read"), &OBJECT[2..12]);
    assert_eq!(ranges(&requests), ["bytes=2-11", "bytes=6-11"]);
}

#[test]
fn cuts_without_progress_use_up_the_attempts() {
    let cut = part(TAG, 2, 12, 16);
    let cut = cut[..cut.len() - 10].to_owned();
    let (read, _) = read_with(&vec![cut; POLICY.attempts as usize]);
    let error = read.expect_err("no byte ever came");
    assert!(matches!(&error, CdnError::Net { .. }) && error.may_pass(), "{error:?}");
    assert_eq!(error.code(), Code::CdnUnreachable);
}

#[test]
fn progress_gives_the_attempts_back() {
    let piece = usize::try_from(CDN_PROGRESS_BYTES).expect("small");
    let rounds = 2 * POLICY.attempts as usize;
    let size = rounds * piece;
    let answers: Vec<_> = (0..rounds)
        .map(|round| {
            let whole = part(TAG, round * piece, size, size);
            let missing = size - (round + 1) * piece;
            whole[..whole.len() - missing].to_owned()
        })
        .collect();
    let (read, requests) = with(&answers, async |cdn| read_all(&cdn, TAG, 0..size as u64).await);
    assert_eq!(read.expect("read").len(), size);
    assert_eq!(requests.len(), rounds);
    // One byte less in each, and no attempt comes back.
    let answers: Vec<_> = (0..POLICY.attempts as usize)
        .map(|round| {
            let from = round * (piece - 1);
            let whole = part(TAG, from, size, size);
            whole[..whole.len() - (size - from - (piece - 1))].to_owned()
        })
        .collect();
    let (read, _) = with(&answers, async |cdn| read_all(&cdn, TAG, 0..size as u64).await);
    assert!(matches!(read, Err(CdnError::Net { .. })));
}

#[test]
fn another_object_is_never_joined() {
    let first = part(TAG, 2, 12, 16);
    let first = first[..first.len() - 5].to_owned();
    for second in [part("\"other\"", 7, 12, 16), answer(412, "", ""), answer(200, "ETag: \"other\"\r\n", OBJECT)] {
        let (read, requests) = read_with(&[first.clone(), second.clone()]);
        let error = read.expect_err("another object");
        assert!(matches!(error, CdnError::Changed), "{error:?}");
        assert_eq!(error.code(), Code::CdnChanged);
        assert_eq!(ranges(&requests), ["bytes=2-11", "bytes=7-11"]);
        let (read, _) = read_with(&[second]);
        assert!(matches!(read, Err(CdnError::Changed)));
    }
}

#[test]
fn ranges_that_were_not_asked_for_are_refused() {
    for (wrong, fault) in [
        (part(TAG, 1, 12, 16), CdnFault::Range),
        (part(TAG, 2, 13, 16), CdnFault::Range),
        (answer(206, "ETag: \"tag\"\r\n", "0123456789"), CdnFault::Range),
        (answer(206, "Content-Range: bytes 2-11/16\r\n", "0123456789"), CdnFault::Etag),
        (answer(204, "ETag: \"tag\"\r\n", ""), CdnFault::Status(204)),
        (answer(206, &format!("ETag: {}\r\n", "x".repeat(CDN_ETAG_BYTES + 1)), ""), CdnFault::Etag),
    ] {
        let (read, _) = read_with(&[wrong]);
        let error = read.expect_err("not what was asked for");
        assert!(matches!(&error, CdnError::Protocol { fault: seen, .. } if *seen == fault), "{error:?}");
        assert_eq!(error.code(), Code::CdnProtocol);
    }
    let long = "x".repeat(CDN_ETAG_BYTES);
    let (read, _) = with(&[part(&long, 0, 3, 3)], async |cdn| read_all(&cdn, &long, 0..3).await);
    assert_eq!(read.expect("at the bound"), "012");
}

#[test]
fn a_server_without_ranges_is_read_over_up_to_a_bound() {
    let whole = answer(200, "ETag: \"tag\"\r\n", OBJECT);
    let (read, _) = read_with(&[whole]);
    assert_eq!(read.expect("read"), &OBJECT[2..12]);
    let far = CDN_SKIPPED_BYTES;
    let (read, _) =
        with(&[answer(200, "ETag: \"tag\"\r\n", OBJECT)], async |cdn| read_all(&cdn, TAG, far + 1..far + 2).await);
    assert!(matches!(read, Err(CdnError::Protocol { fault: CdnFault::RangesIgnored, .. })));
    let body = "x".repeat(usize::try_from(far).expect("8 MiB")) + "y";
    let (read, _) =
        with(&[answer(200, "ETag: \"tag\"\r\n", &body)], async |cdn| read_all(&cdn, TAG, far..far + 1).await);
    assert_eq!(read.expect("at the bound"), "y");
}

#[test]
fn what_passes_is_asked_for_again() {
    for busy in [
        xml_error(503, "SlowDown"),
        xml_error(500, "InternalError"),
        xml_error(400, "RequestTimeout"),
        answer(502, "", "<html>"),
        answer(504, "", ""),
        answer(429, "Retry-After: 0\r\n", ""),
        String::new(),
    ] {
        let (read, requests) = read_with(&[busy.clone(), busy.clone(), part(TAG, 2, 12, 16)]);
        assert_eq!(read.expect("read"), &OBJECT[2..12]);
        assert_eq!(requests.len(), 3);
        let (read, _) = read_with(&vec![busy; POLICY.attempts as usize]);
        assert!(read.expect_err("busy for ever").may_pass());
    }
    let (read, _) = read_with(&[answer(503, "Retry-After: 61\r\n", "")]);
    assert_eq!(read.expect_err("beyond the budget").next_step(), "wait 61 s, then try again");
}

#[test]
fn what_is_final_is_told_at_once() {
    for (last, code) in [
        (xml_error(404, "NoSuchKey"), Code::ResourceDamaged),
        (xml_error(404, "NoSuchBucket"), Code::ResourceDamaged),
        (xml_error(403, "AccessDenied"), Code::CdnRefused),
        (xml_error(403, "SignatureDoesNotMatch"), Code::CdnRefused),
        (xml_error(400, "InvalidArgument"), Code::CdnFailed),
        (xml_error(416, "InvalidRange"), Code::CdnFailed),
        (xml_error(501, "NotImplemented"), Code::CdnFailed),
        (answer(307, "Location: http://elsewhere/x?X-Amz-Signature=canary\r\n", ""), Code::CdnProtocol),
    ] {
        let (read, requests) = read_with(&[last]);
        let report = Report::of(&read.expect_err("final"));
        assert_eq!((report.code, requests.len()), (code, 1), "{}", report.message);
        assert!(!report.message.contains("canary") && !report.message.contains("X-Amz"), "{}", report.message);
    }
}

#[test]
fn no_secret_and_no_url_stands_in_any_error() {
    let echo = "<Error><Code>canary-down</Code><Message>is canary-down or canary-up yours?</Message></Error>";
    for status in [400, 403, 404, 500] {
        let (read, _) = read_with(&vec![answer(status, "", echo); if status == 500 { 4 } else { 1 }]);
        let error = read.expect_err("failed");
        let shown = format!("{error:?} {} {}", Report::of(&error).message, Report::of(&error).next);
        assert!(!shown.contains("canary") && !shown.contains("X-Amz"), "{shown}");
    }
}

const SKEWED: &str = "Date: Tue, 24 Nov 2026 05:00:00 GMT\r\n";

#[test]
fn a_wrong_clock_is_set_by_the_server_s_once() {
    let skewed = answer(403, SKEWED, "<Error><Code>RequestTimeTooSkewed</Code></Error>");
    let (read, requests) = read_with(&[skewed.clone(), part(TAG, 2, 12, 16)]);
    assert_eq!(read.expect("read"), &OBJECT[2..12]);
    assert!(requests[0].head.contains("X-Amz-Date=20261124T000000Z"));
    assert!(requests[1].head.contains("X-Amz-Date=20261124T050000Z"));
    // By the server's own time the same refusal is one of the keys.
    let (read, requests) = read_with(&[skewed.clone(), skewed.clone()]);
    assert!(matches!(read, Err(CdnError::Refused { .. })));
    assert_eq!(requests.len(), 2);
    // A server whose time runs away is not run after.
    let later = skewed.replace("05:00:00", "09:00:00");
    let (read, requests) = read_with(&[skewed, later]);
    assert!(matches!(read, Err(CdnError::Refused { .. })));
    assert_eq!(requests.len(), 2);
}

#[test]
fn a_refusal_at_our_own_time_is_one() {
    let near = answer(403, "Date: Tue, 24 Nov 2026 00:01:00 GMT\r\n", "<Error><Code>AccessDenied</Code></Error>");
    let (read, requests) = read_with(&[near]);
    assert!(matches!(read, Err(CdnError::Refused { code, .. }) if code == "AccessDenied"));
    assert_eq!(requests.len(), 1);
}

#[test]
fn a_corrected_clock_is_shared() {
    let server = Server::bind();
    let clock = CdnClock::manual(0, Clock::manual());
    let make = || Cdn::new(Rc::new(client()), settings(server.port()), clock.clone()).with_policy(POLICY);
    let (first, second) = (make(), make());
    let answers = [answer(403, SKEWED, ""), part(TAG, 0, 3, 3), part(TAG, 0, 3, 3)];
    let ((), requests) = run(
        async {
            read_all(&first, TAG, 0..3).await.expect("corrected");
            read_all(&second, TAG, 0..3).await.expect("knows it already");
        },
        script(&server, &answers),
    );
    assert!(requests[2].head.contains("X-Amz-Date=20261124T050000Z"));
}

#[test]
fn retries_are_watched() {
    let server = Server::bind();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&seen);
    let cdn = cdn(&server).with_observer(move |retry| noted.borrow_mut().push(retry.clone()));
    let answers = [xml_error(503, "SlowDown"), part(TAG, 0, 3, 3)];
    let (read, _) = run(read_all(&cdn, TAG, 0..3), script(&server, &answers));
    assert!(read.is_ok());
    let seen = seen.borrow();
    assert_eq!((seen.len(), seen[0].attempt, seen[0].operation), (1, 1, CdnOperation::Read));
    assert_eq!(seen[0].cause.code, Code::CdnFailed);
}

#[test]
fn silence_is_a_time_out() {
    let server = Server::bind();
    let timeouts = Timeouts { headers: Duration::from_millis(20), ..Timeouts::default() };
    let cdn = cdn(&server).with_timeouts(timeouts);
    let error = race(read_all(&cdn, TAG, 0..3), async {
        let mut open = Vec::new();
        loop {
            open.push(server.accept().await);
        }
    });
    assert_eq!(error.expect_err("silent").code(), Code::CdnTimeout);
}

#[test]
fn a_connection_is_used_again_when_its_range_ended() {
    let server = Server::bind();
    let cdn = cdn(&server);
    let keep = |text: String| text.replace("Connection: close\r\n", "");
    race(
        async {
            read_all(&cdn, TAG, 0..3).await.expect("read");
            read_all(&cdn, TAG, 0..3).await.expect("read again");
        },
        async {
            let mut peer = server.accept().await;
            for _ in 0..2 {
                peer.request().await;
                peer.say(&keep(part(TAG, 0, 3, 16))).await;
            }
            pending::<()>().await;
        },
    );
}

#[test]
fn the_tail_is_one_request() {
    let (tail, requests) = tail_with(&[part(TAG, 12, 16, 16)]);
    assert_eq!(tail.expect("a tail"), Tail { size: 16, etag: TAG.into(), bytes: b"cdef".to_vec(), mark: None });
    assert_eq!(ranges(&requests), ["bytes=-4"]);
    // A shorter object is its own tail, sent as a part or as a whole.
    for short in [part(TAG, 0, 3, 3), answer(200, "ETag: \"tag\"\r\n", "012")] {
        let (tail, _) = tail_with(&[short]);
        assert_eq!(tail.expect("a tail"), Tail { size: 3, etag: TAG.into(), bytes: b"012".to_vec(), mark: None });
    }
}

#[test]
fn a_server_without_ranges_from_the_end_is_asked_twice_more() {
    let head = "HTTP/1.1 200 X\r\nConnection: close\r\nETag: \"tag\"\r\nContent-Length: 16\r\n\r\n".to_owned();
    for first in [
        answer(200, "ETag: \"tag\"\r\n", OBJECT),
        part(TAG, 0, 4, 16),
        part(TAG, 12, 16, 16).replace("/16", "/*"),
        xml_error(416, "InvalidRange"),
        xml_error(501, "NotImplemented"),
    ] {
        let (tail, requests) = tail_with(&[first, head.clone(), part(TAG, 12, 16, 16)]);
        assert_eq!(tail.expect("a tail").bytes, b"cdef");
        assert!(requests[1].head.starts_with("HEAD "), "{}", requests[1].head);
        assert_eq!(ranges(&requests), ["bytes=-4", "-", "bytes=12-15"]);
    }
}

#[test]
fn an_empty_object_has_an_empty_tail() {
    let head = "HTTP/1.1 200 X\r\nConnection: close\r\nETag: \"tag\"\r\nContent-Length: 0\r\n\r\n".to_owned();
    let (tail, _) = tail_with(&[xml_error(416, "InvalidRange"), head]);
    assert_eq!(tail.expect("a tail"), Tail { size: 0, etag: TAG.into(), bytes: Vec::new(), mark: None });
}

#[test]
fn a_tail_that_is_cut_is_asked_for_again_and_its_length_has_a_bound() {
    let cut = part(TAG, 12, 16, 16);
    let cut = cut[..cut.len() - 1].to_owned();
    let (tail, requests) = tail_with(&[cut, part(TAG, 12, 16, 16)]);
    assert_eq!((tail.expect("a tail").bytes.as_slice(), requests.len()), (&b"cdef"[..], 2));
    let size = usize::try_from(CDN_TAIL_BYTES).expect("small");
    let (tail, requests) =
        with(&[part(TAG, 1, size + 1, size + 1)], async |cdn| cdn.tail(&folder(), &name(), u64::MAX).await);
    assert_eq!((tail.expect("a tail").bytes.len(), ranges(&requests)[0]), (size, "bytes=-2097184"));
}

#[test]
fn a_look_tells_size_and_tag_or_that_there_is_none() {
    let head = "HTTP/1.1 200 X\r\nConnection: close\r\nETag: \"tag\"\r\nContent-Length: 5000000000\r\n\r\n".to_owned();
    let look = |answers: &[String]| with(answers, async |cdn| cdn.confirm(&folder(), &name()).await);
    let (found, requests) = look(&[head]);
    assert_eq!(found.expect("an answer"), Some((5_000_000_000, TAG.to_owned())));
    assert!(requests[0].head.starts_with("HEAD /s3/models/"), "{}", requests[0].head);
    let (found, _) = look(&["HTTP/1.1 404 X\r\nConnection: close\r\n\r\n".to_owned()]);
    assert_eq!(found.expect("an answer"), None);
    let (found, _) = look(&["HTTP/1.1 200 X\r\nConnection: close\r\nETag: \"tag\"\r\n\r\n".to_owned()]);
    assert!(matches!(found, Err(CdnError::Protocol { fault: CdnFault::Length, .. })));
}

#[test]
fn without_a_folder_the_bucket_is_the_default() {
    let none = Folder::default();
    let plain = ResourceName::new("..a").expect("a name");
    let (_, requests) = with(&[part(TAG, 0, 4, 4)], async |cdn| cdn.tail(&none, &plain, 4).await.expect("a tail"));
    assert!(requests[0].head.starts_with("GET /s3/default/..a.big?"), "{}", requests[0].head);
}
