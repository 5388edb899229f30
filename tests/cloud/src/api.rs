//! The calls of CONTRACT section 1: from a request that came in whole to its answer. Faults are not known here.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::connection::{Answer, typed, whole};
use crate::fault::Route;
use crate::keys::{self, Salts};
use crate::lock;
use crate::options::{UnknownFile, User, WrongCredentials};
use crate::server::Shared;

// The API's own codes, as far as the contract's failures need them.
const NO_SUCH_USER: i64 = 10;
const WRONG_PASSWORD: i64 = 30;
const WRONG_HARDWARE: i64 = 40;
const NO_SUCH_FILE: i64 = 50;
const NO_FILE_SENT: i64 = 60;
const NOT_ALLOWED: i64 = 90;

#[derive(Deserialize)]
struct Login {
    email: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    password: String,
    hardware: String,
    file_name: String,
}

/// Why a call is refused.
struct Refusal {
    status: StatusCode,
    /// `ErrorCode` and `Message`; without them the body is empty.
    told: Option<(i64, String)>,
}

impl Refusal {
    fn new(status: StatusCode, code: i64, message: &(impl ToString + ?Sized)) -> Self {
        Self { status, told: Some((code, message.to_string())) }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        if let Some((code, message)) = refusal.told {
            return json_answer(refusal.status, &json!({ "ErrorCode": code, "Message": message }));
        }
        let mut answer = Response::new(whole(Bytes::new()));
        *answer.status_mut() = refusal.status;
        answer
    }
}

/// The right answer to a call.
pub(crate) async fn answer(shared: &Shared, route: Route, folder: &str, head: &Parts, body: Bytes) -> Answer {
    let answer = match route {
        Route::Login => login(shared, head, &body),
        Route::KeyFragment => key_fragment(shared, head),
        Route::ResourceGet => resource_get(shared, folder, head, &body),
        Route::ResourcePut => resource_put(shared, folder, head, body).await,
        Route::Unknown | Route::Handshake => Err(unknown(&head.method, head.uri.path())),
    };
    answer.unwrap_or_else(Answer::from)
}

fn login(shared: &Shared, head: &Parts, body: &[u8]) -> Result<Answer, Refusal> {
    let wanted: Login = json_body(head, body)?;
    let mut store = lock(&shared.store);
    let refuse = |code, message| match shared.wrong_credentials {
        WrongCredentials::Unauthorized => Refusal::new(StatusCode::UNAUTHORIZED, code, message),
        WrongCredentials::Conflict => Refusal::new(StatusCode::CONFLICT, code, message),
    };
    let user = store.user(&wanted.email).ok_or_else(|| refuse(NO_SUCH_USER, "No such email found."))?.clone();
    if user.password != wanted.password {
        return Err(refuse(WRONG_PASSWORD, "Passwords do not match."));
    }
    let now = shared.time.now();
    let expires = now + shared.token_lifetime.as_secs();
    let token = shared
        .issuer
        .issue(&user, now, expires)
        .map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, NOT_ALLOWED, &error))?;
    let answer = json_answer(StatusCode::OK, &json!({ "token": token }));
    store.note_token(token, user.email, expires);
    Ok(answer)
}

fn key_fragment(shared: &Shared, head: &Parts) -> Result<Answer, Refusal> {
    bearer(shared, head)?;
    let fragment = lock(&shared.store).fragment.clone();
    fragment.map(raw).ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, NO_SUCH_FILE, "No key fragment is stored."))
}

fn resource_get(shared: &Shared, folder: &str, head: &Parts, body: &[u8]) -> Result<Answer, Refusal> {
    let user = bearer(shared, head)?;
    let wanted: Wanted = json_body(head, body)?;
    if user.password != wanted.password {
        return Err(Refusal::new(StatusCode::CONFLICT, WRONG_PASSWORD, "Passwords do not match."));
    }
    if user.hardware_hash.as_ref().is_some_and(|bound| *bound != wanted.hardware) {
        return Err(Refusal::new(StatusCode::CONFLICT, WRONG_HARDWARE, "Hardware mismatch! You are not authorized."));
    }
    let file = lock(&shared.store).file(folder, &wanted.file_name).cloned();
    let plain = file.ok_or_else(|| {
        let status = match shared.unknown_file {
            UnknownFile::NotFound => StatusCode::NOT_FOUND,
            UnknownFile::Conflict => StatusCode::CONFLICT,
        };
        Refusal::new(status, NO_SUCH_FILE, "Wrong resource file name.")
    })?;
    Ok(raw(seal_for(&shared.salts, &user, &wanted.hardware, &plain)))
}

async fn resource_put(shared: &Shared, folder: &str, head: &Parts, body: Bytes) -> Result<Answer, Refusal> {
    bearer(shared, head)?;
    let malformed = |error: multer::Error| Refusal::new(StatusCode::BAD_REQUEST, NO_FILE_SENT, &error);
    let content_type = text_header(head, CONTENT_TYPE).unwrap_or_default();
    let boundary = multer::parse_boundary(content_type).map_err(malformed)?;
    let mut parts = multer::Multipart::new(Full::new(body).into_data_stream(), boundary);
    while let Some(part) = parts.next_field().await.map_err(malformed)? {
        let (Some("data"), Some(name)) = (part.name(), part.file_name()) else { continue };
        // Browsers, curl and the agent escape a quote so (WHATWG HTML, "multipart/form-data"); CR and LF are in no name.
        let name = name.replace("%22", "\"");
        let bytes = part.bytes().await.map_err(malformed)?;
        lock(&shared.store).put_file(folder, &name, bytes.to_vec());
        return Ok(Response::new(whole(Bytes::new())));
    }
    Err(Refusal::new(StatusCode::BAD_REQUEST, NO_FILE_SENT, "No part \"data\" with a filename was sent."))
}

/// The layer that the API adds in transit: `IV ‖ AES-256-CBC` under the user's API key.
fn seal_for(salts: &Salts, user: &User, hardware_hash: &str, plain: &[u8]) -> Vec<u8> {
    keys::seal(&keys::aes_key(&salts.api_key(&user.email, &user.password, hardware_hash)), plain)
}

/// The user whose living token came along.
fn bearer(shared: &Shared, head: &Parts) -> Result<User, Refusal> {
    let token = text_header(head, AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let store = lock(&shared.store);
    let user = token.and_then(|token| store.bearer(token, shared.time.now()));
    // As ASP.NET does it: a bare 401 without a body.
    user.cloned().ok_or(Refusal { status: StatusCode::UNAUTHORIZED, told: None })
}

fn json_body<T: DeserializeOwned>(head: &Parts, body: &[u8]) -> Result<T, Refusal> {
    let content_type = text_header(head, CONTENT_TYPE).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let message = "The content type must be application/json.";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, NOT_ALLOWED, message));
    }
    serde_json::from_slice(body).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, NOT_ALLOWED, &error))
}

fn text_header(head: &Parts, name: hyper::header::HeaderName) -> Option<&str> {
    head.headers.get(name).and_then(|value| value.to_str().ok())
}

fn unknown(method: &Method, path: &str) -> Refusal {
    let other = if *method == Method::GET { Method::POST } else { Method::GET };
    if Route::of(&other, path).0 == Route::Unknown {
        return Refusal::new(StatusCode::NOT_FOUND, NOT_ALLOWED, "No such call.");
    }
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, NOT_ALLOWED, "This call takes another method.")
}

fn raw(bytes: Vec<u8>) -> Answer {
    typed(StatusCode::OK, "application/octet-stream", bytes)
}

fn json_answer(status: StatusCode, value: &serde_json::Value) -> Answer {
    typed(status, "application/json", value.to_string())
}
