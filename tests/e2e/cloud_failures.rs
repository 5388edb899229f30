//! Everything the cloud and the network can do wrong: each has its state, code and text, and none prints a secret.
//!
//! That no log line and no answer holds the password or the fragment is checked by the harness for every test.

use azaion_cloud::archive::Layout;
use azaion_cloud::{Cloud, Fault, Route};
use serde_json::{Value, json};

use crate::harness::{Agent, Board, EMAIL, PASSWORD, cloud, credentials};
use crate::samples;

fn board(cloud: &Cloud) -> Board {
    let board = Board::new(cloud);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "cloud"));
    board
}

fn status(code: u16, body: &str) -> Fault {
    Fault::Status { code, body: body.to_owned(), retry_after: None }
}

/// Unlocks, expects `error` with this code, and returns what is shown.
fn fails(agent: &mut Agent, code: &str) -> Value {
    let (http, _) = agent.unlock();
    assert_eq!(http, 202);
    let (answer, seen) = agent.settle();
    assert_eq!(answer["state"], "error", "{answer}");
    assert_eq!(answer["error"]["code"], code, "{answer}");
    assert!(!answer["error"]["message"].as_str().unwrap_or_default().is_empty());
    assert!(!answer["error"]["next"].as_str().unwrap_or_default().is_empty());
    assert!(!seen.contains(&"loading_images".to_owned()), "the engine was not reached");
    answer["error"].clone()
}

/// After the cause is gone the same agent unlocks.
fn recovers(agent: &mut Agent) {
    agent.unlock_to_ready();
}

#[test]
fn wrong_password_and_unknown_user() {
    for code in [401, 409] {
        let cloud = cloud();
        cloud.always(Route::Login, status(code, r#"{"ErrorCode":30,"Message":"Passwords do not match."}"#));
        let board = board(&cloud);
        let mut agent = board.start();
        fails(&mut agent, "credentials_wrong");
        assert_eq!(cloud.calls().len(), 1, "never repeated");
        let (http, answer) = agent.post("/login", &credentials(EMAIL, PASSWORD));
        assert_eq!((http, &answer["error"]["code"]), (401, &json!("credentials_wrong")));
        cloud.clear_faults();
        recovers(&mut agent);
    }
    let cloud = cloud();
    let board = board(&cloud);
    let mut agent = board.start();
    for (email, password) in [(EMAIL, "wrong"), ("nobody@example.com", PASSWORD)] {
        let (http, answer) = agent.post("/login", &credentials(email, password));
        assert_eq!((http, &answer["error"]["code"]), (401, &json!("credentials_wrong")), "{email}");
        let (_, shown) = agent.curl("/status", &[]);
        assert_eq!(shown["user"], Value::Null);
    }
}

#[test]
fn a_refused_call_logs_in_again_once() {
    for code in [401, 403] {
        let cloud = cloud();
        cloud.fail_next(Route::KeyFragment, status(code, ""));
        let board = board(&cloud);
        let mut agent = board.start();
        recovers(&mut agent);
        let paths: Vec<_> = cloud.calls().iter().map(|call| call.path.clone()).collect();
        assert_eq!(paths, ["/login", "/binary-split/key-fragment", "/login", "/binary-split/key-fragment"]);
    }
}

#[test]
fn refused_twice_is_final() {
    let cloud = cloud();
    cloud.always(Route::KeyFragment, status(403, ""));
    let board = board(&cloud);
    let mut agent = board.start();
    fails(&mut agent, "api_refused");
    assert_eq!(cloud.calls().len(), 4, "log in, call, log in, call, and no more");
    cloud.clear_faults();
    recovers(&mut agent);
}

#[test]
fn the_servers_own_failures_are_final_and_told() {
    for (code, body, told) in [
        (409, r#"{"ErrorCode":50,"Message":"Hardware mismatch"}"#, "Hardware mismatch"),
        (500, r#"{"ErrorCode":60,"Message":"Database is down"}"#, "Database is down"),
        (500, "plain text of a proxy", "plain text of a proxy"),
    ] {
        let cloud = cloud();
        cloud.always(Route::KeyFragment, status(code, body));
        let board = board(&cloud);
        let mut agent = board.start();
        let error = fails(&mut agent, "api_failed");
        assert!(error["message"].as_str().unwrap_or_default().contains(told), "{error}");
        assert_eq!(cloud.calls().len(), 2, "raised at once");
        cloud.clear_faults();
        recovers(&mut agent);
    }
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let cloud = cloud();
    let busy = || Fault::Status { code: 503, body: String::new(), retry_after: Some("1".into()) };
    cloud.fail_next(Route::Login, busy());
    cloud.fail_next(Route::KeyFragment, busy());
    let board = board(&cloud);
    let mut agent = board.start();
    recovers(&mut agent);
    assert_eq!(cloud.calls().len(), 4);
}

#[test]
fn an_unknown_authority_is_told() {
    let (cloud, other) = (cloud(), cloud());
    let board = board(&cloud).ca(other.ca_pem().to_owned());
    let mut agent = board.start();
    let error = fails(&mut agent, "api_tls");
    assert!(error["next"].as_str().unwrap_or_default().contains("ca_file"), "{error}");
    assert!(cloud.calls().is_empty(), "nothing was sent");
}

#[test]
fn a_refused_connection_is_told() {
    let cloud = cloud();
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let board = board(&cloud).api(&format!("https://localhost:{}", free.port()));
    let mut agent = board.start();
    let error = fails(&mut agent, "api_unreachable");
    assert!(error["message"].as_str().unwrap_or_default().contains("connect"), "{error}");
}

#[test]
fn a_name_that_does_not_resolve_is_told() {
    let cloud = cloud();
    let board = board(&cloud).api("https://no-such-host.invalid");
    let mut agent = board.start();
    let error = fails(&mut agent, "api_unreachable");
    assert!(error["message"].as_str().unwrap_or_default().contains("no-such-host.invalid"), "{error}");
}

#[test]
fn silence_ends_in_a_time_out() {
    let cloud = cloud();
    cloud.always(Route::Login, Fault::Silence);
    let board = board(&cloud).set("cloud", "timeout_seconds = 1");
    let mut agent = board.start();
    let error = fails(&mut agent, "api_timeout");
    assert!(error["message"].as_str().unwrap_or_default().contains("timed out after 1s"), "{error}");
}

#[test]
fn nonsense_from_the_server_is_told() {
    let cases = [
        (Route::Login, Fault::Garbage, None),
        (Route::Login, status(200, "{}"), Some("api_protocol")),
        (Route::Login, status(200, r#"{"token":"a.b.c"}"#), Some("api_protocol")),
        (Route::Login, status(200, r#"{"token":"x","token":"y"}"#), Some("api_protocol")),
        (Route::Login, Fault::EndlessBody, Some("api_protocol")),
        (Route::Login, Fault::Redirect("https://localhost:1/login".into()), Some("api_protocol")),
        (Route::KeyFragment, status(200, ""), Some("api_protocol")),
        (Route::KeyFragment, Fault::EndlessBody, Some("api_protocol")),
        (Route::KeyFragment, status(404, "no such thing"), Some("api_failed")),
    ];
    for (route, fault, code) in cases {
        let cloud = cloud();
        let what = format!("{route:?} {fault:?}");
        cloud.always(route, fault);
        let board = board(&cloud);
        let mut agent = board.start();
        assert_eq!(agent.unlock().0, 202);
        let (answer, _) = agent.settle();
        assert_eq!(answer["state"], "error", "{what}: {answer}");
        if let Some(code) = code {
            assert_eq!(answer["error"]["code"], code, "{what}: {answer}");
        }
        cloud.clear_faults();
        recovers(&mut agent);
    }
}

#[test]
fn a_cut_answer_is_asked_for_again() {
    let cloud = cloud();
    cloud.fail_next(Route::KeyFragment, Fault::CutAfter(3));
    cloud.fail_next(Route::Login, Fault::CloseBeforeAnswer);
    let board = board(&cloud);
    let mut agent = board.start();
    recovers(&mut agent);
}
