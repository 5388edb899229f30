//! The rules of CONTRACT section 1 against servers that answer by a script.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use smol::future::{pending, poll_once, zip};

use super::*;
use crate::crypto::AesKey;
use crate::error::{Code, Explain, Report};
use crate::limits::{ERROR_BODY_BYTES, KEY_FRAGMENT_BYTES, LOGIN_ANSWER_BYTES};
use crate::net::scripted::{Identity, Request, Server, client, race, run};
use crate::net::{BaseUrl, Client, Clock, Timeouts, client_config};
use crate::secret::{Credentials, SecretText};

const EMAIL: &str = "tech@example.com";
const PASSWORD: &str = "Пароль \"hunter2\"\n";

const POLICY: RetryPolicy = RetryPolicy {
    attempts: 4,
    total: Duration::from_mins(1),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(2),
};

pub(super) fn credentials() -> Credentials {
    Credentials::new(EMAIL.into(), SecretText::new(PASSWORD.into())).expect("lengths fit")
}

fn api_at(port: u16) -> Api {
    let url = BaseUrl::parse(&format!("http://127.0.0.1:{port}/v1/")).expect("loopback");
    Api::new(Rc::new(client()), url, Clock::manual(), None, POLICY)
}

pub(super) fn api(server: &Server) -> Api {
    api_at(server.port())
}

/// A token for user `id` that lives a minute.
pub(super) fn token(id: &str) -> String {
    let claims = format!(r#"{{"nameid":"{id}","unique_name":"{EMAIL}","role":"Operator","iat":1000,"exp":1060}}"#);
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", encode(r#"{"alg":"HS256"}"#), encode(&claims), encode("signature"))
}

/// An answer after which the server closes.
pub(super) fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

pub(super) fn logged_in(id: &str) -> String {
    answer(200, "", &format!(r#"{{"token":"{}"}}"#, token(id)))
}

/// Serves `answers` one after the other, each on its own connection, and returns the requests.
pub(super) async fn script(server: &Server, answers: &[String]) -> Vec<Request> {
    let mut requests = Vec::new();
    for answer in answers {
        let (request, peer) = server.serve(answer).await;
        peer.close().await;
        requests.push(request);
    }
    requests
}

/// Whether nobody has connected since.
pub(super) async fn is_left_alone(server: &Server) -> bool {
    poll_once(server.accept()).await.is_none()
}

/// The result of a log-in that is answered with `answers`, all of which must be asked for, and nothing after them.
fn login_with(answers: &[String]) -> (Result<Session, CloudError>, Vec<Request>) {
    let server = Server::bind();
    let api = api(&server);
    run(
        async {
            let result = api.open_session(credentials()).await;
            assert!(is_left_alone(&server).await, "one call too many");
            result
        },
        script(&server, answers),
    )
}

/// The result of a key fetch after a log-in, and the requests after the log-in's.
fn fetch_with(answers: &[String]) -> (Result<AesKey, CloudError>, Vec<Request>) {
    let server = Server::bind();
    let api = api(&server);
    let (result, mut requests) = run(
        async {
            let session = api.open_session(credentials()).await.expect("logged in");
            let result = api.key_fragment(&session).await;
            assert!(is_left_alone(&server).await, "one call too many");
            result.map(|fragment| fragment.archive_key())
        },
        async {
            let mut all = vec![logged_in("first")];
            all.extend_from_slice(answers);
            script(&server, &all).await
        },
    );
    requests.remove(0);
    (result, requests)
}

pub(super) fn lines(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| request.head.split(" HTTP/").next().expect("a request line")).collect()
}

pub(super) const LOGIN: &str = "POST /v1/login";
const FETCH: &str = "GET /v1/binary-split/key-fragment";

#[test]
fn a_log_in_sends_the_contract_s_request() {
    let (result, requests) = login_with(&[logged_in("u1")]);
    let user = result.expect("logged in").user();
    assert_eq!((user.id.as_str(), user.email.as_str(), user.role), ("u1", EMAIL, Role::Operator));
    assert_eq!(lines(&requests), [LOGIN]);
    assert!(requests[0].head.contains("content-type: application/json\r\n"), "{}", requests[0].head);
    assert!(!requests[0].head.contains("authorization"), "{}", requests[0].head);
    let body: serde_json::Value = serde_json::from_slice(&requests[0].body).expect("json");
    assert_eq!(body, serde_json::json!({"email": EMAIL, "password": PASSWORD}));
}

#[test]
fn the_fragment_is_fetched_with_the_token() {
    let (result, requests) = fetch_with(&[answer(200, "", "fragment")]);
    assert!(result.expect("a fragment").matches(&Sha256::digest(b"fragment")));
    assert_eq!(lines(&requests), [FETCH]);
    assert!(requests[0].head.contains(&format!("authorization: Bearer {}\r\n", token("first"))));
}

#[test]
fn wrong_credentials_are_told_once() {
    for status in [401, 409] {
        let message = r#"{"ErrorCode":10,"Message":"No such email found."}"#;
        let (result, requests) = login_with(&[answer(status, "Retry-After: 0\r\n", message)]);
        let error = result.expect_err("wrong");
        assert!(matches!(&error, CloudError::WrongCredentials { message } if message == "No such email found."));
        assert_eq!(error.code(), Code::CredentialsWrong);
        assert_eq!(lines(&requests), [LOGIN]);
    }
}

#[test]
fn final_failures_are_told_at_once_with_the_server_s_message() {
    let json = r#"{"ErrorCode":30,"Message":"Hardware mismatch!"}"#;
    for status in [400, 404, 409, 418, 429, 500, 501, 502, 503, 504] {
        for (body, code, text) in [(json, Some(30), "Hardware mismatch!"), ("plain text", None, "plain text")] {
            let (result, requests) = fetch_with(&[answer(status, "", body)]);
            match result.expect_err("failed") {
                CloudError::Failed { status: seen, error_code, message, .. } => {
                    assert_eq!((seen, error_code, message.as_str()), (status, code, text));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(lines(&requests), [FETCH]);
        }
    }
    let (result, _) = login_with(&[answer(403, "", "locked")]);
    assert!(matches!(result, Err(CloudError::Failed { status: 403, .. })));
}

#[test]
fn a_refused_token_is_renewed_once() {
    for status in [401, 403] {
        let (result, requests) =
            fetch_with(&[answer(status, "", ""), logged_in("second"), answer(200, "", "fragment")]);
        assert!(result.is_ok());
        assert_eq!(lines(&requests), [FETCH, LOGIN, FETCH]);
        assert!(requests[2].head.contains(&token("second")));
    }
}

#[test]
fn a_second_refusal_is_final() {
    for (first, second) in [(403, 403), (401, 403), (401, 401)] {
        let (result, requests) =
            fetch_with(&[answer(first, "", ""), logged_in("second"), answer(second, "", "not for you")]);
        let error = result.expect_err("refused");
        assert!(matches!(&error, CloudError::Refused { status, .. } if *status == second), "{error:?}");
        assert_eq!(Report::of(&error).code, Code::ApiRefused);
        assert!(error.to_string().contains("not for you"));
        assert_eq!(lines(&requests), [FETCH, LOGIN, FETCH]);
    }
}

#[test]
fn a_log_in_that_became_wrong_meanwhile_ends_the_call() {
    let (result, requests) = fetch_with(&[answer(401, "", ""), answer(409, "", "")]);
    assert!(matches!(result, Err(CloudError::WrongCredentials { .. })));
    assert_eq!(lines(&requests), [FETCH, LOGIN]);
}

#[test]
fn a_server_that_asks_for_patience_gets_it() {
    for (status, after) in [(503, "0"), (429, "0"), (503, "Fri, 31 Dec 1999 23:59:59 GMT")] {
        let busy = answer(status, &format!("Retry-After: {after}\r\n"), "busy");
        let (result, requests) = fetch_with(&[busy.clone(), busy.clone(), answer(200, "", "fragment")]);
        assert!(result.is_ok());
        assert_eq!(lines(&requests), [FETCH, FETCH, FETCH]);
        let (result, requests) = login_with(&[busy.clone(), logged_in("late")]);
        assert_eq!(result.expect("logged in").user().id, "late");
        assert_eq!(lines(&requests), [LOGIN, LOGIN]);
        let (result, _) = fetch_with(&vec![busy; POLICY.attempts as usize]);
        assert!(matches!(result, Err(CloudError::Failed { status: seen, .. }) if seen == status));
    }
}

#[test]
fn more_patience_than_the_budget_has_is_a_failure_that_says_how_long() {
    let (result, _) = fetch_with(&[answer(503, "Retry-After: 61\r\n", "maintenance")]);
    let report = Report::of(&result.expect_err("too long"));
    assert_eq!(report.code, Code::ApiFailed);
    assert_eq!(report.next, "wait 61 s, then try again");
}

#[test]
fn a_lost_connection_is_tried_again_and_watched() {
    let server = Server::bind();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&seen);
    let api = api(&server).with_observer(move |retry| noted.borrow_mut().push(retry.clone()));
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"token\"".to_owned();
    let (result, requests) =
        run(api.open_session(credentials()), script(&server, &[String::new(), cut, logged_in("third")]));
    assert_eq!(result.expect("logged in").user().id, "third");
    assert_eq!(lines(&requests), [LOGIN, LOGIN, LOGIN]);
    let seen = seen.borrow();
    assert_eq!(seen.iter().map(|retry| retry.attempt).collect::<Vec<_>>(), [1, 2]);
    assert!(seen.iter().all(|retry| retry.operation == Operation::LogIn && retry.pause <= POLICY.longest_pause));
    assert!(seen.iter().all(|retry| retry.cause.code == Code::ApiUnreachable));
}

#[test]
fn a_refused_connection_uses_up_the_budget() {
    let retries = Rc::new(RefCell::new(0));
    let count = Rc::clone(&retries);
    let port = Server::bind().port();
    let api = api_at(port).with_observer(move |_| *count.borrow_mut() += 1);
    let (result, ()) = run(api.open_session(credentials()), async {});
    let report = Report::of(&result.expect_err("nobody there"));
    assert_eq!(report.code, Code::ApiUnreachable);
    let connect = format!("log-in at 127.0.0.1:{port} failed: connect to 127.0.0.1:{port} failed");
    assert!(report.message.starts_with(&connect), "{}", report.message);
    assert!(report.next.contains("network"), "{}", report.next);
    assert_eq!(*retries.borrow(), POLICY.attempts - 1);
}

#[test]
fn silence_is_a_time_out_that_names_its_step() {
    let server = Server::bind();
    let timeouts = Timeouts { headers: Duration::from_millis(20), ..Timeouts::default() };
    let api = api(&server).with_timeouts(timeouts);
    let error = race(api.open_session(credentials()), async {
        let mut open = Vec::new();
        loop {
            open.push(server.accept().await);
        }
    });
    let report = Report::of(&error.expect_err("silence"));
    assert_eq!(report.code, Code::ApiTimeout);
    assert!(report.message.contains("wait for answer timed out after 20ms"), "{}", report.message);
}

#[test]
fn a_redirect_is_not_followed() {
    for status in [301, 302, 304, 307, 308] {
        let elsewhere = Server::bind();
        let location = format!("Location: http://127.0.0.1:{}/login?token=canary\r\n", elsewhere.port());
        let (result, requests) = fetch_with(&[answer(status, &location, "")]);
        let report = Report::of(&result.expect_err("redirected"));
        assert_eq!(report.code, Code::ApiProtocol);
        assert!(
            report.message.contains(&format!("redirect {status} to \"http://127.0.0.1:{}/login\"", elsewhere.port()))
        );
        assert!(!report.message.contains("canary"), "{}", report.message);
        assert_eq!(lines(&requests), [FETCH]);
        race(async { assert!(is_left_alone(&elsewhere).await) }, pending());
        let (result, _) = login_with(&[answer(status, &location, "")]);
        assert!(matches!(result, Err(CloudError::Protocol { fault: ApiFault::Redirect { .. }, .. })));
    }
}

#[test]
fn the_fragment_holds_at_its_bounds() {
    for (length, fits) in [(1, true), (KEY_FRAGMENT_BYTES, true), (0, false), (KEY_FRAGMENT_BYTES + 1, false)] {
        let stated = answer(200, "", &"k".repeat(length));
        let unstated = format!("HTTP/1.1 200 OK\r\n\r\n{}", "k".repeat(length));
        for whole in [stated, unstated] {
            match fetch_with(&[whole]).0 {
                Ok(_) => assert!(fits, "{length}"),
                Err(error) => assert!(!fits && error.code() == Code::ApiProtocol, "{length}: {error:?}"),
            }
        }
    }
    let (result, _) = fetch_with(&[answer(204, "", "")]);
    assert!(matches!(result, Err(CloudError::Protocol { fault: ApiFault::Status(204), .. })));
}

#[test]
fn an_answer_that_is_no_log_in_is_told() {
    let fault = |body: &str| match login_with(&[answer(200, "", body)]).0 {
        Err(CloudError::Protocol { operation: Operation::LogIn, fault, .. }) => fault,
        other => panic!("{body:.40}: {other:?}"),
    };
    for body in ["", "{}", "[]", "not json", r#"{"token":7}"#, r#"{"token":"a.b.c","token":"d.e.f"}"#, "{\"token\":"] {
        assert!(matches!(fault(body), ApiFault::Json(_)), "{body}");
    }
    assert!(matches!(fault(r#"{"token":"a.b"}"#), ApiFault::Token(TokenError::Segments)));
    let padded = |length: usize| format!("{{}}{}", " ".repeat(length - 2));
    assert!(matches!(fault(&padded(LOGIN_ANSWER_BYTES)), ApiFault::Json(_)));
    assert!(matches!(fault(&padded(LOGIN_ANSWER_BYTES + 1)), ApiFault::TooLong { limit: LOGIN_ANSWER_BYTES }));
}

#[test]
fn a_token_whose_life_has_passed_is_renewed_before_the_call() {
    // The renewal succeeds; then: the API cannot renew, the old token is tried and still holds.
    for renews in [true, false] {
        let server = Server::bind();
        let clock = Clock::manual();
        let url = BaseUrl::parse(&format!("http://127.0.0.1:{}", server.port())).expect("loopback");
        let api = Api::new(Rc::new(client()), url, clock.clone(), None, POLICY);
        let renewal = if renews { logged_in("second") } else { answer(500, "", "") };
        let answers = [logged_in("first"), answer(200, "", "one"), renewal, answer(200, "", "two"), logged_in("never")];
        let (id, requests) = run(
            async {
                let session = api.open_session(credentials()).await.expect("logged in");
                clock.advance(Duration::from_secs(59));
                api.key_fragment(&session).await.expect("a fragment");
                clock.advance(Duration::from_secs(1));
                api.key_fragment(&session).await.expect("a fragment");
                session.user().id
            },
            script(&server, &answers[..4]),
        );
        let heads = lines(&requests);
        assert_eq!(heads, ["POST /login", &FETCH.replace("/v1", ""), "POST /login", &FETCH.replace("/v1", "")]);
        let holder = if renews { "second" } else { "first" };
        assert_eq!(id, holder);
        assert!(requests[3].head.contains(&token(holder)));
    }
}

#[test]
fn two_refused_calls_log_in_once() {
    let server = Server::bind();
    let api = api(&server);
    run(
        async {
            let session = api.open_session(credentials()).await.expect("logged in");
            let (one, two) = zip(api.key_fragment(&session), api.key_fragment(&session)).await;
            assert!(one.is_ok() && two.is_ok());
        },
        async {
            server.serve(&logged_in("first")).await;
            let (mut one, mut two) = (server.accept().await, server.accept().await);
            one.head().await;
            two.head().await;
            one.say(&answer(401, "", "")).await;
            two.say(&answer(401, "", "")).await;
            let requests = script(&server, &[logged_in("second"), answer(200, "", "k"), answer(200, "", "k")]).await;
            assert_eq!(lines(&requests), [LOGIN, FETCH, FETCH]);
        },
    );
}

#[test]
fn the_body_of_a_failure_is_read_to_its_bound() {
    let server = Server::bind();
    let api = api(&server);
    let error = race(api.open_session(credentials()), async {
        let endless = format!("HTTP/1.1 500 X\r\n\r\n{}", "é".repeat(ERROR_BODY_BYTES));
        let _open = server.serve(&endless).await;
        pending::<()>().await;
    });
    match error.expect_err("failed") {
        CloudError::Failed { status: 500, message, .. } => assert!(message.ends_with("é…")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failure_whose_body_never_comes_is_told_all_the_same() {
    let server = Server::bind();
    let timeouts = Timeouts { idle_body: Duration::from_millis(20), ..Timeouts::default() };
    let api = api(&server).with_timeouts(timeouts);
    let error = race(api.open_session(credentials()), async {
        let _open = server.serve("HTTP/1.1 409 X\r\nContent-Length: 100\r\n\r\nhalf").await;
        pending::<()>().await;
    });
    assert!(matches!(error, Err(CloudError::WrongCredentials { message }) if message == "half"));
}

#[test]
fn no_secret_stands_in_any_error() {
    let token = token("first");
    let echo = format!("bad login {PASSWORD} with {token}");
    let json = serde_json::json!({"ErrorCode": 1, "Message": echo}).to_string();
    let mut errors = Vec::new();
    for status in [401, 403, 404, 409, 500] {
        errors.push(login_with(&[answer(status, "", &json)]).0.expect_err("failed"));
        errors.push(login_with(&[answer(status, "", &echo)]).0.expect_err("failed"));
    }
    for status in [404, 409, 500] {
        errors.push(fetch_with(&[answer(status, "", &json)]).0.expect_err("failed"));
    }
    let refused = answer(403, "", &json);
    errors.push(fetch_with(&[refused.clone(), logged_in("first"), refused]).0.expect_err("refused"));
    errors.push(login_with(&[answer(200, "", &json)]).0.expect_err("no token"));
    for error in errors {
        let report = Report::of(&error);
        let shown = format!("{error} {error:?} {report:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        // A log-in that failed gave no token; what the server makes up is its own.
        if !matches!(
            error,
            CloudError::WrongCredentials { .. } | CloudError::Failed { operation: Operation::LogIn, .. }
        ) {
            assert!(!shown.contains(&token), "{shown}");
        }
    }
}

#[test]
fn an_unknown_authority_is_told_and_not_tried_again() {
    let (server, identity) = (Server::bind(), Identity::new("localhost", |_| {}));
    let url = BaseUrl::parse(&format!("https://localhost:{}", server.port())).expect("an address");
    let api = |client| Api::new(Rc::new(client), url.clone(), Clock::manual(), None, POLICY);
    let (result, _) = run(
        async {
            let result = api(client()).open_session(credentials()).await;
            assert!(is_left_alone(&server).await);
            result
        },
        identity.accept(&server),
    );
    let report = Report::of(&result.expect_err("unknown authority"));
    assert_eq!(report.code, Code::ApiTls);
    assert!(report.next.contains("ca_file"), "{}", report.next);
    let trusting = Client::new(client_config(Some(identity.ca_pem.as_bytes())).expect("a root"));
    let (result, ()) = run(api(trusting).open_session(credentials()), async {
        let mut peer = identity.accept(&server).await.expect("trusted");
        peer.request().await;
        peer.say(&logged_in("u")).await;
        peer.close().await;
    });
    assert_eq!(result.expect("logged in").user().id, "u");
}

#[test]
fn whole_messages_are_compiled_out_of_the_log() {
    // ureq-proto writes the raw bytes of requests and answers at `trace`.
    assert!(log::STATIC_MAX_LEVEL <= log::LevelFilter::Debug);
}
