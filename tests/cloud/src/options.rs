//! What a cloud is started with. Every field has a default, so that a test names only what it is about.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::call::Call;
use crate::keys::Salts;
use crate::token::Signing;

/// Told of every call when its answer is decided, on the cloud's own threads.
pub type Observer = Box<dyn Fn(&Call) + Send + Sync>;

/// What [`crate::Cloud::start`] is given.
pub struct Options {
    /// Who can log in; more can come with [`crate::Cloud::add_user`].
    pub users: Vec<User>,
    /// The key fragment; can be changed with [`crate::Cloud::set_fragment`].
    pub fragment: Option<Vec<u8>>,
    /// The salts of CONTRACT section 3, the same as in the agent's configuration.
    pub salts: Salts,
    /// How long a token lives; counted in whole seconds, as `exp` is. Default: four hours.
    pub token_lifetime: Duration,
    /// How tokens are signed.
    pub signing: Signing,
    /// The clock behind `iat`, `exp` and the expiry of tokens.
    pub time: ServerTime,
    /// What the server's certificate looks like.
    pub leaf: Leaf,
    /// The key of the authority behind it, in PEM ([`crate::new_authority`]): every cloud with this key is trusted by who
    /// trusts one of them. Default: a fresh one.
    pub authority: Option<String>,
    /// The Resource API's port on 127.0.0.1. Default: 0, a free one.
    pub port: u16,
    /// The answer to wrong credentials.
    pub wrong_credentials: WrongCredentials,
    /// The answer to an unknown file.
    pub unknown_file: UnknownFile,
    /// Who is told of every call when its answer is decided.
    pub observer: Option<Observer>,
    /// Whether there is an S3 server too: [`crate::Cloud::s3`]. Its `cdn.yaml` is stored as a resource without folder.
    pub s3: bool,
    /// Where the S3 server keeps objects; by default a temporary directory that goes with it.
    pub s3_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            fragment: None,
            salts: Salts::default(),
            token_lifetime: Duration::from_hours(4),
            signing: Signing::default(),
            time: ServerTime::default(),
            leaf: Leaf::default(),
            authority: None,
            port: 0,
            wrong_credentials: WrongCredentials::default(),
            unknown_file: UnknownFile::default(),
            observer: None,
            s3: false,
            s3_dir: None,
        }
    }
}

/// Someone who can log in. Not `Debug`: it holds a password.
#[derive(Clone)]
pub struct User {
    /// What the user is found by; compared as it is.
    pub email: String,
    /// The password, in the clear.
    pub password: String,
    /// The token's `role`, any text; without one the claim is left out.
    pub role: Option<String>,
    /// The only hardware hash this user's resources are handed to; without one, any.
    pub hardware_hash: Option<String>,
}

impl User {
    /// A user of this role who is bound to no hardware.
    pub fn new(email: &str, password: &str, role: &str) -> Self {
        Self { email: email.into(), password: password.into(), role: Some(role.into()), hardware_hash: None }
    }

    /// The same user without a role.
    #[must_use]
    pub fn without_role(mut self) -> Self {
        self.role = None;
        self
    }

    /// The same user, bound to this hardware hash ([`Salts::hardware_hash`]).
    #[must_use]
    pub fn bound_to(mut self, hardware_hash: impl Into<String>) -> Self {
        self.hardware_hash = Some(hardware_hash.into());
        self
    }
}

/// The server's clock in seconds since 1970. Default: the system's.
#[derive(Clone)]
pub struct ServerTime(Arc<dyn Fn() -> u64 + Send + Sync>);

impl ServerTime {
    /// A clock that a test moves.
    pub fn by(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(clock))
    }

    /// A clock that stands still.
    pub fn fixed(seconds: u64) -> Self {
        Self::by(move || seconds)
    }

    pub(crate) fn now(&self) -> u64 {
        (self.0)()
    }
}

impl Default for ServerTime {
    fn default() -> Self {
        Self::by(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }
}

/// The server's certificate. To have an unknown authority, give the client another cloud's
/// [`crate::Cloud::ca_pem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leaf {
    /// For `localhost`, `127.0.0.1`, the far end of `tests/tools/thin-link` and this machine as a board under QEMU sees
    /// it, valid now and at any time a board without a clock believes in.
    #[default]
    Good,
    /// For another name only.
    WrongName,
    /// Expired in the year 2000.
    Expired,
    /// Valid from the year 2100 on: what a good certificate is to a board whose clock stands in the past.
    NotYetValid,
}

/// How `/login` answers wrong credentials: the contract allows both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WrongCredentials {
    /// 401.
    #[default]
    Unauthorized,
    /// 409, with an `ErrorCode`.
    Conflict,
}

/// How `/resources/get` answers an unknown file: the contract allows both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownFile {
    /// 404.
    #[default]
    NotFound,
    /// 409, with an `ErrorCode`.
    Conflict,
}
