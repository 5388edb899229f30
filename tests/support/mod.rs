//! What integration tests share: real engines, a real S3 server, `boto3`, slow flash, and the way to say that a test cannot run here.
//!
//! Included with `mod support;`. A test that cannot run is never counted as passed: it calls [`skip`].

pub(crate) mod archive;
pub(crate) mod engine;
pub(crate) mod peer;
pub(crate) mod seaweed;
pub(crate) mod slow_flash;

use std::io::Write as _;

/// Says that the running test cannot run here. `tests/tools/run-tests` counts these lines.
///
/// # Panics
/// When `TEST_REQUIRE_ENGINE=1` is set: where everything needed was installed, a skipped test is a failure.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var_os("TEST_REQUIRE_ENGINE").is_none_or(|v| v != "1"), "it cannot run: {reason}");
    skip_what_lies_elsewhere(reason);
}

/// The same for what no machine can install: files beside the project that are read in place, when they are there.
pub(crate) fn skip_what_lies_elsewhere(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    // Not through `eprintln!`, which the test harness swallows when a test passes. The harness may have begun a line.
    let line = format!("\nSKIPPED {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error is open");
}

// Each test file uses its own part of this module; what one leaves out is not dead.
const _: fn() = || {
    let _ = (skip, skip_what_lies_elsewhere, engine::Engine::start, engine::Engine::socket, engine::Engine::docker);
    let _ = (engine::Engine::kill, engine::Engine::restart, engine::Engine::log, engine::Engine::dir);
    let _ = |kind| engine::Engine::start_in(kind, |_dir| {});
    let _ = engine::Engine::release;
    let _ = (archive::archive, archive::encrypt, archive::pack, archive::layer, archive::digest);
    let _ = (seaweed::Seaweed::start, seaweed::Seaweed::url, seaweed::Seaweed::plain_url, seaweed::Seaweed::ca_pem);
    let _ =
        (seaweed::Seaweed::cdn_yaml, seaweed::Seaweed::make_bucket, seaweed::Seaweed::kill, seaweed::Seaweed::restart);
    let _ = (peer::Peer::new, peer::Peer::put, peer::Peer::get, peer::Peer::with_cdn);
    let _ = (slow_flash::SlowFlash::mount, slow_flash::SlowFlash::path, slow_flash::SlowFlash::switch);
    let _ = slow_flash::SlowFlash::behind;
    let _ = [archive::Layout::Classic, archive::Layout::Oci];
    let _ = [archive::Packed::Plain, archive::Packed::Gzip, archive::Packed::Zstd];
    let _ = [engine::Kind::Docker20, engine::Kind::Docker26, engine::Kind::Docker26Containerd];
};
