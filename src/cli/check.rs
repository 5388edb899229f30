//! `check`: what is well with this board and what is not, each with its next step.
//!
//! The running agent is asked (`GET /check`). Where none runs, the board is looked at from here.

use std::path::PathBuf;

use lexopt::Parser;
use serde::{Deserialize, Serialize};

use super::args::{Command, Options, Parsed, Wrong, port_option};
use super::bundle;
use super::client::ClientError;
use super::screen::{Screen, plain};
use super::target::Port;
use super::{Failure, exit, help};
use crate::agent::{CheckRefused, check_alone};
use crate::config::{Config, Source};
use crate::control::{self, Checkup, Finding};
use crate::error::chain;
use crate::json;
use crate::limits::CLIENT_ANSWER_BYTES;

const COMMAND: &str = "check";

#[derive(Debug, Default)]
pub(super) struct CheckOptions {
    port: Port,
    /// Where the support file goes.
    bundle: Option<PathBuf>,
    as_json: bool,
}

/// The answer of `GET /check`. Fields of later versions are passed over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) result: Finding,
    pub(super) checks: Vec<Check>,
}

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) result: Finding,
    pub(super) text: String,
    /// `None` where there is nothing to do.
    pub(super) next: Option<String>,
}

pub(super) fn parse(parser: Parser) -> Result<Parsed, Wrong> {
    let known = &["--bundle", "--config", "--url", "--token-file", "--json", "--help"];
    let mut options = Options { parser, command: COMMAND, known };
    let mut parsed = CheckOptions::default();
    while let Some(name) = options.next()? {
        match name {
            "--bundle" => parsed.bundle = Some(options.path()?),
            "--json" => parsed.as_json = true,
            "--help" => return Ok(Parsed::Text(help::CHECK)),
            _ => {
                port_option(name, &mut options, &mut parsed.port)?;
            }
        }
    }
    Ok(Parsed::Command(Command::Check(parsed)))
}

pub(super) fn run(options: &CheckOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let (found, text) = look(&options.port)?;
    if let Some(file) = &options.bundle {
        let mut lines = Vec::new();
        show(&found, &mut Screen::into(&mut lines, false));
        bundle::write(file, &options.port, &String::from_utf8_lossy(&lines))?;
    }
    if options.as_json {
        screen.print(&plain(&text));
    } else {
        show(&found, screen);
        if let Some(file) = &options.bundle {
            let file = plain(&file.display().to_string());
            screen.print(&format!("{file} is for support: plain text without secrets; read it before you send it"));
        }
    }
    Ok(code(&found))
}

/// What is found, and the same as JSON: by the running agent, or here where none runs and no other board was named.
fn look(port: &Port) -> Result<(Found, String), Failure> {
    let answer = match port.client() {
        Ok(client) => match client.check() {
            Err(ClientError::NotRunning { .. }) if port.url.is_none() => None,
            answer => Some(answer?),
        },
        // A configuration that cannot be read is what is looked for.
        Err(_) if port.url.is_none() => None,
        Err(failure) => return Err(failure),
    };
    match answer {
        Some(answer) => parsed(&answer),
        None => parsed(&serde_json::to_vec(&alone(&port.source)).unwrap_or_default()),
    }
}

/// The checkup of a board without a running agent.
fn alone(source: &Source) -> Checkup {
    let next = "systemctl status azaion-loader; journalctl -u azaion-loader -n 50 says in one line why it ended";
    let mut checks = vec![control::Check::fail("agent", "it does not run, or not with this configuration", next)];
    let refused =
        |why: String| control::Check::fail("config", why, "correct it; azaion-loader config shows what is in effect");
    match Config::load(source) {
        Err(error) => checks.push(refused(chain(&error))),
        Ok(config) => {
            let credentials = config.boot_credentials().ok().flatten();
            match check_alone(config, credentials.as_ref()) {
                Ok(checkup) => checks.extend(checkup.checks),
                Err(CheckRefused(why)) => checks.push(refused(why)),
            }
        }
    }
    checks.into()
}

fn parsed(answer: &[u8]) -> Result<(Found, String), Failure> {
    let found = json::from_slice(answer, CLIENT_ANSWER_BYTES)
        .map_err(|_| Failure::new(exit::FAILED, "the agent's answer is not a list of checks; see it with --json"))?;
    Ok((found, String::from_utf8_lossy(answer).into_owned()))
}

/// A line for each check, and what to do below it.
fn show(found: &Found, screen: &mut Screen<'_>) {
    let width = found.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
    for check in &found.checks {
        screen.print(&format!("{:4}  {:width$}  {}", check.result.as_str(), plain(&check.name), plain(&check.text)));
        if let Some(next) = &check.next {
            screen.print(&format!("{:width$}next: {}", "", plain(next), width = width + 8));
        }
    }
    screen.print(found.result.in_words());
}

/// What only might become a fault is none.
const fn code(found: &Found) -> u8 {
    match found.result {
        Finding::Ok | Finding::Warn | Finding::Skip => exit::DONE,
        Finding::Fail => exit::FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Port as Fake;
    use super::*;

    fn ask(fake: &Fake) -> Result<(Found, String), Failure> {
        parsed(&fake.client().check()?)
    }

    fn answer(result: &str) -> String {
        format!(
            r#"{{"result":"{result}","checks":[{{"name":"config","result":"ok","text":"read","next":null}},
            {{"name":"fingerprint","result":"{result}","text":"the clock\u0007 is off","next":"set it"}}],"later":1}}"#
        )
    }

    #[test]
    fn a_line_for_each_and_the_next_step_below() {
        for (result, expected) in
            [("ok", exit::DONE), ("warn", exit::DONE), ("skip", exit::DONE), ("fail", exit::FAILED)]
        {
            let fake = Fake::answering(&[(200, &answer(result))]);
            let (found, _) = ask(&fake).expect("an answer");
            assert_eq!(code(&found), expected, "{result}");
            let mut out = Vec::new();
            show(&found, &mut Screen::into(&mut out, false));
            let lines = format!(
                "ok    config       read\n{result:4}  fingerprint  the clock  is off\n                   next: set it\n{}\n",
                found.result.in_words()
            );
            assert_eq!(String::from_utf8(out).expect("UTF-8"), lines);
            assert!(fake.asked.recv().expect("asked").starts_with("GET /check HTTP/1.1\r\n"));
        }
    }

    #[test]
    fn an_agent_that_knows_no_checks_is_told() {
        let unknown = r#"{"error":{"code":"route_unknown","message":"there is no such call","next":"n"}}"#;
        let failure = ask(&Fake::answering(&[(404, unknown)])).expect_err("refused");
        assert_eq!(
            (failure.exit, failure.said.as_str()),
            (exit::FAILED, "there is no such call (route_unknown)\nnext: n")
        );
        let failure = ask(&Fake::answering(&[(200, r#"{"result":"fine"}"#)])).expect_err("not checks");
        assert_eq!(failure.exit, exit::FAILED);
    }
}
