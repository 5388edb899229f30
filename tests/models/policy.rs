//! What a board demands of models: a seal, or none.

use super::*;

const STRICT: Setting = Setting { board: "strict", unsealed: Ok(false), ..Setting::DEFAULT };

#[test]
fn a_board_that_demands_seals_refuses_what_has_none() {
    let world = World::new();
    let bytes = plain(300_000, 31);
    world.put("split", &bytes);
    world.cloud.put_resource(FOLDER, "whole", bytes.clone());
    world.publish("sealed", &bytes);
    let before = world.cloud.s3().calls().len();
    world.run(&STRICT, async |board| {
        let session = board.log_in(OPERATOR).await;
        for name in ["split", "whole"] {
            let error = board.load(&session, name).await.expect_err("unsealed");
            assert_eq!((error.code(), error.code().http_status()), (Code::ResourceUnsealed, 502), "{name}");
            assert!(error.next_step().contains("azaion-loader trust"), "{}", error.next_step());
        }
        assert_eq!(board.load(&session, "nothing").await.expect_err("unknown").code(), Code::ResourceUnknown);
        assert_eq!(world.cloud.s3().calls().len(), before, "nobody went to the CDN for that");
        assert_eq!(board.trust.accepted.get(), 0);
        is(board.load(&session, "sealed").await, &bytes);
        assert_eq!(board.trust.accepted.get(), 1);
        is(board.load(&session, "sealed").await, &bytes);
        assert_eq!(board.trust.accepted.get(), 2);
    });
}

#[test]
fn what_cannot_be_told_is_not_served() {
    let world = World::new();
    world.put("split", &plain(100, 32));
    world.cloud.put_resource(FOLDER, "whole", plain(100, 32));
    world.run(&Setting { unsealed: Err(Code::StateUnavailable), ..STRICT }, async |board| {
        let session = board.log_in(OPERATOR).await;
        for name in ["split", "whole"] {
            let error = board.load(&session, name).await.expect_err("nobody knows");
            let report = Report::of(&error);
            assert_eq!(
                (report.code, &*report.message, &*report.next),
                (Code::StateUnavailable, "it cannot be told", "look")
            );
        }
    });
}

#[test]
fn what_was_kept_unsealed_is_refused_offline_too() {
    let world = World::new();
    let bytes = plain(300_000, 33);
    world.put("m", &bytes);
    world.publish("sealed", &bytes);
    let offline = Setting { offline: true, board: "kept", ..Setting::DEFAULT };
    world.run(&offline, async |board| {
        let session = board.log_in(OPERATOR).await;
        for name in ["m", "sealed"] {
            is(board.load(&session, name).await, &bytes);
        }
        board.until(|board| board.cache.facts().entries == 2).await;
    });
    world.set_away(true);
    for (unsealed, is_served) in [(Ok(true), true), (Ok(false), false)] {
        world.run(&Setting { unsealed, ..offline }, async |board| {
            let (folder, name) = named("m");
            let model = board.models.load(Held::Credentials(who(OPERATOR)), &folder, &name).await;
            match (model, is_served) {
                (Ok(model), true) => is(all(model).await, &bytes),
                (Err(error), false) => assert_eq!(error.code(), Code::ResourceUnsealed),
                (Ok(_), false) => panic!("it went out"),
                (Err(error), true) => panic!("{}", azaion_loader::error::chain(&error)),
            }
            assert_eq!(board.trust.accepted.get(), 0);
            let (folder, name) = named("sealed");
            let model = board.models.load(Held::Credentials(who(OPERATOR)), &folder, &name).await;
            is(all(model.expect("kept with its seal")).await, &bytes);
            assert_eq!(board.trust.accepted.get(), 1);
        });
    }
}
