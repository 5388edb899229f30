//! Following an unlock until it ends, and waiting between two looks at it.

use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, Report};
use super::screen::{Screen, plain};
use super::{Failure, exit};
use crate::limits::{CLIENT_CALL, CLIENT_POLL};

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// For people: a bar, or lines in a pipe.
    Lines,
    /// For programs: what the port answers, a line for each time that it changed.
    Json,
}

/// Shows how far it is until the board is ready.
///
/// # Errors
/// The unlock ended in an error, or the agent went away.
pub(super) fn until_ready(client: &Client, shape: Shape, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let mut told = String::new();
    loop {
        let status = client.unlock_status(CLIENT_CALL)?;
        if shape == Shape::Json && status.line != told {
            screen.print(&status.line);
            told.clone_from(&status.line);
        }
        match (status.state.as_str(), &status.error) {
            ("ready", _) => {
                if shape == Shape::Lines {
                    screen.print("ready");
                }
                return Ok(exit::DONE);
            }
            ("error", Some(report)) => return Err(ended(report)),
            ("error", None) => return Err(Failure::new(exit::FAILED, "the unlock failed; see azaion-loader status")),
            _ if shape == Shape::Lines => screen.progress(&status),
            _ => {}
        }
        pause(CLIENT_POLL);
    }
}

/// The end of an unlock that failed.
pub(super) fn ended(report: &Report) -> Failure {
    let (message, code, next) = (plain(&report.message), plain(&report.code), plain(&report.next));
    Failure::new(exit::FAILED, format_args!("the unlock failed: {message} ({code})\nnext: {next}"))
}

/// Waits. A parked thread may wake early; nobody else unparks this one.
pub(super) fn pause(length: Duration) {
    let end = Instant::now() + length;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}
