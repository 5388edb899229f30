//! One full run of a board with secrets that can be searched for, and then the search: no log, answer, event, metric,
//! support file, state, cache, argument list, environment or core file holds one of them, in any of the ways that text and
//! keys are written.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use azaion_cloud::archive::Layout;
use azaion_cloud::keys::Salts;
use azaion_cloud::{Cloud, Options, User, keys};
use azaion_loader::crypto::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::harness::{Agent, Board, EMAIL, FRAGMENT, PASSWORD, binary, clean, credentials, noise};
use crate::samples;

const TOKEN: &str = "canary-port-token-7d1e40b2a9c3f586";
const BEARER: &str = "Authorization: Bearer canary-port-token-7d1e40b2a9c3f586";
const SALTS: [&str; 3] = ["canary-salt-hardware-11aa", "canary-salt-api-22bb", "canary-salt-resource-33cc"];
const WRONG_PASSWORD: &str = "canary-wrong-password-44dd";

/// A secret in all the ways in which it might be written.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = secret.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let mut all = vec![secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        all.push(engine.encode(secret).into_bytes());
    }
    if let Ok(text) = str::from_utf8(secret) {
        let escaped: String =
            text.chars().map(|c| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", c as u32) }).collect();
        let percent: String = secret
            .iter()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() || *byte == b'-' {
                    char::from(*byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        all.extend([
            escaped.into_bytes(),
            percent.into_bytes(),
            format!("{text:?}").trim_matches('"').as_bytes().to_vec(),
        ]);
    }
    all.sort();
    all.dedup();
    all
}

/// What may not be found, with the name to call it by.
struct Canaries(Vec<(String, Vec<Vec<u8>>)>);

impl Canaries {
    fn add(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= 8, "{name} is too short to be searched for");
        self.0.push((name.to_owned(), spellings(secret)));
    }

    /// Fails for the first that is in `bytes`, which came from `place`.
    fn search(&self, place: &str, bytes: &[u8]) {
        for (name, spellings) in &self.0 {
            for spelling in spellings {
                let found = bytes.windows(spelling.len()).position(|window| window == spelling);
                assert_eq!(found, None, "{place} holds {name}: {}", String::from_utf8_lossy(spelling));
            }
        }
    }

    /// Searches the names and the contents of everything below `dir`.
    fn search_files(&self, dir: &Path) -> usize {
        let mut files = 0;
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            self.search("a name", path.as_os_str().as_encoded_bytes());
            if path.is_dir() {
                files += self.search_files(&path);
            } else {
                self.search(&path.display().to_string(), &std::fs::read(&path).expect("readable"));
                files += 1;
            }
        }
        files
    }

    /// The process and its environment, as everyone on the board might see them; whether it was still there.
    fn search_process(&self, pid: u32) -> bool {
        let seen = |file| std::fs::read(format!("/proc/{pid}/{file}"));
        let (Ok(arguments), Ok(environment)) = (seen("cmdline"), seen("environ")) else { return false };
        self.search("the argument list", &arguments);
        self.search("the environment", &environment);
        true
    }
}

fn all_secrets(cloud: &Cloud, salts: &Salts) -> Canaries {
    let mut canaries = Canaries(Vec::new());
    canaries.add("the password", PASSWORD.as_bytes());
    canaries.add("a wrong password", WRONG_PASSWORD.as_bytes());
    canaries.add("the port's token", TOKEN.as_bytes());
    canaries.add("the key fragment", FRAGMENT);
    canaries.add("the archive's key", &keys::archive_key(FRAGMENT));
    for salt in SALTS {
        canaries.add("a salt", salt.as_bytes());
    }
    let hardware = salts.hardware_hash("canary board");
    let api_key = salts.api_key(EMAIL, PASSWORD, &hardware);
    for (name, text) in [("the API key", api_key), ("the resource key", salts.resource_key())] {
        canaries.add(name, text.as_bytes());
        canaries.add(name, &keys::aes_key(&text));
    }
    for side in [cloud.s3().downloader(), cloud.s3().uploader()] {
        canaries.add("a secret of the CDN", side.secret.as_bytes());
    }
    canaries
}

/// A run, and everything that was said in it.
struct Run {
    cloud: Cloud,
    board: Board,
    agent: Agent,
    kept: tempfile::TempDir,
    canaries: Canaries,
    /// Where it was said, and what.
    answers: Vec<(String, Vec<u8>)>,
}

impl Run {
    fn begin() -> Self {
        let salts = Salts {
            hardware: SALTS[0].into(),
            api: SALTS[1].into(),
            resource: SALTS[2].into(),
            separator: String::new(),
        };
        let cloud = Cloud::start(Options { salts: salts.clone(), s3: true, ..Options::default() });
        cloud.add_user(User::new(EMAIL, PASSWORD, "ResourceUploader"));
        cloud.set_fragment(FRAGMENT.to_vec());
        for bucket in ["default", "models"] {
            cloud.s3().make_bucket(bucket);
        }
        let kept = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(kept.path().join("token"), TOKEN).expect("written");
        let mut board = Board::new(&cloud)
            .set("log", &format!("dir = \"{}/log\"", kept.path().display()))
            .set("control", &format!("token_file = \"{}/token\"", kept.path().display()))
            .set("board", "fingerprint = \"canary board\"")
            .set("cache", "offline = true");
        for (key, salt) in ["hardware_salt", "api_salt", "resource_salt"].iter().zip(SALTS) {
            board = board.set("keys", &format!("{key} = {salt:?}"));
        }
        samples::write(&board.archive(), Layout::Oci, &samples::small(Layout::Oci, "canary"));
        let agent = board.start();
        let canaries = all_secrets(&cloud, &salts);
        Self { cloud, board, agent, kept, canaries, answers: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.kept.path().join(name)
    }

    /// Writes down everything that is said to whoever follows, from now on.
    fn follow(&self) -> Child {
        Command::new("curl")
            .args(["-sSN", "--noproxy", "*", "-H", BEARER, "-o"])
            .arg(self.path("events"))
            .arg(format!("{}/events", self.agent.base))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("curl runs")
    }

    fn ask(&mut self, path: &str, args: &[&str]) -> u16 {
        let (status, answer) = self.agent.curl(path, &[&["-H", BEARER], args].concat());
        self.answers.push((format!("{path} {status}"), answer.to_string().into_bytes()));
        status
    }

    /// Every call of the port, right and wrong.
    fn call_everything(&mut self) {
        let right = credentials(EMAIL, PASSWORD);
        assert_eq!(self.ask("/login", &["-d", &credentials(EMAIL, WRONG_PASSWORD)]), 401);
        assert_eq!(self.ask("/login", &["-d", &right.replace(':', "")]), 400);
        assert_eq!(self.ask(&format!("/x?password={WRONG_PASSWORD}"), &[]), 404);
        assert_eq!(self.ask("/login", &["-H", &format!("Authorization: Bearer {WRONG_PASSWORD}")]), 400);
        assert_eq!(self.ask("/unlock", &["-d", &right]), 202);
        loop {
            assert_eq!(self.ask("/unlock/status?wait=30", &[]), 200);
            let (_, status) = self.agent.curl("/unlock/status", &["-H", BEARER]);
            assert_ne!(status["state"], "error", "{status}");
            if status["state"] == "ready" {
                break;
            }
        }
        let model = self.path("to-upload");
        std::fs::write(&model, noise(3, 400_000)).expect("written");
        let to = ["-T", model.to_str().expect("UTF-8"), "-X", "PUT"];
        assert_eq!(self.ask("/upload/m?folder=models", &to), 200);
        assert_eq!(self.ask("/load/none", &["-d", "{}"]), 404);
        let url = format!("{}/load/m", self.agent.base);
        let body = r#"{"folder":"models"}"#;
        let fetched = crate::harness::fetch(&url, &["-H", BEARER, "-d", body], &self.path("loaded"));
        assert!(fetched.is_whole(), "{fetched:?}");
        // A token that expired is renewed, and then there is a second one that nobody may see.
        self.cloud.expire_tokens();
        assert_eq!(self.ask("/unlock", &["-X", "POST"]), 200);
        assert_eq!(self.ask("/load/again", &["-d", "{}"]), 404);
        for path in ["/status", "/check", "/metrics", "/openapi.json", "/docs", "/nowhere"] {
            self.ask(path, &[]);
            self.ask(path, &["-H", "Accept: text/plain"]);
        }
        assert!(self.canaries.search_process(self.agent.pid()));
    }

    /// The commands of the same binary, beside the agent.
    fn run_commands(&mut self) {
        let (config, url) = (self.board.configure(), self.agent.base.clone());
        let (bundle, token) = (self.path("support.txt"), self.path("token"));
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let (config, bundle, token) = (text(&config), text(&bundle), text(&token));
        let port = ["--url", &url, "--token-file", &token];
        let file = ["--config", &config];
        let commands: [(&[&str], &[&[&str]]); 8] = [
            (&["login", "--email", EMAIL, "--password-stdin"], &[&port]),
            (&["status", "--json"], &[&port]),
            (&["check", "--bundle", &bundle], &[&port, &file]),
            (&["audit", "verify"], &[&file]),
            (&["config"], &[&file]),
            (&["fingerprint"], &[&file]),
            (&["cache", "list"], &[&file]),
            (&["trust"], &[&file]),
        ];
        for (command, options) in commands {
            let mut child = clean(&binary())
                .args(command)
                .args(options.concat())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the binary runs");
            let was_there = self.canaries.search_process(child.id());
            // It waits for the password; others may be done already.
            assert!(was_there || command[0] != "login");
            let mut input = child.stdin.take().expect("piped");
            let typed = if command[0] == "login" { format!("{PASSWORD}\n") } else { String::new() };
            std::io::Write::write_all(&mut input, typed.as_bytes()).expect("it reads, or the pipe holds it");
            drop(input);
            let output = child.wait_with_output().expect("it ends");
            let said = [&output.stdout[..], &output.stderr[..]].concat();
            // A check of this board fails where the flash tells nothing good; whatever it says must be clean.
            let is_good = command[0] == "check" || output.status.success();
            assert!(is_good, "{command:?}: {}", String::from_utf8_lossy(&said));
            self.answers.push((format!("{command:?}"), said));
        }
    }

    /// Neither a limit nor a mode lets a core file be written.
    fn abort(&mut self) {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.agent.pid())).expect("root may");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        let aborted = Command::new("kill").args(["-ABRT", &self.agent.pid().to_string()]).status().expect("kill runs");
        assert!(aborted.success());
        let ended = self.agent.ended();
        assert!(ended.signal().is_some() && !ended.core_dumped(), "{ended:?}");
    }

    fn search_everything(&mut self) {
        for token in self.cloud.issued_tokens() {
            self.canaries.add("a token of the API", token.as_bytes());
        }
        for (place, bytes) in &self.answers {
            self.canaries.search(place, bytes);
        }
        self.canaries.search("the console", self.agent.log().as_bytes());
        for file in [self.path("events"), self.path("support.txt")] {
            let bytes = std::fs::read(&file).expect("written");
            assert!(bytes.len() > 500, "{} is almost empty", file.display());
            self.canaries.search(&file.display().to_string(), &bytes);
        }
        for dir in [self.path("log"), self.board.path("state"), self.board.path("cache"), self.board.path("oci")] {
            assert!(self.canaries.search_files(&dir) > 0, "nothing in {}", dir.display());
        }
    }
}

#[test]
fn no_secret_is_found_anywhere_after_a_full_run() {
    let mut run = Run::begin();
    let mut following = run.follow();
    run.call_everything();
    run.run_commands();
    run.abort();
    let _gone = following.kill();
    let _gone = following.wait();
    run.search_everything();
}

#[test]
fn the_search_finds_what_it_is_to_find() {
    let mut canaries = Canaries(Vec::new());
    canaries.add("it", "canary-пароль".as_bytes());
    let digest = Digest::of(b"x");
    canaries.add("a key", digest.as_bytes());
    for leak in [
        "a canary-пароль b".as_bytes().to_vec(),
        br"canary-\u043f\u0430\u0440\u043e\u043b\u044c".to_vec(),
        b"canary-%D0%BF%D0%B0%D1%80%D0%BE%D0%BB%D1%8C".to_vec(),
        format!("x{}", STANDARD.encode("canary-пароль")).into_bytes(),
        digest.hex().into_bytes(),
        digest.as_bytes().to_vec(),
    ] {
        let found = std::panic::catch_unwind(|| canaries.search("here", &leak));
        assert!(found.is_err(), "{}", String::from_utf8_lossy(&leak));
    }
    canaries.search("here", b"canary-");
}
