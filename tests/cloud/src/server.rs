//! The API's calls: the script of faults and the record around what `api` answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::{Request, StatusCode};

use crate::api;
use crate::call::{Call, Record};
use crate::connection::{self, Answer, Broken, Calling, Desk, Gate, Over, Past, befall};
use crate::fault::{Fault, Route, Script};
use crate::keys::Salts;
use crate::lock;
use crate::options::{Observer, ServerTime, UnknownFile, WrongCredentials};
use crate::store::Store;
use crate::token::Issuer;

/// A request's body: longer is refused with 413. A demo uploads models of some hundred MB.
const BODY_BYTES: usize = 1 << 30;

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) salts: Salts,
    pub(crate) token_lifetime: Duration,
    pub(crate) time: ServerTime,
    pub(crate) wrong_credentials: WrongCredentials,
    pub(crate) unknown_file: UnknownFile,
    pub(crate) observer: Option<Observer>,
    pub(crate) issuer: Issuer,
    pub(crate) store: Mutex<Store>,
    pub(crate) script: Mutex<Script<Route>>,
    pub(crate) record: Record,
    pub(crate) connections: AtomicUsize,
    pub(crate) gate: Gate,
}

impl Desk for Shared {
    fn handshake(&self) -> Option<Fault> {
        lock(&self.script).take(Route::Handshake)
    }

    fn connected(&self) {
        self.connections.fetch_add(1, Ordering::SeqCst);
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn call(self: Arc<Self>, past: Past, request: Request<Incoming>) -> Calling {
        Box::pin(call(self, past, request))
    }
}

async fn call(shared: Arc<Shared>, past: Past, request: Request<Incoming>) -> Result<Answer, Over> {
    let (head, body) = request.into_parts();
    let (route, folder) = Route::of(&head.method, head.uri.path());
    let early = lock(&shared.script).take_early(route);
    let body = if early.is_some() { Ok(Bytes::new()) } else { whole(body).await };
    let body = match body {
        Ok(body) => body,
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(connection::typed(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "the body is too long"));
        }
        Err(_) => return Err(Over),
    };
    let number = shared.record.arrived(Call {
        route,
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        authorization: head.headers.contains_key(AUTHORIZATION),
        body_bytes: body.len(),
        status: None,
        at: Instant::now(),
        took: None,
    });
    let fault = early.or_else(|| lock(&shared.script).take(route));
    let outcome = befall(fault, api::answer(&shared, route, folder, &head, body)).await;
    let done = shared.record.answered(number, connection::status(&outcome));
    if let (Some(observer), Some(done)) = (&shared.observer, &done) {
        observer(done);
    }
    outcome.map_err(|instead| Over::with(&past, instead))
}

async fn whole(body: Incoming) -> Result<Bytes, Broken> {
    Ok(Limited::new(body, BODY_BYTES).collect().await?.to_bytes())
}
