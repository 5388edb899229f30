//! The program `azaion-cloud`, as the demo uses it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::{Curl, EMAIL, FRAGMENT, PASSWORD};

/// Starts it; its input is held apart, so that the test decides when it closes.
fn start(dir: &Path, more: &[&str]) -> (Child, ChildStdin) {
    fs::write(dir.join("fragment"), FRAGMENT).expect("the fragment is written");
    fs::write(dir.join("url"), "https://left.by.an.earlier.run").expect("the old url is written");
    let mut program = Command::new(env!("CARGO_BIN_EXE_azaion-cloud"))
        .current_dir(dir)
        .args(["--dir", ".", "--fragment-file", "fragment", "--user", &format!("{EMAIL}:{PASSWORD}:Operator")])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let stdin = program.stdin.take().expect("it is piped");
    while fs::read_to_string(dir.join("url")).is_ok_and(|url| url.starts_with("https://localhost:")).eq(&false) {
        assert!(program.try_wait().expect("the program can be asked").is_none(), "the program has ended");
        std::thread::yield_now();
    }
    (program, stdin)
}

fn curl(dir: &Path) -> Curl {
    let read = |name| fs::read_to_string(dir.join(name)).expect("the program wrote it");
    Curl::trusting(&read("ca.pem"), read("url"))
}

#[test]
fn it_serves_tells_each_call_and_ends_with_its_input() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut program, stdin) = start(dir.path(), &["--until-stdin-closes"]);
    let curl = curl(dir.path());
    let bearer = curl.bearer();
    assert_eq!(curl.run(&["--header", &bearer, "/binary-split/key-fragment"]).body, FRAGMENT);
    drop(stdin);
    let lines: Vec<_> = BufReader::new(program.stdout.take().expect("it is piped"))
        .lines()
        .map(|line| line.expect("the lines are text"))
        .collect();
    assert!(program.wait().expect("the program ends").success());
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("POST /login 200 ") && lines[0].ends_with(" ms"), "{lines:?}");
    assert!(lines[1].starts_with("GET /binary-split/key-fragment 200 "), "{lines:?}");
}

#[test]
fn sigterm_ends_it_although_its_input_is_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut program, stdin) = start(dir.path(), &[]);
    let kill = Command::new("kill").arg(program.id().to_string()).status().expect("kill runs");
    assert!(kill.success());
    assert!(program.wait().expect("the program ends").success());
    drop(stdin);
}

#[test]
fn slow_delays_every_call() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut program, stdin) = start(dir.path(), &["--until-stdin-closes", "--slow", "30"]);
    let before = std::time::Instant::now();
    assert_eq!(curl(dir.path()).login(EMAIL, PASSWORD).status, 200);
    assert!(before.elapsed() >= Duration::from_millis(30));
    drop(stdin);
    assert!(program.wait().expect("the program ends").success());
}

#[test]
fn a_board_that_trusted_an_earlier_run_trusts_the_next_one_on_the_same_port() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut program, stdin) = start(dir.path(), &["--until-stdin-closes", "--authority", "authority.pem"]);
    let before = curl(dir.path());
    let mode = fs::metadata(dir.path().join("authority.pem")).expect("the key was written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(stdin);
    assert!(program.wait().expect("the program ends").success());

    let port = before.url.rsplit(':').next().expect("a url has a port").to_owned();
    let kept = ["--until-stdin-closes", "--authority", "authority.pem", "--port", &port];
    let (mut program, stdin) = start(dir.path(), &kept);
    assert_eq!(before.login(EMAIL, PASSWORD).status, 200);
    // As a board under QEMU's user network calls this machine.
    let forwarded = format!("10.0.2.2:{port}:127.0.0.1:{port}");
    let board = Curl::trusting(
        &fs::read_to_string(dir.path().join("ca.pem")).expect("it was published"),
        format!("https://10.0.2.2:{port}"),
    );
    assert_eq!(board.run(&["--connect-to", &forwarded, "/binary-split/key-fragment"]).status, 401);
    drop(stdin);
    assert!(program.wait().expect("the program ends").success());
}

#[test]
fn a_wrong_command_line_is_told_in_one_line() {
    for (arguments, told) in [
        (vec!["--dir", "."], "--user is missing"),
        (vec!["--colour"], "invalid option '--colour'"),
        (vec!["--user", "secret-without-colon"], "EMAIL:PASSWORD"),
        (vec!["--port", "65536"], "--port takes 0 to 65535"),
        (vec!["--authority", "/nowhere/at/all"], "/nowhere/at/all: No such file"),
        (vec!["--fragment-file", "/nowhere/at/all"], "/nowhere/at/all: No such file"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_azaion-cloud")).args(arguments).output().expect("it runs");
        let error = String::from_utf8(output.stderr).expect("the error is text");
        assert_eq!(output.status.code(), Some(2));
        assert!(error.contains(told) && error.lines().count() == 1, "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let help = Command::new(env!("CARGO_BIN_EXE_azaion-cloud")).arg("--help").output().expect("it runs");
    assert!(help.status.success());
    assert!(String::from_utf8_lossy(&help.stdout).contains("can be read by everyone"));
}
