//! The audit log of a real agent: what stands in it, where its head survives, and what `audit verify` finds.

use std::path::PathBuf;

use azaion_cloud::archive::Layout;
use serde_json::{Value, json};

use crate::harness::{Agent, Board, EMAIL, PASSWORD, READER, cloud_with_models, credentials, noise};
use crate::samples;

/// `audit verify --json` with these arguments: whether it found nothing, and what it said.
fn verify(board: &Board, more: &[&str]) -> (bool, Value) {
    let output = board.run(&[&["audit", "verify", "--json"], more].concat());
    let said = String::from_utf8(output.stdout).expect("text");
    let value: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{:?}", output.stderr));
    assert_eq!(value["result"] == "ok", output.status.code() == Some(0), "{value}");
    (output.status.success(), value)
}

fn faults(value: &Value) -> Vec<&str> {
    value["faults"].as_array().expect("a list").iter().filter_map(|fault| fault["text"].as_str()).collect()
}

fn events(board: &Board) -> Vec<String> {
    let output = board.run(&["audit", "show", "--last", "10000"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter_map(|line| line.split_whitespace().nth(2)).map(str::to_owned).collect()
}

/// The log's only file.
fn file(board: &Board) -> PathBuf {
    let names = std::fs::read_dir(board.path("log")).expect("there").map(|entry| entry.expect("an entry").path());
    let mut files = names.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    files.next().expect("a file of lines")
}

fn with_log() -> (azaion_cloud::Cloud, Board) {
    let cloud = cloud_with_models();
    let board = Board::new(&cloud);
    let log = board.path("log");
    let board = board.set("log", &format!("dir = \"{}\"", log.display()));
    (cloud, board)
}

fn upload(agent: &mut Agent, board: &Board) -> u16 {
    let model = board.path("model");
    std::fs::write(&model, noise(7, 50_000)).expect("written");
    agent.upload(&model, "detector.onnx", "models").0
}

#[test]
fn a_model_that_gives_way_to_another_is_noted() {
    let (_cloud, board) = with_log();
    let board = board.set("cache", "max_bytes = \"4 MiB\"");
    let mut agent = board.start();
    agent.log_in(EMAIL);
    for name in ["first", "second"] {
        let model = board.path("model");
        std::fs::write(&model, noise(9, 3 << 20)).expect("written");
        assert_eq!(agent.upload(&model, name, "models").0, 200, "{name}");
    }
    agent.wait_for_line(" cache_evicted ");
    assert_eq!(events(&board).iter().filter(|event| *event == "cache_evicted").count(), 1);
    assert!(verify(&board, &[]).0);
}

#[test]
fn who_did_what_stands_in_a_chain_that_shows_every_change() {
    let (cloud, board) = with_log();
    cloud.set_fragment(crate::harness::FRAGMENT.to_vec());
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "audit"));
    let mut agent = board.start();
    assert_eq!(agent.post("/login", &credentials(EMAIL, "wrong")).0, 401);
    agent.wait_for_line("login_refused");
    agent.log_in(READER);
    assert_eq!(upload(&mut agent, &board), 403, "a reader may not upload");
    agent.log_in(EMAIL);
    assert_eq!(upload(&mut agent, &board), 200);
    agent.unlock_to_ready();
    let line = agent.wait_for_line(" unlock_ready ");
    let survivor = line.split("audit: ").nth(1).expect("its head").split(' ').take(2).collect::<Vec<_>>().join(":");

    // Beside the running agent, and as /status says it.
    let (is_good, said) = verify(&board, &["--head", &survivor]);
    assert!(is_good, "{said}");
    let (_, status) = agent.curl("/status", &[]);
    assert_eq!(status["audit"], json!({"count": said["count"], "hash": said["hash"]}));
    assert!(!format!("{:?}", board.run(&["audit", "show"])).contains(EMAIL));
    assert_eq!(agent.terminate(), Some(0));

    // Killed, and on again.
    let mut agent = board.start();
    agent.wait_for_line(" agent_started ");
    agent.kill();
    let mut agent = board.start();
    agent.wait_for_line(" agent_started ");
    let console = board.path("console");
    std::fs::write(&console, agent.log()).expect("written");
    assert_eq!(agent.terminate(), Some(0));
    let (is_good, said) = verify(&board, &["--head", &survivor, "--head-from", console.to_str().expect("UTF-8")]);
    assert!(is_good && said["notes"] == json!([]), "{said}");
    let expected = [
        "agent_started",
        "login_refused",
        "login_accepted",
        "upload_refused",
        "login_accepted",
        "upload_published",
        "unlock_started",
        "login_accepted",
        "unsealed_accepted",
        "unlock_ready",
        "agent_stopped",
        "agent_started",
        "agent_started",
        "agent_stopped",
    ];
    assert_eq!(events(&board), expected);

    let file = file(&board);
    let whole = std::fs::read_to_string(&file).expect("text");
    assert!(!whole.contains(EMAIL) && !whole.contains(PASSWORD) && !whole.contains("detector"), "{whole}");
    let tampered = |text: &str| {
        std::fs::write(&file, text).expect("written");
        let (is_good, said) = verify(&board, &[]);
        assert!(!is_good, "{said}");
        said
    };
    let rows: Vec<&str> = whole.lines().collect();
    let said = tampered(&whole.replace("login_refused", "login_accepted"));
    assert!(faults(&said)[0].starts_with("line 2 was changed, or line 3"), "{said}");
    let without = [&rows[..3], &rows[4..]].concat().join("\n") + "\n";
    assert_eq!(faults(&tampered(&without)), ["line 4 is missing"]);
    let cut = rows[..9].join("\n") + "\n";
    let said = tampered(&cut);
    assert_eq!(faults(&said), ["the tail is cut: the head says 14, the last line is 9"]);

    // The state was taken away with it: only what survived elsewhere tells.
    let copy = board.path("log");
    let dir = copy.to_str().expect("UTF-8");
    assert!(verify(&board, &["--dir", dir]).0, "nothing to compare with");
    let (is_good, said) = verify(&board, &["--dir", dir, "--head-from", console.to_str().expect("UTF-8")]);
    assert!(!is_good && faults(&said)[0].starts_with("the tail is cut: the head says 13"), "{said}");

    // The agent itself finds it, goes on from the state, and that stays in the log.
    let mut agent = board.start();
    assert!(agent.log().contains("the audit log is broken: "), "{}", agent.log());
    agent.wait_for_line(" audit_broken ");
    agent.wait_for_line(" agent_started ");
    assert_eq!(agent.terminate(), Some(0));
    let (is_good, said) = verify(&board, &[]);
    assert!(!is_good && faults(&said) == ["lines 10 to 14 are missing"], "{said}");
}

#[test]
fn keys_that_do_not_fit_and_strangers_at_the_port_stand_in_it() {
    let (cloud, board) = with_log();
    cloud.set_fragment(b"another fragment".to_vec());
    let token = "canary-token-3c1f";
    let token_file = board.path("token");
    std::fs::write(&token_file, format!("{token}\n")).expect("written");
    let board = board.set("control", &format!("token_file = \"{}\"", token_file.display()));
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "key"));
    let mut agent = board.start();
    agent.must_not_print(token);
    for _ in 0..5 {
        assert_eq!(agent.curl("/status", &["-H", "Authorization: Bearer wrong"]).0, 401);
    }
    agent.wait_for_line(" port_refused ");
    let bearer = format!("Authorization: Bearer {token}");
    let body = credentials(EMAIL, PASSWORD);
    assert_eq!(agent.curl("/unlock", &["-H", &bearer, "-X", "POST", "-d", &body]).0, 202);
    agent.wait_for_line(" unlock_failed ");
    assert_eq!(agent.terminate(), Some(0));
    let said = String::from_utf8(board.run(&["audit", "show"]).stdout).expect("text");
    let line = |event: &str| said.lines().filter(|line| line.contains(event)).collect::<Vec<_>>();
    let refused = line("port_refused");
    assert!(refused.len() == 2 && refused[1].contains("token_required  4 times"), "{said}");
    assert!(line("key_refused")[0].contains("wrong_key_or_damaged"), "{said}");
    assert!(verify(&board, &[]).0);
}

#[test]
fn without_a_log_directory_the_console_has_the_lines_and_the_state_the_head() {
    let cloud = cloud_with_models();
    let board = Board::new(&cloud);
    let mut agent = board.start();
    let line = agent.wait_for_line("\"event\":\"agent_started\"");
    let said = line.split("audit: ").nth(1).expect("a line of audit").splitn(3, ' ').collect::<Vec<_>>();
    let (_, status) = agent.curl("/status", &[]);
    assert_eq!(status["audit"], json!({"count": 1, "hash": said[1]}));
    let entry: Value = serde_json::from_str(said[2]).expect("the whole line");
    assert_eq!(entry["n"], 1);
    assert_eq!(agent.terminate(), Some(0));
    let output = board.run(&["audit", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("[log] dir"), "{output:?}");
}
