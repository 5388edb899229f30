//! Taking stock at start: what is there, what a cut left over, which uploads wait.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};

use super::Version;
use super::error::{CacheError, Duty};
use super::flash::{Flash, Seen, is_lasting};
use super::format::{HEAD_BYTES, Head, Kind};
use super::names::{Ending, Named, ORDER_NEW, Stem, UploadId};
use super::shelf::{Core, Found, Shelved};
use super::upload::{Replayed, Upload, read_record};
use crate::limits::CACHE_UPLOAD_RECORD_BYTES;

type Files<K> = BTreeMap<K, BTreeMap<Ending, u64>>;

/// Fills an empty core from its directory. Only names are looked at, and the records of uploads: an index is read when
/// its entry is asked for.
pub(super) async fn take_stock<F: Flash>(core: &Rc<Core<F>>) -> Result<(), CacheError> {
    let seen = core.flash.list().await.map_err(CacheError::on(Duty::Directory))?;
    let (mut resources, mut uploads) = (Files::<Stem>::new(), Files::<UploadId>::new());
    let mut leftovers = Vec::new();
    for Seen { name, bytes } in seen {
        match Named::of(&name) {
            Named::Resource(_, Ending::New) | Named::Upload(_, Ending::New) => leftovers.push(name),
            Named::Resource(_, Ending::Bad | Ending::BadData) | Named::Upload(_, Ending::Bad | Ending::BadData) => {
                core.bad.borrow_mut().push((name, bytes));
            }
            Named::Resource(stem, ending) => drop(resources.entry(stem).or_default().insert(ending, bytes)),
            Named::Upload(id, ending) => drop(uploads.entry(id).or_default().insert(ending, bytes)),
            Named::Foreign if name == ORDER_NEW => leftovers.push(name),
            Named::Foreign => {}
        }
    }
    let order = core.read_order().await;
    let published = take_uploads(core, &uploads, &mut leftovers).await;
    let mut shelved = Vec::new();
    for (stem, files) in &resources {
        let is_whole = files.contains_key(&Ending::Index);
        let is_recorded = is_whole || files.contains_key(&Ending::Journal);
        match files.get(&Ending::Big) {
            Some(bytes) if is_recorded => {
                shelved.push(Shelved { stem: *stem, is_whole, bytes: *bytes, promised: 0, live: Weak::new() });
            }
            // A publication that was cut goes on with it.
            Some(_) if published.contains(stem) => {}
            _ => leftovers.extend(files.keys().map(|ending| stem.file(*ending))),
        }
    }
    let place: BTreeMap<_, _> = order.into_iter().enumerate().map(|(at, stem)| (stem, at + 1)).collect();
    shelved.sort_by_key(|known| place.get(&known.stem).copied().unwrap_or_default());
    *core.shelved.borrow_mut() = shelved;
    for name in leftovers {
        // On a read-only flash they stay; they are never taken for anything else.
        if let Err(error) = core.flash.remove(&name).await {
            log::debug!("cache: a leftover stays: {error}");
        }
    }
    Ok(())
}

/// Takes up the uploads that wait; the resources whose big parts are theirs already.
async fn take_uploads<F: Flash>(
    core: &Rc<Core<F>>,
    files: &Files<UploadId>,
    leftovers: &mut Vec<String>,
) -> BTreeSet<Stem> {
    let mut published = BTreeSet::new();
    let mut found: Vec<Rc<Upload<F>>> = Vec::new();
    for (id, files) in files {
        if !files.contains_key(&Ending::Upload) {
            leftovers.extend(files.keys().map(|ending| id.file(*ending)));
            continue;
        }
        match take_upload(core, *id).await {
            Ok((upload, is_published)) => {
                if is_published {
                    published.insert(upload.head().stem);
                }
                found.push(upload);
            }
            Err(NotTaken::Damaged) => {
                log::warn!("cache: the record of an upload is damaged; it must be uploaded again");
                let pairs = [(Ending::Upload, Ending::Bad), (Ending::Stage, Ending::BadData)];
                let bytes = files.get(&Ending::Stage).copied().unwrap_or_default();
                core.set_aside(pairs.map(|(from, to)| (id.file(from), id.file(to))), bytes).await;
            }
            Err(NotTaken::Unreadable) => {
                log::warn!("cache: the record of an upload cannot be read; it is left as it is");
            }
        }
    }
    found.sort_by_key(|upload| upload.number());
    // Of two for the same resource, a cut kept the older one from being removed.
    let newest: BTreeMap<_, _> = found.iter().map(|upload| (upload.head().stem, upload.number())).collect();
    for upload in found {
        if newest.get(&upload.head().stem) == Some(&upload.number()) {
            core.uploads.borrow_mut().push(upload);
        } else if let Err(error) = upload.remove(core).await {
            log::debug!("cache: a superseded upload stays: {error}");
        }
    }
    published
}

enum NotTaken {
    Damaged,
    Unreadable,
}

/// One upload, and whether its big part stands under the resource's name already.
async fn take_upload<F: Flash>(core: &Rc<Core<F>>, id: UploadId) -> Result<(Rc<Upload<F>>, bool), NotTaken> {
    let (bytes, log) = match core.read(&id.file(Ending::Upload), CACHE_UPLOAD_RECORD_BYTES).await {
        Found::File(bytes, log) => (bytes, log),
        Found::Nothing | Found::Unreadable(_) => return Err(NotTaken::Unreadable),
    };
    let read = read_record(&bytes, &core.key).await.map_err(|_| NotTaken::Damaged)?;
    match core.flash.open(&id.file(Ending::Stage)).await {
        Ok(Some(stage)) => return Ok((Upload::of(core, id, read, log, Some(stage)), false)),
        Ok(None) => {}
        Err(error) if is_lasting(&error) => return Err(NotTaken::Damaged),
        Err(_) => return Err(NotTaken::Unreadable),
    }
    if read.progress.confirmed.is_none() {
        // What was accepted is gone, and the CDN does not have it: somebody took it away.
        return Err(NotTaken::Damaged);
    }
    let file = published_file(core, &read).await;
    let is_published = file.is_some();
    Ok((Upload::of(core, id, read, log, file), is_published))
}

/// The big part of a publication that was cut: under the resource's name, with no record yet or with its own.
async fn published_file<F: Flash>(core: &Core<F>, read: &Replayed) -> Option<F::File> {
    let (stem, size) = (read.record.head.stem, read.record.head.size);
    let file = core.flash.open(&stem.file(Ending::Big)).await.ok()??;
    let is_as_long = core.flash.len(&file).await.ok()? == size;
    let is_own = match core.flash.open(&stem.file(Ending::Index)).await.ok()? {
        Some(index) => {
            let head = core.flash.read_at(&index, 0, HEAD_BYTES, Vec::new()).await.ok()?;
            Head::read(&head, Kind::Index, &core.key).is_ok_and(|(head, _)| head.version == version_of(read))
        }
        None => core.flash.open(&stem.file(Ending::Journal)).await.ok()?.is_none(),
    };
    (is_as_long && is_own).then_some(file)
}

fn version_of(read: &Replayed) -> Version {
    read.record.head.version
}
