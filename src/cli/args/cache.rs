//! Arguments of `cache`.

use lexopt::{Arg, Parser, ValueExt};

use super::options::spelt;
use super::{Command, Parsed, Wrong};
use crate::cli::help;
use crate::config::Source;
use crate::config::keys::nearest;
use crate::name::{Folder, ResourceName};

#[derive(Debug)]
pub(in crate::cli) struct CacheOptions {
    pub(in crate::cli) source: Source,
    pub(in crate::cli) action: CacheAction,
}

/// What is done with the cache.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum CacheAction {
    List,
    Verify,
    EvictAll,
    Evict { name: ResourceName, folder: Folder },
}

pub(super) fn cache(mut parser: Parser) -> Result<Parsed, Wrong> {
    const COMMAND: &str = "cache";
    const ACTIONS: [&str; 3] = ["list", "verify", "evict"];
    let shape = |said: String| Wrong::Shape { command: COMMAND, said };
    let together = |what| Wrong::Together { command: COMMAND, what };
    let mut action = None;
    // The first word is what to do; a resource may be called anything, also "list".
    if let Some(mut words) = parser.try_raw_args()
        && let Some(word) = words.next_if(|word| !word.to_string_lossy().starts_with('-'))
    {
        let word = word.to_string_lossy();
        let found = ACTIONS.into_iter().find(|known| *known == word);
        let text = word.clone().into_owned();
        let wrong = Wrong::Value { command: COMMAND, option: "the action", text, allowed: "list, verify, evict" };
        action = Some(found.ok_or(wrong)?);
    }
    let known = &["--config", "--all", "--folder", "--help"];
    let (mut source, mut all, mut name, mut folder) = (Source::Default, false, None, None);
    let text = |parser: &mut Parser| {
        let value = parser.value().map_err(|error| shape(error.to_string()))?;
        value.string().map_err(|error| shape(error.to_string()))
    };
    while let Some(argument) = parser.next().map_err(|error| shape(error.to_string()))? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Parsed::Text(help::CACHE)),
            Arg::Long("config") => {
                source = Source::Given(parser.value().map_err(|error| shape(error.to_string()))?.into());
            }
            Arg::Long("all") => all = true,
            Arg::Long("folder") => {
                let said = text(&mut parser)?;
                folder = Some(Folder::new(said).map_err(|refused| shape(refused.to_string()))?);
            }
            Arg::Value(value) if name.is_none() && action == Some("evict") => {
                let said = value.string().map_err(|error| shape(error.to_string()))?;
                name = Some(ResourceName::new(said).map_err(|refused| shape(refused.to_string()))?);
            }
            other => {
                let name = spelt(&other);
                let is_option = !matches!(other, Arg::Value(_));
                let name =
                    if is_option && name.len() > 1 && !name.starts_with('-') { format!("--{name}") } else { name };
                let nearest = is_option.then(|| nearest(&name, known.iter().map(|&known| known.to_owned())));
                return Err(Wrong::Option { command: COMMAND, name, nearest });
            }
        }
    }
    let action = match (action, name, all) {
        (None, ..) => return Err(together("say what to do: list, verify or evict")),
        (Some("evict"), Some(name), false) => CacheAction::Evict { name, folder: folder.take().unwrap_or_default() },
        (Some("evict"), None, true) if folder.is_none() => CacheAction::EvictAll,
        (Some("evict"), ..) => return Err(together("evict takes one name, with or without --folder, or --all")),
        (Some(_), _, true) => return Err(together("--all is for evict")),
        (Some(_), ..) if folder.is_some() => return Err(together("--folder is for evict")),
        (Some("list"), ..) => CacheAction::List,
        (Some(_), ..) => CacheAction::Verify,
    };
    Ok(Parsed::Command(Command::Cache(CacheOptions { source, action })))
}
