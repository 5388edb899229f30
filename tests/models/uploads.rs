//! Models on their way to the clouds.

use super::*;

#[test]
fn a_role_below_uploads_nothing() {
    let world = World::new();
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(OPERATOR).await;
        let error = board.models.upload(session).await.err().expect("refused");
        assert_eq!((error.code(), error.code().http_status()), (Code::RoleTooLow, 403));
        assert!(error.to_string().contains("ResourceUploader"), "{error}");
    });
}

#[test]
fn an_upload_cut_between_any_two_steps_is_finished_by_the_next_run() {
    let world = World::new();
    let bytes = plain(20 * MIB, 11);
    let at = |route: S3Route, skip: usize| (Some(route), skip);
    let steps = [
        at(S3Route::Begin, 0),
        at(S3Route::Part, 0),
        at(S3Route::Part, 2),
        at(S3Route::Complete, 0),
        at(S3Route::Head, 0),
        // Before the seal is there, and between it and the small part.
        (None, 0),
        (None, 1),
    ];
    for (number, (route, skip)) in steps.into_iter().enumerate() {
        let name = format!("cut {number}");
        let s3 = world.cloud.s3();
        let (puts, before) = (resource_puts(&world), s3.calls().len());
        world.run(&Setting::default(), async |board| {
            let session = board.log_in(BUILDER).await;
            let incoming = board.incoming(&session, &bytes).await;
            if let Some(route) = route {
                (0..skip).for_each(|_| s3.fail_next(route, Fault::NONE));
                s3.fail_next(route, Fault::Silence);
            } else {
                (0..skip).for_each(|_| world.cloud.fail_next(Route::ResourcePut, Fault::NONE));
                world.cloud.fail_next(Route::ResourcePut, Fault::Silence);
            }
            let (folder, name) = named(&name);
            // The client is cut with the agent: what it hears is of no matter.
            let finish = async {
                let _cut = incoming.finish(folder, name).await;
            };
            let reached = async {
                match route {
                    Some(route) => {
                        s3.reached(|calls| calls[before..].iter().filter(|call| call.route == route).count() > skip)
                            .await;
                    }
                    None => board.until(|_| resource_puts(&world) > puts + skip).await,
                }
            };
            smol::future::or(finish, reached).await;
        });
        world.cloud.clear_faults();
        s3.clear_faults();
        assert!(world.cloud.resource(FOLDER, &format!("{name}.small")).is_none(), "{number}: small before big");
        let has_seal = world.cloud.resource(FOLDER, &format!("{name}.seal")).is_some();
        assert_eq!(has_seal, route.is_none() && skip == 1, "{number}: seal before big, or none before small");
        let sent = s3.bytes_in();
        world.run(&Setting::default(), async |board| {
            assert_eq!(board.models.view().uploads_waiting, 1, "{number}");
            // Not before its user is there.
            board.log_in(OPERATOR).await;
            assert_eq!(board.models.view().uploads_waiting, 1, "{number}");
            let session = board.log_in(BUILDER).await;
            board.until(|board| board.models.view().uploads_waiting == 0).await;
            s3.set_away(true);
            is(board.load(&session, &name).await, &bytes);
            s3.set_away(false);
        });
        assert!(world.published(&name).is_some_and(|there| there == bytes), "{number}");
        let again = s3.bytes_in() - sent;
        println!("{number}: {again} bytes sent by the second run");
        if number >= 3 {
            assert_eq!(again, 0, "{number}: every part was there");
        }
    }
    assert!(world.cloud.s3().uploads().len() <= 1, "only a begun upload whose answer was lost is left");
}

fn resource_puts(world: &World) -> usize {
    world.cloud.calls().iter().filter(|call| call.route == Route::ResourcePut).count()
}

#[test]
fn a_cloud_that_is_away_is_waited_for_and_a_newer_upload_supersedes() {
    let world = World::new();
    let (old, new) = (plain(20 * MIB, 12), plain(MIB, 13));
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(BUILDER).await;
        world.cloud.s3().set_away(true);
        assert_eq!(board.upload(&session, "m", &old).await.expect("accepted"), Outcome::Accepted);
        assert_eq!(board.upload(&session, "m", &new).await.expect("accepted"), Outcome::Accepted);
        assert_eq!(board.models.view().uploads_waiting, 1);
        world.cloud.s3().set_away(false);
        board.log_in(BUILDER).await;
        board.until(|board| board.models.view().uploads_waiting == 0).await;
        assert!(world.published("m").is_some_and(|there| there == new));
        is(board.load(&session, "m").await, &new);

        // The API away after the big part is up: accepted, and no small part before.
        world.cloud.always(Route::ResourcePut, Fault::try_later(503, 0));
        assert_eq!(board.upload(&session, "m", &old).await.expect("accepted"), Outcome::Accepted);
        world.cloud.clear_faults();
        board.log_in(BUILDER).await;
        board.until(|board| board.models.view().uploads_waiting == 0).await;
        assert!(world.published("m").is_some_and(|there| there == old));

        // A refusal is told. The big part is published by then, so its small part is kept for who may put it.
        world.cloud.always(Route::ResourcePut, Fault::status(403));
        let error = board.upload(&session, "m", &new).await.expect_err("refused");
        assert_eq!(error.code(), Code::ApiRefused);
        assert_eq!(board.models.view().uploads_waiting, 1);
        world.cloud.clear_faults();
        board.log_in(BUILDER).await;
        board.until(|board| board.models.view().uploads_waiting == 0).await;
        assert!(world.published("m").is_some_and(|there| there == new));

        // A refusal by the CDN comes before anything is published: nothing of it stays.
        world.cloud.s3().always(S3Route::Put, Fault::s3(403, "AccessDenied"));
        let error = board.upload(&session, "m", &new).await.expect_err("refused");
        assert_eq!(error.code(), Code::CdnRefused);
        assert_eq!(board.models.view().uploads_waiting, 0);

        // What another one puts in between, while the API is away, is not joined with our small part.
        world.cloud.s3().clear_faults();
        world.cloud.always(Route::ResourcePut, Fault::try_later(503, 0));
        assert_eq!(board.upload(&session, "m", &old).await.expect("accepted"), Outcome::Accepted);
        let ours = world.cloud.s3().object(FOLDER, "m.big").expect("it is there");
        world.cloud.s3().put_object(FOLDER, "m.big", &vec![7; ours.len()]);
        world.cloud.clear_faults();
        board.log_in(BUILDER).await;
        board.until(|board| board.models.view().uploads_waiting == 0).await;
        assert!(world.published("m").is_some_and(|there| there == old));
    });
}

#[test]
fn a_bucket_that_is_not_there_is_told_and_keeps_nothing() {
    let world = World::new();
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(BUILDER).await;
        for size in [100, 9 * MIB] {
            let (folder, name) = (Folder::new("nowhere").expect("a folder"), named("m").1);
            let incoming = board.incoming(&session, &plain(size, 15)).await;
            let error = incoming.finish(folder, name).await.expect_err("no bucket");
            assert!(matches!(error, ResourceError::Cdn(_)), "{error:?}");
            assert_eq!((board.models.view().uploads_waiting, board.cache.facts().bytes), (0, 0));
        }
    });
}

#[test]
fn forgotten_uploads_begin_anew() {
    let world = World::new();
    let bytes = plain(20 * MIB, 14);
    world.run(&Setting::default(), async |board| {
        let session = board.log_in(BUILDER).await;
        let done = Cell::new(false);
        let upload = async {
            let outcome = board.upload(&session, "m", &bytes).await.expect("published");
            done.set(true);
            outcome
        };
        world.cloud.s3().fail_next(S3Route::Part, Fault::NONE);
        world.cloud.s3().fail_next(S3Route::Part, Fault::s3(404, "NoSuchUpload"));
        assert_eq!(upload.await, Outcome::Published);
        assert!(done.get() && world.published("m").is_some_and(|there| there == bytes));
    });
}
