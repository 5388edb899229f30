//! Models on their way to a client.

use super::*;

#[test]
fn every_size_round_trips_through_api_cdn_and_flash() {
    let world = World::new();
    // Of the one before the last, the last chunk of the big part is one block: less than what tells the padding.
    let sizes = [0, 1, 15, 16, 17, 3071, 3072, 3073, 10_223, 10_224, 300_000, 265_200, 10 * MIB];
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(BUILDER).await;
        for size in sizes {
            let (name, bytes) = (format!("модель {size}+.onnx"), plain(size, 1));
            let outcome = board.upload(&session, &name, &bytes).await.expect("published");
            assert_eq!(outcome, Outcome::Published);
            assert!(world.published(&name).is_some_and(|there| there == bytes), "{size}");
            world.cloud.s3().set_away(true);
            is(board.load(&session, &name).await, &bytes);
            world.cloud.s3().set_away(false);
        }
    });
    // Another board, and what the first one had is still there after a restart.
    for board in ["b", "b", "a"] {
        let before = world.cloud.s3().bytes_out();
        world.run(&Setting { board, ..Setting::default() }, async |board| {
            let session = board.log_in(OPERATOR).await;
            for size in sizes {
                is(board.load(&session, &format!("модель {size}+.onnx")).await, &plain(size, 1));
            }
            board.until(|board| board.cache.facts().entries == sizes.len() as u64).await;
        });
        let sent = world.cloud.s3().bytes_out() - before;
        if board == "a" {
            assert_eq!(sent, 0, "all of it from flash");
        }
    }
}

#[test]
fn what_was_never_split_comes_whole_and_what_is_unknown_is_404() {
    let world = World::new();
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(OPERATOR).await;
        for (size, known) in [(0, true), (5, true), (60_000, true), (3 * MIB, false)] {
            world.cloud.put_resource(FOLDER, "whole", plain(size, 2));
            let model = board.model(&session, "whole").await.expect("there");
            assert_eq!(model.length().is_some(), known, "{size}");
            is(all(model).await, &plain(size, 2));
        }
        let error = board.load(&session, "nothing").await.expect_err("unknown");
        assert_eq!((error.code(), error.code().http_status()), (Code::ResourceUnknown, 404));
        world.cloud.put_resource(FOLDER, "lonely.small", vec![7; 3072]);
        let error = board.load(&session, "lonely").await.expect_err("no big part");
        assert_eq!(error.code(), Code::ResourceDamaged);
        assert_eq!(board.cache.facts().entries, 0);
    });
}

#[test]
fn two_clients_share_one_download_and_who_leaves_stops_nothing() {
    let world = World::new();
    let bytes = plain(10 * MIB, 3);
    world.put("shared", &bytes);
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(OPERATOR).await;
        let load = || Box::pin(board.load(&session, "shared"));
        let (one, two) = smol::future::zip(load(), load()).await;
        is(one, &bytes);
        is(two, &bytes);
        assert!(world.cloud.s3().bytes_out() < 10 * MIB as u64 + 1000, "{}", world.cloud.s3().bytes_out());

        world.put("left", &bytes);
        let mut model = board.model(&session, "left").await.expect("there");
        model.next().await.expect("the first piece");
        drop(model);
        board.until(|board| board.cache.facts().entries == 2 && board.models.view().downloads == 0).await;
        world.cloud.s3().set_away(true);
        is(board.load(&session, "left").await, &bytes);
    });
}

#[test]
fn a_stale_version_is_never_served() {
    let world = World::new();
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(OPERATOR).await;
        for seed in 0..3 {
            world.put("m", &plain(700_000, seed));
            is(board.load(&session, "m").await, &plain(700_000, seed));
        }
    });
}

#[test]
fn a_damaged_chunk_costs_one_range() {
    let world = World::new();
    let bytes = plain(10 * MIB, 4);
    world.put("m", &bytes);
    let setting = Setting::default();
    let load = |what: &str| {
        let before = world.cloud.s3().bytes_out();
        world.run(&setting, async |board| {
            let session = board.log_in(OPERATOR).await;
            is(board.load(&session, "m").await, &bytes);
            board.until(|board| board.models.view().downloads == 0).await;
        });
        let sent = world.cloud.s3().bytes_out() - before;
        println!("{what}: {sent} bytes from the CDN");
        sent
    };
    load("first");
    for at in [0, 5 * MIB, 10 * MIB - 3080] {
        let file = data_file(&world.path("a", "cache"));
        let mut there = std::fs::read(&file).expect("readable");
        there[at] ^= 1;
        std::fs::write(&file, there).expect("writable");
        let sent = load("damaged");
        assert!((1..300_000).contains(&sent), "{at}: {sent}");
        assert_eq!(load("repaired"), 0, "{at}");
    }
}

#[test]
fn an_object_that_changes_under_a_download_is_never_spliced() {
    let world = World::new();
    let bytes = plain(10 * MIB, 5);
    world.put("m", &bytes);
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(OPERATOR).await;
        let other = plain(world.cloud.s3().object(FOLDER, "m.big").expect("there").len(), 6);
        // The end, a first range, and then it is another object.
        world.cloud.s3().fail_next(S3Route::Get, Fault::NONE);
        world.cloud.s3().fail_next(S3Route::Get, Fault::NONE);
        world.cloud.s3().fail_next(S3Route::Get, Fault::ReplaceObject(other));
        let error = board.load(&session, "m").await.expect_err("changed");
        assert_eq!(error.code(), Code::CdnChanged);
        // Put right by another upload, it loads.
        world.put("m", &bytes);
        is(board.load(&session, "m").await, &bytes);
    });
}

#[test]
fn a_cdn_that_cuts_and_fails_costs_time_only() {
    let world = World::new();
    let bytes = plain(10 * MIB, 7);
    world.put("m", &bytes);
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(OPERATOR).await;
        for after in [0, 1000, 700_000] {
            world.cloud.s3().fail_next(S3Route::Get, Fault::s3(503, "SlowDown"));
            world.cloud.s3().fail_next(S3Route::Get, Fault::NONE);
            world.cloud.s3().fail_next(S3Route::Get, Fault::CutAfter(after));
        }
        is(board.load(&session, "m").await, &bytes);
    });
}

#[test]
fn without_room_the_cdn_serves_directly() {
    let world = World::new();
    let bytes = plain(3 * MIB, 8);
    world.put("m", &bytes);
    world.run(&Setting { max_bytes: MIB as u64, ..Setting::default() }, async |board| {
        let session = board.log_in(BUILDER).await;
        is(board.load(&session, "m").await, &bytes);
        assert_eq!((board.cache.facts().entries, board.cache.facts().parts), (0, 0));
        let mut incoming = board.models.upload(Rc::clone(&session)).await.expect("may begin");
        let mut refused = None;
        for piece in bytes.chunks(65_536) {
            refused = incoming.push(piece).await.err();
            if refused.is_some() {
                break;
            }
        }
        assert_eq!(refused.map(|error| error.code()), Some(Code::NoSpace));
    });
}

#[test]
fn a_wrong_resource_key_is_told_before_the_first_byte() {
    let world = World::new();
    for size in [100, 10 * MIB] {
        world.put("m", &plain(size, 9));
        world.run(&Setting { resource_salt: "another", ..Setting::default() }, async |board| {
            let session = board.log_in(OPERATOR).await;
            let error = board.model(&session, "m").await.err().expect("refused");
            assert_eq!(error.code(), Code::ResourceDamaged);
            assert_eq!((board.cache.facts().entries, board.cache.facts().parts), (0, 0));
        });
    }
}

#[test]
fn what_was_loaded_once_is_served_without_the_clouds_to_the_same_user() {
    let world = World::new();
    let bytes = plain(MIB, 10);
    world.put("m", &bytes);
    world.put("n", &bytes);
    let offline = Setting { offline: true, ..Setting::default() };
    let away = |away: bool| {
        world.cloud.set_away(away);
        world.cloud.s3().set_away(away);
    };
    world.run(&offline, async |board| {
        let session = board.log_in(OPERATOR).await;
        is(board.load(&session, "m").await, &bytes);
        board.until(|board| board.cache.facts().entries == 1).await;
        away(true);
        is(board.load(&session, "m").await, &bytes);
        let error = board.load(&session, "n").await.expect_err("never loaded");
        assert_eq!(error.code(), Code::ApiUnreachable);
        assert!(error.next_step().contains("load it once"), "{}", error.next_step());
        away(false);
    });
    away(true);
    // After a restart nobody can log in.
    world.run(&offline, async |board| {
        let (folder, name) = named("m");
        let model = board.models.load(Held::Credentials(who(OPERATOR)), &folder, &name).await;
        is(all(model.expect("kept")).await, &bytes);
        for other in [who(BUILDER), Credentials::new(OPERATOR.into(), SecretText::new("guess".into())).expect("short")]
        {
            let error = board.models.load(Held::Credentials(other), &folder, &name).await.err().expect("not theirs");
            assert_eq!(error.code(), Code::ApiUnreachable);
        }
    });
    world.run(&Setting::default(), async |board| {
        let (folder, name) = named("m");
        let error = board.models.load(Held::Credentials(who(OPERATOR)), &folder, &name).await.err().expect("off");
        assert!(error.next_step().contains("offline = true"), "{}", error.next_step());
    });
    // No secret and no plain text lies about.
    for entry in std::fs::read_dir(world.path("a", "cache")).expect("readable") {
        let there = std::fs::read(entry.expect("readable").path()).expect("readable");
        let small = world.cloud.resource(FOLDER, "m.small").expect("there");
        assert!(!there.windows(16).any(|window| window == &small[..16]), "the small part in the clear");
    }
}
