//! Writing against servers that answer by a script.

use std::cell::Cell;
use std::rc::Rc;
use std::{error, fmt};

use smol::future::{pending, yield_now};

use super::tests::{POLICY, answer, cdn, field, folder, name, with, xml_error};
use super::*;
use crate::config;
use crate::error::{Code, Explain};
use crate::limits::{CDN_MARK_BYTES, CDN_PARTS, CDN_UPLOAD_ID_BYTES};
use crate::net::scripted::{Request, Server, client, race, run};
use crate::net::{BodySource, Bytes};
use crate::secret::SecretText;

const TAG: &str = "\"tag\"";
const MARK: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A body of `size` bytes made as it goes, as one from flash is.
struct Pieces {
    size: u64,
    given: u64,
    buffer: Vec<u8>,
    /// Fails when this many bytes were given.
    fails_at: Option<u64>,
    rewinds: Option<Rc<Cell<u32>>>,
}

#[derive(Debug)]
struct FlashGone;

impl fmt::Display for FlashGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("flash is gone")
    }
}

impl error::Error for FlashGone {}

impl Pieces {
    fn new(size: u64) -> Self {
        Self { size, given: 0, buffer: vec![b'x'; 64 * 1024], fails_at: None, rewinds: Some(Rc::default()) }
    }
}

impl BodySource for Pieces {
    type Error = FlashGone;

    fn length(&self) -> Option<u64> {
        Some(self.size)
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, FlashGone> {
        yield_now().await;
        if self.fails_at.is_some_and(|at| self.given >= at) {
            return Err(FlashGone);
        }
        let left = usize::try_from(self.size - self.given).unwrap_or(usize::MAX).min(self.buffer.len());
        self.given += left as u64;
        Ok((left > 0).then(|| &self.buffer[..left]))
    }

    fn rewind(&mut self) -> bool {
        self.given = 0;
        self.rewinds.as_ref().inspect(|rewinds| rewinds.set(rewinds.get() + 1)).is_some()
    }
}

fn stored() -> String {
    answer(200, "ETag: \"tag\"\r\n", "")
}

fn line(request: &Request) -> &str {
    request.head.split(" HTTP/").next().expect("a request line")
}

fn put_with(answers: &[String]) -> (Result<String, PutError<FlashGone>>, Vec<Request>) {
    with(answers, async |cdn| cdn.put(&folder(), &name(), Pieces::new(100_000)).await)
}

#[test]
fn a_put_is_signed_by_the_uploader_and_sent_whole() {
    let (put, requests) = put_with(&[stored()]);
    assert_eq!(put.expect("stored"), TAG);
    assert!(line(&requests[0]).starts_with("PUT /s3/models/"), "{}", requests[0].head);
    assert!(requests[0].head.contains("X-Amz-Credential=AKUP%2F"), "{}", requests[0].head);
    assert_eq!((field(&requests[0], "content-length"), requests[0].body.len()), (Some("100000"), 100_000));
}

#[test]
fn what_passes_is_put_again_from_the_beginning() {
    let skewed = answer(403, "Date: Tue, 24 Nov 2026 05:00:00 GMT\r\n", "");
    let (put, requests) = put_with(&[xml_error(503, "SlowDown"), String::new(), skewed, stored()]);
    assert_eq!(put.expect("stored"), TAG);
    assert!(requests.iter().all(|request| request.body.len() == 100_000));
    assert!(requests[3].head.contains("X-Amz-Date=20261124T050000Z"));
}

#[test]
fn a_body_that_cannot_go_back_is_put_once() {
    let skewed = answer(403, "Date: Tue, 24 Nov 2026 05:00:00 GMT\r\n", "<Error><Code>X</Code></Error>");
    for (answer, status) in [(xml_error(503, "SlowDown"), 503), (skewed, 403)] {
        let (put, requests) =
            with(&[answer], async |cdn| cdn.put(&folder(), &name(), Pieces { rewinds: None, ..Pieces::new(5) }).await);
        let told = match put.expect_err("once") {
            PutError::Cdn(CdnError::Failed { status, .. } | CdnError::Refused { status, .. }) => status,
            other => panic!("{other:?}"),
        };
        assert_eq!((told, requests.len()), (status, 1));
    }
}

#[test]
fn a_source_that_fails_is_told_and_the_body_never_ended() {
    let server = Server::bind();
    let cdn = cdn(&server);
    let body = Pieces { fails_at: Some(65536), ..Pieces::new(100_000) };
    let (put, seen) = run(cdn.put(&folder(), &name(), body), async {
        let mut peer = server.accept().await;
        peer.head().await;
        peer.until_closed().await.len()
    });
    assert!(matches!(put, Err(PutError::Source(FlashGone))));
    assert!(seen < 100_000, "{seen}");
}

/// An answer that comes while the body is still being sent, whether or not the server then closes.
#[test]
fn a_refusal_before_the_body_s_end_is_read() {
    let refusal = xml_error(403, "AccessDenied");
    for closes in [true, false] {
        let server = Server::bind();
        let cdn = cdn(&server);
        let put = race(cdn.put_part(&folder(), &name(), "id", 1, Pieces::new(1 << 30)), async {
            let mut peer = server.accept().await;
            peer.head().await;
            peer.exactly(100_000).await;
            peer.say(&refusal).await;
            if closes {
                peer.close().await;
            } else {
                pending::<()>().await;
            }
        });
        match put.expect_err("refused") {
            PutError::Cdn(CdnError::Refused { status: 403, code, .. }) => assert_eq!(code, "AccessDenied"),
            other => panic!("closes {closes}: {other:?}"),
        }
    }
}

#[test]
fn a_success_before_the_body_s_end_is_none() {
    let server = Server::bind();
    let cdn = cdn(&server);
    let put = race(cdn.put(&folder(), &name(), Pieces::new(1 << 30)), async {
        let mut peer = server.accept().await;
        peer.head().await;
        peer.say(&stored()).await;
        pending::<()>().await;
    });
    assert!(matches!(put, Err(PutError::Cdn(CdnError::Protocol { fault: CdnFault::Early, .. }))));
}

#[test]
fn an_answer_without_a_tag_is_refused() {
    let (put, _) = put_with(&[answer(200, "", "")]);
    assert!(matches!(put, Err(PutError::Cdn(CdnError::Protocol { fault: CdnFault::Etag, .. }))));
}

#[test]
fn without_uploader_keys_nothing_is_asked() {
    let server = Server::bind();
    let over = config::Cdn {
        host: Some(format!("http://127.0.0.1:{}", server.port())),
        downloader_access_key: Some("A".into()),
        downloader_access_secret: Some(SecretText::new("s".into())),
        ..config::Cdn::default()
    };
    let settings = CdnSettings::from_yaml(None, &over).expect("enough to read");
    let cdn = Cdn::new(Rc::new(client()), settings, CdnClock::system()).with_policy(POLICY);
    let (put, ()) = run(cdn.put(&folder(), &name(), Bytes::new(b"x")), async {});
    let error = CdnError::from(put.expect_err("no keys"));
    assert_eq!(error.code(), Code::CdnSettings);
    assert!(error.next_step().contains("uploader_access_key"), "{}", error.next_step());
}

fn begun(id: &str) -> String {
    answer(
        200,
        "",
        &format!(
            "<?xml version=\"1.0\"?><InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Bucket>b</Bucket><Key>k</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ),
    )
}

fn begin_with(mark: &str, answers: &[String]) -> (Result<String, CdnError>, Vec<Request>) {
    with(answers, async |cdn| cdn.begin_upload(&folder(), &name(), mark).await)
}

#[test]
fn an_upload_begins_with_its_mark_signed() {
    let (id, requests) = begin_with(MARK, &[begun("a&amp;b/c==")]);
    assert_eq!(id.expect("begun"), "a&b/c==");
    assert!(line(&requests[0]).starts_with("POST /s3/models/"), "{}", requests[0].head);
    assert!(requests[0].head.contains("X-Amz-SignedHeaders=host%3Bx-amz-meta-azaion-version&"), "{}", requests[0].head);
    assert!(requests[0].head.contains("&uploads=1&"), "{}", requests[0].head);
    assert_eq!(field(&requests[0], "x-amz-meta-azaion-version"), Some(MARK));
}

#[test]
fn marks_and_ids_hold_at_their_bounds() {
    assert_eq!(MARK.len(), CDN_MARK_BYTES);
    for mark in [format!("{MARK}0"), "a b".into(), "a\r\n".into(), "ü".into()] {
        let (id, _) = begin_with(&mark, &[]);
        assert!(matches!(id, Err(CdnError::Parts)), "{mark}");
    }
    let id = |n: usize| begin_with(MARK, &[begun(&"x".repeat(n))]).0;
    assert_eq!(id(CDN_UPLOAD_ID_BYTES).expect("at the bound").len(), CDN_UPLOAD_ID_BYTES);
    for n in [0, CDN_UPLOAD_ID_BYTES + 1] {
        assert!(matches!(id(n), Err(CdnError::Protocol { fault: CdnFault::Xml, .. })));
    }
}

#[test]
fn parts_are_numbered_and_may_find_their_upload_gone() {
    let part = |number: u32, answers: &[String]| {
        with(answers, async |cdn| cdn.put_part(&folder(), &name(), "id/1", number, Bytes::new(b"part")).await)
    };
    let (tag, requests) = part(7, &[stored()]);
    assert_eq!(tag.expect("stored"), TAG);
    assert!(requests[0].head.contains("&partNumber=7&uploadId=id%2F1&"), "{}", requests[0].head);
    assert_eq!(requests[0].body, b"part");
    let (tag, _) = part(7, &[xml_error(404, "NoSuchUpload")]);
    assert!(matches!(tag, Err(PutError::Cdn(CdnError::NoSuchUpload))));
    let last = u32::try_from(CDN_PARTS).expect("small");
    assert!(part(last, &[stored()]).0.is_ok());
    for number in [0, last + 1, u32::MAX] {
        assert!(matches!(part(number, &[]).0, Err(PutError::Cdn(CdnError::Parts))), "{number}");
    }
}

fn finished() -> String {
    answer(200, "", "<CompleteMultipartUploadResult><ETag>&quot;joined-2&quot;</ETag></CompleteMultipartUploadResult>")
}

fn finish_with(answers: &[String]) -> (Result<String, CdnError>, Vec<Request>) {
    with(answers, async |cdn| {
        let parts = [(1, "\"one\"".to_owned()), (2, "\"two\"".to_owned())];
        cdn.finish_upload(&folder(), &name(), "id", &parts, MARK).await
    })
}

fn marked(mark: &str) -> String {
    format!(
        "HTTP/1.1 200 X\r\nConnection: close\r\nETag: \"joined-2\"\r\nx-amz-meta-azaion-version: {mark}\r\n\
         Content-Length: 9\r\n\r\n"
    )
}

#[test]
fn the_end_names_all_parts_in_order() {
    let (tag, requests) = finish_with(&[finished()]);
    assert_eq!(tag.expect("joined"), "\"joined-2\"");
    assert!(line(&requests[0]).starts_with("POST /s3/models/"), "{}", requests[0].head);
    let body = String::from_utf8(requests[0].body.clone()).expect("XML");
    let one = body.find("&quot;one&quot;").expect("the first part");
    let two = body.find("&quot;two&quot;").expect("the second part");
    assert!(one < two && body.contains("<PartNumber>2</PartNumber>"), "{body}");
}

#[test]
fn a_200_with_an_error_inside_is_that_error() {
    let inside = |code: &str| answer(200, "", &format!("   <Error><Code>{code}</Code><Message>m</Message></Error>"));
    let (tag, requests) = finish_with(&[inside("InternalError"), finished()]);
    assert_eq!((tag.expect("the second time").as_str(), requests.len()), ("\"joined-2\"", 2));
    let (tag, _) = finish_with(&[inside("InvalidRequest")]);
    assert!(matches!(tag, Err(CdnError::Failed { status: 200, code, .. }) if code == "InvalidRequest"));
    // Parts that cannot be joined: begun anew, unless the object carries the mark.
    let (tag, _) = finish_with(&[inside("InvalidPart"), marked("another")]);
    assert!(matches!(tag, Err(CdnError::NoSuchUpload)));
    let (tag, _) = finish_with(&[answer(200, "", "")]);
    assert!(matches!(tag, Err(CdnError::Protocol { fault: CdnFault::Xml, .. })));
}

#[test]
fn an_end_whose_answer_was_lost_is_known_by_its_mark() {
    let gone = xml_error(404, "NoSuchUpload");
    let (tag, requests) = finish_with(&[String::new(), gone.clone(), marked(MARK)]);
    assert_eq!((tag.expect("it had succeeded").as_str(), requests.len()), ("\"joined-2\"", 3));
    let inside = answer(200, "", "<Error><Code>NoSuchUpload</Code></Error>");
    assert!(finish_with(&[inside, marked(MARK)]).0.is_ok());
    let none = "HTTP/1.1 404 X\r\nConnection: close\r\n\r\n".to_owned();
    for other in [marked("another"), marked(""), none] {
        assert!(matches!(finish_with(&[gone.clone(), other]).0, Err(CdnError::NoSuchUpload)));
    }
}

#[test]
fn parts_that_are_not_in_order_are_refused_here() {
    let finish = |parts: Vec<(u32, String)>| {
        with(&[], async |cdn| cdn.finish_upload(&folder(), &name(), "id", &parts, MARK).await).0
    };
    let part = |number: u32| (number, TAG.to_owned());
    for parts in [vec![], vec![part(2)], vec![part(1), part(3)], vec![part(1), part(1)], vec![part(0), part(1)]] {
        assert!(matches!(finish(parts), Err(CdnError::Parts)));
    }
    let many = (1..=u32::try_from(CDN_PARTS).expect("small") + 1).map(part).collect();
    assert!(matches!(finish(many), Err(CdnError::Parts)));
}

#[test]
fn an_upload_that_is_gone_is_thrown_away_already() {
    for last in [answer(204, "", ""), xml_error(404, "NoSuchUpload")] {
        let (done, requests) = with(&[last], async |cdn| cdn.abort_upload(&folder(), &name(), "id").await);
        assert!(done.is_ok());
        assert!(line(&requests[0]).starts_with("DELETE /s3/models/"), "{}", requests[0].head);
    }
}

#[test]
fn a_bucket_that_is_not_there_is_told_as_such() {
    let (put, _) = put_with(&[xml_error(404, "NoSuchBucket")]);
    let Err(PutError::Cdn(error)) = put else { panic!("no bucket") };
    assert_eq!(error.code(), Code::CdnFailed);
    assert!(error.to_string().contains("no bucket") && error.next_step().contains("bucket"), "{error}");
}
