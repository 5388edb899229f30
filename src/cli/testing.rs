//! A control port that gives prepared answers, for the clients' tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::client::Client;
use super::target::Target;
use crate::secret::SecretText;

/// Listens on a unix socket and answers one call after another.
pub(super) struct Port {
    dir: tempfile::TempDir,
    /// What was asked: head and body of each call.
    pub(super) asked: Receiver<String>,
}

impl Port {
    pub(super) fn answering(answers: &[(u16, &str)]) -> Self {
        let whole = |(status, body): &(u16, &str)| {
            format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        let answers: Vec<String> = answers.iter().map(whole).collect();
        Self::raw(&answers.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same with each answer as it goes over the wire; then the connection ends.
    pub(super) fn raw(answers: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(dir.path().join("port")).expect("a socket");
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let (tell, asked) = channel();
        thread::spawn(move || {
            for answer in answers {
                let Ok((stream, _)) = listener.accept() else { return };
                let mut reader = BufReader::new(&stream);
                let (mut head, mut length) = (String::new(), 0);
                while !head.ends_with("\r\n\r\n") {
                    let start = head.len();
                    if !reader.read_line(&mut head).is_ok_and(|n| n > 0) {
                        return;
                    }
                    if let Some(value) = head[start..].to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap_or(0);
                    }
                }
                // A refusal comes before the body; then nobody reads it.
                let refuses =
                    head.to_ascii_lowercase().contains("expect: 100-continue") && answer.starts_with("HTTP/1.1 4");
                let mut body = vec![0; length];
                if !refuses {
                    if head.to_ascii_lowercase().contains("expect: 100-continue") {
                        let _client_may_be_gone = (&stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
                        body = Vec::new();
                        while !body.ends_with(b"0\r\n\r\n") {
                            if reader.read_until(b'\n', &mut body).unwrap_or(0) == 0 {
                                return;
                            }
                        }
                    } else if reader.read_exact(&mut body).is_err() {
                        return;
                    }
                }
                let _test_may_be_over = tell.send(head + &String::from_utf8_lossy(&body));
                let _client_may_be_gone = (&stream).write_all(answer.as_bytes());
            }
        });
        Self { dir, asked }
    }

    pub(super) fn client(&self) -> Client {
        let token = SecretText::new("s3cret".to_owned());
        Client::new(Target::Unix(self.dir.path().join("port")), Some(token))
    }
}
