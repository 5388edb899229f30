//! `cache`: what is kept of models on flash, beside a running agent or without one.

use smol::LocalExecutor;

use super::args::CacheAction;
use super::screen::{Screen, plain, size};
use super::{Failure, exit};
use crate::board;
use crate::cache::{CacheError, CacheKey, Listed, Offline, State, Wanted};
use crate::config::Config;
use crate::crypto::AesKey;
use crate::error::Explain as _;
use crate::net::turn;

/// Damaged chunks that one line names; further ones are counted.
const CHUNKS_NAMED: usize = 8;

pub(super) fn run(config: &Config, action: &CacheAction, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let key = CacheKey::of(&AesKey::from_text(&config.keys.resource_key()));
    let dir = board::directory(&config.board, &config.cache.dir, |profile| &profile.cache.dir);
    turn::block_on(&LocalExecutor::new(), async {
        let cache = Offline::open(&dir, key).await?;
        match action {
            CacheAction::List => list(&cache, screen).await,
            CacheAction::Verify => verify(&cache, screen).await,
            CacheAction::EvictAll => evict(&cache, &Wanted::All, screen).await,
            CacheAction::Evict { name, folder } => {
                evict(&cache, &Wanted::One(folder.clone(), name.clone()), screen).await
            }
        }
    })
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Self::with_next(exit::FAILED, &error, error.next_step())
    }
}

async fn list(cache: &Offline, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let found = cache.list().await?;
    for line in table(&found) {
        screen.print(&line);
    }
    Ok(exit::DONE)
}

const fn state(of: State) -> &'static str {
    match of {
        State::Whole => "whole",
        State::Part => "part",
        State::Upload => "upload waiting",
        State::Damaged => "damaged",
    }
}

/// What an entry is called for people; a damaged one by what its files begin with.
fn called(row: &Listed) -> (String, String) {
    match &row.name {
        Some((folder, name)) => {
            let folder = if folder.is_none() { "-" } else { folder.as_str() };
            (plain(name.as_str()), folder.to_owned())
        }
        None => (format!("({:.16}…)", row.stem), "-".to_owned()),
    }
}

fn table(found: &[Listed]) -> Vec<String> {
    let mut rows = vec![["NAME", "FOLDER", "SIZE", "CHUNKS", "LAST USE", "STATE"].map(str::to_owned)];
    for row in found {
        let (name, folder) = called(row);
        let chunks = match row.state {
            State::Damaged => "-".to_owned(),
            _ => format!("{}/{}", row.chunks.held, row.chunks.of),
        };
        let last_use = row.last_use.map_or("-".to_owned(), |rank| rank.to_string());
        rows.push([name, folder, size(row.size), chunks, last_use, state(row.state).to_owned()]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

async fn verify(cache: &Offline, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let (mut entries, mut damaged) = (0_usize, 0_usize);
    cache
        .verify(|row, wrong| {
            let (name, folder) = called(row);
            entries += 1;
            let verdict = match row.state {
                State::Damaged => "damaged: its record cannot be read".to_owned(),
                _ if wrong.is_empty() => format!("right, {} of {} chunks", row.chunks.held, row.chunks.of),
                _ => {
                    let named: Vec<_> = wrong.iter().take(CHUNKS_NAMED).map(u32::to_string).collect();
                    let more = wrong.len().saturating_sub(CHUNKS_NAMED);
                    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                    let (count, of) = (wrong.len(), row.chunks.held);
                    format!("damaged: {count} of {of} chunks, number {}{more}", named.join(", "))
                }
            };
            damaged += usize::from(row.state == State::Damaged || !wrong.is_empty());
            screen.print(&format!("{name}  {folder}  {verdict}"));
        })
        .await?;
    screen.print(&format!("{entries} looked at, {damaged} damaged"));
    Ok(if damaged == 0 { exit::DONE } else { exit::FAILED })
}

async fn evict(cache: &Offline, wanted: &Wanted, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let done = cache.evict(wanted).await?;
    if let (Wanted::One(..), 0, 0) = (wanted, done.removed, done.in_use) {
        return Err(Failure::new(exit::FAILED, "the cache has no such model\nnext: azaion-loader cache list"));
    }
    screen.print(&format!("{} removed, {}; {} in use stay", done.removed, size(done.bytes), done.in_use));
    Ok(if done.in_use == 0 { exit::DONE } else { exit::FAILED })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::*;
    use crate::cache::{Cache, CacheSettings, Object, Version};
    use crate::config::Settings;
    use crate::name::{Folder, ResourceName};

    fn config(dir: &Path) -> Config {
        let pairs = [
            ("AZAION_KEYS_HARDWARE_SALT", "a"),
            ("AZAION_KEYS_API_SALT", "b"),
            ("AZAION_KEYS_RESOURCE_SALT", "c"),
            ("AZAION_CLOUD_RESOURCE_API_URL", "https://api.test"),
            ("AZAION_CACHE_DIR", dir.to_str().expect("UTF-8")),
        ];
        let environment = pairs.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::of(Settings::of_environment(environment).expect("known names")).expect("good")
    }

    fn ran(config: &Config, action: &CacheAction) -> (u8, String) {
        let mut out = Vec::new();
        let code = run(config, action, &mut Screen::into(&mut out, false)).expect("it ends");
        (code, String::from_utf8(out).expect("UTF-8"))
    }

    fn name(text: &str) -> ResourceName {
        ResourceName::new(text).expect("plain")
    }

    /// Two models, one of them a part, as an agent leaves them.
    fn filled(config: &Config) -> Cache {
        let key = CacheKey::of(&AesKey::from_text(&config.keys.resource_key()));
        let settings = CacheSettings { dir: config.cache.dir.path.clone(), max_bytes: 1 << 30, reserve_bytes: 0, key };
        turn::block_on(&LocalExecutor::new(), async {
            let cache = Cache::open(settings).await;
            for (text, size, chunks) in [("модель.onnx", 300_000, 2), ("b", 600_000, 1)] {
                let object = Object { size, etag: "\"e\"".into() };
                let folder = Folder::new("models").expect("plain");
                let entry = cache.begin(&folder, &name(text), &Version([1; 32]), &object).await.expect("begun");
                for chunk in 0..chunks {
                    let range = entry.chunk_range(chunk);
                    let len = usize::try_from(range.end - range.start).expect("small");
                    entry.write(chunk, &vec![u8::try_from(chunk).expect("few"); len]).await.expect("written");
                }
                let _part_stays_one = entry.finish().await;
            }
            cache.settle().await;
            cache
        })
    }

    #[test]
    fn models_are_listed_verified_and_evicted_beside_an_agent_and_without_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = config(&dir.path().join("cache"));
        let agent = filled(&config);
        for running in [true, false] {
            let (code, said) = ran(&config, &CacheAction::List);
            assert_eq!(code, exit::DONE, "{running}");
            let lines = "NAME         FOLDER  SIZE       CHUNKS  LAST USE  STATE\n\
                         b            models  585.9 KiB  1/3     1         part\n\
                         модель.onnx  models  292.9 KiB  2/2     2         whole\n";
            assert_eq!(said, lines);
            let (code, said) = ran(&config, &CacheAction::Verify);
            assert_eq!((code, said.ends_with("2 looked at, 0 damaged\n")), (exit::DONE, true), "{said}");
        }
        // In use: it stays, and the exit code says so.
        let folder = Folder::new("models").expect("plain");
        let used = turn::block_on(&LocalExecutor::new(), agent.entry(&folder, &name("b"), &Version([1; 32])));
        let one = |text: &str| CacheAction::Evict { name: name(text), folder: folder.clone() };
        assert_eq!(ran(&config, &one("b")), (exit::FAILED, "0 removed, 0 B; 1 in use stay\n".to_owned()));
        drop(used);
        drop(agent);
        let (code, said) = ran(&config, &one("модель.onnx"));
        assert!(code == exit::DONE && said.starts_with("1 removed, "), "{said}");
        let mut out = Vec::new();
        let gone = run(&config, &one("модель.onnx"), &mut Screen::into(&mut out, false)).expect_err("gone");
        assert_eq!(gone.exit, exit::FAILED);
        assert_eq!(ran(&config, &CacheAction::EvictAll).0, exit::DONE);
        assert_eq!(ran(&config, &CacheAction::List).1.lines().count(), 1);
    }

    #[test]
    fn damage_is_told_chunk_by_chunk_and_with_the_exit_code() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = config(&dir.path().join("cache"));
        drop(filled(&config));
        let files =
            || std::fs::read_dir(&config.cache.dir.path).expect("there").map(|entry| entry.expect("read").path());
        let whole = files().find(|path| path.extension().is_some_and(|ending| ending == "idx")).expect("one");
        let big = whole.with_extension("big");
        let mut bytes = std::fs::read(&big).expect("read");
        bytes[299_999] ^= 1;
        std::fs::write(&big, bytes).expect("written");
        let (code, said) = ran(&config, &CacheAction::Verify);
        assert_eq!(code, exit::FAILED);
        assert!(said.contains("модель.onnx  models  damaged: 1 of 2 chunks, number 1\n"), "{said}");
        std::fs::write(&whole, b"x").expect("written");
        let (code, said) = ran(&config, &CacheAction::Verify);
        assert!(code == exit::FAILED && said.contains("damaged: its record cannot be read"), "{said}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_told() {
        let config = config(Path::new("/nonexistent/cache"));
        let mut out = Vec::new();
        let told = run(&config, &CacheAction::List, &mut Screen::into(&mut out, false)).expect_err("not there");
        assert!(told.said.contains("opening the cache directory failed"), "{}", told.said);
    }
}
