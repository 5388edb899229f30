//! Models up and down: every way that `curl` sends them, every size at an edge, from the cloud, from flash, without
//! the cloud.

use std::path::Path;
use std::process::{Command, Stdio};

use azaion_cloud::{Cloud, Fault, Route, S3Route};
use azaion_loader::crypto::{AesKey, Salts, unseal};

use crate::harness::{Agent, Board, EMAIL, PASSWORD, READER, cloud_with_models, credentials, fetch, noise};

/// What a model must not leave on flash.
const MARKER: &[u8] = b"model-plaintext-marker-2b7e151628aed2a6abf7158809cf4f3c";

fn resource_key() -> AesKey {
    let text = String::from;
    let salts = Salts { hardware: text("hw"), api: text("api"), resource: text("res"), separator: text("") };
    AesKey::from_text(&salts.resource_key())
}

/// What lies in the cloud under this name, joined and decrypted.
fn in_the_cloud(cloud: &Cloud, folder: &str, name: &str) -> Vec<u8> {
    let mut sealed = cloud.resource(folder, &format!("{name}.small")).expect("the small part is at the API");
    let small = sealed.len() as u64;
    let bucket = if folder.is_empty() { "default" } else { folder };
    sealed.extend(cloud.s3().object(bucket, &format!("{name}.big")).expect("the big part is at the CDN"));
    assert_eq!(small, azaion_loader::crypto::small_len(sealed.len() as u64), "the contract's cut");
    unseal(&resource_key(), sealed).expect("it decrypts").expose().to_vec()
}

/// All files below a directory that hold these bytes.
fn holding(dir: &Path, bytes: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(holding(&path, bytes));
        } else if std::fs::read(&path).is_ok_and(|held| held.windows(bytes.len()).any(|window| window == bytes)) {
            found.push(path);
        }
    }
    found
}

fn board_and_agent(cloud: &Cloud) -> (Board, Agent) {
    let board = Board::new(cloud);
    let mut agent = board.start();
    agent.log_in(EMAIL);
    (board, agent)
}

fn file(board: &Board, bytes: &[u8]) -> std::path::PathBuf {
    let path = board.path("to-upload");
    std::fs::write(&path, bytes).expect("written");
    path
}

#[test]
fn every_size_at_an_edge_goes_up_and_comes_back() {
    let cloud = cloud_with_models();
    let (board, mut agent) = board_and_agent(&cloud);
    // Another board without anything on flash.
    let (_other, mut elsewhere) = board_and_agent(&cloud);
    for size in [0, 1, 15, 16, 17, 3071, 3072, 3073, 10_190, 10_240, 262_144 + 3072, 10 << 20] {
        let name = format!("model-{size}");
        let mut bytes = noise(size as u64 + 1, size);
        if size > 4096 {
            bytes[2000..2000 + MARKER.len()].copy_from_slice(MARKER);
            bytes[5000..5000 + MARKER.len()].copy_from_slice(MARKER);
        }
        let (status, answer) = agent.upload(&file(&board, &bytes), &name, "models");
        assert_eq!((status, answer["status"].as_str()), (200, Some("success")), "{size}: {answer}\n{}", agent.log());
        assert_eq!(in_the_cloud(&cloud, "models", &name), bytes, "{size}");
        let before = cloud.s3().bytes_out();
        assert_eq!(agent.load_whole(&name, "models"), bytes, "{size}: what was uploaded here is on flash");
        assert_eq!(cloud.s3().bytes_out(), before, "{size}: nothing came from the CDN");
        assert_eq!(elsewhere.load_whole(&name, "models"), bytes, "{size}: from the CDN");
        assert!(cloud.s3().bytes_out() > before);
        let before = cloud.s3().bytes_out();
        assert_eq!(elsewhere.load_whole(&name, "models"), bytes, "{size}: from flash");
        assert_eq!(cloud.s3().bytes_out(), before, "{size}: nothing came from the CDN");
    }
    std::fs::remove_file(board.path("to-upload")).expect("it was there");
    assert_eq!(holding(board.path("").as_path(), MARKER), Vec::<std::path::PathBuf>::new());
    assert!(cloud.s3().uploads().is_empty(), "no upload was left half-way");
}

#[test]
fn every_way_that_curl_sends_a_file() {
    let cloud = cloud_with_models();
    let (board, mut agent) = board_and_agent(&cloud);
    let bytes = noise(7, 700_001);
    let path = file(&board, &bytes);
    let path = path.to_str().expect("UTF-8");
    let base = agent.base.clone();
    let form = format!("data=@{path}");
    let binary = format!("@{path}");
    let ways: [(&str, &str, Vec<&str>); 6] = [
        ("form", "/upload/form", vec!["-F", &form, "-F", "folder=models"]),
        ("form-folder-first", "/upload/form-folder-first", vec!["-F", "folder=models", "-F", &form]),
        ("put", "/upload/put?folder=models", vec!["-T", path]),
        ("to-upload", "/upload/?folder=models", vec!["-T", path]),
        ("raw", "/upload/raw?folder=models", vec!["--data-binary", &binary]),
        ("expect", "/upload/expect?folder=models", vec!["-T", path, "-H", "Expect: 100-continue"]),
    ];
    for (name, target, args) in ways {
        // curl puts a file's name behind a path that ends in a slash, but not before a query: so this one is spelt out.
        let target = if name == "to-upload" { "/upload/to-upload?folder=models" } else { target };
        let (status, answer) = agent.curl(target, &args);
        assert_eq!((status, answer["status"].as_str()), (200, Some("success")), "{name}: {answer}");
        assert_eq!(in_the_cloud(&cloud, "models", name), bytes, "{name}");
    }
    // From a pipe: no length, chunked.
    let mut curl = Command::new("curl")
        .args(["-sS", "-T", "-", &format!("{base}/upload/pipe?folder=models")])
        .stdin(std::fs::File::open(path).expect("it is there"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl runs");
    assert!(curl.wait().expect("ours").success());
    assert_eq!(in_the_cloud(&cloud, "models", "pipe"), bytes);
    // Without a folder, and by name from the file.
    let (status, _) = agent.curl("/upload/", &["-T", path]);
    assert_eq!(status, 200);
    assert_eq!(in_the_cloud(&cloud, "", "to-upload"), bytes);
    assert_eq!(agent.load_whole("to-upload", ""), bytes);
}

#[test]
fn a_resource_that_was_never_split_comes_whole() {
    let cloud = cloud_with_models();
    let (_board, mut agent) = board_and_agent(&cloud);
    for size in [0, 1, 16, 5_000_000] {
        let bytes = noise(3, size);
        cloud.put_resource("configs", "plain.bin", bytes.clone());
        assert_eq!(agent.load_whole("plain.bin", "configs"), bytes);
    }
}

#[test]
fn what_is_not_allowed_or_not_there_is_told() {
    let cloud = cloud_with_models();
    let board = Board::new(&cloud);
    let mut agent = board.start();
    let path = file(&board, b"x");
    assert_eq!(agent.load_refused("a", "models"), (401, "not_logged_in".into()));
    assert_eq!(agent.upload(&path, "a", "models").0, 401);
    agent.log_in(READER);
    assert_eq!(agent.load_refused("a", "models"), (404, "resource_unknown".into()));
    let (status, answer) = agent.upload(&path, "a", "models");
    assert_eq!((status, answer["error"]["code"].as_str()), (403, Some("role_too_low")));
    assert!(answer["error"]["message"].as_str().is_some_and(|told| told.contains("ResourceUploader")), "{answer}");
    assert!(cloud.s3().calls().is_empty(), "nobody went to the CDN for that");

    // The small part is there, its big one is not.
    cloud.put_resource("models", "half.small", noise(1, 3072));
    assert_eq!(agent.load_refused("half", "models"), (502, "resource_damaged".into()));
    // Both are there and do not decrypt.
    cloud.s3().put_object("models", "half.big", &noise(2, 70_000));
    assert_eq!(agent.load_refused("half", "models"), (502, "resource_damaged".into()));
}

#[test]
fn what_is_not_what_was_sealed_is_refused_and_the_log_says_why() {
    let cloud = cloud_with_models();
    let (board, mut agent) = board_and_agent(&cloud);
    let bytes = noise(13, 1 << 20);
    assert_eq!(agent.upload(&file(&board, &bytes), "m", "models").0, 200);
    let right = cloud.s3().object("models", "m.big").expect("it is there");
    let seal = cloud.resource("models", "m.seal").expect("it is there");
    let change = |at: usize| {
        let mut big = right.clone();
        big[at] ^= 1;
        cloud.s3().put_object("models", "m.big", &big);
    };
    let (_other, mut elsewhere) = board_and_agent(&cloud);
    let refused = (502, "resource_not_authentic".to_owned());
    for at in [right.len() - 1, 0] {
        change(at);
        assert_eq!(elsewhere.load_refused("m", "models"), refused, "{at}");
    }
    // In the middle the head of the answer is out: it is cut before the first byte of that chunk.
    change(600_000);
    let to = board.path("loaded");
    assert!(!elsewhere.load("m", "models", &to).is_whole());
    let got = std::fs::read(&to).expect("written");
    assert!(got.len() <= 3056 + 2 * 262_144 && bytes.starts_with(&got), "{} bytes", got.len());
    cloud.s3().put_object("models", "m.big", &right);
    cloud.put_resource("models", "m.seal", seal[1..].to_vec());
    assert_eq!(elsewhere.load_refused("m", "models"), refused);
    let log = elsewhere.log();
    for told in ["chunk 0", "chunk 2", "chunk 3", "its seal is none, or not its own"] {
        assert!(log.contains(told), "{told}: {log}");
    }
    cloud.put_resource("models", "m.seal", seal);
    assert_eq!(elsewhere.load_whole("m", "models"), bytes);
}

#[test]
fn a_lower_role_can_be_allowed_to_upload() {
    let cloud = cloud_with_models();
    let board = Board::new(&cloud).set("control", "upload_role = \"CompanionPC\"");
    let mut agent = board.start();
    agent.log_in(READER);
    assert_eq!(agent.upload(&file(&board, b"by a companion"), "a", "models").0, 200);
    assert_eq!(in_the_cloud(&cloud, "models", "a"), b"by a companion");
}

#[test]
fn names_on_both_sides_of_every_edge() {
    let cloud = cloud_with_models();
    let (board, mut agent) = board_and_agent(&cloud);
    let path = file(&board, b"named");
    let long = "x".repeat(255);
    for name in [
        "a%20b",
        "a+b",
        "%C3%BC",
        "%D0%BC%D0%BE%D0%B4%D0%B5%D0%BB%D1%8C.onnx",
        "%F0%9F%9A%80",
        "...",
        "%252F",
        "%22",
        &long,
    ] {
        assert_eq!(agent.upload(&path, name, "models").0, 200, "{name}");
        assert_eq!(agent.load_whole(name, "models"), b"named", "{name}");
    }
    assert!(cloud.resource("models", "модель.onnx.small").is_some() && cloud.resource("models", "a b.small").is_some());
    assert!(cloud.resource("models", "a+b.small").is_some() && cloud.resource("models", "%2F.small").is_some());
    let too_long = "x".repeat(256);
    let endless = "x".repeat(65_536);
    for (name, status) in [
        ("..%2Fx", 400),
        ("a%2Fb", 400),
        ("a%5Cb", 400),
        ("%00", 400),
        ("a%0Ab", 400),
        ("%2e%2e", 400),
        ("%2e", 400),
        ("%ff", 400),
        (&too_long, 400),
        (&endless, 414),
    ] {
        assert_eq!(agent.load_refused(name, "models").0, status, "{}", &name[..name.len().min(20)]);
        let (refused, _) = agent
            .curl(&format!("/upload/{name}?folder=models"), &["--path-as-is", "-T", path.to_str().expect("UTF-8")]);
        assert_eq!(refused, status, "{}", &name[..name.len().min(20)]);
    }
    // curl itself takes "../" away unless it is told not to.
    let (status, _) = agent.curl("/load/../x", &["--path-as-is", "-d", "{}"]);
    assert!(status == 404 || status == 400, "{status}");
    for folder in ["..", ".", "a/b", "a b", "ü", &"x".repeat(64)] {
        assert_eq!(agent.load_refused("a", folder), (400, "name_invalid".into()), "{folder}");
    }
    let folder = "x".repeat(63);
    assert_eq!(agent.load_refused("a", &folder), (404, "resource_unknown".into()));
    // Whatever was asked for: nothing but cache, state and what the test made.
    let mut entries: Vec<_> =
        std::fs::read_dir(board.path("")).expect("ours").map(|e| e.expect("an entry").file_name()).collect();
    entries.sort();
    assert_eq!(entries, ["ca.pem", "cache", "loader.toml", "oci", "state", "to-upload"]);
    for entry in std::fs::read_dir(board.path("cache")).expect("ours") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        assert!(
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte)),
            "{name}"
        );
    }
}

#[test]
fn two_clients_share_one_download_and_one_that_leaves_does_not_end_it() {
    let cloud = cloud_with_models();
    let (board, mut agent) = board_and_agent(&cloud);
    let bytes = noise(11, 48 << 20);
    assert_eq!(agent.upload(&file(&board, &bytes), "shared", "models").0, 200);

    let (_other, mut elsewhere) = board_and_agent(&cloud);
    let before = cloud.s3().bytes_out();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = format!("{}/load/shared", elsewhere.base);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (to, url) = (dir.path().join(client.to_string()), &url);
            scope.spawn(move || assert!(fetch(url, &["-d", r#"{"folder":"models"}"#], &to).is_whole()));
        }
    });
    for client in 0..4 {
        assert_eq!(std::fs::read(dir.path().join(client.to_string())).expect("written"), bytes);
    }
    let came = cloud.s3().bytes_out() - before;
    assert!(came < bytes.len() as u64 + (1 << 20), "{came} bytes came for four clients");

    // A third board, whose client leaves after the first bytes.
    let (_third, mut third) = board_and_agent(&cloud);
    let before = cloud.s3().bytes_out();
    let url = format!("{}/load/shared", third.base);
    let leaves = format!("curl -sN -d '{{\"folder\":\"models\"}}' {url} | head -c 100 > /dev/null");
    assert!(Command::new("sh").args(["-c", &leaves]).status().expect("a shell").success());
    let sealed = cloud.s3().objects("models").iter().find(|(key, _)| key == "shared.big").expect("it is there").1;
    cloud.s3().wait_for(|calls| {
        let out: u64 = calls.iter().filter(|call| call.is_download()).map(|call| call.bytes_out).sum();
        out >= before + sealed
    });
    let (status, _) = third.curl("/health", &[]);
    assert_eq!(status, 200);
    // What came in is used although the CDN is gone; the last chunks may still be on their way to flash.
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while third.curl("/status", &[]).1["cache"]["entries"] != 1 {
        assert!(std::time::Instant::now() < deadline, "{}", third.log());
    }
    cloud.s3().set_away(true);
    assert_eq!(third.load_whole("shared", "models"), bytes);
    let _ = elsewhere.log();
}

#[test]
fn a_model_loaded_once_is_loaded_again_without_network() {
    let cloud = cloud_with_models();
    let (board, mut agent) = board_and_agent(&cloud);
    let bytes = noise(5, 3 << 20);
    for name in ["kept", "never-loaded"] {
        assert_eq!(agent.upload(&file(&board, &bytes), name, "models").0, 200);
    }
    drop(agent);

    let boot = board.path("boot.json");
    std::fs::write(&boot, credentials(EMAIL, PASSWORD)).expect("written");
    std::fs::set_permissions(&boot, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("own file");
    let offline = Board::new(&cloud)
        .set("cache", "offline = true")
        .set("boot", &format!("credentials_file = {boot:?}"))
        .set("boot", "unlock = \"on-request\"");
    let mut agent = offline.start();
    assert_eq!(agent.load_whole("kept", "models"), bytes, "logged in with what [boot] holds");
    // A thief who reads the flash must not find what the API keeps back.
    let small = cloud.resource("models", "kept.small").expect("it is there");
    assert_eq!(holding(offline.path("").as_path(), &small[..64]), Vec::<std::path::PathBuf>::new());
    cloud.set_away(true);
    cloud.s3().set_away(true);
    cloud.expire_tokens();
    assert_eq!(agent.load_whole("kept", "models"), bytes);
    let (status, code) = agent.load_refused("never-loaded", "models");
    assert_eq!((status, code.as_str()), (502, "api_unreachable"));
    // The power comes back before the network does.
    agent.kill();
    drop(agent);
    let mut agent = offline.start();
    assert_eq!(agent.load_whole("kept", "models"), bytes);
    assert_eq!(agent.load_refused("never-loaded", "models").0, 502);
    drop(agent);
    // By other credentials it is not loaded.
    std::fs::write(&boot, credentials(EMAIL, "another password")).expect("written");
    let mut agent = offline.start();
    let (status, _) = agent.load_refused("kept", "models");
    assert_eq!(status, 502);
    drop(agent);
    // And with the network back, the wrong ones are told.
    cloud.set_away(false);
    let mut agent = offline.start();
    assert_eq!(agent.load_refused("kept", "models"), (401, "credentials_wrong".into()));
}

#[test]
fn by_default_nothing_is_kept_for_offline() {
    let cloud = cloud_with_models();
    let (board, mut agent) = board_and_agent(&cloud);
    assert_eq!(agent.upload(&file(&board, &noise(5, 100_000)), "a", "models").0, 200);
    assert_eq!(agent.load_whole("a", "models").len(), 100_000);
    // The token is dead and the CDN is away, the API lives: what is on flash is served.
    cloud.expire_tokens();
    cloud.s3().set_away(true);
    assert_eq!(agent.load_whole("a", "models").len(), 100_000);
    cloud.set_away(true);
    let (status, answer) = agent.curl("/load/a", &["-d", r#"{"folder":"models"}"#, "--max-time", "200"]);
    assert_eq!((status, answer["error"]["code"].as_str()), (502, Some("api_unreachable")), "{answer}");
    assert!(answer["error"]["next"].as_str().is_some_and(|next| next.contains("offline")), "{answer}");
}

#[test]
fn an_upload_that_was_accepted_finishes_by_itself() {
    let cloud = cloud_with_models();
    let (board, mut agent) = board_and_agent(&cloud);
    let bytes = noise(9, 20 << 20);
    cloud.s3().set_away(true);
    let (status, answer) = agent.curl(
        "/upload/later?folder=models",
        &["-T", file(&board, &bytes).to_str().expect("UTF-8"), "--max-time", "400"],
    );
    assert_eq!((status, answer["status"].as_str()), (202, Some("accepted")), "{answer}");
    assert!(cloud.resource("models", "later.small").is_none());
    assert_eq!(agent.curl("/status", &[]).1["cache"]["uploads_waiting"], 1);
    agent.kill();
    drop(agent);
    cloud.s3().set_away(false);
    let mut agent = board.start();
    agent.log_in(EMAIL);
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while agent.curl("/status", &[]).1["cache"]["uploads_waiting"] != 0 {
        assert!(std::time::Instant::now() < deadline, "{}", agent.log());
    }
    assert_eq!(in_the_cloud(&cloud, "models", "later"), bytes);
    assert_eq!(agent.load_whole("later", "models"), bytes);
    assert!(cloud.s3().uploads().is_empty());
}

#[test]
fn the_small_part_is_published_behind_the_big_one() {
    let cloud = cloud_with_models();
    let (board, mut agent) = board_and_agent(&cloud);
    // The CDN refuses for good: nothing is published and the client hears why.
    cloud.s3().always(S3Route::Put, Fault::s3(403, "AccessDenied"));
    cloud.s3().always(S3Route::Begin, Fault::s3(403, "AccessDenied"));
    let path = file(&board, &noise(4, 500_000));
    let (status, answer) = agent.upload(&path, "refused", "models");
    assert_eq!((status, answer["error"]["code"].as_str()), (502, Some("cdn_refused")), "{answer}");
    assert!(cloud.resource("models", "refused.small").is_none());
    assert_eq!(agent.curl("/status", &[]).1["cache"]["uploads_waiting"], 0);
    cloud.s3().clear_faults();
    // The API refuses the small part.
    cloud.always(Route::ResourcePut, Fault::error(409, 60, "No."));
    let (status, answer) = agent.upload(&path, "half", "models");
    assert_eq!((status, answer["error"]["code"].as_str()), (502, Some("api_failed")), "{answer}");
    cloud.clear_faults();
    assert_eq!(agent.load_refused("half", "models").0, 404);
    assert_eq!(agent.upload(&path, "half", "models").0, 200);
}

#[test]
fn no_room_is_507_for_an_upload_and_no_hindrance_for_a_load() {
    let cloud = cloud_with_models();
    let (board, mut agent) = board_and_agent(&cloud);
    let bytes = noise(6, 12 << 20);
    let path = file(&board, &bytes);
    assert_eq!(agent.upload(&path, "large", "models").0, 200);
    let narrow = Board::new(&cloud).set("cache", "max_bytes = \"8 MiB\"");
    let mut agent = narrow.start();
    agent.log_in(EMAIL);
    assert_eq!(agent.load_whole("large", "models"), bytes, "straight through");
    assert_eq!(agent.load_whole("large", "models"), bytes, "and again");
    let (status, answer) = agent.upload(&path, "too-large", "models");
    assert_eq!((status, answer["error"]["code"].as_str()), (507, Some("no_space")), "{answer}");
    assert!(cloud.resource("models", "too-large.small").is_none());
    // Nothing of it remains: what fits still fits, and the least recently used leaves for it.
    for name in ["a", "b", "c"] {
        let bytes = noise(name.len() as u64, 3 << 20);
        assert_eq!(agent.upload(&file(&board, &bytes), name, "models").0, 200, "{name}");
        assert_eq!(agent.load_whole(name, "models"), bytes);
    }
    let status = agent.curl("/status", &[]).1;
    assert_eq!(status["cache"]["entries"], 2, "{status}");
    assert!(status["cache"]["bytes"].as_u64().is_some_and(|bytes| bytes <= 8 << 20), "{status}");
}

#[test]
fn a_board_with_a_wrong_clock_reaches_the_cdn() {
    let cloud = cloud_with_models();
    let (board, mut agent) = board_and_agent(&cloud);
    cloud.s3().set_clock_ahead(std::time::Duration::from_hours(24 * 365));
    let bytes = noise(8, 1 << 20);
    assert_eq!(agent.upload(&file(&board, &bytes), "skewed", "models").0, 200, "{}", agent.log());
    let (_other, mut elsewhere) = board_and_agent(&cloud);
    assert_eq!(elsewhere.load_whole("skewed", "models"), bytes);
}
