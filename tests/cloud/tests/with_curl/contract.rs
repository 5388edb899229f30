//! The calls of CONTRACT section 1.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use azaion_cloud::{Route, ServerTime, UnknownFile, User, WrongCredentials, keys};
use serde_json::json;

use crate::{Curl, EMAIL, FRAGMENT, PASSWORD, cloud};

#[test]
fn the_right_credentials_give_a_token_and_the_token_gives_the_fragment() {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    let bearer = curl.bearer();
    let got = curl.run(&["--header", &bearer, "/binary-split/key-fragment"]);
    assert_eq!((got.status, got.body.as_slice()), (200, FRAGMENT));
    let calls: Vec<_> = cloud
        .calls()
        .into_iter()
        .map(|call| (call.route, call.method, call.path, call.authorization, call.status))
        .collect();
    assert_eq!(
        calls,
        [
            (Route::Login, "POST".into(), "/login".into(), false, Some(200)),
            (Route::KeyFragment, "GET".into(), "/binary-split/key-fragment".into(), true, Some(200)),
        ]
    );
    assert_eq!(cloud.issued_tokens().len(), 1);
}

#[test]
fn wrong_credentials_are_answered_as_asked_for() {
    for (how, status) in [(WrongCredentials::Unauthorized, 401), (WrongCredentials::Conflict, 409)] {
        let cloud = cloud(|options| options.wrong_credentials = how);
        let curl = Curl::of(&cloud);
        let wrong = curl.login(EMAIL, "wrong");
        assert_eq!((wrong.status, wrong.json()["ErrorCode"].as_i64()), (status, Some(30)));
        let unknown = curl.login("nobody@example.com", PASSWORD);
        assert_eq!((unknown.status, unknown.json()["ErrorCode"].as_i64()), (status, Some(10)));
        assert!(cloud.issued_tokens().is_empty());
    }
}

#[test]
fn a_login_must_be_json_and_say_so() {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    assert_eq!(curl.run(&["--data-raw", "{}", "/login"]).status, 415);
    assert_eq!(curl.json("/login", &json!({ "email": EMAIL }), &[]).status, 400);
}

#[test]
fn the_fragment_needs_a_token_that_was_issued_here() {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    assert_eq!(curl.run(&["/binary-split/key-fragment"]).status, 401);
    assert_eq!(curl.run(&["--header", "authorization: Bearer a.b.c", "/binary-split/key-fragment"]).status, 401);
    let basic = curl.bearer().replace("Bearer", "Basic");
    assert_eq!(curl.run(&["--header", &basic, "/binary-split/key-fragment"]).status, 401);
}

#[test]
fn a_fragment_can_be_changed_to_one_the_contract_forbids() {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    let bearer = curl.bearer();
    for length in [0, 4097] {
        cloud.set_fragment(vec![9; length]);
        let got = curl.run(&["--header", &bearer, "/binary-split/key-fragment"]);
        assert_eq!((got.status, got.body), (200, vec![9; length]));
    }
}

#[test]
fn tokens_expire_on_demand_and_by_the_servers_clock() {
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let time = Arc::clone(&clock);
    let cloud = cloud(|options| {
        options.token_lifetime = Duration::from_secs(100);
        options.time = ServerTime::by(move || time.load(Ordering::SeqCst));
    });
    let curl = Curl::of(&cloud);
    let status = |bearer: &str| curl.run(&["--header", bearer, "/binary-split/key-fragment"]).status;
    let first = curl.bearer();
    assert_eq!(status(&first), 200);
    cloud.expire_tokens();
    assert_eq!(status(&first), 401);
    let second = curl.bearer();
    clock.fetch_add(99, Ordering::SeqCst);
    assert_eq!(status(&second), 200);
    clock.fetch_add(1, Ordering::SeqCst);
    assert_eq!(status(&second), 401);
}

#[test]
fn a_resource_comes_sealed_under_the_users_api_key() {
    let cloud = cloud(|options| {
        // Salt, hash and key of one case of the shared key vectors.
        options.salts.api = "api-salt-500944".into();
        options.users.push(User::new("a+b@ex.org", "пароль-ключ", "Operator"));
    });
    cloud.put_resource("", "cdn.yaml", b"host: x\n".to_vec());
    cloud.put_resource("models", "модель +.onnx", vec![5; 100_000]);
    let curl = Curl::of(&cloud);
    let token = curl.login("a+b@ex.org", "пароль-ключ").json()["token"].as_str().map(str::to_owned);
    let bearer = format!("authorization: Bearer {}", token.expect("the token is text"));
    let hash = "QdHPwwhy/pxKdCJh7jrX6wD1WhAeBsabVTHWbI7Y9JoKc0GdnHE/1w3eqQqDMlvO";
    let key = keys::aes_key("rvocVK2+T4FKJksHqWMxgHy68QVRkNunbMug/g0LQpFwmBhvtq0SFR1ud2Sxvw12");
    let get = |path: &str, name: &str| {
        let body = json!({ "password": "пароль-ключ", "hardware": hash, "fileName": name });
        curl.json(path, &body, &["--header", &bearer])
    };
    let got = get("/resources/get", "cdn.yaml");
    assert_eq!((got.status, got.body.len()), (200, 32));
    assert_eq!(keys::open(&key, &got.body).as_deref(), Some(b"host: x\n".as_slice()));
    let got = get("/resources/get/models", "модель +.onnx");
    assert_eq!(keys::open(&key, &got.body), Some(vec![5; 100_000]));
    assert_eq!(get("/resources/get", "модель +.onnx").status, 404);
    assert_eq!(get("/resources/get/other", "cdn.yaml").status, 404);
}

#[test]
fn unknown_files_wrong_passwords_and_other_hardware_are_refused() {
    let cloud = cloud(|options| {
        let bound = options.salts.hardware_hash("the board");
        options.users = vec![User::new(EMAIL, PASSWORD, "Operator").bound_to(bound)];
        options.unknown_file = UnknownFile::Conflict;
    });
    cloud.put_resource("", "a", b"plain".to_vec());
    let curl = Curl::of(&cloud);
    let bearer = curl.bearer();
    let salts = keys::Salts::default();
    let mine = salts.hardware_hash("the board");
    let get = |password: &str, hardware: &str, name: &str, more: &[&str]| {
        let body = json!({ "password": password, "hardware": hardware, "fileName": name });
        let got = curl.json("/resources/get", &body, more);
        (
            got.status,
            serde_json::from_slice(&got.body).ok().and_then(|body: serde_json::Value| body["ErrorCode"].as_i64()),
        )
    };
    let with_token = ["--header", bearer.as_str()];
    assert_eq!(get(PASSWORD, &mine, "a", &with_token), (200, None));
    assert_eq!(get(PASSWORD, &mine, "b", &with_token), (409, Some(50)));
    assert_eq!(get("wrong", &mine, "a", &with_token), (409, Some(30)));
    assert_eq!(get(PASSWORD, &salts.hardware_hash("another"), "a", &with_token), (409, Some(40)));
    assert_eq!(get(PASSWORD, &mine, "a", &[]), (401, None));
}

#[test]
fn uploads_are_kept_under_their_filename_in_raw_utf_8() {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    let bearer = curl.bearer();
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(curl.file("plain"), &content).expect("the file is written");
    let form = "data=@plain;filename=модель 1+1.onnx.small";
    let got = curl.run(&["--header", &bearer, "--form", form, "/resources/models"]);
    assert_eq!((got.exit, got.status), (0, 200));
    assert_eq!(cloud.resource("models", "модель 1+1.onnx.small").as_deref(), Some(content.as_slice()));
    let got = curl.run(&["--header", &bearer, "--form", "data=@plain;filename=top", "/resources"]);
    assert_eq!((got.exit, got.status), (0, 200));
    assert_eq!(cloud.resource("", "top").map(|bytes| bytes.len()), Some(content.len()));

    assert_eq!(curl.run(&["--header", &bearer, "--form", "other=@plain", "/resources"]).status, 400);
    assert_eq!(curl.run(&["--header", &bearer, "--data-raw", "x", "/resources"]).status, 400);
    assert_eq!(curl.run(&["--form", "data=@plain", "/resources"]).status, 401);
    assert_eq!(cloud.resource("", "plain"), None);
}

#[test]
fn other_paths_and_methods_are_told_apart() {
    let cloud = cloud(|_| ());
    let curl = Curl::of(&cloud);
    assert_eq!(curl.run(&["/nothing"]).status, 404);
    assert_eq!(curl.run(&["/login"]).status, 405);
    assert_eq!(curl.run(&["--data-raw", "x", "/binary-split/key-fragment"]).status, 405);
    assert!(cloud.calls().iter().all(|call| call.route == Route::Unknown));
}
