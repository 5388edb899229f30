//! Targets that try to be something else: none reads a file, none is another one's route, each has its exact answer.

use crate::harness::{Board, EMAIL, cloud};
use crate::{address, is_alive, raw};

/// A target, and the status that `GET` and `POST` of it get from a board to which nobody is logged in: 401 is a name that
/// can be.
const TRICKS: &[(&str, u16, u16)] = &[
    ("/../etc/passwd", 404, 404),
    ("/%2e%2e/etc/passwd", 404, 404),
    ("/%2E%2E%2Fetc%2Fpasswd", 404, 404),
    ("/..;/etc/passwd", 404, 404),
    ("/etc/passwd", 404, 404),
    ("//etc/passwd", 404, 404),
    ("/proc/self/environ", 404, 404),
    ("/.env", 404, 404),
    ("/%c0%ae%c0%ae/etc/passwd", 400, 400),
    ("/%e0%80%ae/etc/passwd", 400, 400),
    ("/%u002e%u002e/etc/passwd", 400, 400),
    ("/..\\..\\etc\\passwd", 404, 404),
    ("\\etc\\passwd", 400, 400),
    ("file:///etc/passwd", 400, 400),
    ("ftp://localhost/etc/passwd", 400, 400),
    ("https://localhost/health", 400, 400),
    ("http://localhost/etc/passwd", 404, 404),
    ("http://localhost/../etc/passwd", 404, 404),
    ("http:///etc/passwd", 400, 400),
    ("localhost:22", 400, 400),
    ("/health", 200, 405),
    ("/health?../../etc/passwd", 200, 405),
    ("/%68ealth", 200, 405),
    ("//health", 404, 404),
    ("/./health", 404, 404),
    ("/x/../health", 404, 404),
    ("/health/", 404, 404),
    ("/health/.", 404, 404),
    ("/health/..", 404, 404),
    ("/health;x", 404, 404),
    ("/health%3fx", 404, 404),
    ("/health%23", 404, 404),
    ("/health#", 400, 400),
    ("/health%00", 400, 400),
    ("/health%0d%0aX:y", 400, 400),
    ("/health%", 400, 400),
    ("/HEALTH", 404, 404),
    ("/status%20", 404, 404),
    ("/status%2f", 404, 404),
    ("/unlock%2fstatus", 404, 404),
    ("/load", 404, 404),
    ("/load/", 405, 400),
    ("/load/.", 405, 400),
    ("/load/..", 405, 400),
    ("/load/%2e%2e", 405, 400),
    ("/load/%252e%252e", 405, 401),
    ("/load/..;", 405, 401),
    ("/load/../x", 405, 400),
    ("/load/../../etc/passwd", 405, 400),
    ("/load/..%2f..%2fetc%2fpasswd", 405, 400),
    ("/load/..%5c..%5cetc%5cpasswd", 405, 400),
    ("/load/..\\..\\etc\\passwd", 405, 400),
    ("/load/%2fetc%2fpasswd", 405, 400),
    ("/load//etc/passwd", 405, 400),
    ("/load/x/", 405, 400),
    ("/load/%00", 400, 400),
    ("/load/x%00.onnx", 400, 400),
    ("/load/%c0%ae", 400, 400),
    ("/load/%c0%ae%c0%ae%c0%af", 400, 400),
    ("/load/%ff", 400, 400),
    ("/load/%ed%a0%80", 400, 400),
    ("/load/x?folder=../..", 405, 401),
    ("/upload", 404, 404),
    ("/upload/..", 405, 400),
    ("/upload/..;/x", 405, 400),
    ("/upload/..%2f..%2fetc%2fcron.d%2fx", 405, 400),
    ("/upload/x?folder=..", 405, 400),
    ("/upload/x?folder=a%2fb", 405, 400),
    ("/upload/x?folder=%00", 405, 400),
    ("/upload/x?folder=a&folder=b", 405, 400),
    ("/upload/x", 405, 401),
];

#[test]
fn every_trick_has_its_answer_and_no_file_is_read() {
    let cloud = cloud();
    let board = Board::new(&cloud);
    let mut agent = board.start();
    let address = address(&agent);
    let directory = board.path("").display().to_string();
    let directory = directory.trim_end_matches('/').to_owned();
    let ask = |method: &str, target: &str, status: u16| {
        let reply = raw::call(&address, method, target, "", if method == "POST" { b"{}" } else { b"" });
        assert_eq!(reply.status, status, "{method} {target}: {}", reply.body);
        let whole = format!("{}{}", reply.head, reply.body);
        for file in ["root:", "PATH=", "/etc", "/proc", "/var", directory.as_str()] {
            assert!(!whole.contains(file), "{method} {target}: {whole}");
        }
    };
    for (target, get, post) in TRICKS {
        ask("GET", target, *get);
        ask("POST", target, *post);
    }
    let line = |length: usize| format!("/{}", "x".repeat(length - "GET / HTTP/1.1".len()));
    ask("GET", &line(8000), 404);
    ask("GET", &line(8001), 414);
    ask("GET", &"/".repeat(7900), 404);
    ask("GET", &"/..".repeat(2600), 404);
    ask("GET", &"/a".repeat(10_000), 414);
    for (name, status) in [("a".repeat(255), 401), ("a".repeat(256), 400), ("%d1%8f".repeat(128), 400)] {
        ask("POST", &format!("/load/{name}"), status);
    }
    // Nor does a log-in open a way out of the models: the names are refused before anything is looked for.
    agent.log_in(EMAIL);
    let calls = cloud.calls().len();
    for (target, ..) in TRICKS.iter().filter(|(target, _, post)| *post == 400 && target.contains("load/")) {
        ask("POST", target, 400);
    }
    assert_eq!(cloud.calls().len(), calls, "nothing was asked of the cloud");
    assert!(is_alive(&address));
}
