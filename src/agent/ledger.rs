//! What the agent remembers on flash about the engine: which archives it brought in, and into which engine.
//!
//! Two small JSON files in the state directory; they hold no secret. `ready.json` is removed before a load begins and
//! written after the engine has confirmed every image, so that it never speaks of a load that did not end.
//! `brought.json` lists the suites that the agent brought in or began to, the newest first: whether the newest was being
//! switched to when a cut came, and whose images are to be removed when nothing uses them any more.
//!
//! An engine flushes what it knows of an image, and not the image's files: after a power cut it may show images whose files
//! are empty. So everything is flushed before the ledger calls a suite loaded, and a load notes the boot it began in:
//! what one brought that went down together with the board is [`Ledger::doubtful`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::trust::{SealNote, Trust};
use crate::archive::{ArchiveError, Identity};
use crate::config::read_small;
use crate::engine::{Brought, Expected};
use crate::error::{Code, Explain, MAKE_ROOM, is_full};
use crate::flash;
use crate::json;
use crate::limits::{BOOT_ID_BYTES, LEDGER_BYTES, SUITES_REMEMBERED};
use crate::net::lend;
use crate::unlock::{self, Cause, Recalled};

/// The format of `ready.json`; another one is treated as if nothing were remembered.
const VERSION: u32 = 1;

/// What an archive brought into an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Suite {
    version: u32,
    /// The archive file it came from.
    pub(super) archive: Identity,
    /// The engine that took it, by the engine's own identifier; an engine that has none is not told from another.
    pub(super) engine: Option<String>,
    /// The images, as they are asked for.
    pub(super) images: Vec<Expected>,
    /// How the archive was sealed, if it was.
    #[serde(default)]
    pub(super) seal: Option<SealNote>,
}

impl Suite {
    /// What the archive with this identity brought into this engine.
    pub(super) fn of(archive: Identity, engine: Option<String>, images: Vec<Expected>, seal: Option<SealNote>) -> Self {
        Self { version: VERSION, archive, engine, images, seal }
    }
}

/// How far a suite came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    /// Its load has begun.
    Loading,
    /// All of it is in; its tags are being set.
    Switching,
    /// Its tags are set.
    Ready,
}

/// One suite of `brought.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Generation {
    stage: Stage,
    archive: Identity,
    images: Vec<Expected>,
    #[serde(default)]
    seal: Option<SealNote>,
    /// The boot that its load began in, by the kernel's identifier; while it is [`Stage::Loading`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
}

/// Images that an engine may show without having their files.
pub(super) struct Doubtful {
    /// These.
    pub(super) images: Vec<Expected>,
    /// Those that other loads brought, to their end.
    pub(super) whole: Vec<Expected>,
}

/// `brought.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct History {
    version: u32,
    /// The engine they were brought into; another one has none of them.
    engine: Option<String>,
    /// The newest first.
    suites: Vec<Generation>,
}

/// The files, and the archive they are compared with.
pub(super) struct Ledger {
    file: PathBuf,
    history: PathBuf,
    trust: Rc<Trust>,
}

/// The state on flash cannot be read or written.
#[derive(Debug)]
pub(super) enum LedgerError {
    /// `ready.json` cannot be read.
    Read(io::Error),
    /// `ready.json` cannot be removed or replaced.
    Write(io::Error),
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read(_) => "cannot read the state directory",
            Self::Write(_) => "cannot write the state directory",
        })
    }
}

impl std::error::Error for LedgerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(source) | Self::Write(source) => Some(source),
        }
    }
}

impl Explain for LedgerError {
    fn code(&self) -> Code {
        match self {
            Self::Read(source) | Self::Write(source) if is_full(source) => Code::NoSpace,
            Self::Read(_) | Self::Write(_) => Code::StateUnavailable,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Read(source) | Self::Write(source) if is_full(source) => MAKE_ROOM,
            Self::Read(_) | Self::Write(_) => {
                "check that the state directory is on a writable disk and belongs to the agent's user"
            }
        }
        .into()
    }
}

impl Ledger {
    /// The ledger in `state_dir` for the archive that `trust` speaks of.
    pub(super) fn new(state_dir: &Path, trust: Rc<Trust>) -> Self {
        let (file, history) = (state_dir.join("ready.json"), state_dir.join("brought.json"));
        Self { file, history, trust }
    }

    /// Whether the archive that is on flash now is the one the suite came from. Whoever removed it after the load has
    /// freed flash, not taken the images back.
    pub(super) async fn is_current(&self, suite: &Suite) -> Result<bool, ArchiveError> {
        match Identity::of(self.trust.path()).await {
            Ok(identity) => Ok(identity == suite.archive),
            Err(ArchiveError::Missing) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// What was ready last, whatever archive is there now.
    /// Whether the state says that the engine holds the images of an archive.
    pub(super) async fn remembers_ready(&self) -> bool {
        matches!(self.read().await, Ok(Some(_)))
    }

    async fn read(&self) -> Result<Option<Suite>, LedgerError> {
        let suite: Option<Suite> = read_json(&self.file).await?;
        Ok(suite.filter(|suite| is_known(&self.file, suite.version)))
    }

    async fn history(&self) -> Result<History, LedgerError> {
        let history: Option<History> = read_json(&self.history).await?;
        let history = history.filter(|history| is_known(&self.history, history.version));
        Ok(history.unwrap_or_else(|| History { version: VERSION, ..History::default() }))
    }

    /// Everything that was brought into this engine, or begun to be.
    pub(super) async fn brought(&self, engine: Option<&str>) -> Result<Vec<Brought>, LedgerError> {
        let history = self.history().await?;
        if history.engine.as_deref() != engine {
            return Ok(Vec::new());
        }
        let suites = history.suites.into_iter();
        let brought = suites.flat_map(|suite| {
            let is_whole = suite.stage != Stage::Loading;
            suite.images.into_iter().map(move |image| Brought { image, is_whole })
        });
        Ok(brought.collect())
    }

    /// What loads brought in that the board did not survive; `None` when there is nothing like that.
    pub(super) async fn doubtful(&self, engine: Option<&str>) -> Result<Option<Doubtful>, LedgerError> {
        let history = self.history().await?;
        let boot = lend(boot).await;
        if history.engine.as_deref() != engine || !history.suites.iter().any(|suite| suite.is_doubtful(boot.as_deref()))
        {
            return Ok(None);
        }
        let (doubtful, whole): (Vec<_>, Vec<_>) =
            history.suites.into_iter().partition(|suite| suite.is_doubtful(boot.as_deref()));
        let images = |suites: Vec<Generation>| suites.into_iter().flat_map(|suite| suite.images).collect();
        let whole = whole.into_iter().filter(|suite| suite.stage != Stage::Loading).collect();
        Ok(Some(Doubtful { images: images(doubtful), whole: images(whole) }))
    }

    /// The engine has nothing doubtful any more.
    pub(super) async fn settle(&self) -> Result<(), LedgerError> {
        let mut history = self.history().await?;
        let boot = lend(boot).await;
        history.suites.retain(|suite| !suite.is_doubtful(boot.as_deref()));
        self.write_history(&history).await
    }

    /// The suites behind `keep` earlier ones of those that were ready, and those that never came so far.
    pub(super) async fn outdated(&self, engine: Option<&str>, keep: usize) -> Result<Vec<Vec<Expected>>, LedgerError> {
        let history = self.history().await?;
        if history.engine.as_deref() != engine {
            return Ok(Vec::new());
        }
        Ok(history.outdated(keep).map(|suite| suite.images.clone()).collect())
    }

    /// Of the suites that are outdated only these images are left to be removed.
    pub(super) async fn keep_outdated(&self, keep: usize, left: Vec<Vec<Expected>>) -> Result<(), LedgerError> {
        let mut history = self.history().await?;
        let before = history.clone();
        let outdated: Vec<Identity> = history.outdated(keep).map(|suite| suite.archive).collect();
        for (archive, images) in outdated.iter().zip(left) {
            if let Some(suite) = history.suites.iter_mut().skip(1).find(|suite| suite.archive == *archive) {
                suite.images = images;
            }
        }
        let mut is_newest = true;
        history.suites.retain(|suite| std::mem::take(&mut is_newest) || !suite.images.is_empty());
        if history == before { Ok(()) } else { self.write_history(&history).await }
    }

    async fn write_history(&self, history: &History) -> Result<(), LedgerError> {
        write_json(&self.history, history).await
    }

    /// The newest suite is this one, in this stage.
    async fn note(&self, suite: &Suite, stage: Stage) -> Result<(), LedgerError> {
        let mut history = self.history().await?;
        let before = history.clone();
        if history.engine != suite.engine {
            history = History { version: VERSION, engine: suite.engine.clone(), suites: Vec::new() };
        }
        // The same archive again is the same suite; what it had before may be spelt otherwise, never less.
        history.suites.retain(|known| known.archive != suite.archive);
        let (archive, images, seal) = (suite.archive, suite.images.clone(), suite.seal.clone());
        let boot = if stage == Stage::Loading { lend(boot).await } else { None };
        history.suites.insert(0, Generation { stage, archive, images, seal, boot });
        if history.suites.len() > SUITES_REMEMBERED {
            history.suites.truncate(SUITES_REMEMBERED);
            log::warn!(
                "more than {SUITES_REMEMBERED} suites are left in the engine: the oldest one's images stay there"
            );
        }
        if history == before { Ok(()) } else { self.write_history(&history).await }
    }
}

impl Generation {
    /// Whether its load was cut with the board. A kernel that does not say which boot this is may have booted anew.
    fn is_doubtful(&self, boot: Option<&str>) -> bool {
        self.stage == Stage::Loading && (self.boot.is_none() || self.boot.as_deref() != boot)
    }
}

/// The kernel's identifier of this boot (random(4)).
fn boot() -> Option<String> {
    let id = read_small(Path::new("/proc/sys/kernel/random/boot_id"), BOOT_ID_BYTES).ok()?;
    Some(String::from_utf8(id).ok()?.trim().to_owned())
}

impl History {
    fn outdated(&self, keep: usize) -> impl Iterator<Item = &Generation> {
        let mut kept = 0;
        self.suites.iter().skip(1).filter(move |suite| {
            let is_kept = suite.stage != Stage::Loading && kept < keep;
            kept += usize::from(is_kept);
            !is_kept
        })
    }
}

fn is_known(file: &Path, version: u32) -> bool {
    if version != VERSION {
        log::warn!("{} has version {version}, this agent knows {VERSION}: an unlock is needed", file.display());
    }
    version == VERSION
}

/// A file of ours that does not parse was damaged: it counts as nothing remembered, which is always safe.
async fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LedgerError> {
    let file = path.to_owned();
    let content = match lend(move || read_small(&file, LEDGER_BYTES)).await {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LedgerError::Read(error)),
    };
    match json::from_slice(&content, LEDGER_BYTES) {
        Ok(value) => Ok(Some(value)),
        Err(refused) => {
            log::warn!("{} is damaged ({refused}): an unlock is needed", path.display());
            Ok(None)
        }
    }
}

async fn write_json(path: &Path, value: &impl Serialize) -> Result<(), LedgerError> {
    let content = serde_json::to_vec(value).map_err(|error| LedgerError::Write(error.into()))?;
    if content.len() > LEDGER_BYTES {
        // It could not be read again.
        return Err(LedgerError::Write(io::ErrorKind::FileTooLarge.into()));
    }
    let file = path.to_owned();
    lend(move || flash::replace(&file, &content)).await.map_err(LedgerError::Write)
}

impl unlock::Ledger for Ledger {
    type Suite = Suite;

    async fn recall(&self) -> Result<Option<Recalled<Suite>>, Cause> {
        if let Some(suite) = self.read().await? {
            return Ok(self.is_current(&suite).await?.then_some(Recalled::Ready(suite)));
        }
        let history = self.history().await?;
        let Some(newest) = history.suites.into_iter().next() else { return Ok(None) };
        if newest.stage != Stage::Switching {
            return Ok(None);
        }
        let suite = Suite::of(newest.archive, history.engine, newest.images, newest.seal);
        Ok(self.is_current(&suite).await?.then_some(Recalled::Switching(suite)))
    }

    async fn begin(&self, suite: &Suite) -> Result<(), Cause> {
        self.note(suite, Stage::Loading).await?;
        let file = self.file.clone();
        Ok(lend(move || flash::remove(&file)).await.map_err(LedgerError::Write)?)
    }

    async fn switching(&self, suite: &Suite) -> Result<(), Cause> {
        // The engine's directory is not ours to open: all that this board has not written yet.
        lend(rustix::fs::sync).await;
        Ok(self.note(suite, Stage::Switching).await?)
    }

    async fn remember(&self, suite: &Suite) -> Result<(), Cause> {
        // First: after a cut between both, the archive that was ready is not older than itself.
        self.trust.note(suite.seal.as_ref()).await?;
        if self.read().await?.as_ref() != Some(suite) {
            write_json(&self.file, suite).await?;
        }
        Ok(self.note(suite, Stage::Ready).await?)
    }
}

#[cfg(test)]
mod tests {
    use smol::block_on;

    use super::*;
    use crate::config;
    use crate::unlock::Ledger as _;

    fn ledger(dir: &Path) -> Ledger {
        let policy = config::Archive {
            path: dir.join("images.enc"),
            name: "images".parse().expect("a name"),
            require_seal: config::RequireSeal::Never,
            publisher_keys: vec![],
            images: vec![],
        };
        Ledger::new(dir, Rc::new(Trust::new(policy, dir)))
    }

    fn suite(dir: &Path, content: &str, image: &str) -> Suite {
        let archive = dir.join("images.enc");
        std::fs::write(&archive, content.repeat(64)).expect("written");
        let identity = block_on(Identity::of(&archive)).expect("it is there");
        let image = Expected {
            tags: vec![image.into()],
            config: crate::crypto::Digest::of(image.as_bytes()),
            diff_ids: vec![],
            id: Some(image.into()),
            packed: vec![],
        };
        Suite::of(identity, None, vec![image], None)
    }

    fn names(images: &[Expected]) -> Vec<String> {
        images.iter().map(Expected::name).collect()
    }

    /// As if the power had been cut since: the state is of another boot.
    fn boot_anew(dir: &Path) {
        let file = dir.join("brought.json");
        let text = std::fs::read_to_string(&file).expect("it was written");
        let now = boot().expect("Linux tells");
        std::fs::write(&file, text.replace(&now, "00000000-another-boot")).expect("written");
    }

    #[test]
    fn what_a_load_brought_is_doubted_when_the_board_went_down_with_it_and_not_when_the_agent_did() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ledger = ledger(dir.path());
        let (old, new) = (suite(dir.path(), "old", "old:1"), suite(dir.path(), "new", "new:1"));
        block_on(async {
            ledger.begin(&old).await.expect("writable");
            assert!(ledger.doubtful(None).await.expect("readable").is_none(), "the same boot");
            ledger.switching(&old).await.expect("writable");
            boot_anew(dir.path());
            assert!(ledger.doubtful(None).await.expect("readable").is_none(), "all of it is on flash");
            ledger.remember(&old).await.expect("writable");
            ledger.begin(&new).await.expect("writable");
            boot_anew(dir.path());
            assert!(ledger.doubtful(Some("another engine")).await.expect("readable").is_none());
            let doubtful = ledger.doubtful(None).await.expect("readable").expect("the load was cut");
            assert_eq!((names(&doubtful.images), names(&doubtful.whole)), (vec!["new:1".into()], vec!["old:1".into()]));
            ledger.settle().await.expect("writable");
            assert!(ledger.doubtful(None).await.expect("readable").is_none(), "once is enough");
            assert_eq!(ledger.brought(None).await.expect("readable").len(), 1);
        });
    }
}
