//! `unlock`: who logs in, the call, and then how far it is.

use std::io::{self, Read};
use std::path::Path;

use lexopt::Parser;
use zeroize::Zeroizing;

use super::args::{Command, Login, LoginWords, Options, Parsed, Password, Wrong, port_option};
use super::client::Client;
use super::follow::{self, Shape};
use super::prompt;
use super::screen::{Screen, plain};
use super::target::Port;
use super::{Failure, exit, help};
use crate::config::{read_credentials, read_small};
use crate::error::chain;
use crate::limits::CREDENTIAL_BYTES;
use crate::secret::{Credentials, SecretText};

const COMMAND: &str = "unlock";

#[derive(Debug)]
pub(super) struct UnlockOptions {
    port: Port,
    pub(super) login: Login,
    follows: bool,
    shape: Shape,
}

pub(super) fn parse(parser: Parser) -> Result<Parsed, Wrong> {
    let known = &[
        "--config",
        "--url",
        "--token-file",
        "--email",
        "--password-file",
        "--password-stdin",
        "--credentials",
        "--held",
        "--no-wait",
        "--json",
        "--password",
        "--help",
    ];
    let mut options = Options { parser, command: COMMAND, known };
    let (mut port, mut words, mut follows, mut shape) = (Port::default(), LoginWords::default(), true, Shape::Lines);
    while let Some(name) = options.next()? {
        match name {
            "--no-wait" => follows = false,
            "--json" => shape = Shape::Json,
            "--help" => return Ok(Parsed::Text(help::UNLOCK)),
            _ => {
                let _taken = port_option(name, &mut options, &mut port)? || words.option(name, &mut options)?;
            }
        }
    }
    let login = words.login(COMMAND)?;
    Ok(Parsed::Command(Command::Unlock(UnlockOptions { port, login, follows, shape })))
}

pub(super) fn run(options: UnlockOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let client = options.port.client()?;
    let credentials = credentials(options.login)?;
    unlock(&client, credentials.as_ref(), options.follows, options.shape, screen)
}

fn unlock(
    client: &Client,
    credentials: Option<&Credentials>,
    follows: bool,
    shape: Shape,
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    let state = client.unlock(credentials)?;
    if follows && (state != "ready" || shape == Shape::Json) {
        return follow::until_ready(client, shape, screen);
    }
    match shape {
        Shape::Lines => screen.print(&plain(&state)),
        Shape::Json => screen.print(&serde_json::json!({ "state": state }).to_string()),
    }
    Ok(exit::DONE)
}

/// The credentials that the arguments name; `None` for those that are held.
pub(super) fn credentials(login: Login) -> Result<Option<Credentials>, Failure> {
    match login {
        Login::Held => Ok(None),
        Login::File(path) => {
            // A path is relative to where the person is, not to where systemd keeps credentials.
            let path = std::path::absolute(&path).unwrap_or(path);
            read_credentials(&path).map(Some).map_err(|error| Failure::new(exit::USAGE, chain(&error)))
        }
        Login::Email(email, source) => {
            let password = match source {
                Password::Prompt => prompt::password(&format!("password of {}: ", plain(&email))).map_err(|error| {
                    let next = "give it with --password-file, --password-stdin or --credentials";
                    Failure::new(exit::USAGE, format_args!("cannot ask for the password: {error}\nnext: {next}"))
                })?,
                Password::File(path) => password_file(&path)?,
                Password::Stdin => password_of(io::stdin().lock(), "standard input")?,
            };
            Credentials::new(email, password).map(Some).map_err(|error| Failure::new(exit::USAGE, error))
        }
    }
}

fn password_file(path: &Path) -> Result<SecretText, Failure> {
    let name = path.display().to_string();
    let bytes = Zeroizing::new(
        read_small(path, CREDENTIAL_BYTES + 2)
            .map_err(|error| Failure::new(exit::USAGE, format_args!("cannot read {name}: {error}")))?,
    );
    password_of(bytes.as_slice(), &name)
}

/// The first line. Two bytes more than a password may have: the line's end, `\r\n` from a file made elsewhere.
fn password_of(source: impl Read, name: &str) -> Result<SecretText, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(CREDENTIAL_BYTES + 4));
    source
        .take(CREDENTIAL_BYTES as u64 + 3)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(exit::USAGE, format_args!("cannot read {name}: {error}")))?;
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match str::from_utf8(line) {
        Ok(text) => Ok(SecretText::new(text.to_owned())),
        Err(_) => Err(Failure::new(exit::USAGE, format_args!("the password in {name} is not UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Port;
    use super::*;
    use crate::limits::{CLIENT_ANSWER_BYTES, CLIENT_CALL};

    const LOADING: &str = r#"{"state":"loading_images","error":null,"progress":{"stage":"loading_images",
        "images_done":0,"images_total":1,"bytes_done":5,"bytes_total":10,"bytes_per_second":null,"seconds_left":null}}"#;
    const FAILED: &str = r#"{"state":"error","error":{"code":"archive_missing","message":"m","next":"n"}}"#;
    const READY: &str = r#"{"state":"ready","error":null,"progress":{}}"#;

    fn unlocked(fake: &Port, credentials: Option<&Credentials>) -> Result<String, Failure> {
        let mut out = Vec::new();
        let code = unlock(&fake.client(), credentials, true, Shape::Lines, &mut Screen::into(&mut out, false))?;
        assert_eq!(code, exit::DONE);
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn it_logs_in_and_follows_until_ready() {
        let fake = Port::answering(&[(202, r#"{"state":"authenticating"}"#), (200, LOADING), (200, READY)]);
        let credentials = Credentials::new("a@b".into(), SecretText::new("p\"ш".into())).expect("they fit");
        let shown = unlocked(&fake, Some(&credentials)).expect("ready");
        assert_eq!(shown, "loading_images   50 %  5 B of 10 B  images 0 of 1\nready\n");
        let asked = fake.asked.recv().expect("asked");
        assert!(asked.starts_with("POST /unlock HTTP/1.1\r\n"), "{asked}");
        assert!(asked.ends_with("\r\n\r\n{\"email\":\"a@b\",\"password\":\"p\\\"ш\"}"), "{asked}");
        assert!(asked.contains("authorization: Bearer s3cret\r\n"), "{asked}");
        assert!(asked.to_ascii_lowercase().contains("host: localhost\r\n"), "{asked}");
    }

    #[test]
    fn json_is_one_object_per_step_and_the_last_has_the_state() {
        let fake =
            Port::answering(&[(202, r#"{"state":"authenticating"}"#), (200, LOADING), (200, LOADING), (200, READY)]);
        let mut out = Vec::new();
        unlock(&fake.client(), None, true, Shape::Json, &mut Screen::into(&mut out, false)).expect("ready");
        let text = String::from_utf8(out).expect("UTF-8");
        let states: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["state"].to_string())
            .collect();
        assert_eq!(states, [r#""loading_images""#, r#""ready""#], "what did not change is not said twice");
        let fake = Port::answering(&[(202, r#"{"state":"authenticating"}"#), (200, FAILED)]);
        let mut out = Vec::new();
        let failed = unlock(&fake.client(), None, true, Shape::Json, &mut Screen::into(&mut out, false));
        assert_eq!(failed.expect_err("failed").exit, exit::FAILED);
        assert_eq!(String::from_utf8(out).expect("UTF-8").trim_end(), FAILED);
    }

    #[test]
    fn held_credentials_are_an_empty_body() {
        let fake = Port::answering(&[(200, r#"{"state":"ready"}"#)]);
        assert_eq!(unlocked(&fake, None).expect("ready"), "ready\n");
        let asked = fake.asked.recv().expect("asked");
        assert!(asked.ends_with("\r\n\r\n") && asked.to_ascii_lowercase().contains("content-length: 0"), "{asked}");
    }

    #[test]
    fn a_refusal_is_said_with_its_next_step() {
        let refusal = r#"{"error":{"code":"too_many","message":"no credentials\u001b[2J","next":"send them"}}"#;
        let failure = unlocked(&Port::answering(&[(401, refusal)]), None).expect_err("refused");
        let said = "no credentials [2J (too_many)\nnext: send them";
        assert_eq!((failure.exit, failure.said.as_str()), (exit::FAILED, said));
        let http = r#"{"error":{"code":"not_logged_in","message":"nobody","next":"POST /login"}}"#;
        let failure = unlocked(&Port::answering(&[(401, http)]), None).expect_err("refused");
        assert!(failure.said.contains("azaion-loader unlock --email"), "{}", failure.said);
        let failure = unlocked(&Port::answering(&[(200, "<html>")]), None).expect_err("another server");
        assert!(failure.said.contains("is not azaion-loader"), "{}", failure.said);
        let failure = unlocked(&Port::answering(&[]), None).expect_err("nobody accepts");
        assert_eq!(failure.exit, exit::NOT_RUNNING, "{}", failure.said);
    }

    #[test]
    fn an_answer_is_bounded() {
        let answer = |n: usize| format!("{READY}{}", " ".repeat(n - READY.len()));
        let read = |n: usize| Port::answering(&[(200, &answer(n))]).client().unlock_status(CLIENT_CALL);
        assert!(read(CLIENT_ANSWER_BYTES).is_ok());
        assert!(read(CLIENT_ANSWER_BYTES + 1).is_err());
    }

    #[test]
    fn the_password_is_the_first_line_without_its_end() {
        let password = |text: &str| password_of(text.as_bytes(), "x").expect("UTF-8").expose().to_owned();
        assert_eq!(password("пароль \n"), "пароль ");
        assert_eq!(password("a\r\nb"), "a");
        assert_eq!(password("a"), "a");
        assert!(password_of(&b"\xff"[..], "x").is_err());
    }

    #[test]
    fn a_password_over_the_bound_is_refused_and_not_cut() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("p");
        let login = |n: usize| {
            std::fs::write(&path, format!("{}\n", "x".repeat(n))).expect("written");
            credentials(Login::Email("a@b".into(), Password::File(path.clone())))
        };
        assert!(login(CREDENTIAL_BYTES).is_ok());
        assert_eq!(login(CREDENTIAL_BYTES + 1).expect_err("too long").exit, exit::USAGE);
        assert!(password_of("x".repeat(2000).as_bytes(), "x").is_ok_and(|p| p.expose().len() > CREDENTIAL_BYTES));
    }
}
