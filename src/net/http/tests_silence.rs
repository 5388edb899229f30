//! Silence at every step ends in that step's time-out.

use std::time::Duration;

use smol::future::{pending, poll_once};

use super::dial::LOOK_UPS;
use super::tests::{Pieces, get, post};
use super::tests_faults::patient;
use super::*;
use crate::net::scripted::{Server, client, race};

const SHORT: Duration = Duration::from_millis(20);

/// The step at which an exchange gives up.
async fn step_of(exchange: impl Future<Output = Result<Response, NetError>>) -> Step {
    let ended = match exchange.await {
        Ok(response) => response.bytes(100).await.map(drop),
        Err(error) => Err(error),
    };
    match ended.expect_err("silence") {
        NetError::TimedOut { step, after } => {
            assert_eq!(after, SHORT);
            step
        }
        other => panic!("{other:?}"),
    }
}

async fn ask(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<Response, NetError> {
    Ok(client().exchange(endpoint, get("/"), NoBody, timeouts).await?)
}

#[test]
fn in_the_name_look_up() {
    let timeouts = Timeouts { resolve: SHORT, ..patient() };
    let endpoint = Endpoint::Tls { host: "localhost".into(), port: 1 };
    let step = race(
        async {
            // Another look-up is under way and does not end.
            let _seat = LOOK_UPS.acquire().await;
            step_of(ask(&endpoint, &timeouts)).await
        },
        async {},
    );
    assert_eq!(step, Step::Resolve);
}

#[test]
fn in_the_connection() {
    let timeouts = Timeouts { connect: SHORT, ..patient() };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    // A queue of none: the kernel leaves further connections without an answer.
    rustix::net::listen(&listener, 0).expect("a shorter queue");
    let address = listener.local_addr().expect("bound");
    let endpoint = Endpoint::Plain { host: "127.0.0.1".into(), port: address.port() };
    let step = race(
        async {
            // On loopback a connection is made at once or, with the queue full, not at all.
            let fill = std::iter::repeat_with(|| std::net::TcpStream::connect_timeout(&address, SHORT));
            let queued: Vec<_> = fill.take(8).take_while(Result::is_ok).collect();
            assert!(queued.len() < 8, "the queue takes any number");
            step_of(ask(&endpoint, &timeouts)).await
        },
        async {},
    );
    assert_eq!(step, Step::Connect);
}

#[test]
fn in_the_tls_handshake() {
    let server = Server::bind();
    let timeouts = Timeouts { tls: SHORT, ..patient() };
    let endpoint = Endpoint::Tls { host: "127.0.0.1".into(), port: server.port() };
    let step = race(step_of(ask(&endpoint, &timeouts)), async {
        let _open = server.accept().await;
        pending::<()>().await;
    });
    assert_eq!(step, Step::Tls);
}

#[test]
fn in_sending_a_body() {
    let server = Server::bind();
    let timeouts = Timeouts { idle_body: SHORT, ..patient() };
    let step = race(
        step_of(async {
            let body = Pieces { left: 1_000_000, piece: vec![b'x'; 65_536], stated: true };
            Ok(client().exchange(&server.endpoint(), post("/"), body, &timeouts).await?)
        }),
        async {
            let mut peer = server.accept().await;
            peer.head().await;
            pending::<()>().await;
        },
    );
    assert_eq!(step, Step::Send);
}

#[test]
fn in_waiting_for_the_answer() {
    // Nothing at all, half a head, and informational ones only.
    for said in ["", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 102 Processing\r\n\r\n"] {
        let server = Server::bind();
        let timeouts = Timeouts { headers: SHORT, ..patient() };
        let step = race(step_of(ask(&server.endpoint(), &timeouts)), async {
            let _open = server.serve(said).await;
            pending::<()>().await;
        });
        assert_eq!(step, Step::Headers, "{said}");
    }
}

#[test]
fn in_the_body_of_the_answer() {
    let server = Server::bind();
    let timeouts = Timeouts { idle_body: SHORT, ..patient() };
    let step = race(step_of(ask(&server.endpoint(), &timeouts)), async {
        let _open = server.serve("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
        pending::<()>().await;
    });
    assert_eq!(step, Step::Body);
}

#[test]
fn in_the_call_as_a_whole() {
    let timeouts = Timeouts { whole_call: Some(SHORT), ..patient() };
    for said in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"] {
        let server = Server::bind();
        let step = race(step_of(ask(&server.endpoint(), &timeouts)), async {
            let _open = server.serve(said).await;
            pending::<()>().await;
        });
        assert_eq!(step, Step::WholeCall);
    }
}

#[test]
fn a_call_without_bound_takes_its_time() {
    let server = Server::bind();
    let waited = race(
        async { poll_once(ask(&server.endpoint(), &Timeouts { whole_call: None, ..patient() })).await.is_none() },
        pending(),
    );
    assert!(waited);
}
