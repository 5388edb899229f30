//! Models with a seal: what was sealed is loaded, and nothing else, from wherever it comes.

use std::path::Path;

use azaion_loader::crypto::Digest;
use azaion_loader::error::chain;
use azaion_loader::seal::{ResourceClaim, ResourceSeal};

use super::*;

const CHUNK: usize = 256 * 1024;

/// The three files of a resource.
#[derive(Clone)]
struct Files {
    small: Vec<u8>,
    seal: Vec<u8>,
    big: Vec<u8>,
}

impl World {
    fn files(&self, name: &str) -> Files {
        let file = |ending| self.cloud.resource(FOLDER, &format!("{name}.{ending}")).expect("at the API");
        let big = self.cloud.s3().object(FOLDER, &format!("{name}.big")).expect("at the CDN");
        Files { small: file("small"), seal: file("seal"), big }
    }

    fn put_files(&self, name: &str, files: &Files) {
        let Files { small, seal, big } = files.clone();
        self.cloud.put_resource(FOLDER, &format!("{name}.small"), small);
        self.cloud.put_resource(FOLDER, &format!("{name}.seal"), seal);
        self.cloud.s3().put_object(FOLDER, &format!("{name}.big"), &big);
    }

    /// What a board gives, up to its end or its error.
    fn load(&self, setting: &Setting, name: &str) -> (Vec<u8>, Result<(), ResourceError>) {
        self.run(setting, async |board| {
            let session = board.log_in(OPERATOR).await;
            let mut got = Vec::new();
            let outcome = async {
                let mut model = board.model(&session, name).await?;
                while let Some(piece) = model.next().await? {
                    got.extend_from_slice(piece);
                }
                Ok(())
            };
            let outcome = outcome.await;
            board.until(|board| board.models.view().downloads == 0).await;
            (got, outcome)
        })
    }

    /// Loads what must be refused before its first byte, and says how often the API was asked for a file.
    fn refuses(&self, setting: &Setting, name: &str, what: &str) -> usize {
        let before = self.gets();
        let (got, outcome) = self.load(setting, name);
        not_authentic(outcome, what);
        assert!(got.is_empty(), "{what}: {} bytes went out", got.len());
        self.gets() - before
    }

    fn gets(&self) -> usize {
        self.cloud.calls().iter().filter(|call| call.route == Route::ResourceGet).count()
    }

    /// How often this range was asked for of the CDN, among the calls behind `since`.
    fn ranges(&self, since: usize, range: &str) -> usize {
        let calls = self.cloud.s3().calls();
        calls[since..].iter().filter(|call| call.range.as_deref() == Some(range)).count()
    }
}

/// Outside every reason looks the same.
fn not_authentic(outcome: Result<(), ResourceError>, what: &str) {
    let error = outcome.expect_err(what);
    let report = Report::of(&error);
    assert_eq!(
        (report.code, report.code.http_status()),
        (Code::ResourceNotAuthentic, 502),
        "{what}: {}",
        chain(&error)
    );
    assert_eq!(report.message, "what was found of this resource is not what was sealed", "{what}");
}

fn fresh(board: &'static str) -> Setting {
    Setting { board, ..Setting::DEFAULT }
}

/// Without room in the cache: straight from the CDN.
fn narrow(board: &'static str) -> Setting {
    Setting { max_bytes: 1000, ..fresh(board) }
}

fn open(seal: Vec<u8>, folder: &Folder, name: &ResourceName) -> Option<ResourceSeal> {
    let none = String::new;
    let salts = Salts { hardware: none(), api: none(), resource: "resource-salt".into(), separator: none() };
    let key = AesKey::from_text(&salts.resource_key());
    let claim = ResourceClaim::parse(seal).ok()?;
    turn::block_on(&LocalExecutor::new(), claim.authenticate(&key, folder, name)).ok()
}

fn flip(path: &Path, at: usize) {
    let mut there = std::fs::read(path).expect("readable");
    there[at] ^= 1;
    std::fs::write(path, there).expect("writable");
}

#[test]
fn an_upload_is_three_files_of_which_two_are_those_of_version_1() {
    let world = World::new();
    for size in [0, 17, 10_224, 3 * MIB] {
        let bytes = plain(size, 41);
        world.publish("m", &bytes);
        let Files { small, seal, big } = world.files("m");
        // By another hand, which knows of no seal.
        assert!(world.published("m").is_some_and(|there| there == bytes), "{size}");
        assert_eq!(small.len(), ((small.len() + big.len()) * 3 / 10).min(3072), "{size}");
        let (folder, name) = named("m");
        let seal = open(seal, &folder, &name).expect("it is ours");
        assert!(seal.fits_small(&small) && seal.version() > 1_577_836_800, "{size}");
        assert_eq!(seal.big().length(), big.len() as u64, "{size}");
        assert!(seal.big().iter().eq(big.chunks(CHUNK).map(Digest::of)), "{size}");
    }
}

#[test]
fn without_its_seal_a_resource_is_an_unsealed_one() {
    let world = World::new();
    let bytes = plain(MIB, 42);
    world.publish("m", &bytes);
    assert!(world.cloud.remove_resource(FOLDER, "m.seal"));
    world.run(&Setting::DEFAULT, async |board| {
        let session = board.log_in(OPERATOR).await;
        is(board.load(&session, "m").await, &bytes);
        assert_eq!(board.trust.accepted.get(), 0);
    });
}

#[test]
fn a_seal_that_is_none_or_not_its_own_is_refused() {
    let world = World::new();
    for name in ["m", "n"] {
        world.publish(name, &plain(MIB, 43));
    }
    let right = world.files("m");
    let mut changed = right.seal.clone();
    changed[100] ^= 1;
    let seals = [
        ("another resource's", world.files("n").seal),
        ("changed", changed),
        ("cut", right.seal[..right.seal.len() - 1].to_vec()),
        ("longer", [&*right.seal, b"x"].concat()),
        ("empty", Vec::new()),
        ("something else", plain(500, 43)),
        ("too long", vec![0; 2 * MIB]),
    ];
    for (what, seal) in seals {
        world.put_files("m", &Files { seal, ..right.clone() });
        let before = world.cloud.s3().calls().len();
        assert_eq!(world.refuses(&fresh("b"), "m", what), 2, "{what}: small and seal, once each");
        assert_eq!(world.cloud.s3().calls().len(), before, "{what}: nobody went to the CDN for that");
    }
    world.put_files("m", &right);
    not_authentic(world.load(&Setting { resource_salt: "another", ..fresh("salt") }, "m").1, "another key");
    assert!(world.load(&fresh("b"), "m").0 == plain(MIB, 43), "put right, it loads");
}

#[test]
fn parts_of_two_uploads_are_never_joined() {
    let world = World::new();
    for size in [100, 20_000, 700_000] {
        let [one, two] = [44, 45].map(|seed| {
            world.publish("m", &plain(size, seed));
            world.files("m")
        });
        // Small and seal, once more where they do not fit, or cdn.yaml; the end, and once more where it is as long.
        for (what, files, asked) in [
            ("the small part is the new one", Files { small: two.small.clone(), ..one.clone() }, (4, 0)),
            ("the seal is the new one", Files { seal: two.seal.clone(), ..one.clone() }, (4, 0)),
            ("the big part is the new one", Files { big: two.big.clone(), ..one.clone() }, (3, 2)),
            ("the big part is the old one", Files { big: one.big.clone(), ..two.clone() }, (3, 2)),
            ("the big part goes on", Files { big: [&*one.big, &[0; 16]].concat(), ..one.clone() }, (3, 1)),
            ("something is before the big part", Files { big: [&[0; 16], &*one.big].concat(), ..one.clone() }, (3, 1)),
            ("the big part is cut", Files { big: one.big[..one.big.len() - 16].to_vec(), ..one.clone() }, (3, 1)),
        ] {
            world.put_files("m", &files);
            let before = world.cloud.s3().calls().len();
            let gets = world.refuses(&fresh("b"), "m", &format!("{size}: {what}"));
            assert_eq!((gets, world.cloud.s3().calls().len() - before), asked, "{size}: {what}");
        }
        world.put_files("m", &two);
        assert!(world.load(&fresh("b"), "m").0 == plain(size, 45), "{size}");
    }
}

#[test]
fn an_upload_that_passes_between_both_questions_is_no_forgery() {
    let world = World::new();
    let [one, two] = [46, 47].map(|seed| {
        world.publish("m", &plain(MIB, seed));
        world.files("m")
    });
    world.put_files("m", &one);
    world.run(&fresh("b"), async |board| {
        let session = board.log_in(OPERATOR).await;
        let calls = world.cloud.calls().len();
        // The seal's answer is made when the upload has passed.
        let hold = Hold::default();
        world.cloud.fail_next(Route::ResourceGet, Fault::NONE);
        world.cloud.fail_next(Route::ResourceGet, Fault::Hold(hold.clone()));
        let upload = async {
            world.cloud.calls_reach(calls + 2).await;
            world.put_files("m", &two);
            hold.release();
        };
        let (loaded, ()) = smol::future::zip(board.load(&session, "m"), upload).await;
        is(loaded, &plain(MIB, 47));
    });
}

#[test]
fn a_changed_chunk_at_the_cdn_is_refused_and_nothing_of_it_served() {
    let world = World::new();
    let bytes = plain(3 * MIB, 48);
    world.publish("m", &bytes);
    let right = world.files("m");
    let small = right.small.len() - 16;
    let boards = [["f1", "f2"], ["m1", "m2"], ["l1", "l2"]];
    for (boards, at) in boards.into_iter().zip([5, 5 * CHUNK + 17, right.big.len() - 1]) {
        let mut big = right.big.clone();
        big[at] ^= 1;
        world.put_files("m", &Files { big, ..right.clone() });
        for setting in [fresh(boards[0]), narrow(boards[1])] {
            let before = world.cloud.s3().calls().len();
            let (got, outcome) = world.load(&setting, "m");
            not_authentic(outcome, setting.board);
            let most = if at < CHUNK || at + CHUNK > right.big.len() { 0 } else { small + at / CHUNK * CHUNK };
            assert!(got.len() <= most && bytes.starts_with(&got), "{}: {} bytes", setting.board, got.len());
            let from = at / CHUNK * CHUNK;
            let range = format!("bytes={from}-{}", (from + CHUNK).min(right.big.len()) - 1);
            assert_eq!(world.ranges(before, &range), 1, "{}: once more, by itself", setting.board);
        }
    }
    // What was right of it stays on flash, and once it is put right, the rest is fetched.
    world.put_files("m", &right);
    for board in ["f1", "m1", "l1"] {
        assert!(world.load(&fresh(board), "m").0 == bytes, "{board}");
    }
}

#[test]
fn a_chunk_that_comes_wrong_once_costs_one_range() {
    let world = World::new();
    let bytes = plain(3 * MIB, 49);
    world.publish("m", &bytes);
    let s3 = world.cloud.s3();
    // The end; then the first range, or all the rest.
    for (setting, answer, at, chunk) in [
        (fresh("e1"), 0, 9, 11),
        (narrow("e2"), 0, 9, 11),
        (fresh("r1"), 1, CHUNK + 9, 1),
        (narrow("r2"), 1, 7 * CHUNK + 9, 7),
    ] {
        let before = s3.calls().len();
        (0..answer).for_each(|_| s3.fail_next(S3Route::Get, Fault::NONE));
        s3.fail_next(S3Route::Get, Fault::FlipBit(at));
        let (got, outcome) = world.load(&setting, "m");
        outcome.expect(setting.board);
        assert!(got == bytes, "{}", setting.board);
        let big = world.files("m").big.len();
        let range = format!("bytes={}-{}", chunk * CHUNK, ((chunk + 1) * CHUNK).min(big) - 1);
        assert_eq!(world.ranges(before, &range), 1, "{}", setting.board);
    }
}

#[test]
fn a_damaged_chunk_on_flash_costs_one_request() {
    let world = World::new();
    let bytes = plain(10 * MIB, 50);
    world.publish("m", &bytes);
    let setting = fresh("b");
    let load = || {
        let before = world.cloud.s3().calls().len();
        let (got, outcome) = world.load(&setting, "m");
        outcome.expect("it is mended");
        assert!(got == bytes);
        let calls = world.cloud.s3().calls();
        (calls.len() - before, calls[before..].iter().map(|call| call.bytes_out).sum::<u64>())
    };
    load();
    assert_eq!(load(), (0, 0), "all of it from flash");
    for at in [0, 5 * MIB, 10 * MIB - 3080] {
        flip(&data_file(&world.path("b", "cache")), at);
        let (calls, sent) = load();
        assert!(calls == 1 && sent <= CHUNK as u64, "{at}: {calls} calls, {sent} bytes");
        assert_eq!(load(), (0, 0), "{at}");
    }
}

#[test]
fn an_entry_is_held_to_the_seal() {
    let world = World::new();
    let bytes = plain(10 * MIB, 51);
    world.publish("m", &bytes);
    let right = world.files("m");
    let mut big = right.big.clone();
    big[5 * CHUNK] ^= 1;
    let wrong = Files { big, ..right.clone() };
    for (board, is_whole) in [("whole", true), ("part", false)] {
        // Unsealed, nobody notices: it lies on flash, whole or begun.
        world.put_files("m", &wrong);
        assert!(world.cloud.remove_resource(FOLDER, "m.seal"));
        let s3 = world.cloud.s3();
        if !is_whole {
            // The end, the first range, the second; then it is away.
            (0..3).for_each(|_| s3.fail_next(S3Route::Get, Fault::NONE));
            s3.always(S3Route::Get, Fault::s3(403, "AccessDenied"));
        }
        let (got, outcome) = world.load(&fresh(board), "m");
        // How much of one that is cut is handed out before the refusal is a matter of time.
        assert!(outcome.is_ok() == is_whole && (!is_whole || got != bytes), "{board}");
        s3.clear_faults();
        // With the seal the right one takes its place; the CDN is asked for all of it.
        world.put_files("m", &right);
        let before = s3.bytes_out();
        let (got, outcome) = world.load(&fresh(board), "m");
        outcome.expect(board);
        assert!(got == bytes && s3.bytes_out() - before >= right.big.len() as u64, "{board}");
    }
}

#[test]
fn what_is_kept_is_kept_with_its_seal() {
    let world = World::new();
    let bytes = plain(MIB, 52);
    world.publish("other", &bytes);
    world.publish("m", &bytes);
    let offline = Setting { offline: true, ..fresh("kept") };
    let cache = world.path("kept", "cache");
    let load_and_keep = || {
        world.run(&offline, async |board| {
            let session = board.log_in(OPERATOR).await;
            is(board.load(&session, "m").await, &bytes);
            board.until(|board| board.cache.facts().entries == 1).await;
        });
    };
    let load_offline = || {
        world.set_away(true);
        let loaded = world.run(&offline, async |board| {
            let (folder, name) = named("m");
            let loaded = match board.models.load(Held::Credentials(who(OPERATOR)), &folder, &name).await {
                Ok(model) => all(model).await,
                Err(error) => Err(error),
            };
            (loaded, board.trust.accepted.get())
        });
        world.set_away(false);
        loaded
    };
    load_and_keep();
    let kept = std::fs::read(cached(&cache, "seal")).expect("readable");
    assert!(kept == world.files("m").seal);
    let (loaded, accepted) = load_offline();
    is(loaded, &bytes);
    assert_eq!(accepted, 1);
    // A seal that is gone, another's, or changed is not none.
    for seal in [None, Some(world.files("other").seal), Some(vec![0; 40])] {
        let at = cached(&cache, "seal");
        match &seal {
            None => std::fs::remove_file(&at).expect("removed"),
            Some(seal) => std::fs::write(&at, seal).expect("written"),
        }
        let error = load_offline().0.expect_err("not as it was kept");
        assert_eq!(error.code(), Code::ApiUnreachable, "{}", chain(&error));
        assert!(error.next_step().contains("load it once"), "{}", error.next_step());
        load_and_keep();
        is(load_offline().0, &bytes);
    }
    // Chunks are compared as with the API, and cannot be mended without the CDN.
    flip(&data_file(&cache), 0);
    assert!(load_offline().0.is_err(), "a damaged chunk went out");
    // Uploaded here, it is kept with its seal, too.
    world.run(&offline, async |board| {
        let session = board.log_in(BUILDER).await;
        board.upload(&session, "m", &bytes).await.expect("published");
    });
    assert!(std::fs::read(cached(&cache, "seal")).expect("readable") == world.files("m").seal);
}

#[test]
fn a_cut_between_seal_and_small_part_is_refused_until_the_upload_is_finished() {
    let world = World::new();
    let (old, new) = (plain(MIB, 53), plain(MIB, 54));
    world.publish("m", &old);
    let before = world.files("m");
    world.run(&fresh("up"), async |board| {
        let session = board.log_in(BUILDER).await;
        let incoming = board.incoming(&session, &new).await;
        let calls = world.cloud.calls().len();
        world.cloud.fail_next(Route::ResourcePut, Fault::NONE);
        world.cloud.fail_next(Route::ResourcePut, Fault::Silence);
        let (folder, name) = named("m");
        let finish = async {
            let _cut = incoming.finish(folder, name).await;
        };
        smol::future::or(finish, world.cloud.calls_reach(calls + 3)).await;
    });
    world.cloud.clear_faults();
    let cut = world.files("m");
    assert!(cut.small == before.small && cut.seal != before.seal && cut.big != before.big, "cut before the small part");
    world.refuses(&fresh("b"), "m", "between seal and small part");
    world.run(&fresh("up"), async |board| {
        board.log_in(BUILDER).await;
        board.until(|board| board.models.view().uploads_waiting == 0).await;
    });
    assert!(world.files("m").seal != cut.seal, "a seal is made anew, and put before the small part again");
    assert!(world.load(&fresh("b"), "m").0 == new);
}
