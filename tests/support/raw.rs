//! A client that sends whatever bytes it is given to the control port, and takes the answers apart. Included by the test
//! binaries that need what `curl` would not send.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Longer than every patience of the port.
const PATIENCE: Duration = Duration::from_secs(30);

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    /// Takes apart all that came on a connection; no call here was HEAD. What follows the last whole answer is an error.
    pub(crate) fn all(bytes: &[u8]) -> Vec<Self> {
        let mut text = std::str::from_utf8(bytes).expect("answers here are text");
        let mut replies = Vec::new();
        while !text.is_empty() {
            let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("a cut answer: {text:?}"));
            let status = head.strip_prefix("HTTP/1.1 ").expect("HTTP/1.1")[..3].parse().expect("a status");
            let length = field(head, "Content-Length").map_or(0, |digits| digits.parse().expect("a number"));
            replies.push(Self { status, head: head.to_owned(), body: rest[..length].to_owned() });
            text = &rest[length..];
        }
        replies
    }

    /// The value of a header field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

/// Connects; `address` is `127.0.0.1:PORT`.
pub(crate) fn connect(address: &str) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the port listens");
    socket.set_nodelay(true).expect("set");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket.set_write_timeout(Some(PATIENCE)).expect("set");
    socket
}

/// All that comes until the port closes its side, or resets the connection.
pub(crate) fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match socket.read_to_end(&mut all) {
        Ok(_) => all,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => all,
        Err(error) => panic!("neither an answer nor an end: {error}"),
    }
}

/// Sends `bytes` and nothing more, ends the sending side, and returns every answer.
pub(crate) fn talk(address: &str, bytes: &[u8]) -> Vec<Reply> {
    let mut socket = connect(address);
    // Who is refused early may be closed upon while it still sends.
    let _closed_upon = socket.write_all(bytes);
    let _closed = socket.shutdown(Shutdown::Write);
    Reply::all(&rest(&mut socket))
}

/// A call of its own connection, which stays open until the answer is there; `fields` are whole lines.
pub(crate) fn call(address: &str, method: &str, target: &str, fields: &str, body: &[u8]) -> Reply {
    let host = if fields.contains("Host: ") { "" } else { "Host: localhost\r\n" };
    let length = body.len();
    let head =
        format!("{method} {target} HTTP/1.1\r\n{host}{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let mut socket = connect(address);
    let _closed_upon = socket.write_all(&[head.as_bytes(), body].concat());
    let mut replies = Reply::all(&rest(&mut socket));
    assert_eq!(replies.len(), 1, "{method} {target}: {replies:?}");
    replies.remove(0)
}
