//! The cache on a flash that fails at every call in turn, and on one that loses what was not flushed.
//!
//! What was promised (finished, accepted, noted, published) is there after every cut; what was not is whole, a part, or
//! gone; and no byte is ever another.

use std::collections::BTreeMap;

use super::model::{Failure, Model, Remains};
use super::tests::{bytes, content_of, fill, folder, key, name, object, piece, run, version};
use super::*;
use crate::limits::CACHE_STAGE_STEP_BYTES;
use crate::name::ResourceName;

const CHUNK: usize = 256 * 1024;

/// Room for an upload that comes in, and three big parts.
const MAX_BYTES: u64 = CACHE_STAGE_STEP_BYTES + 3 * CHUNK as u64 + 1000;

/// The content that this version of a resource has.
fn content(of: &str, version: u8) -> Vec<u8> {
    bytes(u64::from(of.as_bytes()[0]) << 8 | u64::from(version), CHUNK + usize::from(version) * 10)
}

/// What the cache has said yes to.
#[derive(Debug, Default)]
struct Promised {
    whole: BTreeMap<&'static str, u8>,
    uploads: BTreeMap<&'static str, (u8, UploadProgress)>,
}

/// One run of an agent: every step is tried, whatever became of those before.
struct Run {
    cache: Cache<Model>,
    promised: Promised,
}

impl Run {
    async fn open(flash: &Model) -> Self {
        let cache = Cache::open_on(flash.clone(), MAX_BYTES, 0, key()).await;
        Self { cache, promised: Promised::default() }
    }

    async fn load(&mut self, of: &'static str, number: u8) -> Result<(), CacheError> {
        let (name, content) = (name(of), content(of, number));
        if self.promised.whole.get(of) != Some(&number) {
            self.promised.whole.remove(of);
        }
        let entry = self.cache.begin(&folder(), &name, &version(number), &object(&content, "\"e\"")).await?;
        for _ in 0..2 {
            // A second try, as after a flush that failed.
            let _told_by_finish = fill(&entry, &content).await;
        }
        entry.finish().await?;
        self.promised.whole.insert(of, number);
        assert_eq!(content_of(&entry).await.ok().unwrap_or_else(|| content.clone()), content, "{of}");
        let _kept = self.cache.keep_small(&folder(), &name, &[number], Some(&[number; 40])).await;
        Ok(())
    }

    async fn load_half(&mut self, of: &'static str, number: u8) -> Result<(), CacheError> {
        let content = content(of, number);
        let entry = self.cache.begin(&folder(), &name(of), &version(number), &object(&content, "\"e\"")).await?;
        entry.write(0, piece(&content, &entry.chunk_range(0))).await?;
        entry.give_up().await;
        Ok(())
    }

    async fn accept(&mut self, of: &'static str, number: u8) -> Result<Rc<Upload<Model>>, CacheError> {
        let mut staging = self.cache.stage().await?;
        for piece in content(of, number).chunks(100_000) {
            staging.push(piece).await?;
        }
        let accepted = Accepted {
            folder: folder(),
            name: name(of),
            version: version(number),
            owner: [number; 32],
            small_boxed: vec![number; 99],
        };
        // Until it says yes, the older one may be there or the newer.
        self.promised.uploads.remove(of);
        let upload = staging.accept(accepted).await?;
        self.promised.uploads.insert(of, (number, UploadProgress::default()));
        Ok(upload)
    }

    async fn note(&mut self, of: &'static str, upload: &Upload<Model>, step: UploadStep) -> Result<(), CacheError> {
        let outcome = upload.note(step).await;
        // A step that failed may be there after a cut, or not.
        if outcome.is_err() {
            self.promised.uploads.remove(of);
        } else if let Some(known) = self.promised.uploads.get_mut(of) {
            known.1 = upload.progress();
        }
        outcome
    }

    async fn upload(&mut self, of: &'static str, number: u8) -> Result<(), CacheError> {
        let upload = self.accept(of, number).await?;
        self.note(of, &upload, UploadStep::Begun("id".into(), 7)).await?;
        self.note(of, &upload, UploadStep::Part(1, "\"p\"".into())).await?;
        self.note(of, &upload, UploadStep::Confirmed("\"u\"".into())).await?;
        self.promised.whole.remove(of);
        let known = self.promised.uploads.remove(of);
        if let Err(error) = upload.publish().await {
            // It says no: then it is still an upload, in this run.
            assert!(!upload.is_superseded() || self.cache.uploads().is_empty(), "{known:?}");
            return Err(error);
        }
        self.promised.whole.insert(of, number);
        Ok(())
    }

    /// A life with everything in it.
    async fn live(&mut self) {
        let _ = self.load("a", 1).await;
        let _ = self.load_half("b", 1).await;
        let _ = self.upload("c", 3).await;
        // Another version takes its place.
        let _ = self.load("a", 2).await;
        let _ = self.load("d", 1).await;
        // There is room for it only without the part, and for the next one only without the oldest.
        self.promised.whole.clear();
        let _ = self.accept("e", 1).await;
        if let Ok(upload) = self.accept("e", 2).await {
            let _ = self.note("e", &upload, UploadStep::Begun("id".into(), 7)).await;
            let _ = self.note("e", &upload, UploadStep::Part(1, "\"p\"".into())).await;
        }
        let _ = self.load("f", 1).await;
        self.cache.settle().await;
    }
}

/// Everything there is has the right bytes, everything promised is there, and nothing else lies about.
async fn holds(flash: &Model, promised: &Promised, what: &str) {
    let cache = Cache::open_on(flash.clone(), MAX_BYTES, 0, key()).await;
    assert_eq!(cache.facts().unusable, None, "{what}");
    for of in flash.files().keys() {
        assert!(!of.contains(".new") && !of.contains(".bad"), "{what}: {of}");
    }
    for (of, number) in &promised.whole {
        let entry = cache.entry(&folder(), &name(of), &version(*number)).await;
        let entry = entry.unwrap_or_else(|| panic!("{what}: {of} was finished"));
        assert!(entry.is_whole(), "{what}: {of}");
    }
    for (of, (number, progress)) in &promised.uploads {
        let uploads = cache.uploads();
        let upload = uploads.iter().find(|upload| upload.name().as_str() == *of);
        let upload = upload.unwrap_or_else(|| panic!("{what}: {of} was accepted"));
        assert_eq!((upload.version(), &upload.progress()), (version(*number), progress), "{what}");
        assert_eq!((upload.owner(), upload.small_boxed()), (&[*number; 32], &vec![*number; 99][..]), "{what}");
    }
    for upload in cache.uploads() {
        let number = upload.version().0[0];
        let expected = content(upload.name().as_str(), number);
        let mut chunk = Vec::new();
        for at in 0..upload.chunks() {
            match upload.read(at, &mut chunk).await {
                Ok(()) => assert_eq!(chunk, piece(&expected, &upload.chunk_range(at)), "{what}"),
                // Its publication was cut: the CDN has it all.
                Err(ReadError::Absent) => assert!(upload.progress().confirmed.is_some(), "{what}"),
                Err(error) => panic!("{what}: {error}"),
            }
        }
        // It goes on where it was.
        if upload.progress().confirmed.is_some() {
            upload.publish().await.expect(what);
        }
    }
    for (of, numbers) in [("a", &[1, 2][..]), ("b", &[1]), ("c", &[3]), ("d", &[1]), ("f", &[1])] {
        for number in numbers {
            let expected = content(of, *number);
            let Some(known) = peek(&cache, &name(of)).await.filter(|entry| entry.version() == version(*number)) else {
                continue;
            };
            let mut chunk = Vec::new();
            for at in 0..known.chunks() {
                match known.read(at, &mut chunk).await {
                    Ok(()) => assert_eq!(chunk, piece(&expected, &known.chunk_range(at)), "{what}: {of}"),
                    Err(ReadError::Absent) => {}
                    // What is recorded was flushed before.
                    Err(error) => panic!("{what}: {of} {error}"),
                }
            }
        }
    }
    // And it works on: a download is completed, as far as there is room beside what waits.
    for upload in cache.uploads() {
        upload.discard().await;
    }
    let content = content("b", 1);
    let entry = cache.begin(&folder(), &name("b"), &version(1), &object(&content, "\"e\"")).await.expect(what);
    fill(&entry, &content).await.expect(what);
    entry.finish().await.expect(what);
    assert_eq!(content_of(&entry).await.expect(what), content, "{what}");
}

async fn peek(cache: &Cache<Model>, name: &ResourceName) -> Option<Rc<Entry<Model>>> {
    let core = cache.core.as_ref().ok()?;
    find(core, Stem::of(&folder(), name)).await.ok()?
}

fn fails_at_every_call(failure: Failure, remains: &[Remains]) {
    for n in 1.. {
        let flash = Model::new(1 << 30);
        let promised = run(async {
            flash.fail_at(n, failure);
            let mut run = Run::open(&flash).await;
            run.live().await;
            run.promised
        });
        if !flash.has_failed() {
            assert!(n > 150, "only {n} calls: the life is not what it was");
            assert_eq!(promised.whole.len(), 1, "{promised:?}");
            assert_eq!(promised.uploads.len(), 1, "{promised:?}");
            return;
        }
        for remains in remains {
            run(holds(&flash.after_cut(*remains), &promised, &format!("call {n}, {failure:?}, {remains:?}")));
        }
    }
}

#[test]
fn the_power_goes_at_every_call() {
    fails_at_every_call(Failure::FromThenOn, &Remains::ALL);
}

#[test]
fn a_call_fails_and_the_agent_goes_on() {
    fails_at_every_call(Failure::Once, &[Remains::Everything, Remains::FlushedOnly]);
}

#[test]
fn a_flash_that_fails_at_the_next_start_loses_nothing() {
    let flash = Model::new(1 << 30);
    let promised = run(async {
        let mut run = Run::open(&flash).await;
        run.live().await;
        run.promised
    });
    for n in 1.. {
        let again = flash.after_cut(Remains::Everything);
        again.fail_at(n, Failure::Once);
        run(async {
            let cache = Cache::open_on(again.clone(), MAX_BYTES, 0, key()).await;
            if let Some(entry) = cache.entry(&folder(), &name("f"), &version(1)).await {
                let _ = content_of(&entry).await.inspect(|found| assert_eq!(*found, content("f", 1)));
            }
        });
        if !again.has_failed() {
            return;
        }
        run(holds(
            &again.after_cut(Remains::Everything),
            &Promised { whole: BTreeMap::new(), ..copy(&promised) },
            &format!("start, call {n}"),
        ));
    }
}

fn copy(promised: &Promised) -> Promised {
    Promised { whole: promised.whole.clone(), uploads: promised.uploads.clone() }
}

#[test]
fn nothing_is_written_when_nothing_happens() {
    let flash = Model::new(1 << 30);
    run(async {
        let mut first = Run::open(&flash).await;
        first.live().await;
        let cache = Cache::open_on(flash.clone(), MAX_BYTES, 0, key()).await;
        let written = cache.facts().bytes_written;
        let calls = flash.calls();
        cache.settle().await;
        cache.settle().await;
        assert_eq!((cache.facts().bytes_written, flash.calls()), (written, calls));
    });
}
