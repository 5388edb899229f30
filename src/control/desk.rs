//! What the port asks of the agent behind it, and the views that it shows.
//!
//! The agent implements [`Desk`]; the port never reaches past it. A view must never hold a secret or a path.

use std::rc::Rc;
use std::time::Duration;

use super::checkup::Checkup;
use super::feed::Feed;
use crate::error::{Code, Report};
use crate::name::{Folder, ResourceName};
use crate::secret::Credentials;
use crate::unlock::{Progress, State};

/// The agent as the port sees it.
#[expect(async_fn_in_trait, reason = "one thread: no caller needs the futures to be Send")]
pub trait Desk {
    /// What `GET /status` shows.
    fn status(&self) -> StatusView;

    /// What `GET /unlock/status` shows.
    fn unlock_status(&self) -> UnlockView;

    /// Ends when the unlock is in another state than it is in now.
    async fn unlock_turns(&self);

    /// What happens on the board.
    fn feed(&self) -> Rc<Feed>;

    /// What `GET /metrics` shows besides what is counted.
    async fn gauges(&self) -> Gauges;

    /// Looks at everything that can be wrong on this board; takes seconds.
    async fn check(&self) -> Checkup;

    /// The port turned a caller away, for this reason.
    fn turned_away(&self, _why: Code) {}

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

    /// A model on its way out.
    type Model: Outgoing;

    /// Opens a model. Dropped before it is done when the client leaves.
    ///
    /// # Errors
    /// What the caller is shown: not logged in, no such model, the cloud.
    async fn load(&self, wanted: Wanted) -> Result<Self::Model, Report>;

    /// A model on its way in.
    type Upload: Incoming;

    /// Lets an upload begin, or tells why not before the client sends its bytes.
    ///
    /// # Errors
    /// What the caller is shown: not logged in, the role, no room.
    async fn upload(&self) -> Result<Self::Upload, Report>;
}

/// Which model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its folder.
    pub folder: Folder,
    /// Its name.
    pub name: ResourceName,
}

/// A model as it is handed out. The port sends each piece before it asks for the next one, and drops what is left when
/// the client leaves.
#[expect(async_fn_in_trait, reason = "one thread: no caller needs the futures to be Send")]
pub trait Outgoing {
    /// Bytes in all, where they are known. An answer with another number of bytes is cut.
    fn length(&self) -> Option<u64>;

    /// The next piece, at most [`PIECE_BYTES`](crate::limits::PIECE_BYTES); `None` behind the last.
    ///
    /// # Errors
    /// At the first piece it is an answer like any other; later it cuts the connection. Whoever tells a length must be
    /// sure of the end before the last piece: with it the client has a whole answer.
    async fn next(&mut self) -> Result<Option<&[u8]>, Report>;
}

/// A model as it is taken in. Dropped before [`finish`](Self::finish) when the client leaves or sends what is refused.
#[expect(async_fn_in_trait, reason = "one thread: no caller needs the futures to be Send")]
pub trait Incoming {
    /// Takes the next piece: 1 to [`PIECE_BYTES`](crate::limits::PIECE_BYTES) bytes.
    ///
    /// # Errors
    /// What the caller is shown; nothing of the upload remains then.
    async fn push(&mut self, piece: &[u8]) -> Result<(), Report>;

    /// The client sent everything. Not ended when the client leaves meanwhile: the bytes are all here.
    ///
    /// # Errors
    /// What the caller is shown; the upload is the caller's to repeat then.
    async fn finish(self, wanted: Wanted) -> Result<UploadAnswer, Report>;
}

/// How an upload was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadAnswer {
    /// The cloud has it.
    Published,
    /// The board has it, and sends it when the cloud answers again.
    Accepted,
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
    /// How the archive is protected whose images the engine holds: `unsealed`, `sealed` or `signed`.
    pub seal: Option<&'static str>,
    /// The container engine, once it has answered.
    pub engine: Option<EngineView>,
    /// The cache of models, where there is one.
    pub cache: Option<CacheView>,
    /// The head of the audit log, once it has a line.
    pub audit: Option<AuditView>,
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
    /// Bytes written since the cache was made.
    pub bytes_written: u64,
    /// Uploads that wait for the cloud.
    pub uploads_waiting: u64,
    /// Whether it can be written to; the agent goes on without it.
    pub usable: bool,
}

/// What `GET /metrics` shows besides what is counted.
#[derive(Debug, Clone)]
pub struct Gauges {
    /// The agent's version.
    pub version: &'static str,
    /// Since the agent began.
    pub uptime: Duration,
    /// Where the unlock is.
    pub unlock: State,
    /// How long each stage of the last unlock took.
    pub stages: Vec<(&'static str, Duration)>,
    /// Whether somebody is logged in.
    pub logged_in: bool,
    /// Whether the board is not the one its keys were made for.
    pub board_changed: bool,
    /// Lines of the audit log, ever.
    pub audit_lines: Option<u64>,
    /// The cache of models, where there is one.
    pub cache: Option<CacheView>,
    /// Free bytes, by place.
    pub free: Vec<(&'static str, u64)>,
    /// Connections to the control port; the port itself counts them.
    pub clients: u64,
}

/// The head of the audit log.
#[derive(Debug, Clone)]
pub struct AuditView {
    /// Lines.
    pub count: u64,
    /// SHA-256 of the last one, in hex.
    pub hash: String,
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
