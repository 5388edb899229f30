//! `wait`: for units that start after the board is ready.
//!
//! It waits through everything that can pass: an agent that is not up yet, an unlock that has not been asked for, and,
//! unless told otherwise, one that failed, since it can be asked for again.

use std::time::{Duration, Instant};

use lexopt::Parser;

use super::args::{Command, Options, Parsed, Wrong, port_option};
use super::client::Client;
use super::follow::{Shape, ended, pause};
use super::screen::{Screen, plain};
use super::target::Port;
use super::{Failure, exit, help};
use crate::error::chain;
use crate::limits::{CLIENT_CALL, CLIENT_WAIT_POLL};

const COMMAND: &str = "wait";

#[derive(Debug)]
pub(super) struct WaitOptions {
    port: Port,
    timeout: Option<Duration>,
    fails_on_error: bool,
    shape: Shape,
}

pub(super) fn parse(parser: Parser) -> Result<Parsed, Wrong> {
    let known = &["--config", "--url", "--token-file", "--timeout", "--fail-on-error", "--json", "--help"];
    let mut options = Options { parser, command: COMMAND, known };
    let mut parsed = WaitOptions { port: Port::default(), timeout: None, fails_on_error: false, shape: Shape::Lines };
    while let Some(name) = options.next()? {
        match name {
            "--timeout" => {
                let text = options.text()?;
                let seconds = text.parse().map_err(|_| Wrong::Value {
                    command: COMMAND,
                    option: "--timeout",
                    text,
                    allowed: "whole seconds",
                })?;
                parsed.timeout = Some(Duration::from_secs(seconds));
            }
            "--json" => parsed.shape = Shape::Json,
            "--fail-on-error" => parsed.fails_on_error = true,
            "--help" => return Ok(Parsed::Text(help::WAIT)),
            _ => {
                port_option(name, &mut options, &mut parsed.port)?;
            }
        }
    }
    Ok(Parsed::Command(Command::Wait(parsed)))
}

pub(super) fn run(options: &WaitOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    until_ready(&options.port.client()?, options, screen)
}

fn until_ready(client: &Client, options: &WaitOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let start = Instant::now();
    let (mut told, mut told_line) = (String::new(), String::new());
    loop {
        let left = options.timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        // The first look is always taken: `--timeout 0` asks once.
        let limit = left.unwrap_or(CLIENT_CALL).max(Duration::from_secs(1));
        let answer = client.unlock_status(limit);
        if let (Shape::Json, Ok(status)) = (options.shape, &answer)
            && status.line != told_line
        {
            screen.print(&status.line);
            told_line.clone_from(&status.line);
        }
        let last = match answer {
            Ok(status) if status.state == "ready" => {
                if options.shape == Shape::Lines {
                    screen.print("ready");
                }
                return Ok(exit::DONE);
            }
            Ok(status) => {
                if let (true, Some(report)) = (options.fails_on_error, &status.error)
                    && status.state == "error"
                {
                    return Err(ended(report));
                }
                match &status.error {
                    Some(report) => ended(report).said.replace('\n', "; "),
                    None => format!("the state is {}", plain(&status.state)),
                }
            }
            Err(error) if error.may_pass() => chain(&error),
            Err(error) => return Err(error.into()),
        };
        if told != last {
            screen.complain(&format!("waiting: {last}"));
            told.clone_from(&last);
        }
        let left = options.timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            let seconds = options.timeout.unwrap_or_default().as_secs();
            return Err(Failure::new(exit::TIMED_OUT, format_args!("not ready after {seconds} s: {last}")));
        }
        pause(left.unwrap_or(CLIENT_WAIT_POLL).min(CLIENT_WAIT_POLL));
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::Target;
    use super::super::testing::Port as Fake;
    use super::*;

    const READY: &str = r#"{"state":"ready","error":null,"progress":{}}"#;
    const ERROR: &str = r#"{"state":"error","error":{"code":"archive_missing","message":"m","next":"n"}}"#;

    fn wait(client: &Client, timeout: Option<u64>, fails_on_error: bool) -> Result<u8, Failure> {
        let timeout = timeout.map(Duration::from_secs);
        let options = WaitOptions { port: Port::default(), timeout, fails_on_error, shape: Shape::Lines };
        until_ready(client, &options, &mut Screen::into(&mut Vec::new(), false))
    }

    #[test]
    fn it_waits_through_an_error_unless_told_otherwise() {
        let fake = Fake::answering(&[(200, ERROR), (503, r#"{"error":{"code":"c","message":"m"}}"#), (200, READY)]);
        assert_eq!(wait(&fake.client(), None, false).expect("ready"), exit::DONE);
        let fake = Fake::answering(&[(200, ERROR)]);
        let failure = wait(&fake.client(), None, true).expect_err("the unlock failed");
        assert_eq!(
            (failure.exit, failure.said.as_str()),
            (exit::FAILED, "the unlock failed: m (archive_missing)\nnext: n")
        );
    }

    #[test]
    fn json_says_each_answer_once_and_ready_last() {
        let fake = Fake::answering(&[(200, ERROR), (200, ERROR), (200, READY)]);
        let options = WaitOptions { port: Port::default(), timeout: None, fails_on_error: false, shape: Shape::Json };
        let mut out = Vec::new();
        until_ready(&fake.client(), &options, &mut Screen::into(&mut out, false)).expect("ready");
        assert_eq!(String::from_utf8(out).expect("UTF-8"), format!("{ERROR}\n{READY}\n"));
    }

    #[test]
    fn a_refusal_is_not_waited_for() {
        let fake = Fake::answering(&[(401, r#"{"error":{"code":"token","message":"m","next":"n"}}"#)]);
        assert_eq!(wait(&fake.client(), None, false).expect_err("refused").exit, exit::FAILED);
    }

    #[test]
    fn nobody_there_ends_in_the_time_out_and_not_before() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let client = Client::new(Target::Unix(dir.path().join("none")), None);
        let failure = wait(&client, Some(0), false).expect_err("nobody there");
        assert_eq!(failure.exit, exit::TIMED_OUT);
        assert!(failure.said.starts_with("not ready after 0 s: the agent is not running at unix:"), "{}", failure.said);
    }
}
