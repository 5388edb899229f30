//! `status`: what `GET /status` tells, one line per field.

use lexopt::Parser;
use serde_json::Value;

use super::args::{Command, Options, Parsed, Wrong, port_option};
use super::client::Client;
use super::screen::{Screen, plain};
use super::target::Port;
use super::{Failure, exit, help};
use crate::json;
use crate::limits::CLIENT_ANSWER_BYTES;

#[derive(Debug, Default)]
pub(super) struct StatusOptions {
    port: Port,
    as_json: bool,
}

pub(super) fn parse(parser: Parser) -> Result<Parsed, Wrong> {
    let known = &["--config", "--url", "--token-file", "--json", "--help"];
    let mut options = Options { parser, command: "status", known };
    let mut parsed = StatusOptions::default();
    while let Some(name) = options.next()? {
        match name {
            "--json" => parsed.as_json = true,
            "--help" => return Ok(Parsed::Text(help::STATUS)),
            _ => {
                port_option(name, &mut options, &mut parsed.port)?;
            }
        }
    }
    Ok(Parsed::Command(Command::Status(parsed)))
}

pub(super) fn run(options: &StatusOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    show(&options.port.client()?, options.as_json, screen)
}

fn show(client: &Client, as_json: bool, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let body = client.status()?;
    if as_json {
        screen.print(&plain(&String::from_utf8_lossy(&body)));
        return Ok(exit::DONE);
    }
    let value: Value = json::from_slice(&body, CLIENT_ANSWER_BYTES)
        .map_err(|_| Failure::new(exit::FAILED, "the agent's answer is not JSON; see it with --json"))?;
    let mut rows = Vec::new();
    flatten("", &value, &mut rows);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, text) in rows {
        screen.print(&format!("{name:width$}  {text}"));
    }
    Ok(exit::DONE)
}

/// Every leaf with its path. The fields are the agent's, which may be of another version: none is taken for granted.
fn flatten(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let leaf = match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (field, value) in fields {
                let path = if name.is_empty() { plain(field) } else { format!("{name}.{}", plain(field)) };
                flatten(&path, value, rows);
            }
            return;
        }
        Value::Array(items) if !items.is_empty() => {
            for (n, item) in items.iter().enumerate() {
                flatten(&format!("{name}[{n}]"), item, rows);
            }
            return;
        }
        Value::Object(_) | Value::Array(_) | Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => plain(text),
    };
    rows.push((name.to_owned(), leaf));
}

#[cfg(test)]
mod tests {
    use super::super::testing::Port;
    use super::*;

    #[test]
    fn every_field_is_a_line() {
        let answer = r#"{"version":"0.1.0","user":null,"ready":true,"cache":{"bytes":5},"warnings":["a","b\u0007"]}"#;
        let fake = Port::answering(&[(200, answer)]);
        let mut out = Vec::new();
        show(&fake.client(), false, &mut Screen::into(&mut out, false)).expect("an answer");
        let lines =
            "cache.bytes  5\nready        yes\nuser         -\nversion      0.1.0\nwarnings[0]  a\nwarnings[1]  b \n";
        assert_eq!(String::from_utf8(out).expect("UTF-8"), lines);
        let asked = fake.asked.recv().expect("asked");
        assert!(asked.starts_with("GET /status HTTP/1.1\r\n"), "{asked}");
    }
}
