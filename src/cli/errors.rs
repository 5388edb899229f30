//! `errors`: the catalogue of error codes, for whoever has a code and no network.

use std::fmt::Write as _;

use lexopt::Parser;

use super::args::{Command, Item, Options, Parsed, Wrong};
use super::screen::Screen;
use super::{Failure, exit, help};
use crate::config::keys::nearest;
use crate::control::CHECKS;
use crate::error::Code;

const COMMAND: &str = "errors";

/// What is shown of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ErrorsOptions {
    /// A line for each code.
    List,
    /// All that there is to say about one.
    One(String),
    /// `docs/ERRORS.md`.
    Markdown,
}

pub(super) fn parse(parser: Parser) -> Result<Parsed, Wrong> {
    let mut options = Options { parser, command: COMMAND, known: &["--markdown", "--help"] };
    let mut wanted = None;
    while let Some(item) = options.item()? {
        let next = match item {
            Item::Option("--markdown") => ErrorsOptions::Markdown,
            Item::Option(_) => return Ok(Parsed::Text(help::ERRORS)),
            Item::Word(code) => ErrorsOptions::One(code.to_string_lossy().into_owned()),
        };
        if wanted.replace(next).is_some() {
            return Err(Wrong::Together { command: COMMAND, what: "only one code, or --markdown" });
        }
    }
    Ok(Parsed::Command(Command::Errors(wanted.unwrap_or(ErrorsOptions::List))))
}

pub(super) fn run(options: &ErrorsOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    match options {
        ErrorsOptions::List => {
            for code in Code::ALL {
                screen.print(&format!("{:22} {}", code.as_str(), code.what()));
            }
        }
        ErrorsOptions::Markdown => screen.print(markdown().trim_end()),
        ErrorsOptions::One(text) => {
            if CHECKS.contains(&text.as_str()) {
                let said = format_args!(
                    "{text} is looked at by the checkup, and is no code\nnext: azaion-loader check says what to do about it"
                );
                return Err(Failure::new(exit::USAGE, said));
            }
            let code: Code = text.parse().map_err(|_| {
                let near = nearest(text, Code::ALL.iter().map(|code| code.as_str().to_owned()));
                Failure::new(exit::USAGE, format_args!("there is no such code; the nearest known is {near}"))
            })?;
            screen.print(&format!("{code}  HTTP {}", code.http_status()));
            screen.print(code.what());
            screen.print(&format!("likely: {}", code.likely_cause()));
            screen.print(&format!("next: {}", code.next()));
        }
    }
    Ok(exit::DONE)
}

/// `docs/ERRORS.md`.
fn markdown() -> String {
    let mut page = String::from(
        "<!-- Made by `azaion-loader errors --markdown` from src/error/code.rs; a test holds it. -->\n\
         # Errors\n\n\
         What the control port, the log and the command line call a failure: `{\"error\":{\"code\",\"message\",\"next\"}}`, or \
         plain text for who asks with `Accept: text/plain`. The message says what happened in this case, and `next` what to \
         do. This page has what can be said of every case; `azaion-loader errors CODE` says it on the board.\n\n\
         | code | HTTP | what happened | likely cause | next step |\n|---|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let cell = |text: &str| text.replace('|', "\\|");
        let _fits = writeln!(
            page,
            "| `{code}` | {} | {} | {} | {} |",
            code.http_status(),
            cell(code.what()),
            cell(code.likely_cause()),
            cell(code.next())
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(options: &ErrorsOptions) -> String {
        let mut out = Vec::new();
        run(options, &mut Screen::into(&mut out, false)).expect("done");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_page_is_the_catalogue() {
        let page = std::fs::read_to_string("docs/ERRORS.md").expect("the page");
        assert_eq!(page, markdown(), "next: azaion-loader errors --markdown > docs/ERRORS.md");
        assert_eq!(said(&ErrorsOptions::Markdown), markdown());
    }

    #[test]
    fn one_code_says_all_of_it_and_a_wrong_one_the_nearest() {
        let text = said(&ErrorsOptions::One("api_tls".into()));
        assert!(text.starts_with("api_tls  HTTP 502\n") && text.contains("\nlikely: ") && text.contains("\nnext: "));
        assert_eq!(said(&ErrorsOptions::List).lines().count(), Code::ALL.len());
        let failure = run(&ErrorsOptions::One("api_tsl".into()), &mut Screen::into(&mut Vec::new(), false));
        let failure = failure.expect_err("unknown");
        assert_eq!(
            (failure.exit, &*failure.said),
            (exit::USAGE, "there is no such code; the nearest known is api_tls")
        );
        let failure = run(&ErrorsOptions::One("clock".into()), &mut Screen::into(&mut Vec::new(), false));
        assert!(failure.expect_err("a check").said.contains("azaion-loader check says"));
    }
}
