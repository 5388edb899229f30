//! Exchanges that go wrong: cut, endless, silent, against the rules.

use std::time::Duration;
use std::{error, fmt};

use smol::future::pending;

use super::tests::{Pieces, get, post};
use super::*;
use crate::limits::{CHUNK_FRAMING_BYTES, REQUEST_HEAD_BYTES, RESPONSE_HEAD_BYTES};
use crate::net::scripted::{Server, client, run};

const LONG: Duration = Duration::from_mins(10);

/// All time-outs far away.
pub(super) fn patient() -> Timeouts {
    Timeouts { resolve: LONG, connect: LONG, tls: LONG, headers: LONG, idle_body: LONG, whole_call: None }
}

/// The error of a GET that is answered with `answer`, after which the server closes, at the head or in the body.
fn error_of(answer: &str) -> NetError {
    let (server, client) = (Server::bind(), client());
    let (result, ()) = run(
        async {
            let response = client.exchange(&server.endpoint(), get("/"), NoBody, &patient()).await?;
            let result = response.bytes(100).await;
            assert_eq!(client.kept(), 0);
            result
        },
        async { server.serve(answer).await.1.close().await },
    );
    result.expect_err("not an answer")
}

#[test]
fn a_cut_answer_is_never_taken_for_a_whole_one() {
    for head in ["", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n"] {
        assert!(matches!(error_of(head), NetError::ClosedEarly { step: Step::Headers }), "{head}");
    }
    for body in [
        "Content-Length: 9\r\n\r\n",
        "Content-Length: 9\r\n\r\n12345678",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        let error = error_of(&format!("HTTP/1.1 200 OK\r\n{body}"));
        assert!(matches!(error, NetError::ClosedEarly { step: Step::Body }), "{body}: {error:?}");
    }
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
    ] {
        let error = error_of(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n5\r\nhello\r\n0\r\n\r\n"));
        assert!(matches!(error, NetError::Protocol { fault: ProtocolFault::Framing }), "{headers}: {error:?}");
    }
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ] {
        let error = error_of(answer);
        assert!(matches!(error, NetError::Protocol { fault: ProtocolFault::Parse(_) }), "{answer}: {error:?}");
    }
    let error = error_of("HTTP/1.1 101 Switching Protocols\r\n\r\n");
    assert!(matches!(error, NetError::Protocol { fault: ProtocolFault::Switched }), "{error:?}");
}

#[test]
fn the_head_of_an_answer_holds_at_its_bound() {
    let head = |length: usize| {
        let frame = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: \r\n\r\n".len();
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: {}\r\n\r\n", "x".repeat(length - frame))
    };
    let (server, client) = (Server::bind(), client());
    let answer = head(RESPONSE_HEAD_BYTES);
    let (result, _) = run(client.exchange(&server.endpoint(), get("/"), NoBody, &patient()), server.serve(&answer));
    assert!(result.is_ok());
    for endless in [head(RESPONSE_HEAD_BYTES + 1), "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n".repeat(1000)] {
        assert!(matches!(error_of(&endless), NetError::TooLarge { part: Part::Head, .. }));
    }
}

#[test]
fn the_head_of_a_request_holds_at_its_bound() {
    let (server, client) = (Server::bind(), client());
    let request = |length: usize| http::Request::get("/").header("x", "x".repeat(length)).body(()).expect("a request");
    let (result, ()) =
        run(client.exchange(&server.endpoint(), request(REQUEST_HEAD_BYTES), NoBody, &patient()), async {
            assert_eq!(server.accept().await.until_closed().await, b"");
        });
    assert!(matches!(result, Err(ExchangeError::Net(NetError::TooLarge { part: Part::RequestHead, .. }))));
    let fits = REQUEST_HEAD_BYTES - 100;
    let (result, _) = run(
        client.exchange(&server.endpoint(), request(fits), NoBody, &patient()),
        server.serve("HTTP/1.1 204 No Content\r\n\r\n"),
    );
    assert!(result.is_ok());
}

#[test]
fn the_framing_of_chunks_holds_at_its_bound() {
    let chunked = |rest: &str| error_of(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}"));
    let trailers = format!("1\r\nx\r\n0\r\n{}", "T: t\r\n".repeat(CHUNK_FRAMING_BYTES));
    assert!(matches!(chunked(&trailers), NetError::TooLarge { part: Part::ChunkFraming, .. }));
    let endless_size = format!("1;{}", "x".repeat(2 * RESPONSE_HEAD_BYTES));
    assert!(matches!(chunked(&endless_size), NetError::TooLarge { part: Part::ChunkFraming, .. }));
}

#[test]
fn a_body_holds_at_the_caller_s_bound() {
    for (head, tail) in
        [("Content-Length: 5\r\n\r\n", ""), ("Transfer-Encoding: chunked\r\n\r\n5\r\n", "\r\n0\r\n\r\n"), ("\r\n", "")]
    {
        for (limit, fits) in [(5, true), (4, false), (0, false)] {
            let (server, client) = (Server::bind(), client());
            let (result, ()) = run(
                async {
                    let response = client.exchange(&server.endpoint(), get("/"), NoBody, &patient()).await;
                    response.expect("a head").bytes(limit).await
                },
                async {
                    let answer = format!("HTTP/1.1 200 OK\r\n{head}hello{tail}");
                    server.serve(&answer).await.1.close().await;
                },
            );
            match result {
                Ok(body) => assert!(fits && body == b"hello"),
                Err(NetError::TooLarge { part: Part::Body, .. }) => assert!(!fits),
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn an_endless_body_ends_at_the_caller_s_bound() {
    let (server, client) = (Server::bind(), client());
    let (result, ()) = run(
        async {
            let response = client.exchange(&server.endpoint(), get("/"), NoBody, &patient()).await;
            response.expect("a head").bytes(1_000_000).await
        },
        async {
            let (_, mut peer) = server.serve("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            let piece = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
            for _ in 0..100 {
                peer.say(&piece).await;
            }
        },
    );
    assert!(matches!(result, Err(NetError::TooLarge { part: Part::Body, limit: 1_000_000 })));
}

#[test]
fn a_broken_answer_stays_broken() {
    let (server, client) = (Server::bind(), client());
    run(
        async {
            let response = client.exchange(&server.endpoint(), get("/"), NoBody, &patient()).await;
            let (mut response, mut buf) = (response.expect("a head"), [0; 100]);
            assert_eq!(response.chunk(&mut buf).await.expect("what came"), 4);
            for _ in 0..3 {
                assert!(matches!(response.chunk(&mut buf).await, Err(NetError::ClosedEarly { step: Step::Body })));
            }
        },
        async { server.serve("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await.1.close().await },
    );
}

#[derive(Debug)]
struct Spoiled;

impl fmt::Display for Spoiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the archive is spoiled")
    }
}

impl error::Error for Spoiled {}

/// Gives `good` pieces, then fails.
struct Failing {
    good: usize,
    length: Option<u64>,
}

impl BodySource for Failing {
    type Error = Spoiled;

    fn length(&self) -> Option<u64> {
        self.length
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, Spoiled> {
        self.good = self.good.checked_sub(1).ok_or(Spoiled)?;
        Ok(Some(b"good piece"))
    }
}

#[test]
fn a_source_that_fails_drops_the_connection_and_ends_nothing() {
    for length in [None, Some(1000)] {
        let (server, client) = (Server::bind(), client());
        let (result, seen) =
            run(client.exchange(&server.endpoint(), post("/"), Failing { good: 3, length }, &patient()), async {
                let mut peer = server.accept().await;
                peer.head().await;
                peer.until_closed().await
            });
        assert!(matches!(result, Err(ExchangeError::Source(Spoiled))));
        let pieces = if length.is_some() { "good piece".repeat(3) } else { "a\r\ngood piece\r\n".repeat(3) };
        assert_eq!(String::from_utf8_lossy(&seen), pieces);
    }
}

#[test]
fn a_source_of_another_length_than_stated_is_a_fault_of_its_own() {
    for (length, given) in [(25, 30), (35, 0)] {
        let (server, client) = (Server::bind(), client());
        let (result, _) = run(
            async {
                let source = Lying { inner: Pieces { left: 3, piece: vec![b'x'; 10], stated: false }, length };
                client.exchange(&server.endpoint(), post("/"), source, &patient()).await
            },
            async { server.accept().await.until_closed().await },
        );
        let Err(ExchangeError::Net(NetError::BodyLength { promised, given: seen })) = result else {
            panic!("{:?}", result.err());
        };
        assert_eq!(promised, length);
        assert!(given == 0 || seen == given);
    }
}

/// States a length its pieces do not have.
struct Lying {
    inner: Pieces,
    length: u64,
}

impl BodySource for Lying {
    type Error = std::convert::Infallible;

    fn length(&self) -> Option<u64> {
        Some(self.length)
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, Self::Error> {
        self.inner.next().await
    }
}

#[test]
fn a_server_that_closes_in_mid_request_is_noticed_while_the_source_stalls() {
    struct Stalled;
    impl BodySource for Stalled {
        type Error = Spoiled;
        fn length(&self) -> Option<u64> {
            None
        }
        async fn next(&mut self) -> Result<Option<&[u8]>, Spoiled> {
            pending().await
        }
    }
    let (server, client) = (Server::bind(), client());
    let (result, ()) = run(client.exchange(&server.endpoint(), post("/"), Stalled, &patient()), async {
        let mut peer = server.accept().await;
        peer.head().await;
        peer.close().await;
    });
    assert!(matches!(result, Err(ExchangeError::Net(NetError::ClosedEarly { step: Step::Send }))));
}

#[test]
fn a_refused_connection_and_a_missing_socket_are_told() {
    let port = Server::bind().port();
    let client = client();
    let nobody = Endpoint::Plain { host: "127.0.0.1".into(), port };
    let missing = Endpoint::Unix("/nonexistent/engine.sock".into());
    run(
        async {
            let error = client.exchange(&nobody, get("/"), NoBody, &patient()).await.err().expect("nobody listens");
            assert!(matches!(&error, ExchangeError::Net(NetError::Connect { .. })), "{error:?}");
            assert_eq!(error.to_string(), format!("connect to 127.0.0.1:{port} failed"));
            let error = client.exchange(&missing, get("/"), NoBody, &patient()).await.err().expect("no socket");
            assert!(!error.to_string().contains('/'), "no path in a message: {error}");
        },
        async {},
    );
}

#[test]
fn an_unknown_name_is_told() {
    let client = client();
    let endpoint = Endpoint::Tls { host: "no-such-host.invalid".into(), port: 443 };
    let (result, ()) = run(client.exchange(&endpoint, get("/"), NoBody, &patient()), async {});
    let error = result.err().expect("RFC 6761: invalid has no names");
    assert!(matches!(error, ExchangeError::Net(NetError::Resolve { .. })), "{error:?}");
    assert_eq!(error.to_string(), "name look-up of no-such-host.invalid failed");
}
