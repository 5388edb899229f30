//! `login`: credentials for the agent to hold, and who it then is.

use lexopt::Parser;
use serde::{Deserialize, Serialize};

use super::args::{Command, Login, LoginWords, Options, Parsed, Wrong, port_option};
use super::client::Client;
use super::screen::{Screen, plain};
use super::target::Port;
use super::{Failure, exit, help, unlock};
use crate::json;
use crate::limits::CLIENT_ANSWER_BYTES;
use crate::secret::Credentials;

const COMMAND: &str = "login";

#[derive(Debug)]
pub(super) struct LoginOptions {
    port: Port,
    login: Login,
    as_json: bool,
}

/// Who is logged in, as `/status` has it.
#[derive(Debug, Serialize, Deserialize)]
struct User {
    email: String,
    role: String,
}

#[derive(Deserialize)]
struct Status {
    user: Option<User>,
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
        "--json",
        "--password",
        "--help",
    ];
    let mut options = Options { parser, command: COMMAND, known };
    let (mut port, mut words, mut as_json) = (Port::default(), LoginWords::default(), false);
    while let Some(name) = options.next()? {
        match name {
            "--json" => as_json = true,
            "--help" => return Ok(Parsed::Text(help::LOGIN)),
            _ => {
                let _taken = port_option(name, &mut options, &mut port)? || words.option(name, &mut options)?;
            }
        }
    }
    match words.login(COMMAND)? {
        Login::Held => Err(Wrong::Together { command: COMMAND, what: "say who logs in: --email or --credentials" }),
        login => Ok(Parsed::Command(Command::Login(LoginOptions { port, login, as_json }))),
    }
}

pub(super) fn run(options: LoginOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let client = options.port.client()?;
    match unlock::credentials(options.login)? {
        Some(credentials) => login(&client, &credentials, options.as_json, screen),
        None => Err(Failure::new(exit::USAGE, "nobody was named who logs in")),
    }
}

fn login(client: &Client, credentials: &Credentials, as_json: bool, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    client.login(credentials)?;
    let status: Status = json::from_slice(&client.status()?, CLIENT_ANSWER_BYTES)
        .map_err(|_| Failure::new(exit::FAILED, "logged in, but the agent's status is not JSON"))?;
    // Somebody else's log-in, or a restart, may have come between the two calls.
    let Some(user) = status.user else {
        return Err(Failure::new(exit::FAILED, "logged in, but the agent holds no user any more\nnext: log in again"));
    };
    if as_json {
        screen.print(&serde_json::to_string(&user).unwrap_or_default());
    } else {
        screen.print(&format!("logged in as {}, role {}", plain(&user.email), plain(&user.role)));
    }
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Port as Fake;
    use super::*;
    use crate::secret::SecretText;

    fn logged_in(fake: &Fake, as_json: bool) -> Result<String, Failure> {
        let credentials = Credentials::new("a@b".into(), SecretText::new("p".into())).expect("they fit");
        let mut out = Vec::new();
        login(&fake.client(), &credentials, as_json, &mut Screen::into(&mut out, false))?;
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    const SUCCESS: (u16, &str) = (200, r#"{"status":"success"}"#);

    #[test]
    fn it_says_who_is_logged_in() {
        let status = (200, r#"{"version":"1","user":{"email":"a@b","role":"Operator"}}"#);
        let fake = Fake::answering(&[SUCCESS, status]);
        assert_eq!(logged_in(&fake, false).expect("logged in"), "logged in as a@b, role Operator\n");
        let asked = fake.asked.recv().expect("asked");
        assert!(asked.starts_with("POST /login HTTP/1.1\r\n"), "{asked}");
        assert!(asked.ends_with("\r\n\r\n{\"email\":\"a@b\",\"password\":\"p\"}"), "{asked}");
        let said = logged_in(&Fake::answering(&[SUCCESS, status]), true).expect("logged in");
        assert_eq!(said, "{\"email\":\"a@b\",\"role\":\"Operator\"}\n");
    }

    #[test]
    fn a_refusal_is_told_with_its_next_step() {
        let refusal = r#"{"error":{"code":"credentials_wrong","message":"m","next":"n"}}"#;
        let failure = logged_in(&Fake::answering(&[(401, refusal)]), false).expect_err("refused");
        assert_eq!((failure.exit, failure.said.as_str()), (exit::FAILED, "m (credentials_wrong)\nnext: n"));
        let gone = logged_in(&Fake::answering(&[SUCCESS, (200, r#"{"user":null}"#)]), false);
        assert!(gone.expect_err("nobody").said.contains("log in again"));
    }

    #[test]
    fn somebody_must_be_named() {
        let parsed =
            |words: &[&str]| parse(Parser::from_args(words.iter().copied())).map_err(|wrong| wrong.to_string());
        assert!(parsed(&[]).expect_err("nobody").contains("--email"));
        assert!(parsed(&["--email", "a@b", "--password-stdin"]).is_ok());
        let said = parsed(&["--email", "a@b", "--password", "canary"]).expect_err("an argument");
        assert!(said.contains("--password-stdin") && !said.contains("canary"), "{said}");
    }
}
