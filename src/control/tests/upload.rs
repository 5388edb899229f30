//! `/upload`: raw bytes and forms, refused early, late and by the desk.

use super::*;
use crate::limits::{FORM_FRAMING_BYTES, FORM_IGNORED_BYTES, FORM_PARTS, PIECE_BYTES};

/// What was uploaded to its end.
type Done = Rc<RefCell<Vec<(Wanted, Vec<u8>)>>>;

/// Where the fake desk puts uploads.
#[derive(Default)]
pub(super) struct Inbox {
    refusal: RefCell<Option<Report>>,
    /// Bytes that an upload may have.
    room: Cell<Option<usize>>,
    pub(super) accepts: Cell<bool>,
    begun: Cell<usize>,
    done: Done,
    dropped: Rc<Cell<usize>>,
}

pub(super) struct FakeUpload {
    bytes: Vec<u8>,
    room: Option<usize>,
    answer: UploadAnswer,
    done: Done,
    dropped: Rc<Cell<usize>>,
}

impl Inbox {
    pub(super) fn open(&self) -> Result<FakeUpload, Report> {
        self.begun.set(self.begun.get() + 1);
        self.refusal.borrow().clone().map_or(Ok(()), Err)?;
        Ok(FakeUpload {
            bytes: Vec::new(),
            room: self.room.get(),
            answer: if self.accepts.get() { UploadAnswer::Accepted } else { UploadAnswer::Published },
            done: Rc::clone(&self.done),
            dropped: Rc::clone(&self.dropped),
        })
    }

    pub(super) fn refuses(&self, report: Report) {
        self.refusal.replace(Some(report));
    }

    /// What came, by folder, name and bytes.
    fn take(&self) -> Vec<(String, String, Vec<u8>)> {
        let done = self.done.take();
        done.into_iter().map(|(w, bytes)| (w.folder.as_str().into(), w.name.as_str().into(), bytes)).collect()
    }
}

impl Incoming for FakeUpload {
    async fn push(&mut self, piece: &[u8]) -> Result<(), Report> {
        assert!((1..=PIECE_BYTES).contains(&piece.len()));
        self.bytes.extend_from_slice(piece);
        if self.room.is_some_and(|room| self.bytes.len() > room) {
            return Err(report(Code::NoSpace));
        }
        Ok(())
    }

    async fn finish(mut self, wanted: Wanted) -> Result<UploadAnswer, Report> {
        self.done.borrow_mut().push((wanted, std::mem::take(&mut self.bytes)));
        Ok(self.answer)
    }
}

impl Drop for FakeUpload {
    fn drop(&mut self) {
        self.dropped.set(self.dropped.get() + 1);
    }
}

fn report(code: Code) -> Report {
    Report { code, message: "no".into(), next: "ask".into() }
}

fn put(target: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("PUT /upload/{target} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

fn part(head: &str, content: &str) -> String {
    format!("--B\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n")
}

fn form(target: &str, body: &str) -> String {
    put(target, "Content-Type: multipart/form-data; boundary=B\r\n", body)
}

const DATA: &str = "name=\"data\"; filename=\"x\"";

#[test]
fn raw_bytes_arrive_under_their_name_and_folder() {
    with_default_port(async |port| {
        let chunked = "POST /upload/c HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                       1\r\na\r\n2\r\nbc\r\n0\r\n\r\n";
        let all = [
            put("a%20b?folder=m", "", "abc"),
            put("x", "Content-Type: application/json\r\n", ""),
            chunked.into(),
            request("POST", "/upload/%D1%8F?folder=", "z"),
        ];
        let text = port.talk(all.concat()).await;
        assert_eq!(statuses(&text), [200; 4]);
        assert_eq!(Reply::all(&text)[0].body, r#"{"status":"success"}"#);
        let seen = port.desk.inbox.take();
        let seen: Vec<_> = seen.iter().map(|(f, n, bytes)| (f.as_str(), n.as_str(), bytes.as_slice())).collect();
        assert_eq!(seen, [("m", "a b", b"abc".as_slice()), ("", "x", b""), ("", "c", b"abc"), ("", "я", b"z")]);

        port.desk.inbox.accepts.set(true);
        let reply = port.call("PUT", "/upload/x", "abc").await;
        assert_eq!((reply.status, reply.body.as_str()), (202, r#"{"status":"accepted"}"#));
    });
}

#[test]
fn forms_bring_the_folder_before_or_behind_the_file() {
    with_default_port(async |port| {
        let data = part(DATA, "line\r\n--C not\r\n--");
        let folder = part("name=\"folder\"", "m");
        let other = part("name=\"comment\"", "hello");
        let bodies = [
            format!("{folder}{data}--B--\r\n"),
            format!("preamble\r\n{data}{other}{folder}--B--\r\nepilogue"),
            format!("{data}--B--"),
            format!("{}--B--\r\n", part("name=data", "")),
        ];
        let text = port.talk(bodies.iter().map(|body| form("x", body)).collect::<String>()).await;
        assert_eq!(statuses(&text), [200; 4]);
        let seen = port.desk.inbox.take();
        let seen: Vec<_> = seen.iter().map(|(f, _, bytes)| (f.as_str(), bytes.as_slice())).collect();
        let bytes = b"line\r\n--C not\r\n--".as_slice();
        assert_eq!(seen, [("m", bytes), ("m", bytes), ("", bytes), ("", b"")]);
        for target in ["x?folder=m", "x"] {
            let quoted = put(target, "Content-Type: Multipart/Form-Data;boundary=\"B\"\r\n", &bodies[0]);
            assert_eq!(statuses(&port.talk(quoted).await), [200]);
        }
        let browser =
            put("x", "Origin: http://localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n", &bodies[0]);
        assert_eq!(statuses(&port.talk(browser).await), [200]);
        let query = form("x?folder=q", &bodies[2]);
        assert_eq!(statuses(&port.talk(query).await), [200]);
        assert_eq!(port.desk.inbox.take().last().map(|(folder, ..)| folder.clone()), Some("q".into()));
    });
}

#[test]
fn a_large_file_passes_in_pieces_whatever_it_holds() {
    with_default_port(async |port| {
        let content = "\r\n--A\r\r\n-".repeat(200_000);
        let body = format!("{}--B--\r\n", part(DATA, &content));
        assert_eq!(statuses(&port.talk(form("x", &body)).await), [200]);
        assert_eq!(statuses(&port.talk(put("x", "", &content)).await), [200]);
        let chunks: String = content.as_bytes().chunks(7001).fold(String::new(), |text, chunk| {
            text + &format!("{:x}\r\n{}\r\n", chunk.len(), str::from_utf8(chunk).expect("ascii"))
        });
        let chunked = "PUT /upload/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(statuses(&port.talk(format!("{chunked}{chunks}0\r\n\r\n")).await), [200]);
        let seen = port.desk.inbox.take();
        assert!(seen.len() == 3 && seen.iter().all(|(_, _, bytes)| bytes == content.as_bytes()));
    });
}

#[test]
fn faulty_forms_are_refused_and_nothing_of_them_stays() {
    with_default_port(async |port| {
        let data = part(DATA, "abc");
        let folder = |text: &str| part("name=\"folder\"", text);
        let long = "x".repeat(FORM_FRAMING_BYTES + PIECE_BYTES + 1);
        let ignored = |bytes: usize| format!("{}{data}--B--", part("name=\"x\"", &"x".repeat(bytes)));
        let parts = |count: usize| format!("{}{data}--B--", part("name=\"x\"", "").repeat(count));
        for (status, body) in [
            (400, String::new()),
            (400, "abc".into()),
            (400, data.clone()),
            (400, format!("{data}--B-")),
            (400, "--B\r\nContent-Disp".into()),
            (400, "--Bx\r\n\r\n".into()),
            (400, "--B\r\nno header\r\n\r\nabc\r\n--B--".into()),
            (422, "--B--".into()),
            (422, format!("{}--B--", folder("m"))),
            (422, format!("{data}{data}--B--")),
            (422, format!("{data}{}{}--B--", folder("m"), folder("m"))),
            (422, "--B\r\nContent-Disposition: form-data; name=data\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\n\r\n--B--".into()),
            (400, format!("{data}{}--B--", folder("a/b"))),
            (400, format!("{data}{}--B--", folder(&"x".repeat(64)))),
            (200, format!("{data}{}--B--", folder(&"x".repeat(63)))),
            (413, long.clone()),
            (413, format!("--B\r\nX: {long}")),
            (413, format!("{data}--B--{long}")),
            (413, ignored(FORM_IGNORED_BYTES + 1)),
            (200, ignored(FORM_IGNORED_BYTES)),
            (413, parts(FORM_PARTS)),
            (200, parts(FORM_PARTS - 1)),
        ] {
            let text = port.talk(form("x", &body)).await;
            assert_eq!(statuses(&text), [status], "{body:.200}");
            let stays = port.desk.inbox.take().len();
            assert_eq!(stays, usize::from(status == 200), "{body:.200}");
        }
        assert_eq!(port.desk.inbox.begun.get(), port.desk.inbox.dropped.get());
        assert_eq!(statuses(&port.talk(form("x?folder=n", &format!("{}{data}--B--", folder("m")))).await), [422]);
    });
}

#[test]
fn what_the_head_tells_is_refused_before_the_desk_is_asked() {
    with_default_port(async |port| {
        for (status, request) in [
            (400, put("", "", "abc")),
            (400, put("a%2Fb", "", "abc")),
            (400, put("a/b", "", "abc")),
            (400, put("x?folder=a/b", "", "abc")),
            (400, put("x?folder=a&folder=a", "", "abc")),
            (400, put("x", "Content-Range: bytes 5-7/8\r\n", "abc")),
            (400, put("x", "Content-Type: multipart/form-data\r\n", "abc")),
            (400, put("x", "Content-Type: multipart/form-data; boundary=\"\"\r\n", "abc")),
            (400, put("x", &format!("Content-Type: multipart/form-data; boundary={}\r\n", "b".repeat(71)), "abc")),
            (422, "POST /upload/x HTTP/1.1\r\nHost: localhost\r\n\r\n".into()),
            (403, put("x", "Origin: http://evil.example\r\n", "abc")),
            (405, request("GET", "/upload/x", "")),
        ] {
            assert_eq!(statuses(&port.talk(&request).await), [status], "{request}");
        }
        assert_eq!(port.desk.inbox.begun.get(), 0);
    });
}

#[test]
fn who_may_not_upload_is_told_before_the_bytes_are_sent() {
    with_default_port(async |port| {
        let head =
            "PUT /upload/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5000000000\r\n\r\n";
        for code in [Code::NotLoggedIn, Code::RoleTooLow, Code::NoSpace] {
            port.desk.inbox.refusal.replace(Some(report(code)));
            let reply = Reply::all(&port.talk(head).await).pop().expect("an answer");
            assert_eq!((reply.status, reply.closes()), (code.http_status(), true), "no 100 before it");
        }
        // A small body is read over, and the connection stays.
        assert_eq!(statuses(&port.talk(put("x", "", "abc").repeat(2)).await), [507, 507]);

        port.desk.inbox.refusal.take();
        let mut stream = port.connect().await;
        stream.write_all(head.as_bytes()).await.expect("taken");
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.expect("told");
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        // A client that leaves in the middle leaves nothing.
        let dropped = port.desk.inbox.dropped.get();
        stream.write_all(b"abc").await.expect("taken");
        drop(stream);
        while port.desk.inbox.dropped.get() == dropped {
            yield_now().await;
        }
        assert!(port.desk.inbox.take().is_empty());
    });
}

#[test]
fn a_full_flash_is_told_while_the_client_still_sends() {
    with_default_port(async |port| {
        port.desk.inbox.room.set(Some(100_000));
        let content = "x".repeat(8 << 20);
        for request in [put("x", "", &content), form("x", &part(DATA, &content))] {
            let reply = Reply::all(&port.talk(request).await).pop().expect("an answer");
            assert_eq!((reply.status, reply.code().as_str(), reply.closes()), (507, "no_space", true));
        }
        assert!(port.desk.inbox.take().is_empty());
    });
}

#[test]
fn an_upload_that_pauses_too_long_is_too_slow() {
    let short = Duration::from_millis(20);
    let patience = Patience { body: Duration::ZERO, upload: short, ..Patience::default() };
    with_port(Guard::default(), patience, async |port| {
        let mut stream = port.connect().await;
        // Bytes enough for minutes, were it not for the single pause.
        let head = "PUT /upload/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n";
        stream.write_all(format!("{head}{}", "x".repeat(800_000)).as_bytes()).await.expect("taken");
        assert_eq!(statuses(&rest(&mut stream).await), [408]);
    });
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]
    #[test]
    fn any_bytes_pass_through_a_form_unchanged(content in "[\\r\\n\\-Bab]{0,200}", cuts in proptest::collection::vec(1..40_usize, 1..8)) {
        // A boundary inside the file would be the client's fault.
        proptest::prop_assume!(!content.contains("--B") && !format!("{content}\r").contains("\n--B"));
        with_default_port(async |port| {
            let body = format!("{}{}--B--\r\n", part(DATA, &content), part("name=\"folder\"", "m"));
            let mut chunks = String::new();
            let (mut rest, mut turn) = (body.as_str(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (chunk, behind) = rest.split_at(rest.len().min(*turn.next().expect("endless")));
                chunks.extend([format!("{:x}\r\n", chunk.len()).as_str(), chunk, "\r\n"]);
                rest = behind;
            }
            let head = "POST /upload/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
                        Content-Type: multipart/form-data; boundary=B\r\n\r\n";
            assert_eq!(statuses(&port.talk(format!("{head}{chunks}0\r\n\r\n")).await), [200]);
            assert_eq!(port.desk.inbox.take(), [("m".into(), "x".into(), content.as_bytes().to_vec())]);
        });
    }

    #[test]
    fn no_form_makes_it_panic_or_hang(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), at in 0..130_usize) {
        let whole = format!("{}{}--B--\r\n", part(DATA, "abc"), part("name=\"folder\"", "m"));
        let mut body = whole.into_bytes();
        let until = body.len().min(at + bytes.len() % 9);
        body.splice(at..until, bytes);
        with_default_port(async |port| {
            let mut request = format!(
                "POST /upload/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n\
                 Content-Length: {}\r\n\r\n", body.len()).into_bytes();
            request.extend_from_slice(&body);
            let replies = Reply::all(&port.talk(request).await);
            assert!(replies.len() == 1 && (200..600).contains(&replies[0].status));
        });
    }
}
