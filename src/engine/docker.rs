//! A Docker engine behind its unix socket.
//!
//! Format: Docker Engine API, 1.41 (Docker 20.10) and newer; paths carry no version, so that each engine speaks its
//! newest. A load is a success only when its own answer ended without an error: an inspect alone proves nothing on the
//! containerd store, which shows an image before it has its layers. A body is never ended cleanly behind a failure,
//! because engines commit at the end of the tar.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode};
use serde::de::DeserializeOwned;
use smol::Timer;

use super::answers::{Info, Inspected, Listed, LoadAnswer, Refusal, Version, said};
use super::error::{Call, Difference, EngineError, Fault, LoadError};
use super::{EngineFacts, EngineStore, Expected};
use crate::archive::{Archive, ArchiveError, TarStream};
use crate::error::chain;
use crate::json;
use crate::limits::{
    ENGINE_CALL_WAIT, ENGINE_DOCUMENT_BYTES, ENGINE_LIST_BYTES, ENGINE_LIST_IMAGES, ENGINE_LOAD_ATTEMPTS,
    ENGINE_LOAD_SILENCE, ENGINE_RETURN_PAUSE, ENGINE_RETURN_WAIT,
};
use crate::net::{BodySource, Client, Endpoint, ExchangeError, NoBody, Response, Timeouts};

/// A Docker engine.
pub struct Docker {
    client: Rc<Client>,
    endpoint: Endpoint,
}

/// What an engine showed of an archive before its load.
#[derive(Default)]
struct Before {
    /// Each tag, and the id of the image it meant.
    tags: Vec<(String, Option<String>)>,
    /// Ids (config digests: only the classic store has them) that meant nothing.
    unknown: Vec<String>,
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
        Ok(EngineFacts {
            version: Some(version.version),
            api_version: Some(version.api_version),
            driver: Some(info.driver),
            store,
            root_dir: info.root_dir.into(),
            id: Some(info.id),
        })
    }

    /// Sends the whole archive, decrypted and unpacked, and returns the names that the engine says it loaded.
    ///
    /// `done` counts the bytes of the tar that are on their way. An engine that dies meanwhile is waited for, and
    /// everything is sent again.
    ///
    /// # Errors
    /// The engine's tags are what they were before, as far as the engine still answers.
    pub async fn load(&self, archive: &Archive, done: &Cell<u64>) -> Result<Vec<String>, LoadError> {
        let before = self.look(archive).await?;
        let mut attempt = 1;
        loop {
            done.set(0);
            match self.send(archive, done).await {
                Ok(loaded) => return Ok(loaded),
                Err(LoadError::Engine(error)) if error.is_away() && attempt < ENGINE_LOAD_ATTEMPTS => {
                    log::warn!("the engine went away in mid-load; attempt {attempt} of {ENGINE_LOAD_ATTEMPTS}");
                    if !self.is_back_within(ENGINE_RETURN_WAIT).await {
                        return Err(error.into());
                    }
                    attempt += 1;
                }
                Err(error) => {
                    // An engine that died keeps what it had taken in: it is waited for, to take that back.
                    let is_away = matches!(&error, LoadError::Engine(error) if error.is_away());
                    if !is_away || self.is_back_within(ENGINE_RETURN_WAIT).await {
                        self.restore(before).await;
                    }
                    return Err(error);
                }
            }
        }
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

    /// Whether each tag means this very image, config and all. Two images may have the same layers and differ in their
    /// entry point, so layers alone do not tell. Only the classic store names an image by its config: on the containerd
    /// store nothing is ever held by this measure.
    pub async fn holds(&self, image: &Expected) -> Result<bool, EngineError> {
        let config = image.config.to_string();
        for tag in &image.tags {
            let shown = self.inspect(tag).await?;
            if !shown.is_some_and(|shown| shown.id == config && image.has_layers(shown.layers())) {
                return Ok(false);
            }
        }
        Ok(!image.tags.is_empty())
    }

    /// Without a tag the classic store names an image by its config; the containerd store by a manifest that it made
    /// itself, so there the untagged images are gone through.
    async fn find_untagged(&self, image: &Expected) -> Result<Result<(), Difference>, EngineError> {
        let found = self.inspect(&image.config.to_string()).await?;
        if found.is_some_and(|shown| image.has_layers(shown.layers())) {
            return Ok(Ok(()));
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

    /// One load, from the first byte to the engine's answer.
    async fn send(&self, archive: &Archive, done: &Cell<u64>) -> Result<Vec<String>, LoadError> {
        // A connection kept from before the engine died must not cost an attempt; unlike a load, a ping is repeated.
        self.ping().await?;
        let request = request(Method::POST, "/images/load?quiet=1");
        let (mut parts, ()) = request.into_parts();
        parts.headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/x-tar"));
        let given = Cell::new(0);
        let tar = archive.tar();
        let end_marker = tar.end_marker();
        let body = Counted { tar, given: &given, done };
        let timeouts = Timeouts { headers: ENGINE_LOAD_SILENCE, idle_body: ENGINE_LOAD_SILENCE, ..Timeouts::default() };
        let sent = self.client.exchange(&self.endpoint, Request::from_parts(parts, ()), body, &timeouts).await;
        let response = match sent {
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
        if given.get() <= end_marker {
            return Err(EngineError::Protocol { call: Call::Load, fault: Fault::DoneTooEarly }.into());
        }
        done.set(archive.tar_len());
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

    /// What the archive's tags and ids mean to the engine now.
    async fn look(&self, archive: &Archive) -> Result<Before, EngineError> {
        let mut before = Before::default();
        for image in archive.images() {
            for tag in &image.tags {
                before.tags.push((tag.clone(), self.inspect(tag).await?.map(|shown| shown.id)));
            }
            let id = image.config.to_string();
            if self.inspect(&id).await?.is_none() {
                before.unknown.push(id);
            }
        }
        Ok(before)
    }

    /// After a load that failed: tags get back what they meant before, and what was not there before is removed. An
    /// engine that fails half-way through an archive keeps its first images, and the containerd store shows some that
    /// have no layers. Best effort: the error that counts is the load's own, and the containerd store forgets an image
    /// when its tag moves, so there a moved tag stays where it is.
    async fn restore(&self, before: Before) {
        let (moved, new): (Vec<_>, Vec<_>) = before.tags.into_iter().partition(|(_, id)| id.is_some());
        // Tags go home first: the last name of an image takes the image with it.
        for (tag, id) in moved.into_iter().filter_map(|(tag, id)| Some((tag, id?))) {
            let back = async {
                if self.inspect(&tag).await?.is_some_and(|shown| shown.id == id) {
                    return Ok(());
                }
                let (repository, name) = split(&tag);
                let query = format!("repo={}&tag={}", encoded(repository, ""), encoded(name, ""));
                let path = format!("/images/{}/tag?{query}", encoded(&id, KEPT_IN_PATHS));
                self.call(Call::Tag, Method::POST, &path).await.map(|_answer| ())
            };
            warn(&tag, back.await);
        }
        for name in new.into_iter().map(|(tag, _)| tag).chain(before.unknown) {
            let away = async {
                if self.inspect(&name).await?.is_none() {
                    return Ok(());
                }
                let path = format!("/images/{}", encoded(&name, KEPT_IN_PATHS));
                self.call(Call::Remove, Method::DELETE, &path).await.map(|_answer| ())
            };
            warn(&name, away.await);
        }
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

fn warn(name: &str, restored: Result<(), EngineError>) {
    if let Err(error) = restored {
        log::warn!("after the failed load, {} is not as it was: {}", said(name), chain(&error));
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

/// Beside letters, digits and `-._~`: what stands in image names and has no other meaning in a path.
const KEPT_IN_PATHS: &str = "/:@";

/// Percent-encodes everything but unreserved characters (RFC 3986 section 2.3) and those of `kept`. A name that comes
/// from an archive can then neither end the path nor climb out of it.
fn encoded(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for segment in text.split_inclusive('/') {
        // Dots alone would be taken for a step in the tree.
        let is_step = matches!(segment.trim_end_matches('/'), "." | "..");
        for byte in segment.bytes() {
            let unreserved = byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || (byte == b'.' && !is_step);
            if unreserved || kept.as_bytes().contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push('%');
                out.extend([byte >> 4, byte & 15].map(|half| char::from(b"0123456789ABCDEF"[usize::from(half)])));
            }
        }
    }
    out
}

/// `name:tag`, at the last colon behind the last slash: a registry's port comes before one.
fn split(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        Some(_) | None => (name, "latest"),
    }
}

/// The archive's tar as a body, counting what has gone out.
struct Counted<'a> {
    tar: TarStream<'a>,
    /// Bytes given out, the piece that is being sent included.
    given: &'a Cell<u64>,
    /// Bytes that are sent.
    done: &'a Cell<u64>,
}

impl BodySource for Counted<'_> {
    type Error = ArchiveError;

    fn length(&self) -> Option<u64> {
        Some(self.tar.length())
    }

    async fn next(&mut self) -> Result<Option<&[u8]>, ArchiveError> {
        self.done.set(self.given.get());
        let piece = self.tar.next().await?;
        self.given.set(self.given.get() + piece.map_or(0, |piece| piece.len() as u64));
        Ok(piece)
    }
}
