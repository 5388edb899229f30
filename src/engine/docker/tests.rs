//! What no real engine can be brought to do: answers at their bounds, and dying again and again.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use smol::LocalExecutor;

use super::names::split;
use super::*;
use crate::archive::Archive;
use crate::crypto::{Digest, Fragment};
use crate::engine::{Brought, Gauge, LoadError, Order, made};
use crate::limits::{ENGINE_LOAD_ATTEMPTS, ENGINE_RETURN_WAIT};
use crate::net::{tls, turn};

/// A socket that answers each request by script, one for each connection; an empty one closes it without a word.
struct Scripted {
    dir: tempfile::TempDir,
}

impl Scripted {
    fn new(script: impl Fn(&str) -> String + Send + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the socket");
        let listener = UnixListener::bind(dir.path().join("s")).expect("the socket is bound");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.extend_from_slice(&byte);
                }
                let head = String::from_utf8(head).expect("a head is text");
                let answer = script(head.lines().next().unwrap_or_default());
                // Whoever asks may have seen enough and be gone.
                let _gone = stream.write_all(answer.as_bytes());
            }
        });
        Self { dir }
    }

    fn docker(&self) -> Docker {
        let client = Client::new(tls::client_config(None).expect("built-in roots"));
        Docker::new(Rc::new(client), Endpoint::Unix(self.dir.path().join("s")))
    }
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn run<T>(future: impl Future<Output = T>) -> T {
    turn::block_on(&LocalExecutor::new(), future)
}

#[derive(Default)]
struct Counts(Cell<u64>);

impl Gauge for Counts {
    fn done(&self) -> &Cell<u64> {
        &self.0
    }

    fn expect_bytes(&self, _bytes: u64) {}

    fn images(&self, _done: u32) {}
}

/// A load by all its ways, into an engine with the classic store.
fn load(docker: &Docker, archive: &Archive) -> Result<(), LoadError> {
    let store = EngineStore::Classic;
    let expected: Vec<_> = archive.images().iter().map(|image| Expected::of(image, store)).collect();
    let order = Order { store, root: Path::new("/no/such/root"), brought: &[], at_once: 1 };
    run(docker.load(archive, &expected, &order, &Counts::default()))
}

fn vector() -> Archive {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors");
    let told = std::fs::read(dir.join("archives.json")).expect("the vectors are part of the repository");
    let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
    let text = |name: &str| told[0][name].as_str().expect("a text").to_owned();
    let hex = text("key_fragment_hex");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    let fragment = Fragment::new((0..hex.len()).step_by(2).map(byte).collect()).expect("a fragment");
    run(Archive::open(&dir.join(Path::new(&text("file"))), fragment.archive_key(), &Cell::new(0))).expect("it opens")
}

#[test]
fn an_engine_that_dies_each_time_is_given_up_after_the_last_attempt() {
    let loads = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&loads);
    let socket = Scripted::new(move |request| {
        if request.contains("/images/load") {
            counted.fetch_add(1, Ordering::SeqCst);
            return String::new();
        }
        if request.contains("/_ping") { answer("200 OK", "OK") } else { answer("404 Not Found", "{}") }
    });
    let error = run(socket.docker().load_plain(&vector(), &Cell::new(0))).expect_err("it never loads");
    assert!(matches!(error, LoadError::Engine(EngineError::Lost { call: Call::Load, .. })), "{error:?}");
    assert_eq!(loads.load(Ordering::SeqCst), ENGINE_LOAD_ATTEMPTS);
}

#[test]
fn an_engine_that_stays_away_is_not_waited_for_without_end() {
    let socket = Scripted::new(|_| answer("200 OK", "OK"));
    assert!(run(socket.docker().is_back_within(ENGINE_RETURN_WAIT)));
    assert!(!run(socket.docker().is_back_within(Duration::ZERO)));
}

#[test]
fn an_answer_of_200_that_is_cut_is_no_success() {
    let socket = Scripted::new(|request| {
        if request.contains("/images/load") {
            let message = r#"{"stream":"Loaded image: azaion/annotations:1.0\n"}"#;
            return format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n33\r\n{message}\r\n");
        }
        if request.contains("/_ping") { answer("200 OK", "OK") } else { answer("404 Not Found", "{}") }
    });
    let error = run(socket.docker().load_plain(&vector(), &Cell::new(0))).expect_err("the answer has no end");
    assert!(matches!(error, LoadError::Engine(EngineError::Lost { call: Call::Load, .. })), "{error:?}");
}

#[test]
fn an_engine_that_died_for_good_is_waited_for_and_what_it_kept_is_removed() {
    let (seen, requests) = mpsc::channel();
    let (loads, silent) = (AtomicU32::new(0), AtomicU32::new(0));
    let socket = Scripted::new(move |request| {
        let _nobody_listens_any_more = seen.send(request.to_owned());
        if request.contains("/images/load") {
            loads.fetch_add(1, Ordering::SeqCst);
            return String::new();
        }
        let last_died = loads.load(Ordering::SeqCst) == ENGINE_LOAD_ATTEMPTS;
        // More silence than there are names to take back.
        if last_died && silent.fetch_add(1, Ordering::SeqCst) < 6 {
            return String::new();
        }
        match request {
            _ if request.contains("/_ping") => answer("200 OK", "OK"),
            _ if last_died => answer("200 OK", r#"{"Id":"sha256:half"}"#),
            _ => answer("404 Not Found", "{}"),
        }
    });
    run(socket.docker().load_plain(&vector(), &Cell::new(0))).expect_err("it never loads");
    assert!(requests.try_iter().any(|request| request.starts_with("DELETE /images/")));
}

#[test]
fn a_load_that_is_called_done_before_the_tar_has_ended_is_none() {
    // More than a socket holds, so that the answer comes first.
    let content = vec![b'x'; 4 << 20];
    let layers = vec![(made::layer(&[("file", &content)]), made::Packed::Plain)];
    let tar = made::archive(made::Layout::Oci, &[made::Image { tags: vec!["a:1"], layers }]);
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), made::encrypt(b"fragment", &tar)).expect("it is written");
    let key = Fragment::new(b"fragment".to_vec()).expect("a fragment").archive_key();
    let archive = run(Archive::open(file.path(), key, &Cell::new(0))).expect("the archive opens");
    let socket = Scripted::new(|request| match request {
        _ if request.contains("/images/load") => answer("200 OK", r#"{"stream":"Loaded image: a:1\n"}"#),
        _ if request.contains("/_ping") => answer("200 OK", "OK"),
        _ => answer("404 Not Found", "{}"),
    });
    let error = run(socket.docker().load_plain(&archive, &Cell::new(0))).expect_err("the engine cannot have it all");
    let early = EngineError::Protocol { call: Call::Load, fault: Fault::DoneTooEarly };
    assert!(matches!(&error, LoadError::Engine(error) if error.to_string() == early.to_string()), "{error:?}");
}

#[test]
fn documents_hold_at_their_bound() {
    let inspect = |bytes: usize| {
        let document = r#"{"Id":"sha256:ab","RootFS":{"Layers":[]}}"#;
        let body = format!("{document}{}", " ".repeat(bytes - document.len()));
        run(Scripted::new(move |_| answer("200 OK", &body)).docker().inspect("a:1")).map(|found| found.is_some())
    };
    assert!(inspect(ENGINE_DOCUMENT_BYTES).expect("it is read"));
    let error = inspect(ENGINE_DOCUMENT_BYTES + 1).expect_err("one byte too many");
    assert!(matches!(error, EngineError::Http { call: Call::Inspect, .. }), "{error:?}");
}

#[test]
fn the_list_of_images_holds_at_its_bounds() {
    let wanted = Expected { tags: vec![], id: None, ..expected("config") };
    let find = |others: usize, padding: usize| {
        let mut list: Vec<_> = (0..others).map(|n| format!(r#"{{"Id":"other{n}","RepoTags":[]}}"#)).collect();
        list.push(r#"{"Id":"wanted","RepoTags":["<none>:<none>"]}"#.to_owned());
        let list = format!("[{}]{}", list.join(","), " ".repeat(padding));
        let length = list.len();
        let shown = format!(r#"{{"Id":"wanted","RootFS":{{"Layers":["{}"]}}}}"#, wanted.diff_ids[0]);
        let socket = Scripted::new(move |request| match request {
            _ if request.contains("/images/json") => answer("200 OK", &list),
            _ if request.contains("/images/wanted/json") => answer("200 OK", &shown),
            _ if request.contains("/images/other") => answer("200 OK", r#"{"Id":"other","RootFS":{"Layers":["x"]}}"#),
            _ => answer("404 Not Found", r#"{"message":"no such image"}"#),
        });
        (run(socket.docker().find(&wanted)), length)
    };
    assert_eq!(find(ENGINE_LIST_IMAGES - 1, 0).0.expect("it answers"), Ok(()));
    let (found, length) = find(ENGINE_LIST_IMAGES, 0);
    assert_eq!(found.expect("it answers"), Err(Difference::Missing));
    assert_eq!(length, find(ENGINE_LIST_IMAGES, 0).1);
    let bare = find(0, 0).1;
    assert!(find(0, ENGINE_LIST_BYTES - bare).0.is_ok());
    assert!(matches!(find(0, ENGINE_LIST_BYTES - bare + 1).0, Err(EngineError::Http { call: Call::List, .. })));
}

#[test]
fn what_an_engine_refuses_goes_the_next_plainer_way_and_the_tags_are_the_archives_own() {
    // What it takes is told by the length: a thin tar of one image, all of one, the whole archive.
    let (seen, requests) = mpsc::channel();
    let socket = Scripted::new(move |request| {
        let _nobody_listens_any_more = seen.send(request.to_owned());
        match request {
            _ if request.contains("/images/load") => {
                answer("200 OK", r#"{"error":"no","errorDetail":{"message":"layer missing"}}"#)
            }
            _ if request.contains("/_ping") => answer("200 OK", "OK"),
            _ if request.contains("/images/json") => answer("200 OK", "[]"),
            _ => answer("404 Not Found", "{}"),
        }
    });
    let error = load(&socket.docker(), &vector()).expect_err("it takes nothing");
    assert!(matches!(error, LoadError::Engine(EngineError::LoadFailed { .. })), "{error:?}");
    let loads = requests.try_iter().filter(|request| request.contains("/images/load")).count();
    // One image of each way before the refusal, or two where the second was on its way; then the archive.
    assert!((3..=5).contains(&loads), "{loads}");
}

#[test]
fn a_full_engine_is_not_tried_again_another_way() {
    let loads = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&loads);
    let socket = Scripted::new(move |request| match request {
        _ if request.contains("/images/load") => {
            counted.fetch_add(1, Ordering::SeqCst);
            answer("200 OK", r#"{"error":"write /x: no space left on device"}"#)
        }
        _ if request.contains("/_ping") => answer("200 OK", "OK"),
        _ if request.contains("/images/json") => answer("200 OK", "[]"),
        _ => answer("404 Not Found", "{}"),
    });
    let error = load(&socket.docker(), &vector()).expect_err("it is full");
    assert!(matches!(error, LoadError::Engine(EngineError::EngineFull { .. })), "{error:?}");
    assert!(loads.load(Ordering::SeqCst) <= 2);
}

#[test]
fn an_image_that_a_container_uses_stays_and_so_do_names_of_others() {
    let old = Expected { tags: vec!["a:1".into(), "a:2".into()], ..expected("old") };
    let id = old.id.clone().expect("it has one");
    let removed = |containers: &'static str, tags: &'static str| {
        let (seen, requests) = mpsc::channel();
        let shown = format!(r#"{{"Id":"{id}","RepoTags":{tags},"RootFS":{{"Layers":[]}}}}"#);
        let socket = Scripted::new(move |request| {
            let _nobody_listens_any_more = seen.send(request.to_owned());
            match request {
                _ if request.contains("/containers/json") => answer("200 OK", containers),
                _ if request.starts_with("DELETE") => answer("200 OK", "[]"),
                // The new suite has `a:2`.
                _ if request.contains("/images/a:2/") => answer("200 OK", r#"{"Id":"sha256:new"}"#),
                _ => answer("200 OK", &shown),
            }
        });
        let present = [Expected { tags: vec!["a:2".into()], ..expected("new") }];
        let is_done = run(socket.docker().remove_old(&old, &present)).expect("it answers");
        let deleted = requests.try_iter().filter(|request| request.starts_with("DELETE"));
        let names = deleted.map(|request| request.split(['/', '?']).nth(2).unwrap_or_default().to_owned());
        (is_done, names.collect::<Vec<_>>())
    };
    assert_eq!(removed("[{}]", "[]"), (false, vec![]));
    assert_eq!(removed("[]", "[]"), (true, vec!["a:1".to_owned(), id.clone()]));
    assert_eq!(removed("[]", r#"["mine:1"]"#), (true, vec!["a:1".to_owned()]));
}

fn expected(text: &str) -> Expected {
    let config = Digest::of(text.as_bytes());
    let (id, diff_ids) = (Some(config.to_string()), vec![Digest::of(b"layer")]);
    Expected { tags: vec!["a:1".into()], config, diff_ids, id, packed: vec![] }
}

#[test]
fn only_the_image_of_this_very_id_is_whole_and_the_containerd_store_must_have_been_heard() {
    let image = expected("new");
    let whole = |store, is_whole: bool, layer: Digest| {
        let inspected = format!(r#"{{"Id":"x","RootFS":{{"Layers":["{layer}"]}}}}"#);
        let id = image.id.clone().expect("it has one");
        let socket = Scripted::new(move |request| {
            if request.contains(&id) { answer("200 OK", &inspected) } else { answer("404 Not Found", "{}") }
        });
        let brought = [Brought { image: image.clone(), is_whole }];
        run(socket.docker().is_whole(&image, &brought, store)).expect("it answers")
    };
    let layer = Digest::of(b"layer");
    assert!(whole(EngineStore::Classic, false, layer));
    assert!(!whole(EngineStore::Classic, true, Digest::of(b"another")));
    assert!(whole(EngineStore::Containerd, true, layer));
    assert!(!whole(EngineStore::Containerd, false, layer), "shown, and perhaps without its layers");
}

#[test]
fn a_refusal_is_told_in_the_engines_words_whatever_their_form() {
    let refused = |status: &'static str, body: &'static str| {
        let error = run(Scripted::new(move |_| answer(status, body)).docker().ping()).expect_err("a refusal");
        match error {
            EngineError::Refused { status, message, .. } => (status, message),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused("500 X", r#"{"message":"layer does not exist"}"#), (500, "layer does not exist".to_owned()));
    assert_eq!(refused("502 X", "no backend\n"), (502, "no backend".to_owned()));
    assert_eq!(refused("403 X", ""), (403, "Forbidden".to_owned()));
    assert_eq!(refused("301 X", ""), (301, "Moved Permanently".to_owned()));
    let full = run(Scripted::new(|_| answer("500 X", r#"{"message":"no space left on device"}"#)).docker().ping());
    assert!(matches!(full, Err(EngineError::EngineFull { .. })), "{full:?}");
}

#[test]
fn what_is_no_engine_is_told() {
    let socket = Scripted::new(|_| answer("200 OK", "<html>"));
    let error = run(socket.docker().survey()).map(|_facts| ()).expect_err("no engine");
    assert!(matches!(error, EngineError::Protocol { call: Call::Version, .. }), "{error:?}");
}

#[test]
fn names_cannot_leave_their_place_in_a_path() {
    assert_eq!(encoded("azaion/annotations:1.0", KEPT_IN_PATHS), "azaion/annotations:1.0");
    assert_eq!(encoded("host:5000/a_b@sha256:ab", KEPT_IN_PATHS), "host:5000/a_b@sha256:ab");
    assert_eq!(encoded("a?b#c d%e\n", KEPT_IN_PATHS), "a%3Fb%23c%20d%25e%0A");
    assert_eq!(encoded("../../containers/json", KEPT_IN_PATHS), "%2E%2E/%2E%2E/containers/json");
    assert_eq!(encoded("a/b&c=d", ""), "a%2Fb%26c%3Dd");
    assert_eq!(encoded("ä", KEPT_IN_PATHS), "%C3%A4");
}

#[test]
fn a_registrys_port_is_no_tag() {
    assert_eq!(split("azaion/a:1.0"), ("azaion/a", "1.0"));
    assert_eq!(split("host:5000/a:1"), ("host:5000/a", "1"));
    assert_eq!(split("host:5000/a"), ("host:5000/a", "latest"));
    assert_eq!(split("a"), ("a", "latest"));
}
