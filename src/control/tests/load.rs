//! `/load`: models of known and unknown length, whole, failing, left, slow.

use super::*;
use crate::limits::PIECE_BYTES;

/// The models that the fake desk has: one, which it hands out for every name.
pub(super) struct Shelf {
    pub(super) wanted: RefCell<Vec<Wanted>>,
    /// What `load` itself answers instead.
    refusal: RefCell<Option<Report>>,
    pieces: RefCell<Vec<Result<Vec<u8>, Report>>>,
    length: Cell<Option<u64>>,
    /// Behind the last piece comes another one of these, for ever.
    endless: Cell<bool>,
    /// Behind the last piece nothing comes, for ever.
    silent: Cell<bool>,
    /// Closed, message by message, as models are dropped.
    dropped: (Sender<()>, Receiver<()>),
}

impl Default for Shelf {
    fn default() -> Self {
        Self {
            wanted: RefCell::default(),
            refusal: RefCell::default(),
            pieces: RefCell::default(),
            length: Cell::default(),
            endless: Cell::default(),
            silent: Cell::default(),
            dropped: smol::channel::unbounded(),
        }
    }
}

pub(super) struct FakeModel {
    pieces: std::vec::IntoIter<Result<Vec<u8>, Report>>,
    piece: Vec<u8>,
    length: Option<u64>,
    endless: bool,
    silent: bool,
    dropped: Sender<()>,
}

impl Shelf {
    pub(super) fn open(&self, wanted: Wanted) -> Result<FakeModel, Report> {
        self.wanted.borrow_mut().push(wanted);
        if let Some(refusal) = self.refusal.borrow().clone() {
            return Err(refusal);
        }
        Ok(FakeModel {
            pieces: self.pieces.borrow().clone().into_iter(),
            piece: Vec::new(),
            length: self.length.get(),
            endless: self.endless.get(),
            silent: self.silent.get(),
            dropped: self.dropped.0.clone(),
        })
    }

    pub(super) fn refuses(&self, report: Report) {
        self.refusal.replace(Some(report));
    }

    pub(super) fn holds(&self, pieces: &[&[u8]], length: Option<u64>) {
        self.pieces.replace(pieces.iter().map(|piece| Ok(piece.to_vec())).collect());
        self.length.set(length);
    }

    /// Waits until a model that was opened is dropped.
    async fn one_is_dropped(&self) {
        self.dropped.1.recv().await.expect("the shelf holds a sender");
    }
}

impl Outgoing for FakeModel {
    fn length(&self) -> Option<u64> {
        self.length
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, Report> {
        match self.pieces.next() {
            Some(piece) => {
                self.piece = piece?;
                Ok(Some(&self.piece))
            }
            None if self.endless => Ok(Some(&self.piece)),
            None if self.silent => std::future::pending().await,
            None => Ok(None),
        }
    }
}

impl Drop for FakeModel {
    fn drop(&mut self) {
        let _nobody_asks = self.dropped.try_send(());
    }
}

fn refused() -> Report {
    Report { code: Code::ResourceUnknown, message: "no such model".into(), next: "look for it".into() }
}

fn load(name: &str, body: &str) -> String {
    request("POST", &format!("/load/{name}"), body)
}

impl Fixture {
    /// Sends requests of which the last one closes, and returns all that comes back. The client stays until then.
    async fn ask(&self, requests: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(requests.as_bytes()).await.expect("taken");
        rest(&mut stream).await
    }
}

const LAST: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn a_known_length_is_told_and_the_connection_stays() {
    with_default_port(async |port| {
        port.desk.shelf.holds(&[b"ab", b"", b"cde"], Some(5));
        let text = port.ask(&[&load("a%20b", r#"{"folder":"m.1"}"#), &load("x", ""), LAST].concat()).await;
        let replies = Reply::all(&text);
        assert_eq!(
            (replies[0].head.as_str(), replies[0].body.as_str()),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 5\r\n\
                 Cache-Control: no-store\r\nX-Content-Type-Options: nosniff",
                "abcde"
            )
        );
        assert_eq!(statuses(&text), [200, 200, 200], "requests behind a model are served");
        assert_eq!(replies[2].body, r#"{"status":"healthy"}"#);
        let wanted: Vec<_> = port.desk.shelf.wanted.take();
        let seen: Vec<_> = wanted.iter().map(|wanted| (wanted.folder.as_str(), wanted.name.as_str())).collect();
        assert_eq!(seen, [("m.1", "a b"), ("", "x")]);
    });
}

#[test]
fn an_unknown_length_comes_in_chunks_and_the_connection_stays() {
    with_default_port(async |port| {
        port.desk.shelf.holds(&[b"", b"0123456789abcdef", b"", b"x"], None);
        let text = port.ask(&[&load("x", "{}"), LAST].concat()).await;
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n") && !head.contains("Content-Length"), "{head}");
        assert!(body.starts_with("10\r\n0123456789abcdef\r\n1\r\nx\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n"), "{body}");
        for (length, told) in [(None, "Transfer-Encoding: chunked"), (Some(0), "Content-Length: 0")] {
            port.desk.shelf.holds(&[], length);
            let text = port.ask(&[&load("x", ""), LAST].concat()).await;
            assert!(text.contains(told), "{text}");
            assert_eq!(text.contains("\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK"), length.is_none(), "{text}");
        }
    });
}

#[test]
fn what_fails_before_the_first_byte_is_an_answer_like_any_other() {
    with_default_port(async |port| {
        let shelf = &port.desk.shelf;
        shelf.refusal.replace(Some(refused()));
        let replies = Reply::all(&port.ask(&[&load("x", ""), LAST].concat()).await);
        assert_eq!((replies[0].status, replies[0].code().as_str()), (404, "resource_unknown"));
        assert_eq!(replies.len(), 2);
        shelf.refusal.take();
        shelf.pieces.replace(vec![Err(refused())]);
        let replies = Reply::all(&port.ask(&[&load("x", ""), LAST].concat()).await);
        assert_eq!((replies[0].status, replies[0].code().as_str(), replies.len()), (404, "resource_unknown", 2));
    });
}

#[test]
fn what_fails_later_cuts_the_answer() {
    with_default_port(async |port| {
        for (length, pieces) in [
            (Some(5), vec![Ok(b"abc".to_vec()), Err(refused())]),
            (None, vec![Ok(b"abc".to_vec()), Err(refused())]),
            (Some(5), vec![Ok(b"abc".to_vec())]),
            (Some(5), vec![]),
            (Some(5), vec![Ok(b"abc".to_vec()), Ok(b"def".to_vec())]),
        ] {
            port.desk.shelf.pieces.replace(pieces);
            port.desk.shelf.length.set(length);
            let mut stream = port.connect().await;
            stream.write_all([&load("x", ""), LAST].concat().as_bytes()).await.expect("taken");
            let mut text = Vec::new();
            let end = stream.read_to_end(&mut text).await;
            let text = String::from_utf8(text).expect("text");
            assert_eq!(end.expect_err("no clean end").kind(), io::ErrorKind::ConnectionReset, "{text}");
            let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            assert!(["", "abc", "3\r\nabc\r\n"].contains(&body), "{length:?} {text}");
        }
        assert_eq!(port.call("GET", "/health", "").await.status, 200);
    });
}

#[test]
fn old_clients_get_what_has_a_length() {
    with_default_port(async |port| {
        let old = "POST /load/x HTTP/1.0\r\n\r\n";
        port.desk.shelf.holds(&[b"abc"], Some(3));
        let replies = Reply::all(&port.ask(old).await);
        assert_eq!((replies[0].status, replies[0].body.as_str(), replies[0].closes()), (200, "abc", true));
        port.desk.shelf.holds(&[b"abc"], None);
        assert_eq!(statuses(&port.ask(old).await), [505]);
    });
}

#[test]
fn a_client_that_leaves_frees_its_place_at_once() {
    with_seats(1, Guard::default(), Patience::default(), async |port| {
        let shelf = &port.desk.shelf;
        // In the middle of a stream that never pauses, and while it waits for a piece that never comes.
        for (endless, silent, length) in [(true, false, None), (true, false, Some(u64::MAX)), (false, true, Some(9))] {
            shelf.holds(&[&[b'x'; 5]], length);
            shelf.endless.set(endless);
            shelf.silent.set(silent);
            let mut stream = port.connect().await;
            stream.write_all(load("x", "").as_bytes()).await.expect("taken");
            stream.read_exact(&mut [0; 100]).await.expect("it begins");
            drop(stream);
            shelf.one_is_dropped().await;
        }
        // Before the first piece as well.
        shelf.holds(&[], None);
        let mut stream = port.connect().await;
        stream.write_all(load("x", "").as_bytes()).await.expect("taken");
        while shelf.wanted.borrow().len() < 4 {
            yield_now().await;
        }
        drop(stream);
        shelf.one_is_dropped().await;
        shelf.silent.set(false);
        assert_eq!(statuses(&port.ask(LAST).await), [200]);
    });
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    let patience = Patience { write: Duration::from_millis(80), ..Patience::default() };
    with_port(Guard::default(), patience, async |port| {
        port.desk.shelf.holds(&[&vec![b'x'; PIECE_BYTES]], None);
        port.desk.shelf.endless.set(true);
        let mut silent = port.connect().await;
        silent.write_all(load("x", "").as_bytes()).await.expect("taken");
        port.desk.shelf.one_is_dropped().await;
        let end = silent.read_to_end(&mut Vec::new()).await;
        assert_eq!(end.expect_err("no clean end").kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_client_that_takes_little_is_waited_for() {
    let patience = Patience { write: Duration::from_millis(400), ..Patience::default() };
    with_port(Guard::default(), patience, async |port| {
        port.desk.shelf.holds(&[&vec![b'x'; PIECE_BYTES]], None);
        port.desk.shelf.endless.set(true);
        let mut slow = port.connect().await;
        // A large window is opened again only when much of it was read.
        rustix::net::sockopt::set_socket_recv_buffer_size(&slow, PIECE_BYTES / 4).expect("a socket");
        slow.write_all(load("x", "").as_bytes()).await.expect("taken");
        let over = std::time::Instant::now() + 3 * patience.write;
        while std::time::Instant::now() < over {
            slow.read_exact(&mut vec![0; PIECE_BYTES / 4]).await.expect("it goes on");
            Timer::after(patience.write / 40).await;
        }
    });
}

#[test]
fn so_many_models_at_once_and_the_next_one_waits() {
    let patience = Patience { turn: Duration::from_millis(20), ..Patience::default() };
    with_port(Guard::default(), patience, async |port| {
        let shelf = &port.desk.shelf;
        shelf.holds(&[&vec![b'x'; PIECE_BYTES]], None);
        shelf.endless.set(true);
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let mut stream = port.connect().await;
            stream.write_all(load("x", "").as_bytes()).await.expect("taken");
            stream.read_exact(&mut [0; 1000]).await.expect("it begins");
            streams.push(stream);
        }
        assert_eq!(port.call("GET", "/health", "").await.status, 200);
        let reply = Reply::all(&port.ask(&load("x", "")).await).pop().expect("an answer");
        assert_eq!((reply.status, reply.code().as_str()), (429, "too_many"));
        assert!(reply.head.contains("\r\nRetry-After: 1"), "{}", reply.head);
        let upload = "PUT /upload/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(statuses(&port.ask(upload).await), [429]);
        // All go on taking turns.
        for stream in &mut streams {
            stream.read_exact(&mut vec![0; 1 << 20]).await.expect("it goes on");
        }
        streams.pop();
        shelf.one_is_dropped().await;
        shelf.endless.set(false);
        assert!(port.ask(&[&load("x", ""), LAST].concat()).await.ends_with("healthy\"}"));
    });
}

#[test]
fn names_folders_methods_and_bodies_are_checked_first() {
    with_default_port(async |port| {
        for (name, body, status, code) in [
            ("", "", 400, "name_invalid"),
            ("a%2Fb", "", 400, "name_invalid"),
            ("a/b", "", 400, "name_invalid"),
            ("../x", "", 400, "name_invalid"),
            ("a%00", "", 400, "request_malformed"),
            (&"x".repeat(256), "", 400, "name_invalid"),
            (&"x".repeat(65536), "", 414, "uri_too_long"),
            ("x", r#"{"folder":"a/b"}"#, 400, "name_invalid"),
            ("x", r#"{"folder":1}"#, 422, "request_invalid"),
            ("x", "folder=m", 400, "request_malformed"),
            ("x", &" ".repeat(16385), 413, "body_too_large"),
        ] {
            let text = port.talk(load(name, body)).await;
            let reply = Reply::all(&text).pop().expect("an answer");
            assert_eq!((reply.status, reply.code().as_str()), (status, code), "{name:.20} {body:.20}");
        }
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let text = port.talk(request(method, "/load/x", "")).await;
            assert!(text.starts_with("HTTP/1.1 405 ") && text.contains("\r\nAllow: POST\r\n"), "{text}");
        }
        let browser =
            "POST /load/x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(statuses(&port.talk(browser).await), [415]);
        assert!(port.desk.shelf.wanted.borrow().is_empty());
    });
}

#[test]
fn at_the_end_a_model_on_its_way_is_cut() {
    let patience = Patience { shutdown: Duration::from_millis(10), ..Patience::default() };
    with_port(Guard::default(), patience, async |port| {
        port.desk.shelf.holds(&[b"x"], Some(2));
        port.desk.shelf.silent.set(true);
        let mut stream = port.connect().await;
        stream.write_all(load("x", "").as_bytes()).await.expect("taken");
        stream.read_exact(&mut [0; 20]).await.expect("it begins");
        drop(port.shutdown);
        port.ended.await;
        port.desk.shelf.one_is_dropped().await;
    });
}
