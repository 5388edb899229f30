//! What an unlock would do to the engine, without doing it: `azaion-loader plan`.
//!
//! It logs in and opens the archive, because the key is in the cloud. Nothing is written, on the board or in the engine,
//! and a running agent is not disturbed.

use smol::LocalExecutor;

use super::parts::Parts;
use super::setup::{StartRefused, parts_to_look};
use crate::config::Config;
use crate::engine::Preview;
use crate::error::{Report, chain};
use crate::net::Clock;
use crate::net::turn::block_on;
use crate::secret::Credentials;
use crate::unlock::{Archives as _, Cause, Cloud as _, Meter};

/// Why there is no plan.
#[derive(Debug)]
pub enum PreviewRefused {
    /// The configuration cannot be right; what is wrong.
    Configuration(String),
    /// A step of it failed.
    Failed(Report),
}

/// The plan for this board's archive and engine; `None` for an OCI directory, which takes what it does not have.
///
/// # Errors
/// [`PreviewRefused`]; nothing was changed.
pub fn preview(config: Config, credentials: &Credentials) -> Result<Option<Preview>, PreviewRefused> {
    let parts =
        parts_to_look(config).map_err(|refused: StartRefused| PreviewRefused::Configuration(chain(&refused)))?;
    block_on(&LocalExecutor::new(), look(&parts, credentials)).map_err(|cause| PreviewRefused::Failed(cause.report()))
}

async fn look(parts: &Parts, credentials: &Credentials) -> Result<Option<Preview>, Cause> {
    let session = parts.cloud.log_in(credentials).await?;
    let key = parts.cloud.fetch_key(&session).await?;
    let archive = parts.archives.open(&key, &Meter::new(Clock::boot())).await?;
    parts.engine.preview(&archive).await
}
