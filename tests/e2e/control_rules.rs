//! The rules under the table of CONTRACT section 6, as a technician with `curl` meets them on the real agent.

use azaion_cloud::archive::Layout;
use azaion_cloud::{Fault, Route};
use serde_json::json;

use crate::harness::{Board, EMAIL, PASSWORD, cloud, credentials};
use crate::samples;

#[test]
fn a_second_unlock_joins_the_one_that_runs() {
    let cloud = cloud();
    cloud.always(Route::Login, Fault::Silence);
    let board = Board::new(&cloud);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "twice"));
    let mut agent = board.start();
    assert_eq!(agent.unlock(), (202, json!({"state": "authenticating"})));
    assert_eq!(agent.unlock(), (202, json!({"state": "authenticating"})));
    cloud.wait_for_calls(1);
    assert_eq!(cloud.calls().len(), 1, "one log-in, not two");
    assert_eq!(agent.terminate(), Some(0), "a running unlock does not hold the agent up");
}

#[test]
fn when_ready_the_credentials_of_the_body_are_neither_checked_nor_kept() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "ready"));
    let mut agent = board.start();
    agent.unlock_to_ready();
    drop(agent);
    let mut agent = board.start();
    agent.wait_for_line("ready: ");
    let calls = cloud.calls().len();
    assert_eq!(agent.post("/unlock", &credentials(EMAIL, "wrong")), (200, json!({"state": "ready"})));
    assert_eq!(cloud.calls().len(), calls);
    let (_, shown) = agent.curl("/status", &[]);
    assert_eq!(shown["user"], serde_json::Value::Null);
}

#[test]
fn malformed_bodies_are_answered_clearly() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let mut agent = board.start();
    for (body, http) in [
        ("{", 400),
        (r#"{"email":"a@b"}"#, 422),
        (r#"{"email":1,"password":"x"}"#, 422),
        (r#"{"email":"a@b","password":""}"#, 422),
        (r#"{"email":"a@b","email":"c@d","password":"x"}"#, 400),
        ("[]", 422),
    ] {
        for path in ["/login", "/unlock"] {
            let (status, answer) = agent.post(path, body);
            assert_eq!(status, http, "{path} {body}: {answer}");
            assert!(answer["error"]["next"].is_string(), "{path} {body}: {answer}");
        }
    }
    let (status, _) = agent.curl("/login", &["-X", "POST", "-d", &"x".repeat(100_000)]);
    assert_eq!(status, 413);
    assert_eq!(agent.curl("/nothing", &[]).0, 404);
    assert_eq!(agent.curl("/unlock", &[]).0, 405);
    assert_eq!(agent.curl("/health", &[]).0, 200);
}

#[test]
fn browsers_of_other_sites_are_refused() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let mut agent = board.start();
    let body = credentials(EMAIL, PASSWORD);
    let (status, _) = agent.curl("/login", &["-H", "Host: evil.example", "-d", &body]);
    assert_eq!(status, 403, "DNS rebinding");
    let (status, _) = agent.curl("/login", &["-H", "Origin: https://evil.example", "-d", &body]);
    assert!(status == 403 || status == 415, "{status}");
    assert!(cloud.calls().is_empty());
}
