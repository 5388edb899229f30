//! `GET /check` and `GET /metrics` of a real agent: what is well is well, what is broken is named where it is broken, and
//! what was done is counted.

use azaion_cloud::archive::Layout;
use azaion_cloud::{Cloud, Leaf, Options, User};
use serde_json::Value;

use crate::harness::{Agent, Board, EMAIL, FRAGMENT, PASSWORD, cloud_with_models, noise};
use crate::samples;

/// The answer, and each check by its name.
fn check(agent: &mut Agent) -> (Value, impl Fn(&str) -> (String, String) + use<>) {
    let (status, answer) = agent.curl("/check", &[]);
    assert_eq!(status, 200, "{answer}");
    let (status, text) = agent.curl("/check", &["-H", "Accept: text/plain"]);
    let text = text.as_str().expect("no JSON").to_owned();
    assert!(status == 200 && text.lines().last().is_some_and(|line| line.starts_with("result: ")), "{text}");
    let checks = answer["checks"].as_array().expect("a list").clone();
    for check in &checks {
        let needs_hands = matches!(check["result"].as_str(), Some("warn" | "fail"));
        assert_eq!(check["next"].is_string(), needs_hands, "{check}");
    }
    let of = move |name: &str| {
        let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        let said = |field: &str| check[field].as_str().expect("a text").to_owned();
        (said("result"), said("text"))
    };
    (answer, of)
}

#[test]
fn a_healthy_board_is_well_and_its_work_is_counted() {
    let cloud = cloud_with_models();
    cloud.set_fragment(FRAGMENT.to_vec());
    let board = Board::new(&cloud);
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "checkup"));
    let mut agent = board.start();
    let (_, of) = check(&mut agent);
    assert_eq!(of("login").0, "skip", "nobody is logged in yet");
    assert_eq!(of("cdn").0, "skip");
    agent.unlock_to_ready();
    let model = board.path("model");
    std::fs::write(&model, noise(7, 300_000)).expect("written");
    assert_eq!(agent.upload(&model, "m", "models").0, 200);
    assert_eq!(agent.load_whole("m", "models").len(), 300_000);
    // What was found a moment ago is found again, until it is too old.
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    let (answer, of) = loop {
        let (answer, of) = check(&mut agent);
        if of("login").0 == "ok" || std::time::Instant::now() > deadline {
            break (answer, of);
        }
    };
    for name in
        ["clock", "name", "connect", "tls", "login", "cdn", "engine", "space", "archive", "fingerprint", "cache"]
    {
        assert_eq!(of(name).0, "ok", "{name}: {answer:#}");
    }
    // A fixed fingerprint is for development; a test board has one.
    assert_eq!(of("config").0, "warn");
    assert!(of("tls").1.contains("good from") && of("login").1.contains("ResourceUploader"), "{answer:#}");
    assert!(of("archive").1.contains("its images are in the engine"), "{answer:#}");
    let path = board.path("").display().to_string();
    assert!(!answer.to_string().contains(path.trim_end_matches('/')), "a path is shown: {answer:#}");

    let (status, page) = agent.curl("/metrics", &[]);
    assert_eq!(status, 200);
    let page = page.as_str().expect("text").to_owned();
    let value = |name: &str| {
        let line = page.lines().find(|line| line.split(' ').next() == Some(&format!("azaion_loader_{name}")));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{page}"));
        line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok()).expect("a number")
    };
    for (name, least) in [
        ("unlock_state{state=\"ready\"}", 1.0),
        ("unlocks_total{result=\"ready\"}", 1.0),
        ("logins_total{result=\"accepted\"}", 1.0),
        ("logged_in", 1.0),
        ("bytes_total{kind=\"cdn_sent\"}", 290_000.0),
        ("bytes_total{kind=\"api_sent\"}", 3_072.0),
        ("bytes_total{kind=\"models_received\"}", 300_000.0),
        ("bytes_total{kind=\"models_sent\"}", 300_000.0),
        ("bytes_total{kind=\"archive_read\"}", 1_000.0),
        ("cache_entries", 1.0),
        ("flash_written_bytes_total{kind=\"cache\"}", 290_000.0),
        ("flash_written_bytes_total{kind=\"state\"}", 1.0),
        ("free_bytes{place=\"state\"}", 1.0),
        ("requests_total{call=\"unlock\",status=\"2xx\"}", 1.0),
        ("loop_lag_seconds_count", 10.0),
        ("clients", 1.0),
    ] {
        assert!(value(name) >= least, "{name}: {} is less than {least}", value(name));
    }
    assert!(value("unlock_stage_seconds{stage=\"decrypting\"}") < 60.0);
    assert!((value("cache_usable") - 1.0).abs() < 1e-9 && value("unlocks_total{result=\"error\"}") < 0.5);
}

#[test]
fn the_step_that_fails_is_the_one_that_is_named() {
    let cloud = cloud_with_models();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let refused = silent.local_addr().expect("bound").port();
    drop(silent);
    let elsewhere = Cloud::start(Options { leaf: Leaf::WrongName, ..Options::default() });
    for (board, fails, says) in [
        (Board::new(&cloud).api("https://no-such-host.invalid"), "name", "no-such-host.invalid"),
        (Board::new(&cloud).api(&format!("https://127.0.0.1:{refused}")), "connect", "127.0.0.1"),
        (Board::new(&cloud).ca(Cloud::start(Options::default()).ca_pem().to_owned()), "tls", "the certificate of"),
        (Board::new(&elsewhere), "tls", "the certificate of"),
        (Board::new(&cloud).engine("unix:///nowhere/engine.sock"), "engine", "engine_unreachable"),
        (Board::new(&cloud), "archive", "there is none"),
    ] {
        let mut agent = board.start();
        let (answer, of) = check(&mut agent);
        assert_eq!(answer["result"], "fail", "{fails}: {answer:#}");
        let (result, text) = of(fails);
        assert!(result == "fail" && text.contains(says), "{fails}: {answer:#}");
        if matches!(fails, "name" | "connect" | "tls") {
            assert_eq!(of("login").0, "skip", "{answer:#}");
        }
    }
    let board = Board::new(&cloud);
    std::fs::write(board.archive(), [0; 1000]).expect("written");
    let mut agent = board.start();
    let (answer, of) = check(&mut agent);
    assert!(of("archive").0 == "fail" && of("archive").1.contains("cut"), "{answer:#}");
}

#[test]
fn a_board_whose_agent_does_not_run_is_looked_at_all_the_same() {
    let cloud = cloud_with_models();
    let credentials = crate::harness::credentials(EMAIL, PASSWORD);
    let board = Board::new(&cloud);
    let file = board.path("boot.json");
    std::fs::write(&file, credentials).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its owner's");
    let board = board.set("boot", &format!("credentials_file = {file:?}")).set("control", "listen = [\"127.0.0.1:1\"]");
    samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "alone"));
    let bundle = board.path("support.txt");
    let output = board.run(&["check", "--bundle", bundle.to_str().expect("UTF-8")]);
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("fail  agent "), "{said}");
    for well in ["name", "connect", "tls", "login", "cdn", "engine", "archive"] {
        assert!(said.lines().any(|line| line.starts_with(&format!("ok    {well} "))), "{well}: {said}");
    }
    let text = std::fs::read_to_string(&bundle).expect("written");
    assert!(text.contains("ok    cdn ") && text.contains("\n[cloud]\n") && !text.contains(PASSWORD), "{text}");
    assert!(!text.contains(EMAIL), "{text}");
    assert!(board.run(&["check", "--bundle", bundle.to_str().expect("UTF-8")]).status.code() == Some(1), "it is there");

    // A configuration that the agent does not start with is the fault that is named.
    let broken = board.set("keys", "hardware_sallt = \"x\"");
    let output = broken.run(&["check"]);
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.code() == Some(1) && said.contains("\nfail  config ") && said.contains("hardware_salt"),
        "{said}"
    );
}

#[test]
fn a_clock_before_the_certificates_time_is_named_as_the_clock() {
    let cloud = Cloud::start(Options { leaf: Leaf::NotYetValid, ..Options::default() });
    cloud.add_user(User::new(EMAIL, PASSWORD, "Operator"));
    let board = Board::new(&cloud);
    let mut agent = board.start();
    let (answer, of) = check(&mut agent);
    assert!(of("clock").0 == "fail" && of("clock").1.contains("before the time"), "{answer:#}");
    let tls =
        answer["checks"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "tls")).expect("looked at");
    assert!(tls["next"].as_str().is_some_and(|next| next.contains("timedatectl")), "{answer:#}");
}
