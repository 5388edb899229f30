//! Ten thousand guesses at a password, and bodies of a GiB: what reaches the cloud, what is read, what it costs.

use std::io::Write as _;
use std::time::{Duration, Instant};

use azaion_cloud::Route;

use crate::harness::{Board, EMAIL, PASSWORD, cloud, credentials};
use crate::{address, is_alive, raw, resident};

const MIB: u64 = 1 << 20;
const GUESSES: usize = 10_000;
const CONNECTIONS: usize = 100;

/// As src/limits/control.rs has them: attempts at once, and the seconds that each further one takes.
const BURST: usize = 10;
const REFILL_SECONDS: u64 = 6;

/// So many requests on one connection, one behind the other.
fn guesses(path: &str, from: usize, count: usize) -> Vec<u8> {
    let guess = |number| {
        let body = credentials(EMAIL, &format!("guess-{number}"));
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    (from..from + count).map(guess).collect::<String>().into_bytes()
}

#[test]
fn of_ten_thousand_guesses_the_cloud_sees_the_burst_and_the_refill() {
    let cloud = cloud();
    let mut agent = Board::new(&cloud).start();
    let address = address(&agent);
    let began = Instant::now();
    let each = GUESSES / CONNECTIONS;
    let mut tried = 0;
    let mut before = 0;
    for connection in 0..CONNECTIONS {
        let path = if connection % 2 == 0 { "/login" } else { "/unlock" };
        let replies = raw::talk(&address, &guesses(path, connection * each, each));
        assert_eq!(replies.len(), each, "every guess is answered");
        for reply in replies {
            match (reply.status, reply.code().as_str()) {
                (429, "too_many") => {
                    let wait: u64 = reply.field("Retry-After").expect("it says when").parse().expect("whole seconds");
                    assert!((1..=REFILL_SECONDS).contains(&wait), "{wait} s");
                }
                // At /unlock an attempt is taken at once and told of later; no archive is there.
                (401, "credentials_wrong") | (404, "archive_missing") => tried += 1,
                other => panic!("{other:?} {}", reply.body),
            }
        }
        assert!(is_alive(&address));
        if connection == 9 {
            // What the first thousand made the agent take once is no growth.
            before = resident(&agent);
        }
    }
    let took = began.elapsed();
    let most = BURST + usize::try_from(took.as_secs() / REFILL_SECONDS).expect("seconds") + 1;
    let seen = cloud.calls().iter().filter(|call| call.route == Route::Login).count();
    let grown = resident(&agent).saturating_sub(before);
    eprintln!("{GUESSES} guesses in {took:.1?}: {tried} were tried, {seen} reached the cloud, {grown} bytes more");
    assert!((BURST..=most).contains(&tried), "{tried} were tried, at most {most} may be");
    assert!(seen <= tried, "{seen} reached the cloud");
    assert!(grown < 2 * MIB, "{grown} bytes more");

    // The one who knows the password waits as long as the answer says, and no longer: curl does, once.
    let right = credentials(EMAIL, PASSWORD);
    assert_eq!(agent.curl("/login", &["-d", &right, "--retry", "1"]).0, 200);
    assert_eq!(agent.post("/login", &credentials(EMAIL, PASSWORD)).0, 429);
}

/// Sends a body of up to a GiB after the head until the port has had enough; returns the answer and how much was sent.
fn flood(address: &str, head: &str, piece: &[u8]) -> (raw::Reply, u64) {
    let mut socket = raw::connect(address);
    socket.write_all(head.as_bytes()).expect("a head is taken");
    let mut sender = socket.try_clone().expect("a second handle");
    let piece = piece.to_owned();
    let sending = std::thread::spawn(move || {
        let mut sent = 0;
        while sent < 1 << 30 && sender.write_all(&piece).is_ok() {
            sent += piece.len() as u64;
        }
        sent
    });
    let mut replies = raw::Reply::all(&raw::rest(&mut socket));
    assert_eq!(replies.len(), 1, "{replies:?}");
    // What is still on its way meets a closed connection.
    drop(socket);
    (replies.remove(0), sending.join().expect("it only sends"))
}

#[test]
fn a_gibibyte_is_refused_by_its_length_or_at_the_bound_and_fills_no_memory() {
    let cloud = cloud();
    let agent = Board::new(&cloud).start();
    let address = address(&agent);
    let length = "Content-Length: 1073741824\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    // From the head alone: not one byte of the body is waited for, and nobody is told to go on.
    for (call, status, code) in [
        ("POST /login", 413, "body_too_large"),
        ("POST /unlock", 413, "body_too_large"),
        ("POST /load/x", 413, "body_too_large"),
        ("GET /health", 413, "body_too_large"),
        ("GET /status", 413, "body_too_large"),
        ("POST /upload/x", 401, "not_logged_in"),
        ("PUT /upload/x", 401, "not_logged_in"),
        ("POST /nowhere", 404, "route_unknown"),
    ] {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let mut socket = raw::connect(&address);
            write!(socket, "{call} HTTP/1.1\r\nHost: localhost\r\n{length}{expect}\r\n").expect("a head is taken");
            let replies = raw::Reply::all(&raw::rest(&mut socket));
            let told: Vec<_> = replies.iter().map(|reply| (reply.status, reply.code())).collect();
            assert_eq!(told, [(status, code.to_owned())], "{call} {expect}");
            assert_eq!(replies[0].field("Connection"), Some("close"), "{call} {expect}");
        }
    }
    let before = resident(&agent);
    let (plain, chunk) = (vec![b' '; 64 << 10], [&b"10000\r\n"[..], &vec![b' '; 64 << 10], b"\r\n"].concat());
    for (call, status) in [("/login", 413), ("/unlock", 413), ("/load/x", 413), ("/upload/x", 401)] {
        for (framing, piece) in [(length, &plain), (chunked, &chunk)] {
            let began = Instant::now();
            let head = format!("POST {call} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n");
            let (reply, sent) = flood(&address, &head, piece);
            let took = began.elapsed();
            eprintln!("{call} {}: {} after {took:.1?}, {} MiB sent", framing.trim(), reply.status, sent / MIB);
            assert_eq!(reply.status, status, "{call} {framing}: {}", reply.body);
            assert_eq!(reply.field("Connection"), Some("close"), "{call} {framing}");
            // The rest is read over for a second, so that the answer is read.
            assert!(took < Duration::from_secs(5), "{call} {framing}: {took:?}");
            assert!(is_alive(&address));
        }
    }
    let grown = resident(&agent).saturating_sub(before);
    assert!(grown < 2 * MIB, "{grown} bytes more");
    assert!(cloud.calls().is_empty());
}
