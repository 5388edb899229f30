//! Entries that a seal tells of.

use super::model::Model;
use super::tests::{CHUNK, bytes, content_of, fill, folder, key, name, object, piece, run, version};
use super::*;
use crate::crypto::{AesKey, Digest};
use crate::seal::{ResourceClaim, ResourceDraft, ResourceSeal};
use crate::secret::SecretArray;

async fn seal(content: &[u8]) -> ResourceSeal {
    let key = AesKey::new(SecretArray::fill(|key| key.fill(1)));
    let (folder, name) = (folder(), name("m"));
    let chunks: Vec<_> = content.chunks(CHUNK).map(Digest::of).collect();
    let big = content.len() as u64;
    let draft =
        ResourceDraft { id: [1; 32], version: 1, folder: &folder, name: &name, small: &[1; 9], big, chunks: &chunks };
    let claim = ResourceClaim::parse(draft.seal(&key).await.expect("within the bounds")).expect("a seal");
    claim.authenticate(&key, &folder, &name).await.expect("ours")
}

async fn begun(cache: &Cache<Model>, content: &[u8]) -> Rc<Entry<Model>> {
    cache.begin(&folder(), &name("m"), &version(1), &object(content, "\"e\"")).await.expect("room")
}

#[test]
fn an_entry_takes_what_was_sealed_and_nothing_else() {
    run(async {
        let flash = Model::new(1 << 30);
        let (content, other) = (bytes(1, 3 * CHUNK + 5), bytes(2, 3 * CHUNK + 5));
        let sealed = seal(&content).await;
        let cache = Cache::open_on(flash.clone(), 1 << 30, 0, key()).await;
        let entry = begun(&cache, &content).await;
        entry.write(1, piece(&content, &entry.chunk_range(1))).await.expect("nobody knows better");
        assert!(!entry.is_sealed() && entry.expected(0).is_none());
        assert!(entry.hold_to(&sealed.big()) && entry.is_sealed());
        assert_eq!(entry.expected(0), sealed.big().hash(0));
        assert!(!entry.has(0) && entry.has(1), "what is expected is not there yet");
        for chunk in [0, 1, 3] {
            let refused = entry.write(chunk, piece(&other, &entry.chunk_range(chunk))).await.expect_err("another");
            assert!(matches!(refused, CacheError::Mismatch { chunk: at } if at == chunk), "{refused}");
        }
        assert_eq!(cache.facts().bytes, content.len() as u64, "promised");
        fill(&entry, &content).await.expect("what was sealed");
        entry.finish().await.expect("whole");
        assert_eq!(content_of(&entry).await.expect("right"), content);
        drop((entry, cache));
        // The next run finds it, and it holds again.
        let cache = Cache::open_on(flash, 1 << 30, 0, key()).await;
        assert_eq!(cache.facts().bytes, content.len() as u64);
        let entry = cache.entry(&folder(), &name("m"), &version(1)).await.expect("there");
        assert!(entry.hold_to(&sealed.big()));
    });
}

#[test]
fn an_entry_of_something_else_is_not_held() {
    run(async {
        let (content, other) = (bytes(1, 3 * CHUNK + 5), bytes(2, 3 * CHUNK + 5));
        let cache = Cache::open_on(Model::new(1 << 30), 1 << 30, 0, key()).await;
        let entry = begun(&cache, &other).await;
        entry.write(2, piece(&other, &entry.chunk_range(2))).await.expect("nobody knows better");
        // Of the last one every chunk that is there is right; the length alone is not.
        for sealed in [&content[..], &other[1..], &other[..3 * CHUNK]] {
            assert!(!entry.hold_to(&seal(sealed).await.big()), "{}", sealed.len());
            assert!(!entry.is_sealed() && entry.expected(0).is_none(), "it goes on as it was");
        }
        assert!(entry.hold_to(&seal(&other).await.big()));
        // Held once, it is held to nothing else.
        assert!(!entry.hold_to(&seal(&content).await.big()) && entry.is_sealed());
        cache.forget(&folder(), &name("m")).await;
        assert!(entry.is_stale());
        let entry = begun(&cache, &content).await;
        assert!(entry.hold_to(&seal(&content).await.big()) && entry.missing().count() == 4);
    });
}

#[test]
fn bytes_on_flash_are_counted_once() {
    run(async {
        let content = bytes(3, 2 * CHUNK);
        let cache = Cache::open_on(Model::new(1 << 30), 1 << 30, 0, key()).await;
        let entry = begun(&cache, &content).await;
        assert!(entry.hold_to(&seal(&content).await.big()));
        for _ in 0..3 {
            entry.write(0, piece(&content, &entry.chunk_range(0))).await.expect("written");
        }
        entry.give_up().await;
        drop(entry);
        assert_eq!(cache.facts().bytes, CHUNK as u64);
    });
}

#[test]
fn a_seal_is_kept_beside_the_small_part_and_goes_with_it() {
    run(async {
        let flash = Model::new(1 << 30);
        let content = bytes(4, CHUNK);
        let cache = Cache::open_on(flash.clone(), 1 << 30, 0, key()).await;
        let entry = begun(&cache, &content).await;
        fill(&entry, &content).await.expect("written");
        entry.finish().await.expect("whole");
        drop(entry);
        let (folder, name) = (folder(), name("m"));
        let longest = vec![1; usize::try_from(RESOURCE_SEAL_BYTES).expect("fits")];
        let longer = [&*longest, &[1]].concat();
        let refused = cache.keep_small(&folder, &name, b"boxed", Some(&longer)).await;
        assert!(matches!(refused, Err(CacheError::TooLong { .. })));
        cache.keep_small(&folder, &name, b"boxed", Some(&longest)).await.expect("at the bound");
        let written = cache.facts().bytes_written;
        cache.keep_small(&folder, &name, b"boxed", Some(&longest)).await.expect("as it is");
        assert_eq!(cache.facts().bytes_written, written, "nothing is written that is there");
        drop(cache);
        let cache = Cache::open_on(flash.clone(), 1 << 30, 0, key()).await;
        assert!(cache.kept_seal(&folder, &name).await == Some(longest));
        assert_eq!(cache.kept_small(&folder, &name).await.as_deref(), Some(&b"boxed"[..]));
        cache.forget(&folder, &name).await;
        assert_eq!((cache.kept_seal(&folder, &name).await, cache.kept_small(&folder, &name).await), (None, None));
        assert!(flash.files().keys().all(|file| file == "order"), "{:?}", flash.files());
    });
}
