//! After a restart the board is what it was: ready without network, key or password; and only one agent at a time.

use std::process::Stdio;
use std::time::{Duration, Instant};

use azaion_cloud::archive::Layout;
use serde_json::json;

use crate::harness::{Board, EMAIL, PASSWORD, binary, clean, cloud, credentials};
use crate::samples;
use crate::shown::{docker_shows, skopeo_shows};
use crate::support;
use crate::support::engine::{Engine, Kind};

#[test]
fn ready_again_without_any_call() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "restart"));
    let mut agent = board.start();
    agent.unlock_to_ready();
    assert_eq!(agent.terminate(), Some(0));
    let (calls, connections) = (cloud.calls().len(), cloud.connections());

    let mut agent = board.start();
    agent.wait_for_line("ready: ");
    let (_, answer) = agent.curl("/unlock/status", &[]);
    assert_eq!(answer["state"], "ready");
    let (status, answer) = agent.curl("/unlock", &["-X", "POST"]);
    assert_eq!((status, &answer["state"]), (200, &json!("ready")));
    assert_eq!((cloud.calls().len(), cloud.connections()), (calls, connections), "the cloud was not asked");
}

#[test]
fn ready_stays_known_when_the_archive_is_removed() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "removed"));
    let mut agent = board.start();
    agent.unlock_to_ready();
    assert_eq!(agent.terminate(), Some(0));
    std::fs::remove_file(board.archive()).expect("removed");
    let mut agent = board.start();
    agent.wait_for_line("ready: ");
    let (status, _) = agent.curl("/unlock", &["-X", "POST"]);
    assert_eq!(status, 200);
}

#[test]
fn an_engine_that_lost_its_images_is_not_ready() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "lost"));
    let mut agent = board.start();
    agent.unlock_to_ready();
    assert_eq!(agent.terminate(), Some(0));
    std::fs::remove_dir_all(board.path("oci")).expect("removed");
    std::fs::create_dir(board.path("oci")).expect("made");
    let mut agent = board.start();
    let (status, _) = agent.curl("/unlock", &["-X", "POST"]);
    assert_eq!(status, 401, "not ready, and no credentials are held");
    agent.unlock_to_ready();
}

#[test]
fn boot_credentials_unlock_by_themselves() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let file = board.path("credentials.json");
    std::fs::write(&file, credentials(EMAIL, PASSWORD)).expect("written");
    let private = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("set");
    };
    private(0o600);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "boot"));
    let board = board.set("boot", &format!("credentials_file = {:?}", file.display().to_string()));
    let mut agent = board.start();
    assert_eq!(agent.settle().0["state"], "ready");
    let waited = board.run(&["wait", "--timeout", "1", "--url", &agent.base]);
    assert_eq!(waited.status.code(), Some(0), "{}", String::from_utf8_lossy(&waited.stderr));
    drop(agent);

    private(0o644);
    let refused = board.run(&["run"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("credentials_file") && said.trim().lines().count() == 1, "{said}");
}

#[test]
fn a_headless_board_comes_back_by_itself_when_the_network_does() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let file = board.path("credentials.json");
    std::fs::write(&file, credentials(EMAIL, PASSWORD)).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "back"));
    let board = board.set("boot", &format!("credentials_file = {:?}", file.display().to_string()));
    cloud.always(azaion_cloud::Route::Login, azaion_cloud::Fault::error(500, 1, "maintenance"));
    let mut agent = board.start();
    let (answer, _) = agent.settle();
    assert_eq!(answer["error"]["code"], "api_failed", "{answer}");
    cloud.clear_faults();
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let (_, answer) = agent.curl("/unlock/status", &[]);
        if answer["state"] == "ready" {
            break;
        }
        assert!(Instant::now() < deadline, "{answer}\n{}", agent.log());
    }
}

#[test]
fn a_second_agent_on_the_same_state_ends_with_its_own_code() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let _first = board.start();
    let second = board.run(&["run"]);
    assert_eq!(second.status.code(), Some(5));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another agent"), "{said}");
}

#[test]
fn wait_gives_up_in_time() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let agent = board.start();
    let mut wait = clean(&binary());
    wait.args(["wait", "--timeout", "1", "--url", &agent.base]).stdin(Stdio::null());
    let began = Instant::now();
    let waited = wait.output().expect("runs");
    assert_eq!(waited.status.code(), Some(3), "{}", String::from_utf8_lossy(&waited.stderr));
    assert!(began.elapsed() >= Duration::from_secs(1));
}

/// Kills the agent with SIGKILL once a part of the archive is over, and expects the next one to find an old state, say
/// so, and bring the suite in.
fn killed_in_mid_load(board: &Board) {
    let mut agent = board.start();
    assert_eq!(agent.unlock().0, 202);
    loop {
        let (_, answer) = agent.curl("/unlock/status", &[]);
        if answer["state"] == "loading_images" && answer["progress"]["bytes_done"].as_u64().unwrap_or(0) > 1 << 20 {
            break;
        }
        assert!(answer["state"] != "error" && answer["state"] != "ready", "too early or too late: {answer}");
    }
    agent.kill();
    drop(agent);
    assert!(!board.path("state/ready.json").exists(), "nothing is remembered of a load that did not end");

    let mut agent = board.start();
    agent.wait_for_line("waiting to be unlocked");
    let (_, answer) = agent.curl("/unlock/status", &[]);
    assert_eq!(answer["state"], "idle", "{answer}");
    agent.unlock_to_ready();
}

#[test]
fn killed_in_mid_load_into_a_directory() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let made = samples::write(&board.archive(), Layout::Oci, &samples::large(256 << 20));
    killed_in_mid_load(&board);
    skopeo_shows(&board, &made);
}

#[test]
fn killed_in_mid_load_into_docker_20() {
    let engine = match Engine::start(Kind::Docker20) {
        Ok(engine) => engine,
        Err(reason) => return support::skip(&reason),
    };
    let cloud = cloud();
    let board = Board::new(&cloud).engine(&format!("unix://{}", engine.socket().display()));
    let made = samples::write(&board.archive(), Layout::Oci, &samples::large(128 << 20));
    killed_in_mid_load(&board);
    docker_shows(&engine, &made);
}

#[test]
fn a_damaged_or_foreign_memory_counts_as_none() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "memory"));
    let mut agent = board.start();
    agent.unlock_to_ready();
    assert_eq!(agent.terminate(), Some(0));
    let file = board.path("state/ready.json");
    let good = std::fs::read(&file).expect("remembered");
    let newer = String::from_utf8(good.clone()).expect("text").replace("\"version\":1", "\"version\":2");
    for bad in [&good[..good.len() / 2], b"", b"[]", newer.as_bytes()] {
        std::fs::write(&file, bad).expect("written");
        let mut agent = board.start();
        agent.wait_for_line("waiting to be unlocked");
        assert_eq!(agent.curl("/unlock", &["-X", "POST"]).0, 401);
    }
    std::fs::write(&file, good).expect("written");
    let mut agent = board.start();
    agent.wait_for_line("ready: ");
}

#[test]
fn an_archive_replaced_while_it_was_loaded_is_not_ready() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    samples::write(&board.archive(), Layout::Oci, &samples::large(256 << 20));
    let next = board.path("next.enc");
    let made = samples::write(&next, Layout::Oci, &samples::small(Layout::Oci, "next"));
    let mut agent = board.start();
    assert_eq!(agent.unlock().0, 202);
    loop {
        let (_, answer) = agent.curl("/unlock/status", &[]);
        if answer["state"] == "loading_images" {
            break;
        }
        assert!(answer["state"] != "error" && answer["state"] != "ready", "too early or too late: {answer}");
    }
    // By a rename, as a careful updater does it: the open file goes on to its end.
    std::fs::rename(&next, board.archive()).expect("renamed");
    let (answer, _) = agent.settle();
    assert_eq!(answer["error"]["code"], "archive_changed", "{answer}");
    agent.unlock_to_ready();
    skopeo_shows(&board, &made);
}

#[test]
fn a_headless_board_waits_for_its_archive() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let file = board.path("credentials.json");
    std::fs::write(&file, credentials(EMAIL, PASSWORD)).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    let board = board.set("boot", &format!("credentials_file = {:?}", file.display().to_string()));
    let mut agent = board.start();
    agent.wait_for_line("no image archive yet");
    assert!(cloud.calls().is_empty(), "no log-in for nothing");
    let whole = board.path("whole.enc");
    samples::write(&whole, Layout::Oci, &samples::small(Layout::Oci, "late"));
    std::fs::rename(whole, board.archive()).expect("renamed");
    agent.wait_for_line("ready: ");
}

#[test]
fn boot_credentials_wait_for_a_request_when_told_to() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let file = board.path("credentials.json");
    std::fs::write(&file, credentials(EMAIL, PASSWORD)).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "request"));
    let board = board
        .set("boot", &format!("credentials_file = {:?}", file.display().to_string()))
        .set("boot", "unlock = \"on-request\"");
    let mut agent = board.start();
    agent.wait_for_line("waiting to be unlocked");
    assert!(cloud.calls().is_empty(), "not by itself");
    assert_eq!(agent.curl("/unlock", &["-X", "POST"]).0, 202);
    assert_eq!(agent.settle().0["state"], "ready");
}
