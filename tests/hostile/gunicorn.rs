//! gunicorn's corpus of requests (`PyPI`, MIT), sent to the port of a real agent.
//!
//! Each request is made one for this port, and nothing else about it is changed: `POST` and `PUT` become `GET`, which
//! `/health` takes and reads a body with; the target becomes `/health?` with the old one behind it; a `Host` is added
//! where there is none, which gunicorn allows. So what is refused is refused for its own reason, and every body is read.
//! `cases.rs` has the outcome of each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cases::CASES;
use crate::harness::{Board, cloud};
use crate::{address, is_alive, raw, support};

/// The hosts that the requests name, so that it is not for them that they are refused.
const HOSTS: &str = r#"allow_hosts = ["a", "x", "example.com", "victim.com", "whatever", "0.0.0.0"]"#;

/// The corpus, or why it is not here.
fn corpus() -> Result<PathBuf, String> {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/gunicorn-requests");
    let output = Command::new(tool).output().expect("tests/tools/gunicorn-requests can be run");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(said(&output.stdout).into()),
        Some(69) => Err(said(&output.stderr)),
        _ => panic!("{}", said(&output.stderr)),
    }
}

/// The bytes that a file of the corpus stands for, as gunicorn's `tests/treq.py` reads it: line ends count for nothing,
/// `\r\n`, `\n`, `\t`, `\0` and `\xHH` are written out.
fn decoded(file: &[u8]) -> Vec<u8> {
    let file: Vec<u8> = file.iter().copied().filter(|&byte| byte != b'\n').collect();
    let mut bytes = Vec::new();
    let mut rest = file.as_slice();
    while let [first, after @ ..] = rest {
        rest = after;
        let ([b'\\'], [letter, after @ ..]) = (&[*first], after) else {
            bytes.push(*first);
            continue;
        };
        rest = after;
        bytes.push(match letter {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'x' => {
                let (digits, after) = after.split_at(2);
                rest = after;
                u8::from_str_radix(str::from_utf8(digits).expect("ascii"), 16).expect("two digits")
            }
            other => panic!("an escape that gunicorn does not know: {}", char::from(*other)),
        });
    }
    bytes
}

/// The request as one for this port.
fn adapted(bytes: &[u8]) -> Vec<u8> {
    let mut adapted = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let (line, after) = rest.split_at(end);
        let old = line.ends_with(b" HTTP/1.0");
        if !old && !line.ends_with(b" HTTP/1.1") {
            // A body between two requests, or what is no request line.
            adapted.extend_from_slice(&rest[..end + 2]);
            rest = &rest[end + 2..];
            continue;
        }
        adapted.extend(request_line(line));
        let head_end = after.windows(4).position(|four| four == b"\r\n\r\n").map_or(after.len(), |at| at + 4);
        let (head, body) = after.split_at(head_end);
        let fields = head.to_ascii_lowercase();
        let has = |name: &[u8]| fields.windows(name.len()).any(|window| window == name);
        if !has(b"\nhost:") {
            adapted.extend_from_slice(b"\r\nHost: localhost");
        }
        adapted.extend_from_slice(head);
        rest = body;
        if has(b"\ncontent-length") {
            // A body that may look like a request.
            break;
        }
    }
    adapted.extend_from_slice(rest);
    adapted
}

fn request_line(line: &[u8]) -> Vec<u8> {
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = words.as_slice() else { return line.to_owned() };
    let method = if [&b"POST"[..], b"PUT"].contains(method) { b"GET" } else { *method };
    // The path of an absolute-form begins behind `scheme://host`.
    let slashes = target.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let path = if target.starts_with(b"/") { Some(0) } else { slashes.skip(2).find(|_| target.starts_with(b"http")) };
    let target = path.map_or_else(|| target.to_vec(), |at| [&target[..at], b"/health?", &target[at..]].concat());
    [method, &target, version].join(&b' ')
}

fn requests(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for kind in ["invalid", "valid"] {
        for entry in fs::read_dir(directory.join(kind)).expect("the corpus is whole") {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|extension| extension == "http") {
                let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
                let mut bytes = decoded(&fs::read(&path).expect("readable"));
                let name = format!("{kind}/{name}");
                match name.as_str() {
                    // A line alone, which gunicorn's proxy protocol looks at before there is a head.
                    "invalid/pp_01" | "invalid/pp_02" | "invalid/pp_03" => bytes.extend_from_slice(b"\r\n"),
                    // It is about its coding, and a fragment in the target is refused here before.
                    "invalid/rfc9112_te_identity_with_cl_01" => bytes.retain(|&byte| byte != b'#'),
                    _ => {}
                }
                found.insert(name, adapted(&bytes));
            }
        }
    }
    found
}

#[test]
fn every_request_of_gunicorn_has_its_outcome() {
    let directory = match corpus() {
        Ok(directory) => directory,
        Err(reason) => return support::skip(&reason),
    };
    let requests = requests(&directory);
    assert_eq!(requests.len(), 62 + 81, "the corpus of this version");
    let cloud = cloud();
    let agent = Board::new(&cloud).set("control", HOSTS).start();
    let mut wrong = Vec::new();
    for (name, bytes) in &requests {
        let replies = raw::talk(&address(&agent), bytes);
        let statuses: Vec<String> = replies.iter().map(|reply| reply.status.to_string()).collect();
        let outcome = if statuses.is_empty() { "closed".to_owned() } else { statuses.join(" ") };
        let said = replies.last().map_or("", |reply| reply.body.as_str());
        let case = CASES.iter().find(|(case, ..)| case == name);
        if case.is_none_or(|(_, expected, part, _)| *expected != outcome || !said.contains(part)) {
            wrong.push(format!("{name}: {outcome} {said}, not {case:?}: {}", bytes.escape_ascii()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(CASES.len(), requests.len(), "no outcome without its request");
    assert!(is_alive(&address(&agent)));
    // Nobody was logged in and nothing was asked of the cloud by any of them.
    assert!(cloud.calls().is_empty());
}

#[test]
fn what_is_taken_of_the_invalid_and_refused_of_the_valid_has_its_reason() {
    for (name, outcome, _, reason) in CASES {
        let as_named = if name.starts_with("valid/") {
            outcome.split(' ').all(|status| status == "200")
        } else {
            ["400", "431", "505", "closed"].contains(outcome)
        };
        assert_eq!(as_named, reason.is_empty(), "{name} {outcome}: {reason}");
    }
}

#[test]
fn the_corpus_is_read_as_gunicorn_reads_it() {
    assert_eq!(decoded(b"GET / HTTP/1.1\\r\\n\nA:\\tb\\0\\x7F\\r\n\\n"), b"GET / HTTP/1.1\r\nA:\tb\0\x7f\r\n");
    let whole = |text: &str| String::from_utf8(adapted(text.as_bytes())).expect("text");
    assert_eq!(
        whole("POST /a?b HTTP/1.1\r\nX: y\r\n\r\n"),
        "GET /health?/a?b HTTP/1.1\r\nHost: localhost\r\nX: y\r\n\r\n"
    );
    assert_eq!(
        whole("GET http://h/a HTTP/1.1\r\nHOST: h\r\n\r\n"),
        "GET http://h/health?/a HTTP/1.1\r\nHOST: h\r\n\r\n"
    );
    let two = "GET / HTTP/1.1\r\n\r\n";
    let adapted = "GET /health?/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(whole(&two.repeat(2)), adapted.repeat(2));
    let body = format!("GET / HTTP/1.0\r\nHost: h\r\nContent-Length: 18\r\n\r\n{two}");
    assert!(whole(&body).ends_with(&format!("\r\n\r\n{two}")));
}
