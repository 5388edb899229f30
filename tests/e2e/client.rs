//! The command-line client against the real agent: who logs in, models up and down, events, the socket, the token.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use azaion_cloud::archive::Layout;
use azaion_cloud::{Fault, S3Route};
use azaion_loader::crypto::Digest;
use serde_json::{Value, json};

use crate::harness::{Board, EMAIL, PASSWORD, READER, binary, clean, cloud, cloud_with_models, noise};
use crate::samples;

fn client(port: &str, args: &[&str]) -> Command {
    let mut command = clean(&binary());
    command.arg(args[0]).args(["--url", port]).args(&args[1..]).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs one command of the client to its end, with this on its standard input.
fn run(port: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = client(port, args).stdin(Stdio::piped()).spawn().expect("the client runs");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // A refusal may leave it unread.
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    feeding.join().expect("no panic");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let password = PASSWORD.as_bytes();
    assert!(!said.windows(password.len()).any(|window| window == password), "the password is shown");
    output
}

fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// The exit code and what was said of it.
fn refused(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn log_in(port: &str, email: &str) -> String {
    done(&run(port, &["login", "--email", email, "--password-stdin"], format!("{PASSWORD}\n").as_bytes()))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn names(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).expect("there").map(|entry| entry.expect("read").path()).collect()
}

#[test]
fn a_model_goes_up_and_comes_back_whatever_it_is_called() {
    let cloud = cloud_with_models();
    let board = Board::new(&cloud);
    let mut agent = board.start();
    let port = agent.base.clone();
    assert_eq!(log_in(&port, EMAIL), format!("logged in as {EMAIL}, role ResourceUploader\n"));
    let to = board.path("loaded");
    for (seed, name) in ["detector.onnx", "a b", "+", "%41", "модель 🚀.onnx", "...", "-o"].into_iter().enumerate()
    {
        let bytes = noise(seed as u64 + 1, 300_000 * seed);
        let dir = board.path(&format!("from-{seed}"));
        std::fs::create_dir(&dir).expect("made");
        let from = dir.join(name);
        std::fs::write(&from, &bytes).expect("written");
        let said = done(&run(&port, &["upload", text(&from), "--folder", "models"], b""));
        assert!(said.lines().last().is_some_and(|line| line.starts_with(&format!("published {name}  "))), "{said}");
        let load = ["load", "--json", "--folder", "models", "-o", text(&to), "--", name];
        let said: Value = serde_json::from_str(&done(&run(&port, &load, b""))).expect("one JSON object");
        assert_eq!(std::fs::read(&to).expect("loaded"), bytes, "{name}");
        let moved = (&said["name"], &said["folder"], &said["bytes"], &said["sha256"]);
        assert_eq!(moved, (&json!(name), &json!("models"), &json!(bytes.len()), &json!(Digest::of(&bytes).hex())));
    }
    // Through pipes, without a length and without a folder.
    let bytes = noise(99, 3_000_000);
    let said = done(&run(&port, &["upload", "-", "--name", "piped", "--json"], &bytes));
    let said: Value = serde_json::from_str(&said).expect("one JSON object");
    assert_eq!(
        (&said["result"], &said["bytes"], &said["folder"]),
        (&json!("published"), &json!(3_000_000), &Value::Null)
    );
    let output = run(&port, &["load", "piped", "-o", "-"], b"");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == bytes, "standard output is the model and nothing else");
    assert!(String::from_utf8_lossy(&output.stderr).contains("loaded piped  2.8 MiB in "), "{output:?}");
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn what_is_refused_is_told_before_anything_moves() {
    let cloud = cloud_with_models();
    let board = Board::new(&cloud);
    let mut agent = board.start();
    let port = agent.base.clone();
    let to = board.path("loaded");
    let load = ["load", "nobody-knows-it", "--folder", "models", "-o", text(&to)];
    let (code, said) = refused(&run(&port, &load, b""));
    assert!(code == Some(1) && said.contains("(not_logged_in)\nnext: "), "{said}");
    let wrong = run(&port, &["login", "--email", EMAIL, "--password-stdin"], b"wrong\n");
    let (code, said) = refused(&wrong);
    assert!(code == Some(1) && said.contains("(credentials_wrong)\nnext: "), "{said}");
    log_in(&port, READER);
    let (code, said) = refused(&run(&port, &load, b""));
    assert!(code == Some(1) && said.contains("(resource_unknown)\nnext: "), "{said}");
    assert!(!to.exists());
    // More than anybody could send while a test waits.
    let huge = board.path("huge");
    std::fs::File::create(&huge).expect("made").set_len(1 << 40).expect("a hole");
    let (code, said) = refused(&run(&port, &["upload", text(&huge), "--folder", "models"], b""));
    assert!(code == Some(1) && said.contains("(role_too_low)\nnext: "), "{said}");
    std::fs::remove_file(&huge).expect("ours");
    let (code, said) = refused(&run(&port, &["login", "--email", EMAIL, "--password", "x"], b""));
    assert!(code == Some(2) && said.contains("a password is never an argument"), "{said}");
    assert_eq!(agent.terminate(), Some(0));
    for args in [&load[..], &["status"], &["events"], &["check"], &["upload", text(&board.path("loader.toml"))]] {
        let (code, said) = refused(&run(&port, args, b""));
        assert!(code == Some(4) && said.contains("the agent is not running"), "{args:?}: {said}");
    }
}

#[test]
fn a_password_stands_in_no_argument_and_no_environment() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let agent = board.start();
    let mut child = client(&agent.base, &["login", "--email", EMAIL, "--password-stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the client runs");
    let mut stdin = child.stdin.take().expect("piped");
    // The line is not ended: it has read the password and waits for more.
    stdin.write_all(PASSWORD.as_bytes()).expect("it reads");
    let seen = |file: &str| std::fs::read(format!("/proc/{}/{file}", child.id())).expect("it runs");
    // A process that was just started has no arguments for a moment (fs/proc/base.c).
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while seen("cmdline").is_empty() {
        assert!(std::time::Instant::now() < deadline, "it never has arguments");
        std::thread::yield_now();
    }
    for file in ["cmdline", "environ"] {
        let seen = seen(file);
        assert!(!seen.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes()), "{file}");
        assert!(file == "environ" || seen.windows(EMAIL.len()).any(|window| window == EMAIL.as_bytes()), "{file}");
    }
    drop(stdin);
    assert_eq!(child.wait().expect("ours").code(), Some(0));
}

/// The next line of this output that has `part` in it, and all before it.
fn until(lines: &mut impl Iterator<Item = std::io::Result<String>>, part: &str) -> Vec<String> {
    let mut seen = Vec::new();
    for line in lines.map_while(Result::ok) {
        let is_it = line.contains(part);
        seen.push(line);
        if is_it {
            return seen;
        }
    }
    panic!("the output ended without {part:?}: {seen:#?}");
}

fn rest(child: &mut Child) -> String {
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    said
}

#[test]
fn an_agent_that_dies_leaves_no_half_model() {
    let cloud = cloud_with_models();
    let bytes = noise(5, 32 << 20);
    let first = Board::new(&cloud);
    let mut agent = first.start();
    agent.log_in(EMAIL);
    std::fs::write(first.path("model"), &bytes).expect("written");
    assert_eq!(agent.upload(&first.path("model"), "big", "models").0, 200);
    // A board without anything on flash, whose CDN falls silent after a part.
    let board = Board::new(&cloud);
    let mut agent = board.start();
    agent.log_in(EMAIL);
    // The first call asks for the end of the object, the next one for all of it.
    cloud.s3().fail_next(S3Route::Get, Fault::NONE);
    cloud.s3().fail_next(S3Route::Get, Fault::CutAfter(8 << 20));
    cloud.s3().always(S3Route::Get, Fault::Silence);
    let dir = board.path("models");
    std::fs::create_dir(&dir).expect("made");
    let to = dir.join("big");
    std::fs::write(&to, "what was there").expect("written");
    let mut child =
        client(&agent.base, &["load", "big", "--folder", "models", "-o", text(&to)]).spawn().expect("the client runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    until(&mut lines, "of 32.0 MiB");
    agent.kill();
    let said = rest(&mut child);
    assert_eq!(child.wait().expect("ours").code(), Some(1), "{said}");
    assert!(said.contains("the model was cut after ") && said.contains(" of 32.0 MiB: "), "{said}");
    assert!(said.contains("nothing was kept\nnext: "), "{said}");
    assert_eq!(std::fs::read(&to).expect("there"), b"what was there");
    assert_eq!(names(&dir), [to]);
}

#[test]
fn events_tell_an_unlock_and_survive_a_restart() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let socket = board.path("port");
    let listen = format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]", socket.display());
    let board = board.set("control", &listen);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "one"));
    let mut agent = board.start();
    let port = format!("unix:{}", socket.display());
    let mut child = client(&port, &["events", "--json"]).spawn().expect("the client runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();

    let unlock = ["unlock", "--json", "--email", EMAIL, "--password-stdin"];
    let followed = done(&run(&port, &unlock, PASSWORD.as_bytes()));
    let last: Value = serde_json::from_str(followed.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["state"], &last["progress"]["images_done"]), (&json!("ready"), &json!(2)), "{followed}");
    let seen: Vec<Value> = until(&mut lines, "\"state\":\"ready\"")
        .iter()
        .map(|line| serde_json::from_str(line).expect("a JSON object for each line"))
        .collect();
    let ids: Vec<u64> = seen.iter().map(|event| event["id"].as_u64().expect("an id")).collect();
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    let states: Vec<&str> =
        seen.iter().filter(|event| event["event"] == "state").filter_map(|event| event["state"].as_str()).collect();
    let positions: Vec<_> = ["authenticating", "loading_images", "ready"]
        .map(|wanted| states.iter().position(|state| *state == wanted))
        .into();
    assert!(positions.iter().all(Option::is_some) && positions.is_sorted(), "{states:?}");

    // Only what is new; as lines, and not for programs.
    let since = ids[ids.len() - 2].to_string();
    let mut late = client(&port, &["events", "--since", &since]).spawn().expect("the client runs");
    let mut late_lines = BufReader::new(late.stdout.take().expect("piped")).lines();
    let line = late_lines.next().expect("a line").expect("text");
    assert!(line.ends_with(" state: ready"), "{line}");

    assert_eq!(agent.terminate(), Some(0));
    until(&mut said, "the connection broke: ");
    let mut agent = board.start();
    until(&mut said, "following again");
    until(&mut lines, "\"event\":");
    // Nobody reads any more: it ends by itself, at the latest with the next sign of life.
    drop((lines, late_lines));
    agent.log_in(EMAIL);
    assert_eq!(child.wait().expect("ours").code(), Some(0));
    assert_eq!(late.wait().expect("ours").code(), Some(0));
    let waited = done(&run(&port, &["wait", "--json", "--timeout", "0"], b""));
    assert!(waited.contains("\"state\":\"ready\""), "{waited}");
}

#[test]
fn a_new_token_opens_the_port_and_nothing_else_does() {
    let cloud = cloud_with_models();
    let board = Board::new(&cloud);
    let file = board.path("control.token");
    let output = clean(&binary()).args(["token", "new", "--out"]).arg(&file).output().expect("it runs");
    assert!(!done(&output).is_empty());
    let board = board.set("control", &format!("token_file = \"{}\"", file.display()));
    let agent = board.start();
    let (code, said) = refused(&run(&agent.base, &["status"], b""));
    assert!(code == Some(1) && said.contains("(token_required)"), "{said}");
    let output = clean(&binary()).args(["token", "new"]).output().expect("it runs");
    let other = board.path("other.token");
    std::fs::write(&other, done(&output)).expect("written");
    let (code, said) = refused(&run(&agent.base, &["events", "--token-file", text(&other)], b""));
    assert!(code == Some(1) && said.contains("(token_required)"), "{said}");
    let status = done(&run(&agent.base, &["status", "--token-file", text(&file)], b""));
    assert!(status.contains("unlock.state"), "{status}");
    let login = ["login", "--json", "--token-file", text(&file), "--email", READER, "--password-stdin"];
    let user: Value = serde_json::from_str(&done(&run(&agent.base, &login, PASSWORD.as_bytes()))).expect("JSON");
    assert_eq!(user, json!({"email": READER, "role": "CompanionPC"}));
}

#[test]
fn a_check_says_what_is_well_and_what_to_do() {
    let cloud = cloud_with_models();
    let board = Board::new(&cloud);
    let agent = board.start();
    let output = run(&agent.base, &["check", "--json"], b"");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let result = found["result"].as_str().expect("a result");
    assert_eq!(output.status.code(), Some(i32::from(result == "fail")), "{found}");
    let lines = run(&agent.base, &["check"], b"");
    assert_eq!(lines.status.code(), output.status.code());
    let lines = String::from_utf8(lines.stdout).expect("text");
    for check in found["checks"].as_array().expect("a list") {
        let (name, result) = (check["name"].as_str().expect("a name"), check["result"].as_str().expect("a result"));
        let line = lines.lines().find(|line| line.starts_with(&format!("{result:4}  {name} ")));
        assert!(line.is_some(), "{result} {name}: {lines}");
    }
}
