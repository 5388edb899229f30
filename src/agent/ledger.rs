//! What the agent remembers on flash about the engine: which archive it brought in, whole, and into which engine.
//!
//! One small JSON file, `ready.json`, in the state directory. It is removed before a load begins and written after the
//! engine has confirmed every image, so that it never speaks of a load that did not end. It holds no secret.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::archive::{ArchiveError, Identity};
use crate::config::read_small;
use crate::engine::Expected;
use crate::error::{Code, Explain};
use crate::flash;
use crate::json::{self, JsonRefused};
use crate::limits::LEDGER_BYTES;
use crate::net::lend;
use crate::unlock::{self, Cause};

/// The format of `ready.json`; another one is treated as if nothing were remembered.
const VERSION: u32 = 1;

/// What an archive brought into an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Suite {
    version: u32,
    /// The archive file it came from.
    pub(super) archive: Identity,
    /// The engine that took it, by the engine's own identifier; an engine that has none is not told from another.
    pub(super) engine: Option<String>,
    /// The images, as they are asked for.
    pub(super) images: Vec<Expected>,
}

impl Suite {
    /// What the archive with this identity brought into this engine.
    pub(super) fn of(archive: Identity, engine: Option<String>, images: Vec<Expected>) -> Self {
        Self { version: VERSION, archive, engine, images }
    }
}

/// The file, and the archive it is compared with.
#[derive(Debug)]
pub(super) struct Ledger {
    file: PathBuf,
    archive: PathBuf,
}

/// The state on flash cannot be read or written.
#[derive(Debug)]
pub(super) enum LedgerError {
    /// `ready.json` cannot be read.
    Read(io::Error),
    /// `ready.json` cannot be removed or replaced.
    Write(io::Error),
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read(_) => "cannot read the state directory",
            Self::Write(_) => "cannot write the state directory",
        })
    }
}

impl std::error::Error for LedgerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(source) | Self::Write(source) => Some(source),
        }
    }
}

impl Explain for LedgerError {
    fn code(&self) -> Code {
        Code::StateUnavailable
    }

    fn next_step(&self) -> String {
        "check that the state directory is on a writable disk with free space and belongs to the agent's user".into()
    }
}

impl Ledger {
    /// The ledger in `state_dir` for the archive at `archive`.
    pub(super) fn new(state_dir: &Path, archive: &Path) -> Self {
        Self { file: state_dir.join("ready.json"), archive: archive.to_owned() }
    }

    /// Whether the archive that is on flash now is the one the suite came from. Whoever removed it after the load has
    /// freed flash, not taken the images back.
    pub(super) async fn is_current(&self, suite: &Suite) -> Result<bool, ArchiveError> {
        match Identity::of(&self.archive).await {
            Ok(identity) => Ok(identity == suite.archive),
            Err(ArchiveError::Missing) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// What was written last, whatever archive is there now.
    async fn read(&self) -> Result<Option<Suite>, LedgerError> {
        let file = self.file.clone();
        let content = match lend(move || read_small(&file, LEDGER_BYTES)).await {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LedgerError::Read(error)),
        };
        match json::from_slice::<Suite>(&content, LEDGER_BYTES) {
            Ok(suite) if suite.version == VERSION => Ok(Some(suite)),
            Ok(suite) => {
                log::warn!("ready.json has version {}, this agent knows {VERSION}: an unlock is needed", suite.version);
                Ok(None)
            }
            Err(refused) => {
                self.warn_unreadable(&refused);
                Ok(None)
            }
        }
    }

    /// A file of ours that does not parse was damaged: it counts as nothing remembered, which is always safe.
    fn warn_unreadable(&self, refused: &JsonRefused) {
        log::warn!("{} is damaged ({refused}): an unlock is needed", self.file.display());
    }
}

impl unlock::Ledger for Ledger {
    type Suite = Suite;

    async fn recall(&self) -> Result<Option<Suite>, Cause> {
        let Some(suite) = self.read().await? else { return Ok(None) };
        Ok(self.is_current(&suite).await?.then_some(suite))
    }

    async fn forget(&self) -> Result<(), Cause> {
        let file = self.file.clone();
        Ok(lend(move || flash::remove(&file)).await.map_err(LedgerError::Write)?)
    }

    async fn remember(&self, suite: &Suite) -> Result<(), Cause> {
        let content = serde_json::to_vec(suite).map_err(|error| LedgerError::Write(error.into()))?;
        if content.len() > LEDGER_BYTES {
            // It could not be read again.
            return Err(LedgerError::Write(io::ErrorKind::FileTooLarge.into()).into());
        }
        let file = self.file.clone();
        Ok(lend(move || flash::replace(&file, &content)).await.map_err(LedgerError::Write)?)
    }
}
