//! Files of the Resource API against servers that answer by a script.

use super::tests::{LOGIN, answer, api, credentials, is_left_alone, lines, logged_in, script, token};
use super::*;
use crate::crypto::{HardwareHash, Salts};
use crate::error::{Code, Explain, Report};
use crate::name::Folder;
use crate::net::scripted::{Request, Server, run};

const GET: &str = "POST /v1/resources/get/models";
const PUT: &str = "POST /v1/resources/models";

fn hardware() -> HardwareHash {
    let salts = Salts { hardware: "h".into(), api: "a".into(), resource: "r".into(), separator: String::new() };
    salts.hardware_hash("board")
}

fn folder() -> Folder {
    Folder::new("models").expect("a folder")
}

/// Makes `call` after a log-in; all `answers` must be asked for, and nothing after them.
fn with<T>(answers: &[String], call: impl AsyncFnOnce(&Api, &Session) -> T) -> (T, Vec<Request>) {
    let server = Server::bind();
    let api = api(&server);
    let (result, mut requests) = run(
        async {
            let session = api.open_session(credentials()).await.expect("logged in");
            let result = call(&api, &session).await;
            assert!(is_left_alone(&server).await, "one call too many");
            result
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

fn fetch_with(answers: &[String]) -> (Result<Vec<u8>, CloudError>, Vec<Request>) {
    with(answers, async |api, session| {
        api.resource(session, &hardware(), &folder(), "модель.small").await?.bytes(16).await
    })
}

#[test]
fn a_file_is_asked_for_as_the_contract_says() {
    let (bytes, requests) = fetch_with(&[answer(200, "", "sealed")]);
    assert_eq!(bytes.expect("a file"), b"sealed");
    assert_eq!(lines(&requests), [GET]);
    assert!(requests[0].head.contains(&format!("authorization: Bearer {}\r\n", token("first"))));
    let body: serde_json::Value = serde_json::from_slice(&requests[0].body).expect("json");
    let password = credentials().password().expose().to_owned();
    let hardware = hardware().as_str().to_owned();
    assert_eq!(body, serde_json::json!({"password": password, "hardware": hardware, "fileName": "модель.small"}));
}

#[test]
fn without_a_folder_the_path_has_none() {
    let (_, requests) = with(&[answer(200, "", ""), answer(200, "", "")], async |api, session| {
        api.resource(session, &hardware(), &Folder::default(), "cdn.yaml").await?.bytes(16).await?;
        api.put_resource(session, &Folder::default(), "x", b"").await
    });
    assert_eq!(lines(&requests), ["POST /v1/resources/get", "POST /v1/resources"]);
}

#[test]
fn an_unknown_file_is_told_apart_from_a_refusal() {
    let said = |code: i64| format!(r#"{{"ErrorCode":{code},"Message":"what it says"}}"#);
    for (status, body, unknown) in [
        (404, String::new(), true),
        (404, said(30), true),
        (409, said(10), true),
        (409, "no such file".into(), true),
        (409, said(30), false),
        (409, said(40), false),
        (409, said(45), false),
        (500, said(10), false),
    ] {
        let (bytes, requests) = fetch_with(&[answer(status, "", &body)]);
        let error = bytes.expect_err("no file");
        assert_eq!(matches!(error, CloudError::Unknown { .. }), unknown, "{status} {body}");
        assert_eq!(requests.len(), 1);
        let code = if unknown { Code::ResourceUnknown } else { Code::ApiFailed };
        assert_eq!(error.code(), code);
        assert!(body.is_empty() || unknown || error.to_string().contains("what it says"), "{error}");
    }
}

#[test]
fn a_streamed_file_comes_piece_by_piece_and_a_cut_one_is_never_whole() {
    let (pieces, _) = with(&[answer(200, "", "0123456789")], async |api, session| {
        let mut body = api.resource(session, &hardware(), &folder(), "x").await.expect("a file");
        assert_eq!(body.length(), Some(10));
        let (mut all, mut some) = (Vec::new(), [0; 4]);
        loop {
            match body.chunk(&mut some).await.expect("a piece") {
                0 => return all,
                n => all.extend_from_slice(&some[..n]),
            }
        }
    });
    assert_eq!(pieces, b"0123456789");
    let cut = answer(200, "", "0123456789");
    let (bytes, _) = fetch_with(&[cut[..cut.len() - 1].to_owned()]);
    assert_eq!(bytes.expect_err("cut").code(), Code::ApiUnreachable);
}

#[test]
fn a_small_file_that_is_cut_is_asked_for_again_and_its_length_has_a_bound() {
    let small = |answers: &[String]| {
        with(answers, async |api, session| api.small_resource(session, &hardware(), &folder(), "x", 10).await)
    };
    let whole = answer(200, "", "0123456789");
    let (bytes, requests) = small(&[whole[..whole.len() - 1].to_owned(), whole]);
    assert_eq!((bytes.expect("the second time").len(), requests.len()), (10, 2));
    let (bytes, _) = small(&[answer(200, "", "0123456789a")]);
    assert_eq!(bytes.expect_err("one too many").code(), Code::ApiProtocol);
}

#[test]
fn a_refused_token_is_renewed_for_files_too() {
    let (bytes, requests) = fetch_with(&[answer(401, "", ""), logged_in("second"), answer(200, "", "sealed")]);
    assert!(bytes.is_ok());
    assert_eq!(lines(&requests), [GET, LOGIN, GET]);
}

fn put_with(answers: &[String]) -> (Result<(), CloudError>, Vec<Request>) {
    with(answers, async |api, session| api.put_resource(session, &folder(), "мо\"д.small", b"a\r\nb").await)
}

#[test]
fn an_upload_is_one_part_with_the_raw_name_and_any_success_is_one() {
    for status in [200, 201, 204, 299] {
        let (done, requests) = put_with(&[answer(status, "", if status == 204 { "" } else { "fine" })]);
        done.expect("taken");
        assert_eq!(lines(&requests), [PUT]);
        let head = &requests[0].head;
        let boundary = head.split("boundary=").nth(1).and_then(|rest| rest.lines().next()).expect("a boundary");
        let body = String::from_utf8(requests[0].body.clone()).expect("UTF-8");
        assert!(body.starts_with(&format!("--{boundary}\r\n")), "{body}");
        assert!(body.contains("name=\"data\"; filename=\"мо%22д.small\"\r\n"), "{body}");
        assert!(body.ends_with(&format!("\r\n\r\na\r\nb\r\n--{boundary}--\r\n")), "{body}");
    }
}

#[test]
fn an_upload_that_fails_says_so() {
    let (done, requests) = put_with(&[answer(403, "", ""), logged_in("second"), answer(403, "", "not yours")]);
    let report = Report::of(&done.expect_err("refused"));
    assert_eq!((report.code, lines(&requests)), (Code::ApiRefused, vec![PUT, LOGIN, PUT]));
    let (done, _) = put_with(&[answer(302, "Location: /elsewhere\r\n", "")]);
    assert_eq!(done.expect_err("redirected").code(), Code::ApiProtocol);
    let (done, requests) = put_with(&[answer(503, "Retry-After: 0\r\n", ""), answer(200, "", "")]);
    assert!(done.is_ok());
    assert_eq!(requests[0].body, requests[1].body);
}
