//! The same without a running agent: `azaion-loader check` on a board where the agent does not start.

use std::rc::Rc;

use smol::LocalExecutor;

use super::super::setup::subject_to_look;
use super::{Checker, Live, in_time};
use crate::config::Config;
use crate::control::Checkup;
use crate::error::{Report, chain};
use crate::limits::CHECK_STEP;
use crate::net::Clock;
use crate::net::turn::block_on;
use crate::secret::Credentials;
use crate::unlock::State;

/// Why nothing could be looked at: the agent would not start either.
#[derive(Debug)]
pub struct CheckRefused(pub String);

/// Looks at everything. `credentials` are those of `[boot]`, or somebody's who was asked.
///
/// # Errors
/// [`CheckRefused`]: what is wrong with the configuration or the board.
pub fn check_alone(config: Config, credentials: Option<&Credentials>) -> Result<Checkup, CheckRefused> {
    let (subject, changes) = subject_to_look(config).map_err(|refused| CheckRefused(chain(&refused)))?;
    let executor = LocalExecutor::new();
    Ok(block_on(&executor, async {
        let parts = Rc::clone(&subject.parts);
        let live = async |answers: bool| {
            let session = match credentials {
                Some(credentials) if answers => {
                    let log_in = Box::pin(parts.cloud.log_in_at_once(credentials));
                    in_time(CHECK_STEP, async { log_in.await.map_err(|error| Report::of(&error)) }).await
                }
                _ => Err(super::super::desk::not_logged_in()),
            };
            let ready = parts.ledger.remembers_ready().await;
            Live { session, changes, cache: None, unlock: if ready { State::Ready } else { State::Idle } }
        };
        Checker::new(subject, Clock::boot()).run(live).await
    }))
}
