//! What this board believes: the policy of `[archive]`, and what it has seen before, in `trust.json`.
//!
//! ```text
//!   no seal        require_seal "always" │ publisher_key │ "once-seen" and one was seen ──→ archive_unsealed
//!   a seal         form, length, signature, tag                                         ──→ archive_not_authentic
//!   name, version  another name is another fleet's ──→ not authentic; a lower version   ──→ archive_older
//! ```
//!
//! What was seen moves only when the engine has confirmed a suite. It stops an old archive that is given to a board which
//! runs, not a thief who restores the flash. A file that is there and cannot be read is no file that says nothing: it is
//! refused until somebody resets it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smol::lock::Mutex;

use crate::archive::{ArchiveError, File, Image, Lacking, ReadAt as _, Sealed, Source};
use crate::config::{self, RequireSeal, read_small};
use crate::crypto::AesKey;
use crate::error::{Code, Explain, MAKE_ROOM, Report, is_full};
use crate::flash;
use crate::json::{self, JsonRefused};
use crate::limits::{SEAL_BYTES, SIGNATURE_BYTES, TRUST_BYTES, TRUST_NAMES};
use crate::net::lend;
use crate::resource::{Answer, ResourceTrust};
use crate::seal::{ArchiveClaim, ArchiveSeal, SealName};
use crate::unlock::Cause;

/// The format of `trust.json`.
const VERSION: u32 = 1;

/// What was seen, as it lies on flash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    version: u32,
    /// The highest version of each name that was brought to its end.
    highest: BTreeMap<String, u64>,
    /// An archive with a seal was brought to its end.
    sealed_archive: bool,
    /// A model with a seal was served.
    sealed_resource: bool,
}

/// How an archive was sealed that the engine holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SealNote {
    name: String,
    version: u64,
    signed: bool,
}

impl SealNote {
    pub(super) fn of(seal: &ArchiveSeal) -> Self {
        Self { name: seal.name().to_string(), version: seal.version(), signed: seal.is_signed() }
    }

    /// As `/status` says it.
    pub(super) fn in_a_word(note: Option<&Self>) -> &'static str {
        match note {
            Some(Self { signed: true, .. }) => "signed",
            Some(_) => "sealed",
            None => "unsealed",
        }
    }
}

impl fmt::Display for SealNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, .. } = self;
        write!(f, "{}: {name} version {version}", Self::in_a_word(Some(self)))
    }
}

/// What was seen cannot be read or written.
#[derive(Debug)]
pub enum TrustError {
    /// `trust.json` is there and cannot be read.
    Read(io::Error),
    /// `trust.json` cannot be replaced.
    Write(io::Error),
    /// `trust.json` is damaged, or a later program wrote it.
    Damaged(Option<JsonRefused>),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read(_) => "cannot read what this board has seen of seals (trust.json)",
            Self::Write(_) => "cannot write what this board has seen of seals (trust.json)",
            Self::Damaged(Some(_)) => "what this board has seen of seals (trust.json) is damaged",
            Self::Damaged(None) => "what this board has seen of seals (trust.json) is of a later program",
        })
    }
}

impl std::error::Error for TrustError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(source) | Self::Write(source) => Some(source),
            Self::Damaged(source) => source.as_ref().map(|source| source as _),
        }
    }
}

impl Explain for TrustError {
    fn code(&self) -> Code {
        match self {
            Self::Read(source) | Self::Write(source) if is_full(source) => Code::NoSpace,
            Self::Read(_) | Self::Write(_) | Self::Damaged(_) => Code::StateUnavailable,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Read(source) | Self::Write(source) if is_full(source) => MAKE_ROOM,
            Self::Read(_) | Self::Write(_) => {
                "check that the state directory is on a writable disk and belongs to the agent's user"
            }
            Self::Damaged(_) => {
                "see that images.enc and images.enc.seal are the publisher's newest, then run `azaion-loader trust reset`"
            }
        }
        .into()
    }
}

/// What was seen, on flash.
#[derive(Debug, Clone)]
pub struct TrustFile(PathBuf);

impl TrustFile {
    /// In this state directory.
    pub fn of(state_dir: &Path) -> Self {
        Self(state_dir.join("trust.json"))
    }

    /// What was seen. It blocks on flash.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(&self) -> Result<Seen, TrustError> {
        let content = match read_small(&self.0, TRUST_BYTES) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::nothing()),
            Err(error) => return Err(TrustError::Read(error)),
        };
        let seen: Seen =
            json::from_slice(&content, TRUST_BYTES).map_err(|refused| TrustError::Damaged(Some(refused)))?;
        if seen.version == VERSION { Ok(seen) } else { Err(TrustError::Damaged(None)) }
    }

    /// Replaces what was seen, durably. It blocks on flash.
    ///
    /// # Errors
    /// What was there before is there still.
    pub fn write(&self, seen: &Seen) -> Result<(), TrustError> {
        let content = serde_json::to_vec(seen).map_err(|error| TrustError::Write(error.into()))?;
        flash::replace(&self.0, &content).map_err(TrustError::Write)
    }

    /// Forgets everything. It blocks on flash.
    ///
    /// # Errors
    /// What was there before is there still.
    pub fn reset(&self) -> Result<(), TrustError> {
        flash::remove(&self.0).map_err(TrustError::Write)
    }
}

impl Seen {
    fn nothing() -> Self {
        Self { version: VERSION, ..Self::default() }
    }

    /// The highest version of each name that was brought to its end.
    pub fn highest(&self) -> impl Iterator<Item = (&str, u64)> {
        self.highest.iter().map(|(name, version)| (name.as_str(), *version))
    }

    /// Whether an archive with a seal was brought to its end.
    pub const fn sealed_archive(&self) -> bool {
        self.sealed_archive
    }

    /// Whether a model with a seal was served.
    pub const fn sealed_resource(&self) -> bool {
        self.sealed_resource
    }

    /// From now on `version` counts as the highest of `name`, which lets archives from it on in.
    pub fn allow(&mut self, name: &SealName, version: u64) {
        self.highest.insert(name.to_string(), version);
    }

    fn take(&mut self, note: &SealNote) {
        self.sealed_archive = true;
        if self.highest.len() >= TRUST_NAMES && !self.highest.contains_key(&note.name) {
            log::warn!("more than {TRUST_NAMES} names of archives: the version of this one is not kept");
            return;
        }
        let highest = self.highest.entry(note.name.clone()).or_default();
        *highest = note.version.max(*highest);
    }
}

/// Policy and memory together.
pub(super) struct Trust {
    policy: config::Archive,
    file: TrustFile,
    /// Held from reading to writing: an archive and a model may be noted at one time.
    change: Mutex<()>,
}

impl Trust {
    pub(super) fn new(policy: config::Archive, state_dir: &Path) -> Self {
        Self { policy, file: TrustFile::of(state_dir), change: Mutex::new(()) }
    }

    /// Where the archive is, or will be.
    pub(super) fn path(&self) -> &Path {
        &self.policy.path
    }

    async fn seen(&self) -> Result<Seen, TrustError> {
        let file = self.file.clone();
        lend(move || file.read()).await
    }

    async fn change(&self, change: impl FnOnce(&mut Seen)) -> Result<(), TrustError> {
        let _alone = self.change.lock().await;
        let mut seen = self.seen().await?;
        let before = seen.clone();
        change(&mut seen);
        if seen == before {
            return Ok(());
        }
        let file = self.file.clone();
        lend(move || file.write(&seen)).await
    }

    /// The archive's file, behind its seal where it has one.
    ///
    /// # Errors
    /// It is not believed; nothing of it was used.
    pub(super) async fn source(&self, key: &AesKey) -> Result<Source, Cause> {
        let file = File::open(&self.policy.path).await?;
        let Some(claim) = self.claim().await? else {
            self.may_be_unsealed().await?;
            return Ok(Source::Bare(file));
        };
        let (found, claimed) = (file.len(), claim.chunks().length());
        if found != claimed {
            return Err(ArchiveError::not_authentic(&format_args!("{found} bytes, its seal claims {claimed}")).into());
        }
        let seal = self.signed(claim).await?.authenticate(key).await;
        let seal = seal.map_err(|refused| ArchiveError::not_authentic(&crate::error::chain(&refused)))?;
        if *seal.name() != self.policy.name {
            let (found, wanted) = (seal.name(), &self.policy.name);
            return Err(ArchiveError::not_authentic(&format_args!("it is {found}, this board takes {wanted}")).into());
        }
        let highest = self.seen().await?.highest.get(self.policy.name.as_ref()).copied().unwrap_or_default();
        if seal.version() < highest {
            return Err(ArchiveError::Older { found: seal.version(), highest }.into());
        }
        Ok(Source::Sealed(Box::new(Sealed::new(file, seal)?)))
    }

    /// What the seal's file claims; `None` when there is no such file.
    async fn claim(&self) -> Result<Option<ArchiveClaim>, ArchiveError> {
        let limit = usize::try_from(SEAL_BYTES).unwrap_or(usize::MAX);
        let Some(bytes) = self.beside(".seal", limit).await? else { return Ok(None) };
        let claim = ArchiveClaim::parse(bytes);
        Ok(Some(claim.map_err(|refused| ArchiveError::not_authentic(&crate::error::chain(&refused)))?))
    }

    /// Looks whether an archive of this length would be believed, as far as that shows without its key; in words, what
    /// its seal claims.
    ///
    /// # Errors
    /// What an unlock would end in.
    pub(super) async fn look(&self, length: u64) -> Result<String, Report> {
        match self.claim().await.map_err(|error| Report::of(&error))? {
            None => {
                self.may_be_unsealed().await.map_err(|cause| cause.report())?;
                Ok("without a seal".to_owned())
            }
            Some(claim) if claim.chunks().length() != length => {
                let why = format_args!("its seal is of {} bytes", claim.chunks().length());
                Err(Report::of(&ArchiveError::not_authentic(&why)))
            }
            Some(claim) => {
                let version = claim.version();
                let signed = if self.policy.publisher_keys.is_empty() { "sealed" } else { "signed" };
                self.signed(claim).await.map_err(|error| Report::of(&error))?;
                Ok(format!("{signed}, version {version}"))
            }
        }
    }

    /// Checks the signature where one is required.
    async fn signed(&self, claim: ArchiveClaim) -> Result<ArchiveClaim, ArchiveError> {
        if self.policy.publisher_keys.is_empty() {
            return Ok(claim);
        }
        let signature = self.beside(".seal.minisig", SIGNATURE_BYTES).await?;
        let signature = signature.ok_or(ArchiveError::Unsealed(Lacking::Signature))?;
        let signed = claim.signed_by(&self.policy.publisher_keys, &signature).await;
        signed.map_err(|refused| ArchiveError::not_authentic(&crate::error::chain(&refused)))
    }

    /// A file beside the archive; `None` when it is not there. One that is there counts, readable or not.
    async fn beside(&self, ending: &str, limit: usize) -> Result<Option<Vec<u8>>, ArchiveError> {
        let mut path = OsString::from(&self.policy.path);
        path.push(ending);
        match lend(move || read_small(Path::new(&path), limit)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ArchiveError::not_authentic(&format_args!("its {ending} cannot be read: {source}"))),
        }
    }

    async fn may_be_unsealed(&self) -> Result<(), Cause> {
        let lacking = match self.policy.require_seal {
            _ if !self.policy.publisher_keys.is_empty() => Lacking::Signature,
            RequireSeal::Always => Lacking::Demanded,
            RequireSeal::OnceSeen if self.seen().await?.sealed_archive => Lacking::SealedBefore,
            RequireSeal::OnceSeen | RequireSeal::Never => return Ok(()),
        };
        Err(ArchiveError::Unsealed(lacking).into())
    }

    /// Whether the archive holds the images that the configuration demands.
    pub(super) fn expects(&self, images: &[Image]) -> Result<(), ArchiveError> {
        if self.policy.images.is_empty() {
            return Ok(());
        }
        let tags = || images.iter().flat_map(|image| &image.tags);
        let missing = self.policy.images.iter().find(|tag| !tags().any(|there| there == *tag));
        let unexpected = tags().find(|tag| !self.policy.images.contains(tag));
        match missing.or(unexpected) {
            Some(tag) => Err(ArchiveError::Other { tag: tag.clone() }),
            None => Ok(()),
        }
    }

    /// Keeps, durably, that a suite was brought to its end.
    pub(super) async fn note(&self, note: Option<&SealNote>) -> Result<(), TrustError> {
        let Some(note) = note else { return Ok(()) };
        self.change(|seen| seen.take(note)).await
    }
}

impl ResourceTrust for Trust {
    fn may_be_unsealed(&self) -> Answer<'_, Result<bool, Report>> {
        Box::pin(async {
            match self.policy.require_seal {
                RequireSeal::Always => Ok(false),
                RequireSeal::OnceSeen => {
                    let seen = self.seen().await.map_err(|error| Report::of(&error))?;
                    Ok(!seen.sealed_resource)
                }
                RequireSeal::Never => Ok(true),
            }
        })
    }

    fn sealed_accepted(&self) -> Answer<'_, ()> {
        Box::pin(async {
            if let Err(error) = self.change(|seen| seen.sealed_resource = true).await {
                log::warn!("it is not kept that a sealed model was served: {}", crate::error::chain(&error));
            }
        })
    }
}
