//! Calls of the control port (CONTRACT section 6), and what can go wrong with them.

mod failure;

use std::io::{self, Read};
use std::time::Duration;

use http::{Response, Uri};
use serde::Deserialize;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::{Agent, Body, BodyReader, RequestBuilder, SendBody};
use zeroize::Zeroizing;

use super::screen::plain;
use super::target::Target;
use super::wire::{Early, NoResolver, PortConnector};
use crate::json;
use crate::limits::{
    BUNDLE_EVENTS, CLIENT_ANSWER_BYTES, CLIENT_ASKING, CLIENT_CALL, CLIENT_CONNECT, CLIENT_CONTINUE,
    CLIENT_EVENTS_SILENCE,
};
use crate::name::{Folder, ResourceName};
use crate::secret::{Credentials, SecretText};

pub(super) use failure::ClientError;

/// One agent's control port.
pub(super) struct Client {
    agent: Agent,
    target: Target,
    token: Option<SecretText>,
    early: Early,
}

/// A model on its way.
pub(super) struct Model {
    /// Where it is known.
    pub(super) length: Option<u64>,
    /// Ends cleanly where the model is whole, else in an error.
    pub(super) body: BodyReader<'static>,
}

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upload {
    /// The cloud has it.
    Published,
    /// The board has it.
    Accepted,
}

/// An answer: its status and its body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// The answer to what was done.
#[derive(Deserialize)]
struct Done {
    status: String,
}

/// `GET /unlock/status`. Fields of later versions are passed over.
#[derive(Debug, Deserialize)]
pub(super) struct UnlockStatus {
    pub(super) state: String,
    #[serde(default)]
    pub(super) error: Option<Report>,
    #[serde(default)]
    pub(super) progress: Progress,
    /// All of it as it came, on one line.
    #[serde(skip)]
    pub(super) line: String,
}

/// How far it is; `None` where unknown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Progress {
    pub(super) images_done: Option<u64>,
    pub(super) images_total: Option<u64>,
    pub(super) bytes_done: Option<u64>,
    pub(super) bytes_total: Option<u64>,
    pub(super) bytes_per_second: Option<u64>,
    pub(super) seconds_left: Option<u64>,
}

/// `{"code","message","next"}`
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    pub(super) code: String,
    pub(super) message: String,
    #[serde(default)]
    pub(super) next: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: Report,
}

impl Client {
    pub(super) fn new(target: Target, token: Option<SecretText>) -> Self {
        let config = Agent::config_builder()
            // The port is on this board or beside it: a proxy of the environment must never see a password.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CLIENT_CONNECT))
            .user_agent(concat!("azaion-loader/", env!("CARGO_PKG_VERSION")))
            .build();
        let early = Early::default();
        let connector = PortConnector { target: target.clone(), early: early.clone() };
        let agent = match &target {
            Target::Tcp(_) => Agent::with_parts(config, connector, DefaultResolver::default()),
            Target::Unix(_) => Agent::with_parts(config, connector, NoResolver),
        };
        Self { agent, target, token, early }
    }

    /// `GET /status`, as it came.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(super) fn status(&self) -> Result<Vec<u8>, ClientError> {
        self.get("/status", CLIENT_CALL).map(|answer| answer.body)
    }

    /// `GET /unlock/status`, waiting at most `limit` for it.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(super) fn unlock_status(&self, limit: Duration) -> Result<UnlockStatus, ClientError> {
        let answer = self.get("/unlock/status", limit.min(CLIENT_CALL))?;
        let mut status: UnlockStatus = self.parse(&answer)?;
        status.line = plain(&String::from_utf8_lossy(&answer.body));
        Ok(status)
    }

    /// `POST /unlock`; its state.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(super) fn unlock(&self, credentials: Option<&Credentials>) -> Result<String, ClientError> {
        #[derive(Deserialize)]
        struct State {
            state: String,
        }
        let body = credentials.map(login_body).unwrap_or_default();
        let answer = self.post("/unlock", &body, CLIENT_CALL)?;
        self.parse::<State>(&answer).map(|state| state.state)
    }

    /// `POST /login`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(super) fn login(&self, credentials: &Credentials) -> Result<(), ClientError> {
        let answer = self.post("/login", &login_body(credentials), CLIENT_ASKING)?;
        self.parse::<Done>(&answer).map(drop)
    }

    /// `GET /check`, as it came.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(super) fn check(&self) -> Result<Vec<u8>, ClientError> {
        self.get("/check", CLIENT_ASKING).map(|answer| answer.body)
    }

    /// `GET /metrics`, as it came.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(super) fn metrics(&self) -> Result<Vec<u8>, ClientError> {
        self.get("/metrics", CLIENT_CALL).map(|answer| answer.body)
    }

    /// `POST /load/{name}`. It takes as long as it takes.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(super) fn load(&self, name: &ResourceName, folder: &Folder) -> Result<Model, ClientError> {
        let form = serde_json::json!({ "folder": folder.as_str() }).to_string();
        let request = self.agent.post(self.uri(&format!("/load/{}", segment(name))));
        let sent = self.authorised(request).header("content-type", "application/json").send(form.as_bytes());
        let response = sent.map_err(|error| self.failed(error))?;
        let (head, body) = self.streamed(response)?.into_parts();
        // Not what `Body` says of it: to that, a model of no bytes is none.
        let length = head.headers.get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        if length.is_none() && !head.headers.contains_key(http::header::TRANSFER_ENCODING) {
            // Its end could not be told from a cut.
            return Err(ClientError::NotTheAgent { target: self.target.clone(), status: head.status.as_u16() });
        }
        Ok(Model { length, body: body.into_with_config().limit(u64::MAX).reader() })
    }

    /// `PUT /upload/{name}`, let in before the first byte is sent. It takes as long as it takes.
    ///
    /// # Errors
    /// [`ClientError`]; an error of the body itself is told as [`ClientError::NoAnswer`].
    pub(super) fn upload(
        &self,
        (name, folder): (&ResourceName, &Folder),
        length: Option<u64>,
        body: &mut dyn Read,
    ) -> Result<Upload, ClientError> {
        let query = if folder.is_none() { String::new() } else { format!("?folder={}", folder.as_str()) };
        let request = self.agent.put(self.uri(&format!("/upload/{}{query}", segment(name))));
        let mut request = self.authorised(request).header("content-type", "application/octet-stream");
        if let Some(length) = length {
            request = request.header("content-length", length.to_string());
        }
        if length != Some(0) {
            request = request.header("expect", "100-continue");
        }
        let request = request.config().timeout_await_100(Some(CLIENT_CONTINUE)).build();
        let answer = self.answer(request.send(SendBody::from_reader(body)))?;
        match self.parse::<Done>(&answer)?.status.as_str() {
            "success" => Ok(Upload::Published),
            "accepted" => Ok(Upload::Accepted),
            _ => Err(ClientError::NotTheAgent { target: self.target.clone(), status: answer.status }),
        }
    }

    /// `GET /events`, behind the event `since`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(super) fn events(&self, since: Option<u64>) -> Result<BodyReader<'static>, ClientError> {
        let path = since.map_or_else(|| "/events".to_owned(), |id| format!("/events?since={id}"));
        let request = self.authorised(self.agent.get(self.uri(&path))).header("accept", "text/event-stream");
        let sent = request.config().timeout_per_read(Some(CLIENT_EVENTS_SILENCE)).build().call();
        let response = sent.map_err(|error| self.failed(error))?;
        Ok(self.streamed(response)?.into_body().into_with_config().limit(u64::MAX).reader())
    }

    /// The lines for people of the events that are kept; none where they cannot be had.
    pub(super) fn recent_events(&self) -> Vec<String> {
        let request = self.authorised(self.agent.get(self.uri("/events")));
        let sent = request.config().timeout_per_read(Some(BUNDLE_EVENTS)).build().call();
        let Ok(response) = sent.map_err(|error| self.failed(error)).and_then(|response| self.streamed(response)) else {
            return Vec::new();
        };
        let mut bytes = Vec::new();
        // It ends when nothing more comes: that is a time-out.
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let _ended = body.take(CLIENT_ANSWER_BYTES as u64).read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let said = |line: &str| {
            line.strip_prefix(": ").filter(|said| said.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
        };
        text.lines().filter_map(said).collect()
    }

    /// An answer whose body is read as it comes; everything but 200 is read here, and is no answer.
    fn streamed(&self, response: Response<Body>) -> Result<Response<Body>, ClientError> {
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(response);
        }
        self.answer(Ok(response))?;
        Err(ClientError::NotTheAgent { target: self.target.clone(), status })
    }

    /// Tells whoever makes a body that no more of it is wanted.
    pub(super) fn early(&self) -> Early {
        self.early.clone()
    }

    fn get(&self, path: &str, limit: Duration) -> Result<Answer, ClientError> {
        let request = self.authorised(self.agent.get(self.uri(path)));
        self.answer(request.config().timeout_global(Some(limit)).build().call())
    }

    fn post(&self, path: &str, body: &[u8], limit: Duration) -> Result<Answer, ClientError> {
        let request = self.authorised(self.agent.post(self.uri(path))).header("content-type", "application/json");
        self.answer(request.config().timeout_global(Some(limit)).build().send(body))
    }

    fn authorised<Kind>(&self, request: RequestBuilder<Kind>) -> RequestBuilder<Kind> {
        match &self.token {
            Some(token) => request.header("authorization", bearer(token).as_str()),
            None => request,
        }
    }

    fn uri(&self, path: &str) -> Uri {
        let authority = match &self.target {
            Target::Tcp(authority) => authority.as_str(),
            Target::Unix(_) => "localhost",
        };
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build();
        uri.expect("the target's authority was parsed before, the paths are ASCII without spaces")
    }

    fn answer(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<Answer, ClientError> {
        let mut response = sent.map_err(|error| self.failed(error))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(CLIENT_ANSWER_BYTES as u64).read_to_vec();
        let answer = Answer { status, body: body.map_err(|error| self.failed(error))? };
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let report = self.parse::<Refusal>(&answer)?.error;
        Err(ClientError::Refused { status, report })
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, answer: &Answer) -> Result<T, ClientError> {
        json::from_slice(&answer.body, CLIENT_ANSWER_BYTES)
            .map_err(|_| ClientError::NotTheAgent { target: self.target.clone(), status: answer.status })
    }

    fn failed(&self, error: ureq::Error) -> ClientError {
        let target = self.target.clone();
        match error {
            ureq::Error::Io(source) => match source.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                    ClientError::NotRunning { target, source }
                }
                io::ErrorKind::PermissionDenied => ClientError::NotAllowed { target, source },
                _ => ClientError::NoAnswer { target, source: ureq::Error::Io(source) },
            },
            source => ClientError::NoAnswer { target, source },
        }
    }
}

/// A name as a segment of a path: every byte but the unreserved ones of RFC 3986 section 2.3 is escaped.
fn segment(name: &ResourceName) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut segment = String::with_capacity(3 * name.as_str().len());
    for byte in name.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            let digits = [byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)]));
            segment.extend(['%', digits[0], digits[1]]);
        }
    }
    segment
}

fn bearer(token: &SecretText) -> Zeroizing<String> {
    Zeroizing::new(format!("Bearer {}", token.expose()))
}

/// `{"email","password"}` in a buffer that never grows: growing would leave copies of the password behind.
fn login_body(credentials: &Credentials) -> Zeroizing<Vec<u8>> {
    #[derive(serde::Serialize)]
    struct Form<'a> {
        email: &'a str,
        password: &'a str,
    }
    let form = Form { email: credentials.email(), password: credentials.password().expose() };
    // Six bytes are the longest escape of one.
    let mut body = Zeroizing::new(Vec::with_capacity(6 * (form.email.len() + form.password.len()) + 64));
    // Writing text into memory cannot fail.
    let _written = serde_json::to_writer(&mut *body, &form);
    body
}
