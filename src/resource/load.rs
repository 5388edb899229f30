//! From a name to a model: which parts there are and where the big one comes from.
//!
//! Everything that can be told before the first byte is told here: an unknown name, a wrong key, parts that do not belong
//! together, a damaged end, a seal that is missing or does not hold.

use std::rc::Rc;

use zeroize::Zeroizing;

use super::error::{Damage, NotKept, ResourceError};
use super::join::{END_BYTES, Join, Shape, end_to_ask, join_tiny};
use super::login::{Guest, Login};
use super::model::{Feed, Model, Origin};
use super::sealed::{End, end_at_cdn, object_at_cdn};
use super::small::{Found, Small, Target};
use super::{Held, Models};
use crate::cache::{Entry, Object};
use crate::cloud::{Cdn, CdnError, CloudError, Tail};
use crate::crypto::{Unsealer, unseal};
use crate::limits::WHOLE_AT_ONCE_BYTES;
use crate::name::{Folder, ResourceName};

impl Models {
    /// Finds a model and prepares its stream.
    ///
    /// # Errors
    /// Whatever can be known before the first byte.
    pub async fn load(
        self: &Rc<Self>,
        held: Held,
        folder: &Folder,
        name: &ResourceName,
    ) -> Result<Model, ResourceError> {
        let guest = self.guest(held);
        match self.small(&guest, folder, name).await? {
            Found::Fresh(small) => {
                let model = self.open(&guest, folder, name, &small, true).await?;
                self.keep(&guest, folder, name, &small).await;
                Ok(model)
            }
            Found::Kept(small, cause) => match self.open(&guest, folder, name, &small, false).await {
                // What is kept is not enough: the answer says why the API was not asked for the rest.
                Err(error) if error.is_away() => {
                    let cause = cause.or(Some(error)).map(Box::new);
                    Err(ResourceError::Offline { cause, why: NotKept::Incomplete })
                }
                opened => {
                    if opened.is_ok() {
                        log::info!("a model is served from this board alone: the Resource API cannot be reached");
                    }
                    opened
                }
            },
            Found::Unknown => match guest.login() {
                Some(login) => self.open_whole(login, folder, name).await,
                None => Err(ResourceError::Unknown),
            },
        }
    }

    /// A resource whose small part is here, if this board takes it as it is.
    async fn open(
        self: &Rc<Self>,
        guest: &Guest,
        folder: &Folder,
        name: &ResourceName,
        small: &Small,
        ask: bool,
    ) -> Result<Model, ResourceError> {
        if small.seal.is_none() {
            self.admit_unsealed().await?;
        }
        let model = Box::pin(self.open_parts(guest, folder, name, small, ask)).await?;
        if small.seal.is_some() {
            self.parts.trust.sealed_accepted().await;
        }
        Ok(model)
    }

    /// Refuses what has no seal where the board demands one.
    async fn admit_unsealed(&self) -> Result<(), ResourceError> {
        match self.parts.trust.may_be_unsealed().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(ResourceError::Unsealed),
            Err(report) => Err(ResourceError::Trust(report)),
        }
    }

    /// A resource that was never split: TLS alone proves it, and only the API's own layer is taken off.
    async fn open_whole(&self, login: &Login, folder: &Folder, name: &ResourceName) -> Result<Model, ResourceError> {
        let asked = self.parts.api.resource(&login.session, &self.parts.hardware, folder, name.as_str()).await;
        let body = match asked {
            Ok(body) => body,
            Err(CloudError::Unknown { .. }) => return Err(ResourceError::Unknown),
            Err(error) => return Err(error.into()),
        };
        // Not before it is known: what is not there is unknown, whatever the board demands.
        self.admit_unsealed().await?;
        if body.length().is_none_or(|length| length > WHOLE_AT_ONCE_BYTES) {
            return Ok(Model::whole(body, Unsealer::new(&login.api_key)));
        }
        let sealed = body.bytes(usize::try_from(WHOLE_AT_ONCE_BYTES).unwrap_or(usize::MAX)).await?;
        let plain = unseal(&login.api_key, sealed);
        let plain = plain.map_err(|error| ResourceError::Damaged(Damage::ApiKey(error)))?;
        Ok(Model::memory(Zeroizing::new(plain.expose().to_vec())))
    }

    /// Both parts of a resource; `ask` when the API can be reached.
    async fn open_parts(
        self: &Rc<Self>,
        guest: &Guest,
        folder: &Folder,
        name: &ResourceName,
        small: &Small,
        ask: bool,
    ) -> Result<Model, ResourceError> {
        let target = Target::of(folder, name, small);
        // Who comes second follows the download that the first one begins.
        let gate = self.downloads.gate(&target).await;
        let running = self.downloads.find(&target).filter(|running| small.binds(running.entry()));
        let entry = match &running {
            Some(download) => Some(Rc::clone(download.entry())),
            None => self.entry_of(&target, small).await,
        };
        let mut on_flash = None;
        if let Some(entry) = entry {
            on_flash = end_of(&entry, Shape::of(&small.bytes, entry.object().size)?).await;
            // The end is on flash, and was verified. The rest may be, too, or is asked for when it is missing.
            if let Some(end) = &on_flash
                && (entry.is_whole() || running.is_some())
            {
                let object = entry.object().clone();
                return self.joined(guest, target, small, object, end, Feed::Kept(entry, running));
            }
        }
        let login = guest.login().map(|login| &**login);
        let known = if ask { self.cdn(login).await? } else { self.cdn_known(login).await? };
        let cdn = known.ok_or(ResourceError::Offline { cause: None, why: NotKept::Incomplete })?;
        let end = match (&small.seal, on_flash) {
            (None, _) => unsealed_end_at_cdn(&cdn, &target, small).await?,
            (Some(seal), None) => end_at_cdn(&cdn, &target, seal).await?,
            (Some(seal), Some(bytes)) => {
                End { object: object_at_cdn(&cdn, &target, seal).await?, bytes, first_chunk: None }
            }
        };
        let object = end.object.clone();
        let shape = Shape::of(&small.bytes, object.size)?;
        if shape.is_tiny() {
            let model = self.joined(guest, Rc::clone(&target), small, object, &end.bytes, Feed::Direct(None))?;
            self.put_tiny(&target, small, &end).await;
            return Ok(model);
        }
        // Before a byte is written: with a wrong key nothing is worth keeping.
        Join::begin(&self.resource_key, shape, &small.bytes, end_bytes(&end.bytes, shape, small)?)?;
        let feed = match self.begin_entry(&target, small, &end).await {
            Ok(entry) => {
                let parts = &self.parts;
                match self.downloads.begin(&target, &entry, cdn, &parts.clock, &parts.executor) {
                    Some(download) => Feed::Kept(Rc::clone(download.entry()), Some(download)),
                    None => Feed::Direct(None),
                }
            }
            Err(error) => {
                log::warn!("a model is served without the cache: {}", crate::error::chain(&error));
                Feed::Direct(None)
            }
        };
        drop(gate);
        self.joined(guest, target, small, object, &end.bytes, feed)
    }

    /// Both parts and where the rest of the big one comes from: a model.
    fn joined(
        self: &Rc<Self>,
        guest: &Guest,
        target: Rc<Target>,
        small: &Small,
        object: Object,
        end: &[u8],
        feed: Feed,
    ) -> Result<Model, ResourceError> {
        let shape = Shape::of(&small.bytes, object.size)?;
        if shape.is_tiny() {
            return Ok(Model::memory(join_tiny(&self.resource_key, &small.bytes, end)?));
        }
        let (join, head) = Join::begin(&self.resource_key, shape, &small.bytes, end_bytes(end, shape, small)?)?;
        let seal = small.seal.clone();
        let origin = Origin { models: Rc::clone(self), guest: guest.clone(), target, object, seal };
        Ok(Model::parts(join, head, origin, feed))
    }

    /// A big part that came whole with its end is written at once. Failures cost a request next time.
    async fn put_tiny(&self, target: &Target, small: &Small, end: &End) {
        let written = async {
            let entry = self.begin_entry(target, small, end).await?;
            if !entry.has(0) {
                entry.write(0, &end.bytes).await?;
            }
            entry.finish().await
        };
        if let Err(error) = written.await {
            log::warn!("a model is not kept: {}", crate::error::chain(&error));
        }
    }
}

/// The end of a big part at the CDN that no seal tells of.
async fn unsealed_end_at_cdn(cdn: &Cdn, target: &Target, small: &Small) -> Result<End, ResourceError> {
    let asked = end_to_ask(&small.bytes);
    let Tail { size, etag, bytes, mark } = cdn.tail(&target.folder, &target.name, asked).await?;
    // An upload by an agent says whose big part it is: a new one whose small part is still on its way is told.
    if mark.is_some_and(|mark| mark != small.version.to_string()) {
        return Err(CdnError::Changed.into());
    }
    Ok(End { object: Object { size, etag }, bytes, first_chunk: None })
}

/// The end of a big part that is on flash, verified; `None` when it is not, or not any more.
async fn end_of(entry: &Entry, shape: Shape) -> Option<Vec<u8>> {
    let needed = usize::try_from(shape.end()).ok()?;
    let mut end = Vec::new();
    let mut piece = Vec::new();
    for chunk in (0..entry.chunks()).rev() {
        if end.len() >= needed {
            break;
        }
        if !entry.has(chunk) {
            return None;
        }
        entry.read(chunk, &mut piece).await.ok()?;
        let from = piece.len().saturating_sub(needed - end.len());
        end.splice(..0, piece.drain(from..));
    }
    Some(end)
}

fn end_bytes<'a>(end: &'a [u8], shape: Shape, small: &Small) -> Result<&'a [u8; END_BYTES], ResourceError> {
    let lengths = super::Unjoined::Lengths { small: small.bytes.len() as u64, big: shape.end() };
    end.last_chunk().ok_or_else(|| lengths.into())
}
