//! TLS: whom to trust, and how a body may end.

use http::StatusCode;
use rcgen::date_time_ymd;

use super::tests::{Pieces, get, post};
use super::tests_faults::patient;
use super::*;
use crate::limits::PIECE_BYTES;
use crate::net::scripted::{Identity, Server, client, run};
use crate::net::tls;

const HOST: &str = "localhost";

fn trusting(identity: &Identity) -> Client {
    Client::new(tls::client_config(Some(identity.ca_pem.as_bytes())).expect("a root"))
}

fn endpoint(server: &Server) -> Endpoint {
    Endpoint::Tls { host: HOST.into(), port: server.port() }
}

#[test]
fn a_trusted_server_is_spoken_to_and_kept() {
    let (server, identity) = (Server::bind(), Identity::new(HOST, |_| {}));
    let client = trusting(&identity);
    run(
        async {
            for _ in 0..2 {
                // More than a turn's share of cipher work, both ways.
                let body = Pieces { left: 20, piece: vec![b'x'; PIECE_BYTES], stated: true };
                let response = client.exchange(&endpoint(&server), post("/"), body, &patient()).await;
                let response = response.expect("an answer");
                assert_eq!(response.status, StatusCode::OK);
                assert_eq!(response.bytes(1_000_000).await.expect("a body").len(), 1_000_000);
                assert_eq!(client.kept(), 1);
            }
        },
        async {
            let mut peer = identity.accept(&server).await.expect("trusted");
            for _ in 0..2 {
                assert_eq!(peer.request().await.body.len(), 20 * PIECE_BYTES);
                peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(1_000_000))).await;
            }
        },
    );
}

fn fault_of(server_side: &Identity, client: &Client) -> TlsFault {
    let server = Server::bind();
    let (result, _) =
        run(client.exchange(&endpoint(&server), get("/"), NoBody, &patient()), server_side.accept(&server));
    match result.err().expect("refused") {
        ExchangeError::Net(NetError::Tls { host, fault, .. }) => {
            assert_eq!(host, HOST);
            fault
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_fault_of_a_certificate_is_told_apart() {
    let good = Identity::new(HOST, |_| {});
    assert_eq!(fault_of(&good, &client()), TlsFault::UnknownAuthority);
    assert_eq!(fault_of(&good, &trusting(&Identity::new(HOST, |_| {}))), TlsFault::UnknownAuthority);
    let other = Identity::new("other.example.com", |_| {});
    assert_eq!(fault_of(&other, &trusting(&other)), TlsFault::WrongName);
    let early = Identity::new(HOST, |params| params.not_before = date_time_ymd(3000, 1, 1));
    assert_eq!(fault_of(&early, &trusting(&early)), TlsFault::NotValidYet);
    let late = Identity::new(HOST, |params| params.not_after = date_time_ymd(1990, 1, 1));
    assert_eq!(fault_of(&late, &trusting(&late)), TlsFault::Expired);
}

#[test]
fn a_server_that_speaks_no_tls_is_told() {
    let server = Server::bind();
    let (result, ()) = run(client().exchange(&endpoint(&server), get("/"), NoBody, &patient()), async {
        let mut peer = server.accept().await;
        peer.say("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        peer.close().await;
    });
    assert!(matches!(result, Err(ExchangeError::Net(NetError::Tls { fault: TlsFault::Other, .. }))));
    let (result, ()) = run(client().exchange(&endpoint(&server), get("/"), NoBody, &patient()), async {
        server.accept().await.close().await;
    });
    assert!(matches!(result, Err(ExchangeError::Net(NetError::ClosedEarly { step: Step::Tls } | NetError::Io { .. }))));
}

/// How the body of an answer reads when the server ends the connection after it.
fn ending(answer: &str, close_notify: bool) -> Result<Vec<u8>, NetError> {
    let (server, identity) = (Server::bind(), Identity::new(HOST, |_| {}));
    let client = trusting(&identity);
    let (result, ()) = run(
        async {
            let response = client.exchange(&endpoint(&server), get("/"), NoBody, &patient()).await;
            response.expect("a head").bytes(100).await
        },
        async {
            let mut peer = identity.accept(&server).await.expect("trusted");
            peer.head().await;
            peer.say(answer).await;
            if close_notify {
                peer.close().await;
            }
        },
    );
    result
}

#[test]
fn only_a_stated_end_is_an_end() {
    let stated = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let until_close = "HTTP/1.1 200 OK\r\n\r\nhello";
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello";
    for (answer, close_notify, whole) in [
        (stated, true, true),
        (stated, false, true),
        (chunked, false, true),
        (until_close, true, true),
        (until_close, false, false),
        (cut, true, false),
        (cut, false, false),
    ] {
        match ending(answer, close_notify) {
            Ok(body) => assert!(whole && body == b"hello", "{answer}"),
            Err(NetError::ClosedEarly { step: Step::Body }) => assert!(!whole, "{answer}"),
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_early_answer_ends_the_write_over_tls_too() {
    let (server, identity) = (Server::bind(), Identity::new(HOST, |_| {}));
    let client = trusting(&identity);
    run(
        async {
            let endless = Pieces { left: usize::MAX, piece: vec![b'x'; PIECE_BYTES], stated: false };
            let response = client.exchange(&endpoint(&server), post("/"), endless, &patient()).await;
            let response = response.expect("an answer");
            assert!(response.is_early());
            assert_eq!(response.bytes(10).await.expect("a body"), b"no");
        },
        async {
            let mut peer = identity.accept(&server).await.expect("trusted");
            peer.head().await;
            peer.say("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
            peer.until_closed().await
        },
    );
}

#[test]
fn roots_that_are_none_are_refused() {
    use crate::net::tls::TlsError;
    let refused = |pem: &str| tls::client_config(Some(pem.as_bytes())).expect_err("no roots");
    assert!(matches!(refused(""), TlsError::NoCertificate));
    assert!(matches!(refused("not PEM at all"), TlsError::NoCertificate));
    assert!(matches!(refused("-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n"), TlsError::Pem(_)));
    let no_root = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(refused(no_root), TlsError::Root(_)));
}
