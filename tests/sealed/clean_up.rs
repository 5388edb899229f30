//! An archive that comes while the board still cleans up behind the one before.

use std::fs;

use azaion_cloud::archive::Layout;

use crate::harness::{Board, EMAIL, cloud, curl};
use crate::proxy::Proxy;
use crate::samples;
use crate::support;
use crate::support::engine::{Engine, Kind};

#[test]
fn an_unlock_asked_for_during_the_clean_up_is_for_the_archive_that_is_there_then() {
    let engine = match Engine::start(Kind::Docker20) {
        Ok(engine) => engine,
        Err(reason) => return support::skip(&reason),
    };
    let cloud = cloud();
    let board = Board::new(&cloud);
    let proxy = Proxy::start(&board.path("proxy.sock"), &engine.socket());
    let board = board.engine(&format!("unix://{}", proxy.socket.display()));
    let mut agent = board.start();
    agent.log_in(EMAIL);
    for release in ["first", "second"] {
        samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, release));
        if release == "second" {
            proxy.hold(b"DELETE /images/");
        }
        assert_eq!(agent.curl("/unlock", &["-X", "POST"]).0, 202, "{release}");
        assert_eq!(agent.settle().0["state"], "ready");
    }
    // The first release's images are about to be removed.
    proxy.wait_for_held();
    fs::write(board.archive(), "no archive").expect("written");
    let url = format!("{}/unlock", agent.base);
    let asked = std::thread::spawn(move || curl(&url, &["-X", "POST"]));
    for _ in 0..50 {
        assert_eq!(agent.curl("/health", &[]).0, 200);
    }
    proxy.release();
    let (status, answer) = asked.join().expect("curl runs");
    assert_eq!(status, 202, "{answer}");
    assert_eq!(agent.settle().0["error"]["code"], "archive_cut");
}
