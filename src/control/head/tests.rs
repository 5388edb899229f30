//! A table of heads with what becomes of each.

use super::*;

/// The whole way of a head: scanned in pieces of `step`, then parsed.
fn read(bytes: &[u8], step: usize) -> Result<Option<Head>, Refusal> {
    let mut scan = Scan::default();
    for end in (step..bytes.len()).step_by(step).chain([bytes.len()]) {
        if let Some(head) = scan.advance(&bytes[..end])? {
            return Head::parse(head).map(Some);
        }
    }
    Ok(None)
}

fn whole(text: &str) -> Result<Head, Refusal> {
    let one = read(text.as_bytes(), 1).map(|head| head.expect("a whole head"));
    let all = read(text.as_bytes(), usize::MAX / 2).map(|head| head.expect("a whole head"));
    assert_eq!(one.as_ref().err(), all.as_ref().err(), "the cut decides nothing: {text:?}");
    all
}

#[test]
fn heads_that_are_read() {
    let head = whole(
        "\r\nPOST /unlock HTTP/1.1\r\nHOST: board:80\r\ncontent-length:  07 \r\nExpect: 100-Continue\r\n\
         Connection: keep-alive, CLOSE\r\nAuthorization: Bearer x\r\nX: \u{e4}\t\r\n\r\n",
    )
    .expect("plain");
    assert_eq!((head.method, head.framing), (Method::POST, Framing::Length(7)));
    assert!(head.expects_continue && head.closing);
    assert_eq!(head.authorization.expect("sent").expose(), "Bearer x");

    let framing = |fields: &str| whole(&format!("PUT / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).map(|head| head.framing);
    assert_eq!(framing(""), Ok(Framing::Length(0)));
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    assert_eq!(framing("Content-Length: 99999999999999999999\r\n"), Ok(Framing::Length(u64::MAX)));

    let old = whole("GET /health HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expect("without a host");
    assert!(old.closing && !old.expects_continue && old.host.is_none());
    assert!(whole("GET http://a/health HTTP/1.1\r\nHost: A:80\r\n\r\n").is_ok());
    assert!(whole("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
}

#[test]
fn heads_that_are_refused() {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let cases: Vec<(u16, String)> = [
        (400, "GET /\r\nHost: a\r\n\r\n"),
        (400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
        (400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "G{T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET / http/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
        (400, "GET / HTTP/11\r\nHost: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\r\rx\r\n\r\n"),
        (400, "\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        (400, "GET / HTTP/1.0\r\nHost: a/b\r\n\r\n"),
        (400, "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "GET /% HTTP/1.1\r\nHost: a\r\n\r\n"),
        (505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        (505, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
        (505, "GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
        (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ]
    .map(|(status, text)| (status, text.to_owned()))
    .into_iter()
    .chain(
        [
            (400, "Content-Length: 1\r\nTransfer-Encoding: chunked"),
            (400, "Content-Length: 5\r\nContent-Length: 5"),
            (400, "Content-Length: 5\r\nContent-Length: 6"),
            (400, "Content-Length: 5, 5"),
            (400, "Content-Length: +5"),
            (400, "Content-Length: -5"),
            (400, "Content-Length: 0x5"),
            (400, "Content-Length: 1_0"),
            (400, "Content-Length: 5 5"),
            (400, "Content-Length:"),
            (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            (400, "Transfer-Encoding: chunked, chunked"),
            (400, "Transfer-Encoding: chunked, gzip"),
            (400, "Transfer-Encoding: , chunked"),
            (400, "Transfer-Encoding: identity"),
            (400, "Transfer-Encoding: xchunked"),
            (400, "Transfer-Encoding: \"chunked\""),
            (400, "Transfer-Encoding: chunked;a=b"),
            (400, "Transfer-Encoding: \u{b}chunked"),
            (400, "Transfer-Encoding:"),
            (501, "Transfer-Encoding: gzip, chunked"),
            (400, "Content-Length : 5"),
            (400, "X: 1\r\n folded"),
            (400, "X: 1\r\n\tfolded"),
            (400, " X: 1"),
            (400, "X"),
            (400, ": x"),
            (400, "X Y: 1"),
            (400, "X(: 1"),
            (400, "X: a\0b"),
            (400, "X: a\u{7f}b"),
            (400, "Authorization: a\r\nAuthorization: b"),
            (400, "Origin: http://a\r\nOrigin: http://b"),
            (417, "Expect: 200-ok"),
            (417, "Expect:"),
        ]
        .map(|(status, fields)| (status, with(fields))),
    )
    .chain([
        (400, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
        (431, with(&vec!["X: 1"; REQUEST_HEADERS].join("\r\n"))),
    ])
    .collect();
    for (status, text) in cases {
        let refusal = whole(&text).expect_err(&text);
        assert_eq!(refusal.status(), status, "{text:?}: {refusal}");
    }
}

#[test]
fn the_line_holds_at_its_bound() {
    let line = |length: usize| {
        let around = "GET / HTTP/1.1".len();
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - around))
    };
    assert!(whole(&line(REQUEST_LINE_BYTES)).is_ok());
    assert!(matches!(whole(&line(REQUEST_LINE_BYTES + 1)), Err(Refusal::LineTooLong)));
    let endless = "x".repeat(REQUEST_LINE_BYTES + 1);
    assert!(matches!(read(endless.as_bytes(), 7), Err(Refusal::LineTooLong)));
}

#[test]
fn the_head_holds_at_its_bound() {
    let head = |length: usize| {
        let around = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length - around))
    };
    assert!(whole(&head(CLIENT_HEAD_BYTES)).is_ok());
    assert!(matches!(whole(&head(CLIENT_HEAD_BYTES + 1)), Err(Refusal::HeadTooLong)));
}

#[test]
fn the_fields_hold_at_their_bound() {
    let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}Host: a\r\n\r\n", "X: 1\r\n".repeat(count - 1));
    assert!(whole(&fields(REQUEST_HEADERS)).is_ok());
    assert!(matches!(whole(&fields(REQUEST_HEADERS + 1)), Err(Refusal::HeadTooLong)));
}

#[test]
fn a_wrong_byte_is_told_before_the_head_ends() {
    for start in ["\x16\x03\x01", "GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: a\n"] {
        assert!(matches!(read(start.as_bytes(), 1), Err(Refusal::Malformed(_))), "{start:?}");
    }
    assert!(matches!(read(b"GET / HTT", 2), Ok(None)));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400), step in 1_usize..50) {
        let _ = read(&bytes, step);
        let _ = Head::parse(&bytes);
    }

    #[test]
    fn near_misses_do_not_make_it_panic(at in 0_usize..80, byte in proptest::num::u8::ANY, step in 1_usize..50) {
        let mut bytes = b"POST http://a/unlock%20 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n".to_vec();
        bytes[at] = byte;
        let _ = read(&bytes, step);
        let _ = Head::parse(&bytes);
    }
}
