//! Exchanges that go well: framing, keeping connections, several at once.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use http::{Request, StatusCode};
use smol::net::unix::UnixListener;

use super::*;
use crate::limits::{IDLE_CONNECTION_AGE, IDLE_CONNECTIONS};
use crate::net::scripted::{Peer, Server, client, run};
use crate::net::{Clock, tls};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A body in equal pieces, of stated length or not.
pub(super) struct Pieces {
    pub(super) left: usize,
    pub(super) piece: Vec<u8>,
    pub(super) stated: bool,
}

impl BodySource for Pieces {
    type Error = Infallible;

    fn length(&self) -> Option<u64> {
        self.stated.then(|| (self.left * self.piece.len()) as u64)
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, Infallible> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        Ok(Some(&self.piece))
    }
}

pub(super) fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).expect("a request")
}

pub(super) fn post(path: &str) -> Request<()> {
    Request::post(path).body(()).expect("a request")
}

#[test]
fn a_kept_connection_is_used_again() {
    let (server, client) = (Server::bind(), client());
    let ((), heads) = run(
        async {
            for path in ["/one", "/two?x=1"] {
                let response = client.exchange(&server.endpoint(), get(path), NoBody, &Timeouts::default()).await;
                let response = response.expect("an answer");
                assert_eq!(response.status, StatusCode::OK);
                assert!(!response.is_early());
                assert_eq!(response.bytes(2).await.expect("a body"), b"ok");
                assert_eq!(client.kept(), 1);
            }
        },
        async {
            let (first, mut peer) = server.serve(OK).await;
            let second = peer.head().await;
            peer.say(OK).await;
            (first.head, second)
        },
    );
    assert_eq!(heads.0, format!("GET /one HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n\r\n", server.port()));
    assert!(heads.1.starts_with("GET /two?x=1 HTTP/1.1\r\n"));
}

#[test]
fn a_connection_the_server_closed_while_idle_is_not_used() {
    let (server, client) = (Server::bind(), client());
    run(
        async {
            for _ in 0..2 {
                let response = client.exchange(&server.endpoint(), post("/"), NoBody, &Timeouts::default()).await;
                response.expect("an answer").bytes(2).await.expect("a body");
            }
        },
        async {
            let (_, peer) = server.serve(OK).await;
            peer.close().await;
            server.serve(OK).await;
        },
    );
}

#[test]
fn a_repeatable_request_survives_a_connection_closed_under_it() {
    for (request, repeated) in [
        (get("/"), true),
        (post("/"), false),
        (Request::post("/").extension(Repeatable).body(()).expect("a request"), true),
    ] {
        let (server, client) = (Server::bind(), client());
        let (answer, ()) = run(
            async {
                let first = client.exchange(&server.endpoint(), get("/"), NoBody, &Timeouts::default()).await;
                first.expect("an answer").bytes(2).await.expect("a body");
                let body = Bytes::new(if request.method() == http::Method::POST { "text" } else { "" });
                client.exchange(&server.endpoint(), request, body, &Timeouts::default()).await
            },
            async {
                let (_, mut peer) = server.serve(OK).await;
                peer.head().await;
                peer.close().await;
                if repeated {
                    server.serve(OK).await;
                }
            },
        );
        match answer {
            Ok(response) => assert!(repeated && response.status == StatusCode::OK),
            Err(ExchangeError::Net(NetError::ClosedEarly { step: Step::Headers } | NetError::Io { .. })) => {
                assert!(!repeated);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn idle_connections_are_few_and_young() {
    let server = Server::bind();
    let clock = Clock::manual();
    let client = Client::with_clock(tls::client_config(None).expect("roots"), clock.clone());
    let many = IDLE_CONNECTIONS + 2;
    run(
        async {
            let mut open = Vec::new();
            for _ in 0..many {
                let response = client.exchange(&server.endpoint(), get("/"), NoBody, &Timeouts::default()).await;
                open.push(response.expect("an answer"));
            }
            for response in open {
                response.bytes(2).await.expect("a body");
            }
            assert_eq!(client.kept(), IDLE_CONNECTIONS);
            clock.advance(IDLE_CONNECTION_AGE);
            client.close_idle();
            assert_eq!(client.kept(), IDLE_CONNECTIONS);
            clock.advance(Duration::from_nanos(1));
            client.close_idle();
            assert_eq!(client.kept(), 0);
        },
        async {
            let mut peers = Vec::new();
            for _ in 0..many {
                peers.push(server.serve(OK).await.1);
            }
            for peer in peers {
                assert_eq!(peer.until_closed().await, b"");
            }
        },
    );
}

#[test]
fn connections_that_cannot_be_kept_are_closed() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more than was stated",
    ] {
        let (server, client) = (Server::bind(), client());
        run(
            async {
                let response = client.exchange(&server.endpoint(), get("/"), NoBody, &Timeouts::default()).await;
                assert_eq!(response.expect("an answer").bytes(2).await.expect("a body"), b"ok");
                assert_eq!(client.kept(), 0, "{answer}");
            },
            async { server.serve(answer).await.1.until_closed().await },
        );
    }
}

#[test]
fn an_answer_dropped_before_its_end_closes_the_connection() {
    let (server, client) = (Server::bind(), client());
    run(
        async {
            let response = client.exchange(&server.endpoint(), get("/"), NoBody, &Timeouts::default()).await;
            drop(response.expect("an answer"));
            assert_eq!(client.kept(), 0);
        },
        async { server.serve("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst").await.1.until_closed().await },
    );
}

#[test]
fn every_framing_of_an_answer_is_read() {
    for (answer, body, kept) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 1),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 1),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", 1),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nT: t\r\n\r\n",
            "hello",
            1,
        ),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 1),
        ("HTTP/1.1 200 OK\r\n\r\nhello", "hello", 0),
        ("HTTP/1.0 200 OK\r\n\r\nhello", "hello", 0),
        ("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", "", 1),
    ] {
        let (server, client) = (Server::bind(), client());
        run(
            async {
                let response = client.exchange(&server.endpoint(), get("/"), NoBody, &Timeouts::default()).await;
                let mut response = response.expect("an answer");
                let (mut seen, mut buf) = (Vec::new(), [0; 2]);
                loop {
                    match response.chunk(&mut buf).await.expect("a piece") {
                        0 => break,
                        read => seen.extend_from_slice(&buf[..read]),
                    }
                }
                assert_eq!(String::from_utf8_lossy(&seen), body, "{answer}");
                assert_eq!(response.chunk(&mut buf).await.expect("still the end"), 0);
                assert_eq!(client.kept(), kept, "{answer}");
            },
            async {
                let (_, peer) = server.serve(answer).await;
                if kept == 0 {
                    peer.close().await;
                } else {
                    assert_eq!(client_stays_silent(peer).await, None);
                }
            },
        );
    }
}

/// Nothing was sent when the client is done: a redirect is not followed, an answer is not answered.
async fn client_stays_silent(mut peer: Peer<smol::net::TcpStream>) -> Option<Vec<u8>> {
    smol::future::poll_once(peer.exactly(1)).await
}

#[test]
fn request_bodies_arrive_whole_in_both_framings() {
    for stated in [true, false] {
        let (server, client) = (Server::bind(), client());
        let ((), (head, body)) = run(
            async {
                let source = Pieces { left: 50, piece: vec![b'x'; 70_000], stated };
                let response = client.exchange(&server.endpoint(), post("/"), source, &Timeouts::default()).await;
                assert_eq!(response.expect("an answer").bytes(2).await.expect("a body"), b"ok");
                assert_eq!(client.kept(), 1);
            },
            async {
                let mut peer = server.accept().await;
                let head = peer.head().await;
                let body = if stated { peer.exactly(50 * 70_000).await } else { dechunk(&mut peer).await };
                peer.say(OK).await;
                (head, body)
            },
        );
        assert!(head.contains(if stated { "content-length: 3500000\r\n" } else { "transfer-encoding: chunked\r\n" }));
        assert_eq!(body.len(), 3_500_000);
        assert!(body.iter().all(|byte| *byte == b'x'));
    }
}

async fn dechunk(peer: &mut Peer<smol::net::TcpStream>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.extend(peer.exactly(1).await);
        }
        let size = String::from_utf8(size).expect("digits");
        let size = usize::from_str_radix(size.trim_end(), 16).expect("hexadecimal");
        body.extend(peer.exactly(size).await);
        assert_eq!(peer.exactly(2).await, b"\r\n");
        if size == 0 {
            return body;
        }
    }
}

#[test]
fn an_empty_post_states_its_length() {
    let (server, client) = (Server::bind(), client());
    let (_, (request, _)) = run(
        async { client.exchange(&server.endpoint(), post("/"), NoBody, &Timeouts::default()).await.map(drop) },
        server.serve(OK),
    );
    assert!(request.head.contains("content-length: 0\r\n"), "{}", request.head);
}

#[test]
fn a_unix_socket_is_spoken_to_alike() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("engine.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let client = client();
    let (body, head) = run(
        async {
            let endpoint = Endpoint::Unix(path.clone());
            let response = client.exchange(&endpoint, get("/_ping"), NoBody, &Timeouts::default()).await;
            response.expect("an answer").bytes(2).await.expect("a body")
        },
        async {
            let mut peer = Peer::new(listener.accept().await.expect("a connection").0);
            let head = peer.head().await;
            peer.say(OK).await;
            head
        },
    );
    assert_eq!(body, b"ok");
    assert_eq!(head, "GET /_ping HTTP/1.1\r\nhost: localhost\r\n\r\n");
}

#[test]
fn several_calls_do_not_wait_for_each_other() {
    let (server, client) = (Server::bind(), client());
    let call = async |path: &'static str| {
        let response = client.exchange(&server.endpoint(), get(path), NoBody, &Timeouts::default()).await;
        response.expect("an answer").bytes(2).await.expect("a body");
        path
    };
    run(
        async {
            // The first to be asked is answered last.
            let fast = async {
                let fast = call("/fast").await;
                assert_eq!(fast, "/fast");
            };
            smol::future::zip(call("/slow"), fast).await
        },
        async {
            let (mut first, mut second) = (server.accept().await, server.accept().await);
            let first_is_slow = first.head().await.starts_with("GET /slow");
            second.head().await;
            let (slow, fast) = if first_is_slow { (&mut first, &mut second) } else { (&mut second, &mut first) };
            fast.say(OK).await;
            slow.say(OK).await;
        },
    );
}

/// A source that never gives its second piece.
struct Stalled {
    given: bool,
}

impl BodySource for Stalled {
    type Error = Infallible;

    fn length(&self) -> Option<u64> {
        None
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, Infallible> {
        if self.given {
            pending::<()>().await;
        }
        self.given = true;
        Ok(Some(b"piece"))
    }
}

#[test]
fn an_early_answer_ends_the_write() {
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig";
    // The server stops reading, the source goes on for ever; then: the source stalls.
    for stalled in [false, true] {
        let (server, client) = (Server::bind(), client());
        let ((), seen) = run(
            async {
                let (endpoint, timeouts) = (server.endpoint(), Timeouts::default());
                let response = if stalled {
                    client.exchange(&endpoint, post("/"), Stalled { given: false }, &timeouts).await
                } else {
                    let endless = Pieces { left: usize::MAX, piece: vec![b'x'; 65_536], stated: false };
                    client.exchange(&endpoint, post("/"), endless, &timeouts).await
                };
                let response = response.expect("an answer");
                assert_eq!(response.status, StatusCode::PAYLOAD_TOO_LARGE);
                assert!(response.is_early());
                assert_eq!(response.bytes(3).await.expect("a body"), b"big");
                assert_eq!(client.kept(), 0);
            },
            async {
                let mut peer = server.accept().await;
                peer.head().await;
                peer.say(early).await;
                peer.until_closed().await
            },
        );
        assert!(!seen.ends_with(b"0\r\n\r\n"), "the body was ended cleanly");
    }
}

#[test]
fn an_informational_answer_does_not_end_the_write() {
    let (server, client) = (Server::bind(), client());
    run(
        async {
            let body = Pieces { left: 100, piece: vec![b'x'; 65_536], stated: true };
            let response = client.exchange(&server.endpoint(), post("/"), body, &Timeouts::default()).await;
            assert!(!response.expect("an answer").is_early());
        },
        async {
            let mut peer = server.accept().await;
            peer.head().await;
            peer.say("HTTP/1.1 102 Processing\r\n\r\n").await;
            peer.exactly(100 * 65_536).await;
            peer.say(OK).await;
        },
    );
}
