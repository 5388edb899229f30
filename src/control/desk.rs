//! What the port asks of the agent behind it, and the views that it shows.
//!
//! The agent implements [`Desk`]; the port never reaches past it. A view must never hold a secret or a path.

use crate::error::Report;
use crate::secret::Credentials;
use crate::unlock::{Progress, State};

/// The agent as the port sees it.
#[expect(async_fn_in_trait, reason = "one thread: no caller needs the futures to be Send")]
pub trait Desk {
    /// What `GET /status` shows.
    fn status(&self) -> StatusView;

    /// What `GET /unlock/status` shows.
    fn unlock_status(&self) -> UnlockView;

    /// Tries the credentials with the Resource API and holds them if they are right.
    ///
    /// # Errors
    /// What the caller is shown; nothing is held then that was not held before.
    async fn login(&self, credentials: Credentials) -> Result<(), Report>;

    /// Starts an unlock with these credentials, or with those already held.
    ///
    /// # Errors
    /// What the caller is shown when none could be started: no archive, no credentials.
    async fn unlock(&self, credentials: Option<Credentials>) -> Result<UnlockAnswer, Report>;
}

/// How an unlock was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlockAnswer {
    /// It starts now, in this state.
    Started(State),
    /// One was running already and is in this state.
    Running(State),
    /// There is nothing to do.
    Ready,
}

/// The agent at a glance. What is long is cut when it is shown.
#[derive(Debug, Clone)]
pub struct StatusView {
    /// The agent's version.
    pub version: &'static str,
    /// The board's profile.
    pub board: String,
    /// Who is logged in.
    pub user: Option<UserView>,
    /// Where the unlock is.
    pub unlock: State,
    /// How the archive is protected: `unsealed`.
    pub seal: &'static str,
    /// The container engine, once it has answered.
    pub engine: Option<EngineView>,
    /// The cache of models, where there is one.
    pub cache: Option<CacheView>,
    /// The last error of any call or unlock.
    pub last_error: Option<Report>,
    /// What the person at the board should know besides.
    pub notes: Vec<String>,
}

/// Who is logged in.
#[derive(Debug, Clone)]
pub struct UserView {
    /// The e-mail address.
    pub email: String,
    /// The role as CONTRACT section 1 names it.
    pub role: &'static str,
}

/// The container engine. Its directories stay inside: an answer shows no paths.
#[derive(Debug, Clone)]
pub struct EngineView {
    /// `docker` or `directory`.
    pub kind: &'static str,
    /// Its version.
    pub version: String,
    /// The version of its API.
    pub api_version: String,
    /// Its image store.
    pub store: String,
}

/// The cache of models.
#[derive(Debug, Clone, Copy)]
pub struct CacheView {
    /// Parts held.
    pub entries: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Bytes allowed.
    pub max_bytes: Option<u64>,
}

/// The unlock at a glance.
#[derive(Debug, Clone)]
pub struct UnlockView {
    /// Where it is.
    pub state: State,
    /// Why the last one stopped.
    pub error: Option<Report>,
    /// How far it is.
    pub progress: Progress,
}
