//! nst/JSONTestSuite (MIT), read in place from `../shared/corpora/json` or `TEST_JSON_CORPUS`, and cases of our own at the
//! bounds: as bodies of requests, as answers of the Resource API, as the claims of its token. `y_` is JSON, `n_` is none,
//! `i_` is either. The agent runs on a small stack, so that whatever recurses without a bound ends it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use azaion_cloud::{Cloud, Fault, Route};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::harness::{Agent, Board, EMAIL, PASSWORD, binary, clean, cloud, credentials};
use crate::{address, is_alive, raw, support};

/// The main thread's stack in KiB, where 8192 are usual. A debug build of the agent was seen to need between 96 and 128.
const STACK_KIB: u32 = 256;

/// The longest body, as src/limits/control.rs has it.
const BODY_BYTES: usize = 16 * 1024;

type Cases = BTreeMap<String, Vec<u8>>;

/// Cases that the suite does not have: nested as deep as a body and an answer have room for, and one more than is read.
fn own() -> Cases {
    let nested = |open: &str, close: &str, depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
    let cases = [
        ("y_own_nested_to_the_bound_inside_an_object", nested("[", "]", 31)),
        ("n_own_nested_deeper_than_the_bound", nested("[", "]", 33)),
        ("n_own_nested_as_deep_as_a_body", nested("[", "]", BODY_BYTES / 2)),
        ("n_own_opened_as_often_as_a_body_has_room", "[".repeat(BODY_BYTES)),
        ("n_own_objects_as_deep_as_a_body", nested(r#"{"":"#, "}", 3200)),
        ("n_own_objects_opened", r#"{"a":"#.repeat(3200)),
    ];
    cases.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect()
}

fn corpus() -> Result<Cases, String> {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/json");
    let directory = std::env::var_os("TEST_JSON_CORPUS").map_or_else(usual, PathBuf::from);
    let entries = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let paths = entries.map(|entry| entry.expect("readable").path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let cases: Cases = files
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("readable"))
        })
        .collect();
    assert!(cases.len() >= 318, "{} files, the suite has 318", cases.len());
    Ok(cases)
}

/// Starts the agent on a small stack.
fn start(cloud: &Cloud) -> (Board, Agent) {
    let board = Board::new(cloud);
    let mut command = clean(Path::new("sh"));
    command.args(["-c", &format!("ulimit -s {STACK_KIB} && exec \"$0\" \"$@\"")]).arg(binary());
    let agent = Agent::start_by(command, &board.configure());
    (board, agent)
}

/// What a body comes to at a call of an agent without an archive to which nobody is logged in.
fn expected(call: &str, name: &str, body: &[u8]) -> &'static [u16] {
    let is_json = match name.as_bytes()[0] {
        _ if body.len() > BODY_BYTES => return &[413],
        // A body is optional: without credentials the archive is missed, without a folder the log-in.
        _ if body.trim_ascii().is_empty() => match call {
            "/login" => return &[422],
            "/unlock" => return &[404],
            _ => return &[401],
        },
        // JSON, and refused all the same: which of the two is meant?
        b'y' => !name.starts_with("y_object_duplicated_key"),
        b'n' => false,
        _ => return &[400, 401, 422],
    };
    match (is_json, call) {
        (false, _) => &[400],
        (true, "/load/x") if body.trim_ascii_start().starts_with(b"{") => &[401],
        (true, _) => &[422],
    }
}

fn as_bodies(cases: &Cases) {
    let cloud = cloud();
    let (_board, mut agent) = start(&cloud);
    let address = address(&agent);
    let mut wrong = Vec::new();
    for (name, body) in cases {
        for call in ["/login", "/unlock", "/load/x"] {
            let reply = raw::call(&address, "POST", call, "", body);
            let code = reply.code();
            if !expected(call, name, body).contains(&reply.status) || code.is_empty() {
                wrong.push(format!("{name} at {call}: {} {}", reply.status, reply.body));
            }
        }
    }
    // Among what a call reads over, JSON is as good as none of it there, and what is no JSON spoils the whole.
    for (name, json) in cases.iter().filter(|(_, json)| json.len() < BODY_BYTES - 100) {
        let body = [&br#"{"x":"#[..], json, br#","folder":"models"}"#].concat();
        let statuses: &[u16] = match name.as_bytes()[0] {
            b'y' if !name.starts_with("y_object_duplicated_key") => &[401],
            b'i' => &[400, 401],
            _ => &[400],
        };
        let reply = raw::call(&address, "POST", "/load/x", "", &body);
        if !statuses.contains(&reply.status) {
            wrong.push(format!("{name} in a body: {} {}", reply.status, reply.body));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // None of them was an attempt to log in: all ten are left.
    assert!(cloud.calls().is_empty());
    for _ in 0..10 {
        agent.log_in(EMAIL);
    }
    assert_eq!(agent.post("/login", &credentials(EMAIL, PASSWORD)).0, 429);
}

/// A token that lasts, with this JSON among its claims.
fn token(claim: &[u8]) -> String {
    let claims = [&br#"{"exp":9999999999,"x":"#[..], claim, b"}"].concat();
    [&br#"{"alg":"HS256"}"#[..], &claims, b"signature"].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}

/// Logs in with an answer that is due next: every call for a model is told that its token has expired.
fn asked_again(agent: &Agent, cloud: &Cloud, answer: Vec<u8>) -> raw::Reply {
    cloud.fail_next(Route::Login, Fault::Json(answer));
    raw::call(&address(agent), "POST", "/load/x", "", b"")
}

fn as_answers(cases: &Cases) {
    let cloud = cloud();
    let (_board, mut agent) = start(&cloud);
    agent.log_in(EMAIL);
    cloud.always(Route::ResourceGet, Fault::status(401));
    let mut wrong = Vec::new();
    let mut asked = 1;
    let mut judge = |what: &str, name: &str, reply: raw::Reply, codes: &[&str]| {
        asked += 1;
        if reply.status != 502 || !codes.contains(&reply.code().as_str()) {
            wrong.push(format!("{name} as {what}: {} {}", reply.status, reply.body));
        }
    };
    for (name, json) in cases {
        // Whether it is JSON or not: it holds no token.
        judge("an answer", name, asked_again(&agent, &cloud, json.clone()), &["api_protocol"]);
        // Beside a token, and among its claims: what is read is used, and then refused like the token before.
        let codes: &[&str] = match name.as_bytes()[0] {
            b'y' if !name.starts_with("y_object_duplicated_key") => &["api_refused"],
            b'i' => &["api_protocol", "api_refused"],
            _ => &["api_protocol"],
        };
        let beside = [&br#"{"x":"#[..], json, format!(r#","token":"{}"}}"#, token(b"{}")).as_bytes()].concat();
        judge("a part of an answer", name, asked_again(&agent, &cloud, beside), codes);
        let answer = format!(r#"{{"token":"{}"}}"#, token(json));
        judge("claims", name, asked_again(&agent, &cloud, answer.into_bytes()), codes);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let logins = cloud.calls().iter().filter(|call| call.route == Route::Login).count();
    assert_eq!(logins, asked, "each answer was given to the agent");
    // As the words of a refusal they are shown, or not, and decide nothing.
    for (name, json) in cases {
        let body = String::from_utf8_lossy(json).into_owned();
        cloud.always(Route::ResourceGet, Fault::Status { code: 409, body, retry_after: None });
        let reply = raw::call(&address(&agent), "POST", "/load/x", "", b"");
        assert_eq!((reply.status, reply.code().as_str()), (404, "resource_unknown"), "{name}: {}", reply.body);
    }
    cloud.clear_faults();
    assert!(is_alive(&address(&agent)));
    agent.log_in(EMAIL);
}

#[test]
fn bodies_at_the_bounds() {
    as_bodies(&own());
}

#[test]
fn answers_at_the_bounds() {
    as_answers(&own());
}

#[test]
fn the_suite_as_bodies() {
    match corpus() {
        Ok(cases) => as_bodies(&cases),
        Err(reason) => support::skip_what_lies_elsewhere(&reason),
    }
}

#[test]
fn the_suite_as_answers() {
    match corpus() {
        Ok(cases) => as_answers(&cases),
        Err(reason) => support::skip_what_lies_elsewhere(&reason),
    }
}
