//! Calls of the control port (CONTRACT section 6), and what can go wrong with them.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use http::{Response, Uri};
use serde::Deserialize;
use ureq::{Agent, Body};
use zeroize::Zeroizing;

use super::exit;
use super::screen::plain;
use super::target::Target;
use super::unix::{NoResolver, UnixConnector};
use crate::json;
use crate::limits::{CLIENT_ANSWER_BYTES, CLIENT_CALL, CLIENT_CONNECT};
use crate::secret::{Credentials, SecretText};

/// One agent's control port.
pub(super) struct Client {
    agent: Agent,
    target: Target,
    token: Option<SecretText>,
}

/// An answer: its status and its body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// `GET /unlock/status`. Fields of later versions are passed over.
#[derive(Debug, Deserialize)]
pub(super) struct UnlockStatus {
    pub(super) state: String,
    #[serde(default)]
    pub(super) error: Option<Report>,
    #[serde(default)]
    pub(super) progress: Progress,
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

/// Why there is no answer that helps.
#[derive(Debug)]
pub(super) enum ClientError {
    /// Nobody listens there.
    NotRunning { target: Target, source: io::Error },
    /// The socket is there and this user may not open it.
    NotAllowed { target: Target, source: io::Error },
    /// The connection failed in the middle, or no answer came in time.
    NoAnswer { target: Target, source: ureq::Error },
    /// What answers is not this agent.
    NotTheAgent { target: Target, status: u16 },
    /// The agent refuses.
    Refused { status: u16, report: Report },
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning { target, .. } => write!(f, "the agent is not running at {target}"),
            Self::NotAllowed { target, .. } => write!(f, "this user may not call the agent at {target}"),
            Self::NoAnswer { target, .. } => write!(f, "the agent at {target} does not answer"),
            Self::NotTheAgent { target, status } => {
                write!(f, "what answers at {target} (status {status}) is not azaion-loader")
            }
            Self::Refused { report, .. } => write!(f, "{} ({})", plain(&report.message), plain(&report.code)),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotRunning { source, .. } | Self::NotAllowed { source, .. } => Some(source),
            Self::NoAnswer { source, .. } => Some(source),
            Self::NotTheAgent { .. } | Self::Refused { .. } => None,
        }
    }
}

impl ClientError {
    /// What the person can do.
    pub(super) fn next_step(&self) -> String {
        match self {
            Self::NotRunning { .. } => "systemctl status azaion-loader, or another address with --url".to_owned(),
            Self::NotAllowed { .. } => "call as root, or add this user to [control] allow_uids".to_owned(),
            Self::NoAnswer { .. } => "journalctl -u azaion-loader -n 50".to_owned(),
            Self::NotTheAgent { .. } => "check --url or [control] listen".to_owned(),
            Self::Refused { report, .. } => plain(&report.next),
        }
    }

    /// The exit code of the process.
    pub(super) const fn exit(&self) -> u8 {
        match self {
            Self::NotRunning { .. } | Self::NoAnswer { .. } => exit::NOT_RUNNING,
            Self::NotAllowed { .. } | Self::NotTheAgent { .. } | Self::Refused { .. } => exit::FAILED,
        }
    }

    /// Whether the same call may succeed later without anybody doing anything to this client.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::NotRunning { .. } | Self::NoAnswer { .. } => true,
            // Too many clients, or a fault of the agent's own.
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            Self::NotAllowed { .. } | Self::NotTheAgent { .. } => false,
        }
    }
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
        let agent = match &target {
            Target::Tcp(_) => Agent::new_with_config(config),
            Target::Unix(path) => Agent::with_parts(config, UnixConnector(path.clone()), NoResolver),
        };
        Self { agent, target, token }
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
        self.parse(&answer)
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
        let mut request = self.agent.post(self.uri("/unlock")).header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", bearer(token).as_str());
        }
        let sent = request.config().timeout_global(Some(CLIENT_CALL)).build().send(body.as_slice());
        let answer = self.answer(sent)?;
        self.parse::<State>(&answer).map(|state| state.state)
    }

    fn get(&self, path: &str, limit: Duration) -> Result<Answer, ClientError> {
        let mut request = self.agent.get(self.uri(path));
        if let Some(token) = &self.token {
            request = request.header("authorization", bearer(token).as_str());
        }
        self.answer(request.config().timeout_global(Some(limit)).build().call())
    }

    fn uri(&self, path: &str) -> Uri {
        let authority = match &self.target {
            Target::Tcp(authority) => authority.as_str(),
            Target::Unix(_) => "localhost",
        };
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build();
        uri.expect("the target's authority was parsed before, the paths are literals")
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
