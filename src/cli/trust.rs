//! `trust`: what this board has seen of seals, shown and reset; works beside a running agent and without one.

use lexopt::Parser;

use super::args::{Command, Options, Parsed, Wrong};
use super::screen::Screen;
use super::{Failure, exit, help};
use crate::agent::{Seen, TrustError, TrustFile};
use crate::board;
use crate::config::{self, RequireSeal, Settings, Source};
use crate::error::Explain as _;
use crate::seal::SealName;

const COMMAND: &str = "trust";

#[derive(Debug)]
pub(super) struct TrustOptions {
    source: Source,
    action: Action,
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Show,
    Reset,
    Allow { version: u64, name: Option<SealName> },
}

pub(super) fn parse(parser: Parser) -> Result<Parsed, Wrong> {
    let known = &["show", "reset", "allow", "--name", "--config", "--help"];
    let mut options = Options { parser, command: COMMAND, known };
    let (mut source, mut name, mut action) = (Source::Default, None, None);
    while let Some(option) = options.next()? {
        match option {
            "--config" => source = Source::Given(options.path()?),
            "--name" => {
                let text = options.text()?;
                let allowed = "a name as in [archive] name";
                let refused = |_| Wrong::Value { command: COMMAND, option: "--name", text: text.clone(), allowed };
                name = Some(text.parse().map_err(refused)?);
            }
            "--help" => return Ok(Parsed::Text(help::TRUST)),
            _ if action.is_some() => {
                return Err(Wrong::Together { command: COMMAND, what: "only one of show, reset, allow" });
            }
            "show" => action = Some(Action::Show),
            "reset" => action = Some(Action::Reset),
            _ => {
                let text = options.text()?;
                let allowed = "the archive's version, a whole number";
                let version =
                    text.parse().map_err(|_| Wrong::Value { command: COMMAND, option: "allow", text, allowed })?;
                action = Some(Action::Allow { version, name: None });
            }
        }
    }
    let action = match action {
        Some(Action::Allow { version, .. }) => Action::Allow { version, name },
        _ if name.is_some() => {
            return Err(Wrong::Together { command: COMMAND, what: "--name belongs to allow" });
        }
        Some(action) => action,
        None => Action::Show,
    };
    Ok(Parsed::Command(Command::Trust(TrustOptions { source, action })))
}

pub(super) fn run(options: TrustOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let settings = Settings::read(&options.source, std::env::vars_os())?;
    let (archive, state) = (config::Archive::of(&settings)?, config::State::of(&settings)?);
    let board = config::Board::of(&settings)?;
    let file = TrustFile::of(&board::directory(&board, &state.dir, |profile| &profile.state.dir));
    match options.action {
        Action::Show => {
            for line in lines(&file.read()?, archive.require_seal, archive.publisher_keys.len()) {
                screen.print(&line);
            }
        }
        Action::Reset => {
            file.reset()?;
            screen.print(
                "forgotten: the next archive is taken whatever its version, and unsealed ones as the policy says",
            );
        }
        Action::Allow { version, name } => {
            let name = name.unwrap_or(archive.name);
            let mut seen = file.read()?;
            seen.allow(&name, version);
            file.write(&seen)?;
            screen.print(&format!("archives {name} from version {version} on are let in; unlock again to load one"));
        }
    }
    Ok(exit::DONE)
}

impl From<TrustError> for Failure {
    fn from(error: TrustError) -> Self {
        Self::with_next(exit::FAILED, &error, error.next_step())
    }
}

fn lines(seen: &Seen, policy: RequireSeal, keys: usize) -> Vec<String> {
    let policy = match policy {
        RequireSeal::Always => "always: nothing unsealed is taken",
        RequireSeal::OnceSeen => "once-seen: unsealed is taken until a sealed one was",
        RequireSeal::Never => "never: unsealed is taken",
    };
    let yes_or_no = |is: bool| if is { "yes" } else { "no" };
    let mut lines = vec![
        format!("require_seal        {policy}"),
        format!("publisher keys      {}", if keys == 0 { "none".to_owned() } else { keys.to_string() }),
        format!("sealed archive seen {}", yes_or_no(seen.sealed_archive())),
        format!("sealed model seen   {}", yes_or_no(seen.sealed_resource())),
    ];
    lines.extend(seen.highest().map(|(name, version)| format!("highest version     {name} {version}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Action, Wrong> {
        match parse(Parser::from_args(arguments.iter().copied()))? {
            Parsed::Command(Command::Trust(options)) => Ok(options.action),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_action_is_read_and_nonsense_is_told() {
        assert_eq!(parsed(&[]), Ok(Action::Show));
        assert_eq!(parsed(&["reset"]), Ok(Action::Reset));
        assert_eq!(parsed(&["allow", "7"]), Ok(Action::Allow { version: 7, name: None }));
        let name = Some("blue".parse().expect("a name"));
        assert_eq!(parsed(&["allow", "7", "--name", "blue"]), Ok(Action::Allow { version: 7, name }));
        for wrong in [&["allow"][..], &["allow", "x"], &["reset", "show"], &["reset", "--name", "a"], &["rest"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
        let Err(Wrong::Value { allowed, .. }) = parsed(&["allow", "7", "--name", "A"]) else { panic!("not a name") };
        assert!(allowed.contains("[archive] name"));
    }

    #[test]
    fn what_was_seen_is_shown_and_forgotten() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("loader.toml");
        std::fs::write(&config, format!("[state]\ndir = {:?}\n", dir.path())).expect("written");
        let did = |action| {
            let mut out = Vec::new();
            let source = Source::Given(config.clone());
            let did = run(TrustOptions { source, action }, &mut Screen::into(&mut out, false));
            did.map(|_| String::from_utf8(out).expect("UTF-8")).map_err(|failure| failure.said)
        };
        did(Action::Allow { version: 41, name: None }).expect("written");
        let shown = did(Action::Show).expect("readable");
        assert!(
            shown.contains("highest version     images 41\n") && shown.contains("sealed archive seen no"),
            "{shown}"
        );
        std::fs::write(dir.path().join("trust.json"), "{").expect("damaged");
        assert!(did(Action::Show).expect_err("damaged").contains("trust reset"));
        did(Action::Reset).expect("removed");
        assert!(!did(Action::Show).expect("nothing").contains("highest"));
    }
}
