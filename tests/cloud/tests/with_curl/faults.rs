//! Each fault does what it says, and only when it was asked for.

use std::io::Read;
use std::time::Duration;

use azaion_cloud::{Cloud, Fault, Route};

use crate::{Curl, EMAIL, FRAGMENT, Got, PASSWORD, cloud};

const PATH: &str = "/binary-split/key-fragment";

// What `curl` calls it (man curl, EXIT CODES).
const UNSUPPORTED_PROTOCOL: i32 = 1;
const PARTIAL_FILE: i32 = 18;
const TIMED_OUT: i32 = 28;
const TLS_CONNECT: i32 = 35;
const EMPTY_REPLY: i32 = 52;
const RECEIVE_FAILED: i32 = 56;

/// Fetches the fragment once under the fault and once after it, which must be right again.
fn under(fault: Fault) -> (Got, Cloud) {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    let bearer = curl.bearer();
    cloud.fail_next(Route::KeyFragment, fault);
    let got = curl.run(&["--header", &bearer, PATH]);
    let after = curl.run(&["--header", &bearer, PATH]);
    assert_eq!((after.exit, after.status, after.body.as_slice()), (0, 200, FRAGMENT));
    assert_eq!(cloud.calls().len(), 3);
    (got, cloud)
}

/// The status that was recorded for the call under the fault.
fn recorded(cloud: &Cloud) -> Option<u16> {
    cloud.calls()[1].status
}

#[test]
fn status_with_retry_after() {
    let (got, cloud) = under(Fault::try_later(503, 7));
    assert_eq!((got.exit, got.status, got.body.len()), (0, 503, 0));
    assert!(got.head.contains("retry-after: 7\r\n"), "{}", got.head);
    assert_eq!(recorded(&cloud), Some(503));
}

#[test]
fn status_with_the_apis_error() {
    let (got, _cloud) = under(Fault::error(409, 40, "Hardware mismatch"));
    assert_eq!((got.status, got.json()["Message"].as_str()), (409, Some("Hardware mismatch")));
    assert!(got.head.contains("content-type: application/json\r\n"), "{}", got.head);
}

#[test]
fn a_fault_instead_of_a_login_issues_no_token() {
    let cloud = cloud(|_| ());
    cloud.fail_next(Route::Login, Fault::status(500));
    assert_eq!(Curl::of(&cloud).login(EMAIL, PASSWORD).status, 500);
    assert!(cloud.issued_tokens().is_empty());
}

#[test]
fn delay_answers_late_but_right() {
    let (got, cloud) = under(Fault::Delay(Duration::from_millis(40)));
    assert_eq!((got.status, got.body.as_slice()), (200, FRAGMENT));
    assert!(cloud.calls()[1].took.expect("it was answered") >= Duration::from_millis(40));
}

#[test]
fn silence_takes_the_call_and_never_answers() {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    let bearer = curl.bearer();
    cloud.always(Route::KeyFragment, Fault::Silence);
    let mut waiting = curl.spawn(&["--header", &bearer, PATH]);
    let calls = cloud.wait_for_calls(2);
    assert_eq!((calls[1].route, calls[1].status), (Route::KeyFragment, None));
    assert_eq!(waiting.try_wait().expect("curl can be asked"), None);
    waiting.kill().expect("curl can be stopped");
    waiting.wait().expect("curl has ended");
    cloud.clear_faults();
    assert_eq!(curl.run(&["--header", &bearer, PATH]).status, 200);
}

#[test]
fn cut_after_announces_all_and_sends_a_part() {
    for (after, sent) in [(0, 0), (5, 5), (1000, FRAGMENT.len() - 1)] {
        let (got, cloud) = under(Fault::CutAfter(after));
        assert!([PARTIAL_FILE, RECEIVE_FAILED].contains(&got.exit), "{got:?}");
        assert!(got.head.contains(&format!("content-length: {}\r\n", FRAGMENT.len())), "{}", got.head);
        assert_eq!(got.body, FRAGMENT[..sent]);
        assert_eq!(recorded(&cloud), Some(200));
    }
}

#[test]
fn an_endless_body_does_not_end() {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    cloud.fail_next(Route::Login, Fault::EndlessBody);
    let mut reading = curl.spawn(&["--request", "POST", "/login"]);
    let mut body = vec![0; 4 << 20];
    reading.stdout.as_mut().expect("it is piped").read_exact(&mut body).expect("there is always more");
    reading.kill().expect("curl can be stopped");
    reading.wait().expect("curl has ended");
    assert_eq!(cloud.calls()[0].status, Some(200));
}

#[test]
fn garbage_is_not_http() {
    let (got, cloud) = under(Fault::Garbage);
    assert_eq!((got.exit, got.status), (UNSUPPORTED_PROTOCOL, 0), "{got:?}");
    assert_eq!(recorded(&cloud), None);
}

#[test]
fn close_before_answer_is_an_empty_reply() {
    let (got, cloud) = under(Fault::CloseBeforeAnswer);
    assert_eq!((got.exit, got.status), (EMPTY_REPLY, 0), "{got:?}");
    assert_eq!(recorded(&cloud), None);
}

#[test]
fn close_after_answer_leaves_a_dead_connection_behind() {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    let bearer = curl.bearer();
    let twice = || curl.run(&["--header", &bearer, PATH, PATH]);
    let before = cloud.connections();
    assert_eq!(twice().body, [FRAGMENT, FRAGMENT].concat());
    assert_eq!(cloud.connections(), before + 1, "both calls on one connection");
    cloud.fail_next(Route::KeyFragment, Fault::CloseAfterAnswer);
    let got = twice();
    assert_eq!((got.exit, got.body), (0, [FRAGMENT, FRAGMENT].concat()));
    assert!(!got.head.contains("connection: close"), "{}", got.head);
    assert_eq!(cloud.connections(), before + 3, "the second call needed a connection of its own");
}

#[test]
fn a_redirect_names_its_target() {
    let (got, cloud) = under(Fault::Redirect("https://elsewhere.example/login".into()));
    assert_eq!(got.status, 307);
    assert!(got.head.contains("location: https://elsewhere.example/login\r\n"), "{}", got.head);
    assert_eq!(recorded(&cloud), Some(307));
}

#[test]
fn always_lasts_until_it_is_cleared() {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    cloud.always(Route::Login, Fault::status(500));
    cloud.fail_next(Route::Login, Fault::status(429));
    let statuses: Vec<_> = (0..3).map(|_| curl.login(EMAIL, PASSWORD).status).collect();
    assert_eq!(statuses, [429, 500, 500]);
    assert_eq!(curl.run(&[PATH]).status, 401, "other calls are not befallen");
    cloud.clear_faults();
    assert_eq!(curl.login(EMAIL, PASSWORD).status, 200);
}

#[test]
fn handshakes_fail_as_asked_for() {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    for (fault, exit) in [(Fault::Garbage, TLS_CONNECT), (Fault::CloseBeforeAnswer, TLS_CONNECT)] {
        cloud.fail_next(Route::Handshake, fault);
        assert_eq!(curl.run(&[PATH]).exit, exit);
    }
    cloud.fail_next(Route::Handshake, Fault::Silence);
    assert_eq!(curl.run(&["--connect-timeout", "0.2", PATH]).exit, TIMED_OUT);
    assert_eq!((cloud.connections(), cloud.calls().len()), (0, 0));
    cloud.fail_next(Route::Handshake, Fault::Delay(Duration::from_millis(1)));
    assert_eq!(curl.run(&[PATH]).status, 401);
    assert_eq!(cloud.connections(), 1);
}
