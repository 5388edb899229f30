//! Stands before an engine's socket and records what is sent to it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Bytes of each connection, as the agent sent them.
type Sent = Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>;

/// A socket that passes everything on.
pub(crate) struct Proxy {
    pub(crate) socket: PathBuf,
    sent: Sent,
    held: Arc<Held>,
}

/// Requests that are kept back.
#[derive(Default)]
struct Held {
    /// How the requests begin that are kept back, and whether one was.
    begins: Mutex<(Option<&'static [u8]>, bool)>,
    changed: Condvar,
}

impl Held {
    /// Comes back when what begins so is let through.
    fn wait(&self, bytes: &[u8]) {
        let mut begins = self.begins.lock().unwrap_or_else(PoisonError::into_inner);
        while begins.0.is_some_and(|begin| bytes.starts_with(begin)) {
            begins.1 = true;
            self.changed.notify_all();
            begins = self.changed.wait(begins).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The body of a load, as far as it was sent.
pub(crate) struct Load {
    pub(crate) body: Vec<u8>,
    /// Bytes that its head announced.
    pub(crate) announced: usize,
}

impl Proxy {
    /// Listens at `socket` and passes on to `engine`; for as long as the process lives.
    pub(crate) fn start(socket: &Path, engine: &Path) -> Self {
        let listener = UnixListener::bind(socket).expect("a free path");
        let sent = Sent::default();
        let held = Arc::<Held>::default();
        let (connections, engine, holds) = (Arc::clone(&sent), engine.to_owned(), Arc::clone(&held));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&engine)) else { continue };
                let record = Arc::new(Mutex::new(Vec::new()));
                connections.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&record));
                let (from, to) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
                let holds = Arc::clone(&holds);
                std::thread::spawn(move || pass(from, to, Some((&record, &holds))));
                std::thread::spawn(move || pass(server, client, None));
            }
        });
        Self { socket: socket.to_owned(), sent, held }
    }

    /// From now on keeps requests back that begin so.
    pub(crate) fn hold(&self, begin: &'static [u8]) {
        *self.held.begins.lock().unwrap_or_else(PoisonError::into_inner) = (Some(begin), false);
    }

    /// Waits until one is kept back.
    pub(crate) fn wait_for_held(&self) {
        let begins = self.held.begins.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.held.changed.wait_while(begins, |begins| !begins.1).unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets everything through.
    pub(crate) fn release(&self) {
        self.held.begins.lock().unwrap_or_else(PoisonError::into_inner).0 = None;
        self.held.changed.notify_all();
    }

    /// All loads since the last call.
    pub(crate) fn loads(&self) -> Vec<Load> {
        let connections = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut loads = Vec::new();
        for record in connections.iter() {
            let bytes = std::mem::take(&mut *record.lock().unwrap_or_else(PoisonError::into_inner));
            requests(&bytes, &mut loads);
        }
        loads
    }
}

fn pass(mut from: UnixStream, mut to: UnixStream, agent: Option<(&Mutex<Vec<u8>>, &Held)>) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(n) = from.read(&mut piece) {
        if n == 0 {
            break;
        }
        // Before it is passed on: the engine has nothing that is not recorded.
        if let Some((record, held)) = agent {
            held.wait(&piece[..n]);
            record.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..n]);
        }
        if to.write_all(&piece[..n]).is_err() {
            break;
        }
    }
    let _the_other_end_may_be_gone = (from.shutdown(Shutdown::Read), to.shutdown(Shutdown::Write));
}

/// The requests of one connection, one behind the other; those that load are kept.
fn requests(mut bytes: &[u8], loads: &mut Vec<Load>) {
    while let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let announced = length.map_or(0, |length| length.trim().parse().expect("a number"));
        let body = &bytes[end + 4..];
        let body = &body[..body.len().min(announced)];
        if head.starts_with("post /images/load") {
            loads.push(Load { body: body.to_vec(), announced });
        }
        bytes = &bytes[end + 4 + body.len()..];
    }
}
