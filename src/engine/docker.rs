//! A Docker engine behind its unix socket.
//!
//! Format: Docker Engine API, 1.41 (Docker 20.10) and newer; paths carry no version, so that each engine speaks its
//! newest. A load is a success only when its own answer ended without an error: an inspect alone proves nothing on the
//! containerd store, which shows an image before it has its layers. A body is never ended cleanly behind a failure,
//! because engines commit at the end of the tar.

mod documents;
mod doubt;
mod held;
mod load;
mod names;
mod plain;
mod space;
mod tags;
#[cfg(test)]
mod tests;
mod thin;

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode};
use serde::de::DeserializeOwned;
use smol::Timer;

pub(super) use self::documents::image_id;
pub use self::load::Room;
use self::names::{KEPT_IN_PATHS, encoded};
use super::answers::{Info, Inspected, Listed, LoadAnswer, Refusal, Version};
use super::error::{Call, Difference, EngineError, Fault, LoadError};
use super::{EngineFacts, EngineStore, Expected};
use crate::archive::ArchiveError;
use crate::json;
use crate::limits::{
    ENGINE_CALL_WAIT, ENGINE_DOCUMENT_BYTES, ENGINE_LIST_BYTES, ENGINE_LIST_IMAGES, ENGINE_LOAD_SILENCE,
    ENGINE_RETURN_PAUSE,
};
use crate::net::{BodySource, Client, Endpoint, ExchangeError, NoBody, Response, Timeouts};

/// A Docker engine.
pub struct Docker {
    client: Rc<Client>,
    endpoint: Endpoint,
}

impl Docker {
    /// The engine behind `endpoint`; nothing is asked yet.
    pub fn new(client: Rc<Client>, endpoint: Endpoint) -> Self {
        Self { client, endpoint }
    }

    /// Whether the engine answers.
    pub async fn ping(&self) -> Result<(), EngineError> {
        self.call(Call::Ping, Method::GET, "/_ping").await.map(|_answer| ())
    }

    /// What engine this is and how it keeps images.
    pub async fn survey(&self) -> Result<EngineFacts, EngineError> {
        let version: Version = self.document(Call::Version, "/version", ENGINE_DOCUMENT_BYTES).await?;
        let info: Info = self.document(Call::Info, "/info", ENGINE_DOCUMENT_BYTES).await?;
        let store = if info.is_containerd_store() { EngineStore::Containerd } else { EngineStore::Classic };
        let is_podman = version.is_podman();
        Ok(EngineFacts {
            version: Some(version.version),
            api_version: Some(version.api_version),
            driver: Some(info.driver),
            store,
            root_dir: info.root_dir.into(),
            id: Some(info.id).filter(|_| !is_podman),
        })
    }

    /// Compares what the engine shows of one image.
    pub async fn find(&self, image: &Expected) -> Result<Result<(), Difference>, EngineError> {
        if image.tags.is_empty() {
            return self.find_untagged(image).await;
        }
        for tag in &image.tags {
            match self.inspect(tag).await? {
                None => return Ok(Err(Difference::Missing)),
                Some(shown) if !image.has_layers(shown.layers()) => return Ok(Err(Difference::Layers)),
                Some(_) => {}
            }
        }
        Ok(Ok(()))
    }

    /// Without a tag the classic store names an image by its config; the containerd store by a manifest that it made
    /// itself, so there the untagged images are gone through.
    async fn find_untagged(&self, image: &Expected) -> Result<Result<(), Difference>, EngineError> {
        for name in image.id.iter().cloned().chain([image.config.to_string()]) {
            let found = self.inspect(&name).await?;
            if found.is_some_and(|shown| image.has_layers(shown.layers())) {
                return Ok(Ok(()));
            }
        }
        let all: Vec<Listed> = self.document(Call::List, "/images/json", ENGINE_LIST_BYTES).await?;
        for listed in all.iter().filter(|listed| listed.is_untagged()).take(ENGINE_LIST_IMAGES) {
            let found = self.inspect(&listed.id).await?;
            if found.is_some_and(|shown| image.has_layers(shown.layers())) {
                return Ok(Ok(()));
            }
        }
        Ok(Err(Difference::Missing))
    }

    /// Sends a tar and reads the engine's answer to its end; `is_whole` tells then whether the engine had the tar's end
    /// marker. Returns the names that the engine says it loaded.
    async fn post_load<B>(&self, body: B, is_whole: impl Fn() -> bool) -> Result<Vec<String>, LoadError>
    where
        B: BodySource<Error = ArchiveError>,
    {
        // A connection kept from before the engine died must not cost an attempt; unlike a load, a ping is repeated.
        self.ping().await?;
        let mut request = request(Method::POST, "/images/load?quiet=1");
        request.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/x-tar"));
        let timeouts = Timeouts { headers: ENGINE_LOAD_SILENCE, idle_body: ENGINE_LOAD_SILENCE, ..Timeouts::default() };
        let response = match self.client.exchange(&self.endpoint, request, body, &timeouts).await {
            Ok(response) => response,
            Err(ExchangeError::Net(error)) => return Err(EngineError::net(Call::Load, error).into()),
            Err(ExchangeError::Source(error)) => return Err(error.into()),
        };
        let mut response = accepted(Call::Load, response).await?;
        let mut answer = LoadAnswer::default();
        let mut piece = [0; 4096];
        loop {
            let read = response.chunk(&mut piece).await.map_err(|error| EngineError::net(Call::Load, error))?;
            if read == 0 {
                break;
            }
            answer.push(&piece[..read]).map_err(EngineError::load_answer)?;
        }
        let outcome = answer.finish().map_err(EngineError::load_answer)?;
        let loaded = outcome.map_err(|message| EngineError::load_failed(&message))?;
        // An engine acts at the end marker and may answer before the rest of the body, not before that: layers would
        // be missing, and the containerd store shows an image without them.
        if !is_whole() {
            return Err(EngineError::Protocol { call: Call::Load, fault: Fault::DoneTooEarly }.into());
        }
        Ok(loaded)
    }

    async fn is_back_within(&self, patience: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < patience {
            Timer::after(ENGINE_RETURN_PAUSE).await;
            if self.ping().await.is_ok() {
                return true;
            }
        }
        false
    }

    async fn inspect(&self, name: &str) -> Result<Option<Inspected>, EngineError> {
        let path = format!("/images/{}/json", encoded(name, KEPT_IN_PATHS));
        match self.document(Call::Inspect, &path, ENGINE_DOCUMENT_BYTES).await {
            Ok(inspected) => Ok(Some(inspected)),
            Err(EngineError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn document<T: DeserializeOwned>(&self, call: Call, path: &str, limit: usize) -> Result<T, EngineError> {
        let response = self.call(call, Method::GET, path).await?;
        let bytes = response.bytes(limit).await.map_err(|error| EngineError::net(call, error))?;
        let refused = |refused| EngineError::Protocol { call, fault: Fault::Document(refused) };
        json::from_slice(&bytes, limit).map_err(refused)
    }

    async fn call(&self, call: Call, method: Method, path: &str) -> Result<Response, EngineError> {
        let timeouts = Timeouts { headers: ENGINE_CALL_WAIT, idle_body: ENGINE_CALL_WAIT, ..Timeouts::default() };
        let sent = self.client.exchange(&self.endpoint, request(method, path), NoBody, &timeouts).await;
        match sent {
            Ok(response) => accepted(call, response).await,
            Err(ExchangeError::Net(error)) => Err(EngineError::net(call, error)),
            Err(ExchangeError::Source(never)) => match never {},
        }
    }
}

fn request(method: Method, path: &str) -> Request<()> {
    let built = Request::builder().method(method).uri(path).body(());
    built.expect("every path is made of encoded text")
}

/// The answer, if its status means success; else what the engine says in it.
async fn accepted(call: Call, response: Response) -> Result<Response, EngineError> {
    let status = response.status;
    if status.is_success() {
        return Ok(response);
    }
    let body = response.bytes(ENGINE_DOCUMENT_BYTES).await.unwrap_or_default();
    let message = match json::from_slice::<Refusal>(&body, ENGINE_DOCUMENT_BYTES) {
        Ok(refusal) => refusal.message,
        // A proxy in front of the engine speaks plain text.
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    let message = if message.is_empty() { reason(status) } else { message };
    Err(EngineError::refused(call, status.as_u16(), &message))
}

fn reason(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or_default().to_owned()
}
