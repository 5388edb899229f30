//! Slow, greedy, hostile and many clients, and the end of the port.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::limits::{CLIENT_HEAD_BYTES, CLIENTS_PER_LISTENER, REQUEST_LINE_BYTES, REQUESTS_PER_CONNECTION};

fn impatient() -> Patience {
    let short = Duration::from_millis(30);
    Patience { head: short, idle: short, body: short, ..Patience::default() }
}

#[test]
fn slow_clients_are_told_and_cut_off() {
    with_port(Guard::default(), impatient(), async |port| {
        for (sent, answered) in [
            ("GET /hea", vec![408]),
            ("POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{", vec![408]),
            ("POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1", vec![408]),
            // Between two requests there is nothing to tell.
            ("", vec![]),
            ("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", vec![200]),
        ] {
            let mut stream = port.connect().await;
            stream.write_all(sent.as_bytes()).await.expect("taken");
            // The client's side stays open: it is the port that ends.
            assert_eq!(statuses(&rest(&mut stream).await), answered, "{sent:?}");
        }
    });
}

#[test]
fn what_is_too_long_is_read_over_so_that_the_answer_arrives() {
    with_default_port(async |port| {
        let line = "x".repeat(REQUEST_LINE_BYTES + 1);
        let field = "x".repeat(CLIENT_HEAD_BYTES);
        let megabyte = "x".repeat(1 << 20);
        for (status, text) in [
            (414, format!("GET /{line} HTTP/1.1\r\nHost: localhost\r\n\r\n{megabyte}")),
            (414, megabyte.clone()),
            (431, format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {field}\r\n\r\n{megabyte}")),
            (413, format!("POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n{megabyte}")),
            (404, format!("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n{megabyte}")),
        ] {
            // All is sent before the first byte is read, as simple clients do it.
            let replies = Reply::all(&port.talk(text).await);
            assert_eq!(replies.iter().map(|reply| reply.status).collect::<Vec<_>>(), [status]);
            assert!(replies[0].closes());
        }
    });
}

#[test]
fn a_connection_serves_its_number_of_requests() {
    with_default_port(async |port| {
        let one = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut stream = port.connect().await;
        for count in 1..=REQUESTS_PER_CONNECTION {
            stream.write_all(one.as_bytes()).await.expect("taken");
            let mut head = vec![0; "HTTP/1.1 200 OK".len()];
            stream.read_exact(&mut head).await.expect("an answer");
            let mut tail = Vec::new();
            while !tail.ends_with(b"healthy\"}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).await.expect("an answer");
                tail.push(byte[0]);
            }
            let closes = tail.windows(17).any(|window| window == b"Connection: close");
            assert_eq!(closes, count == REQUESTS_PER_CONNECTION, "{count}");
        }
        assert_eq!(rest(&mut stream).await, "");
    });
}

#[test]
fn two_hundred_clients_at_once_are_all_answered() {
    with_default_port(async |port| {
        let mut streams = Vec::new();
        for _ in 0..200 {
            streams.push(port.connect().await);
        }
        for stream in &mut streams {
            stream.write_all(request("GET", "/health", "").as_bytes()).await.expect("taken");
            stream.shutdown(Shutdown::Write).expect("open");
        }
        for stream in streams.iter_mut().rev() {
            assert_eq!(statuses(&rest(stream).await), [200]);
        }
    });
}

#[test]
fn silent_clients_make_room_for_one_who_speaks() {
    with_default_port(async |port| {
        let mut silent = Vec::new();
        for start in ["", "GET /hea", "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"] {
            for _ in 0..=CLIENTS_PER_LISTENER / 3 {
                let mut stream = port.connect().await;
                stream.write_all(start.as_bytes()).await.expect("taken");
                silent.push(stream);
            }
        }
        assert!(silent.len() > CLIENTS_PER_LISTENER);
        for _ in 0..10 {
            assert_eq!(port.call("GET", "/health", "").await.status, 200);
        }
        // The one who waited longest has left, without an answer.
        let mut buffer = [0; 1];
        assert!(matches!(silent[0].read(&mut buffer).await, Ok(0) | Err(_)));
    });
}

#[test]
fn who_finds_every_seat_at_work_is_told_to_come_again() {
    with_seats(1, Guard::default(), Patience::default(), async |port| {
        let (open, gate) = smol::channel::bounded(1);
        port.desk.gate.replace(Some(gate));
        let mut running = port.connect().await;
        running.write_all(request("POST", "/login", LOGIN).as_bytes()).await.expect("taken");
        port.begun.recv().await.expect("the login begins");

        let mut turned_away = port.connect().await;
        let reply = Reply::all(&rest(&mut turned_away).await).pop().expect("an answer");
        assert_eq!((reply.status, reply.code().as_str(), reply.closes()), (429, "too_many", true));
        assert!(reply.head.contains("\r\nRetry-After: 1"), "{}", reply.head);

        open.send(()).await.expect("the login waits");
        running.shutdown(Shutdown::Write).expect("open");
        assert_eq!(statuses(&rest(&mut running).await), [200]);
        assert_eq!(port.call("GET", "/health", "").await.status, 200);
    });
}

#[test]
fn a_connection_at_rest_is_small() {
    let executor = Rc::new(LocalExecutor::<'static>::new());
    let clients = Clients::new(1);
    let (begun, _) = smol::channel::unbounded();
    let desk = Rc::new(FakeDesk::new(begun));
    let port = Rc::new(Port::new(desk, Guard::default(), Clock::manual(), Patience::default(), STREAMS, 1));
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let stream = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let stream = wire::Stream::Tcp(smol::Async::new(stream).expect("a socket"));
    let peer = guard::Peer::Tcp { local: Ipv4Addr::LOCALHOST.into() };
    let future = connection::run(port, stream, peer, clients.seat().expect("a seat"));
    let size = size_of_val(&future);
    drop((future, executor));
    assert!(size <= 3 * 1024, "{size} bytes for each of {CLIENTS_PER_LISTENER} clients");
}

#[test]
fn at_the_end_running_requests_are_answered_and_idle_ones_closed() {
    with_default_port(async |port| {
        let (open, gate) = smol::channel::bounded(1);
        port.desk.gate.replace(Some(gate));
        let mut running = port.connect().await;
        running.write_all(request("POST", "/login", LOGIN).as_bytes()).await.expect("taken");
        port.begun.recv().await.expect("the login begins");
        let mut idle = port.connect().await;

        drop(port.shutdown);
        assert_eq!(rest(&mut idle).await, "");
        TcpStream::connect(port.address).await.expect_err("nobody listens");
        open.send(()).await.expect("the login waits");
        let replies = Reply::all(&rest(&mut running).await);
        assert_eq!((replies[0].status, replies[0].closes()), (200, true));
        drop(running);
        port.ended.await;
    });
}

#[test]
fn at_the_end_a_request_that_hangs_is_cut() {
    let patience = Patience { shutdown: Duration::from_millis(10), ..Patience::default() };
    with_port(Guard::default(), patience, async |port| {
        let (_open, gate) = smol::channel::bounded(1);
        port.desk.gate.replace(Some(gate));
        let mut running = port.connect().await;
        running.write_all(request("POST", "/login", LOGIN).as_bytes()).await.expect("taken");
        port.begun.recv().await.expect("the login begins");
        drop(port.shutdown);
        port.ended.await;
        assert_eq!(rest(&mut running).await, "");
    });
}

#[test]
fn any_bytes_are_answered_or_closed_upon() {
    let near =
        "POST /unlock HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n";
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        (0..near.len(), any::<u8>()).prop_map(move |(at, byte)| {
            let mut bytes = near.as_bytes().to_vec();
            bytes[at] = byte;
            bytes
        }),
        (0..near.len(), 0..near.len()).prop_map(move |(from, to)| near.as_bytes()[from.min(to)..from.max(to)].to_vec()),
    ];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&bytes, |bytes| {
            with_default_port(async |port| {
                let text = port.talk(&bytes).await;
                assert!(Reply::all(&text).iter().all(|reply| (200..600).contains(&reply.status)), "{text}");
                // And the port goes on.
                assert_eq!(port.call("GET", "/health", "").await.status, 200);
            });
            Ok(())
        })
        .expect("always an answer or a close");
}
