//! Who is not meant: pages of other sites, rebound names, callers without the token, users of the machine who are not let
//! in. What each is told, and that it is the same whatever stands behind.

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use azaion_cloud::Cloud;

use crate::harness::{Agent, Board, EMAIL, PASSWORD, binary, clean, cloud, credentials};
use crate::{address, raw, support};

const TOKEN: &str = "canary-token-0123456789abcdefghijklmnopqrstuvwx";

/// The user `nobody` of Debian, and of most.
const STRANGER: u32 = 65534;

/// Calls that would change something or show something, with the body that each would need.
fn calls() -> Vec<(&'static str, &'static str, String)> {
    let pair = credentials(EMAIL, PASSWORD);
    vec![
        ("POST", "/login", pair.clone()),
        ("POST", "/unlock", pair),
        ("POST", "/unlock", String::new()),
        ("POST", "/load/x", "{}".into()),
        ("PUT", "/upload/x", "bytes".into()),
        ("GET", "/status", String::new()),
        ("GET", "/unlock/status", String::new()),
        ("GET", "/events", String::new()),
        ("GET", "/nowhere", String::new()),
        ("DELETE", "/login", String::new()),
    ]
}

/// No answer lets another site's page read it, none is kept by a cache, none names the server.
fn is_discreet(reply: &raw::Reply) {
    let head = reply.head.to_ascii_lowercase();
    assert!(!head.contains("access-control") && !head.contains("\r\nserver:"), "{head}");
    assert!(head.contains("\r\ncache-control: no-store"), "{head}");
}

/// Nobody is logged in, nothing was asked of the cloud.
fn is_untouched(address: &str, fields: &str, cloud: &Cloud) {
    let reply = raw::call(address, "GET", "/status", fields, b"");
    let status: serde_json::Value = serde_json::from_str(&reply.body).expect("json");
    assert_eq!((&status["user"], &status["unlock"]["state"]), (&serde_json::Value::Null, &"idle".into()), "{status}");
    assert!(cloud.calls().is_empty());
}

#[test]
fn a_rebound_name_is_no_name_of_this_board() {
    let cloud = cloud();
    let agent = Board::new(&cloud).set("control", r#"allow_hosts = ["board.lan"]"#).start();
    let address = address(&agent);
    let port = address.rsplit(':').next().expect("a port").to_owned();
    let own = format!("evil.example:{port}");
    for (host, status) in [
        ("evil.example", 403),
        (own.as_str(), 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("board.lan.evil.example", 403),
        ("xboard.lan", 403),
        ("lan", 403),
        ("0.0.0.0", 403),
        ("[::]", 403),
        ("2130706433", 403),
        ("127.1", 403),
        ("0x7f000001", 403),
        ("0177.0.0.1", 403),
        ("10.0.0.1", 403),
        ("localhost@evil.example", 400),
        ("evil.example@localhost", 400),
        ("localhost, evil.example", 400),
        ("localhost:80:80", 400),
        ("localhost:99999", 400),
        ("localhost:x", 400),
        ("local%68ost", 400),
        ("localhost/", 400),
        ("", 400),
    ] {
        for (method, path, body) in calls() {
            let reply = raw::call(&address, method, path, &format!("Host: {host}\r\n"), body.as_bytes());
            assert_eq!(reply.status, status, "{method} {path} of {host:?}: {}", reply.body);
            is_discreet(&reply);
        }
        let reply = raw::call(&address, "GET", "/health", &format!("Host: {host}\r\n"), b"");
        assert_eq!(reply.status, status, "{host:?}");
    }
    // Behind the right Host no other word counts, and before the wrong one none helps.
    for (target, fields, status) in [
        ("/status", "Host: localhost\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n", 200),
        ("/status", "Host: evil.example\r\nX-Forwarded-Host: localhost\r\nForwarded: host=localhost\r\n", 403),
        ("/status", "Host: localhost\r\nHost: evil.example\r\n", 400),
        ("/status", "Host: evil.example\r\nHost: localhost\r\n", 400),
        ("http://evil.example/status", "Host: localhost\r\n", 400),
        ("http://localhost/status", "Host: evil.example\r\n", 400),
        ("http://evil.example/status", "Host: evil.example\r\n", 403),
        ("http://localhost/status", "Host: localhost\r\n", 200),
        ("http://localhost:81/status", "Host: localhost\r\n", 400),
        ("/status", "Host: BOARD.LAN:1\r\n", 200),
        ("/status", "Host: localhost.:65535\r\n", 200),
        ("/status", "Host: [::ffff:127.0.0.1]\r\n", 200),
    ] {
        let reply = raw::call(&address, "GET", target, fields, b"");
        assert_eq!(reply.status, status, "{target} {fields}: {}", reply.body);
        is_discreet(&reply);
    }
    let missing = raw::talk(&address, b"GET /status HTTP/1.1\r\n\r\n");
    assert_eq!(missing.iter().map(|reply| reply.status).collect::<Vec<_>>(), [400]);
    is_untouched(&address, "", &cloud);
}

#[test]
fn a_page_of_another_site_changes_nothing_and_reads_nothing() {
    let cloud = cloud();
    let agent = Board::new(&cloud).start();
    let address = address(&agent);
    let json = "Content-Type: application/json\r\n";
    for browser in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin:\r\n",
        "Origin: https://localhost:80\r\n",
        "Origin: http://localhost:1\r\n",
        "Origin: http://localhost.evil.example\r\n",
        "Origin: http://evil.example#http://localhost\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: none, cross-site\r\n",
        "Origin: http://localhost\r\nSec-Fetch-Site: cross-site\r\n",
        "Origin: http://evil.example\r\nSec-Fetch-Site: same-origin\r\n",
    ] {
        for (method, path, body) in calls() {
            for media in ["", json] {
                let reply = raw::call(&address, method, path, &format!("{browser}{media}"), body.as_bytes());
                assert_eq!((reply.status, reply.code().as_str()), (403, "origin_refused"), "{method} {path} {browser}");
                is_discreet(&reply);
            }
        }
    }
    // Of the board's own page a form is not taken either: forms are what a browser sends without asking first.
    // 422 is the answer of a call that was let in: the body lacks a field.
    for (browser, media, status) in [
        ("Origin: http://localhost\r\n", "application/x-www-form-urlencoded", 415),
        ("Origin: http://localhost\r\n", "multipart/form-data; boundary=x", 415),
        ("Origin: http://localhost\r\n", "text/plain", 415),
        ("Origin: http://localhost\r\n", "text/plain; application/json", 415),
        ("Origin: http://localhost\r\n", "application/json-seq", 415),
        ("Sec-Fetch-Site: none\r\n", "text/plain", 415),
        ("Sec-Fetch-Site: same-origin\r\n", "text/plain", 415),
        ("Sec-Fetch-Site: same-origin\r\n", "application/json", 422),
        ("Origin: http://localhost\r\n", "application/json; charset=utf-8", 422),
        // curl.
        ("", "application/x-www-form-urlencoded", 422),
        ("", "text/plain", 422),
    ] {
        for call in ["/login", "/unlock"] {
            let fields = format!("{browser}Content-Type: {media}\r\n");
            let reply = raw::call(&address, "POST", call, &fields, br#"{"email":"x"}"#);
            assert_eq!(reply.status, status, "{call} {fields}: {}", reply.body);
            is_discreet(&reply);
        }
    }
    // What a page may ask without being asked, and the question before: neither is a way to change anything.
    let pair = credentials(EMAIL, PASSWORD);
    for method in ["GET", "OPTIONS", "TRACE", "DELETE", "PATCH", "CONNECT"] {
        for call in ["/login", "/unlock", "/load/x", "/upload/x"] {
            for fields in ["", "Origin: http://localhost\r\nAccess-Control-Request-Method: POST\r\n"] {
                let reply = raw::call(&address, method, call, fields, pair.as_bytes());
                assert_eq!(reply.status, 405, "{method} {call} {fields}");
                is_discreet(&reply);
            }
        }
    }
    for call in ["/login", "/unlock", "/load/x", "/upload/x"] {
        let length = pair.len();
        let request = format!("HEAD {call} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{pair}");
        let mut socket = raw::connect(&address);
        socket.write_all(request.as_bytes()).expect("taken");
        socket.shutdown(Shutdown::Write).expect("open");
        assert!(raw::rest(&mut socket).starts_with(b"HTTP/1.1 405 "), "HEAD {call}");
    }
    for call in ["/login", "/unlock", "/load/x"] {
        assert_eq!(raw::call(&address, "PUT", call, "", pair.as_bytes()).status, 405, "{call}");
    }
    is_untouched(&address, "", &cloud);
}

/// A board whose port asks for [`TOKEN`].
fn with_token(cloud: &Cloud) -> Board {
    let board = Board::new(cloud);
    std::fs::write(board.path("token"), format!("{TOKEN}\n")).expect("written");
    let line = format!("token_file = \"{}\"", board.path("token").display());
    board.set("control", &line)
}

#[test]
fn without_the_token_there_is_only_health() {
    let cloud = cloud();
    let mut agent = with_token(&cloud).start();
    agent.must_not_print(TOKEN);
    let address = address(&agent);
    let short = &TOKEN[..TOKEN.len() - 1];
    for fields in [
        String::new(),
        "Authorization: Bearer\r\n".into(),
        "Authorization: Bearer wrong\r\n".into(),
        format!("Authorization: Bearer {short}\r\n"),
        format!("Authorization: Bearer {TOKEN}x\r\n"),
        format!("Authorization: Bearer {}\r\n", TOKEN.to_uppercase()),
        format!("Authorization: Bearer {TOKEN}, {TOKEN}\r\n"),
        format!("Authorization: Bearer x {TOKEN}\r\n"),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Authorization: {TOKEN}\r\n"),
        format!("X-Authorization: Bearer {TOKEN}\r\n"),
        format!("Proxy-Authorization: Bearer {TOKEN}\r\n"),
        format!("Cookie: token={TOKEN}\r\n"),
    ] {
        for (method, path, body) in calls() {
            // Nor is it looked for in a URL, which stands in logs and histories.
            for query in [String::new(), format!("?token={TOKEN}&access_token={TOKEN}")] {
                let reply = raw::call(&address, method, &format!("{path}{query}"), &fields, body.as_bytes());
                assert_eq!((reply.status, reply.code().as_str()), (401, "token_required"), "{method} {path} {fields}");
                assert_eq!(reply.field("WWW-Authenticate"), Some("Bearer"));
                is_discreet(&reply);
            }
        }
        assert_eq!(raw::call(&address, "GET", "/health", &fields, b"").status, 200, "{fields}");
    }
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let twice = raw::call(&address, "GET", "/status", &right.repeat(2), b"");
    assert_eq!(twice.status, 400);
    // The token opens neither another host nor another site.
    for other in ["Host: evil.example\r\n", "Origin: http://evil.example\r\n"] {
        assert_eq!(raw::call(&address, "GET", "/status", &format!("{right}{other}"), b"").status, 403, "{other}");
    }
    is_untouched(&address, &right, &cloud);
}

/// What an agent says that does not start. One that does is ended, and says something else.
fn refusal(board: &Board) -> String {
    let mut command = clean(Path::new("timeout"));
    command.arg("10").arg(binary()).args(["run", "--config"]).arg(board.configure());
    let output = command.output().expect("coreutils are installed");
    assert!(!output.status.success(), "it starts");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_port_open_to_the_network_asks_for_a_token_or_does_not_open() {
    let cloud = cloud();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        let board = Board::new(&cloud).set("control", &format!("listen = [{listen:?}]"));
        let said = refusal(&board);
        assert!(said.contains("control.token_file") && said.contains(listen), "{listen}: {said}");
        // A file that is not there, or holds none, is no token.
        for content in [None, Some(""), Some(" \n")] {
            let path = board.path("empty");
            let _absent = std::fs::remove_file(&path);
            if let Some(text) = content {
                std::fs::write(&path, text).expect("written");
            }
            let board = Board::new(&cloud).set("control", &format!("listen = [{listen:?}]"));
            let said = refusal(&board.set("control", &format!("token_file = \"{}\"", path.display())));
            assert!(said.contains("token_file"), "{listen} {content:?}: {said}");
        }
    }
    let agent = with_token(&cloud).set("control", r#"listen = ["0.0.0.0:0"]"#).start();
    let address = address(&agent).replace("0.0.0.0", "127.0.0.1");
    assert_eq!(raw::call(&address, "GET", "/status", "", b"").status, 401);
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(raw::call(&address, "GET", "/status", &right, b"").status, 200);
    // The address that is listened on is none that a board has.
    assert_eq!(raw::call(&address, "GET", "/health", "Host: 0.0.0.0\r\n", b"").status, 403);
}

/// What a user of this machine is told on the socket.
fn told(uid: u32, socket: &str, path: &str) -> String {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "-w", "|%{http_code}", "--unix-socket", socket])
        .arg(format!("http://localhost{path}"))
        .current_dir("/")
        .uid(uid)
        .gid(uid)
        .output()
        .expect("curl runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn on_a_socket(board: Board) -> (Board, Agent, String) {
    let socket = board.path("port.sock").display().to_string();
    let listen = format!("listen = [\"127.0.0.1:0\", \"unix:{socket}\"]");
    let board = board.set("control", &listen);
    let mut agent = board.start();
    agent.wait_for_line("port.sock");
    // The file's mode keeps strangers out before the agent does; here it is the agent's turn.
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    };
    open(&board.path(""), 0o711);
    open(&board.path("port.sock"), 0o666);
    (board, agent, socket)
}

#[test]
fn at_the_unix_socket_the_user_decides() {
    if !rustix::process::geteuid().is_root() {
        return support::skip_what_lies_elsewhere("only root can be another user");
    }
    let cloud = cloud();
    let (_board, _agent, socket) = on_a_socket(with_token(&cloud));
    for path in ["/status", "/nowhere"] {
        let said = told(STRANGER, &socket, path);
        assert!(said.contains("\"peer_refused\"") && said.ends_with("|403"), "{path}: {said}");
    }
    assert!(told(STRANGER, &socket, "/health").ends_with("|200"));
    assert!(told(0, &socket, "/status").ends_with("|200"));
    let allowed = Board::new(&cloud).set("control", &format!("allow_uids = [{STRANGER}]"));
    let (_board, _agent, socket) = on_a_socket(allowed);
    assert!(told(STRANGER, &socket, "/status").ends_with("|200"));
    assert!(told(STRANGER - 1, &socket, "/status").ends_with("|403"));
    assert!(cloud.calls().is_empty());
}

#[test]
fn strangers_are_told_the_same_of_what_is_there_and_of_what_is_not() {
    let cloud = cloud();
    let board = with_token(&cloud);
    let mut agent = board.start();
    agent.must_not_print(TOKEN);
    let address = address(&agent);
    // Something that a stranger must not learn of: somebody is logged in.
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let login = raw::call(&address, "POST", "/login", &right, credentials(EMAIL, PASSWORD).as_bytes());
    assert_eq!(login.status, 200, "{}", login.body);
    let directory = board.path("").display().to_string();
    let directory = directory.trim_end_matches('/');
    let version = env!("CARGO_PKG_VERSION");
    for stranger in ["", "Host: evil.example\r\n", "Origin: http://evil.example\r\n", "Authorization: Bearer x\r\n"] {
        let told: Vec<raw::Reply> = calls()
            .into_iter()
            .map(|(method, path, body)| raw::call(&address, method, path, stranger, body.as_bytes()))
            .chain(
                ["/", "/load", "/login", "/metrics", "/openapi.json", "/check"]
                    .map(|path| raw::call(&address, "GET", path, stranger, b"")),
            )
            .collect();
        for reply in &told {
            assert_eq!(reply.body, told[0].body, "{stranger}");
            assert_eq!(reply.head, told[0].head, "{stranger}");
            for secret in [version, directory, EMAIL, "Operator", TOKEN, "x86", "test board", "azaion", "/etc"] {
                assert!(!format!("{}{}", reply.head, reply.body).contains(secret), "{secret}: {reply:?}");
            }
        }
    }
}
