//! What an agent at work costs: how soon `/health` answers, its threads, its memory. Included by the test binaries that
//! measure, one test at a time in each.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Agent, Board, binary, clean};

pub(crate) const MIB: u64 = 1 << 20;

/// As `Nice=` in images/azaion-loader.service: the port answers while the engine has every core.
pub(crate) const URGENCY: i32 = -5;

/// How soon 99 of 100 calls of `/health` are answered on a machine that lets them be.
const HEALTH_P99: Duration = Duration::from_millis(10);

/// Watches an agent at work.
pub(crate) struct Watch {
    pid: u32,
    began: Instant,
    poller: Poller,
    most_threads: usize,
}

impl Watch {
    /// Begins to poll `/health`.
    pub(crate) fn start(agent: &Agent) -> Self {
        Self { pid: agent.pid(), began: Instant::now(), poller: Poller::start(&agent.base), most_threads: 0 }
    }

    /// Counts the threads at this moment; to be called again and again while the work is under way.
    pub(crate) fn look(&mut self) {
        self.most_threads = self.most_threads.max(threads(self.pid));
    }

    /// For how long it has watched.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends, prints what was seen of `what`, holds it against the bounds, and returns the peak of memory.
    pub(crate) fn end(self, what: &str) -> u64 {
        let took = self.began.elapsed();
        let Polled { agent: times, echo } = self.poller.stop();
        let (p99, machine) = (within(&times, 990), within(&echo, 990));
        let peak = peak_rss(self.pid);
        eprintln!(
            "{what} in {took:.1?}: {} polls of /health, median {:.2?}, p99 {p99:.2?}, max {:.2?} (echo: p99 {machine:.2?}, \
             max {:.2?}); {} threads, peak {} KiB",
            times.len(),
            within(&times, 500),
            within(&times, 1000),
            within(&echo, 1000),
            self.most_threads,
            peak / 1024,
        );
        assert!(times.len() > 20, "{what}: the work was watched");
        assert!(p99 <= HEALTH_P99.max(machine * 2), "{what}: p99 of /health {p99:?}, of an echo {machine:?}");
        assert!(self.most_threads <= 4, "{what}: {} threads at work", self.most_threads);
        let deadline = Instant::now() + Duration::from_secs(2);
        while threads(self.pid) > 2 {
            assert!(Instant::now() < deadline, "{what}: {} threads at rest", threads(self.pid));
        }
        assert!(peak <= 10 * MIB, "{what}: {peak} bytes of memory at the peak");
        peak
    }
}

/// Starts the agent as its unit does.
pub(crate) fn start(board: &Board) -> Agent {
    let mut command = clean(Path::new("nice"));
    command.arg("-n").arg(URGENCY.to_string()).arg(binary());
    Agent::start_by(command, &board.configure())
}

/// Polls `/health` on one kept-alive connection every 10 ms until told to stop, and beside it an echo: a thread of this
/// process that answers the same bytes and does nothing else. What the echo shows is the machine's share of a delay:
/// a kernel that does not preempt holds a core for tens of milliseconds while an engine unpacks small files.
struct Poller {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Polled>,
}

/// How long the answers took, sorted.
struct Polled {
    agent: Vec<Duration>,
    echo: Vec<Duration>,
}

/// One kept-alive connection to a port that is asked for its health.
struct Asker {
    address: String,
    socket: TcpStream,
}

impl Asker {
    fn to(address: &str) -> Self {
        let socket = TcpStream::connect(address).expect("the port listens");
        socket.set_nodelay(true).expect("set");
        Self { address: address.to_owned(), socket }
    }

    /// How long one answer took. A connection that ended between two requests is replaced: it serves a bounded number.
    fn ask(&mut self) -> Duration {
        loop {
            let began = Instant::now();
            let mut answer = [0; 4096];
            let mut filled = 0;
            if write!(self.socket, "GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).is_ok() {
                while !answer[..filled].ends_with(b"\"healthy\"}") {
                    match self.socket.read(&mut answer[filled..]) {
                        Ok(0) | Err(_) => break,
                        Ok(n) => filled += n,
                    }
                }
            }
            if filled > 0 {
                assert!(answer.starts_with(b"HTTP/1.1 200"), "a failed poll");
                return began.elapsed();
            }
            *self = Self::to(&self.address);
        }
    }
}

/// A thread that answers what the agent answers, until its one client goes.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        let _as_root_only = rustix::process::nice(URGENCY);
        let Ok((mut client, _)) = listener.accept() else { return };
        let _slower = client.set_nodelay(true);
        let mut request = [0; 4096];
        while client.read(&mut request).is_ok_and(|n| n > 0) {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"status\":\"healthy\"}";
            if client.write_all(answer).is_err() {
                return;
            }
        }
    });
    address
}

impl Poller {
    fn start(base: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let address = base.trim_start_matches("http://").to_owned();
        let ended = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            // What is measured is the agent's answer, not when this thread gets a core. On Linux this is the thread's own.
            let _as_root_only = rustix::process::nice(URGENCY);
            let (mut agent, mut echo) = (Asker::to(&address), Asker::to(&echo()));
            let mut polled = Polled { agent: Vec::new(), echo: Vec::new() };
            while !ended.load(Ordering::Relaxed) {
                let began = Instant::now();
                polled.agent.push(agent.ask());
                polled.echo.push(echo.ask());
                std::thread::park_timeout(Duration::from_millis(10).saturating_sub(began.elapsed()));
            }
            polled
        });
        Self { stop, thread }
    }

    fn stop(self) -> Polled {
        self.stop.store(true, Ordering::Relaxed);
        let mut polled = self.thread.join().expect("no poll failed");
        polled.agent.sort_unstable();
        polled.echo.sort_unstable();
        polled
    }
}

/// The time that so many thousandths of the answers kept.
fn within(times: &[Duration], thousandths: usize) -> Duration {
    times[(times.len() * thousandths / 1000).min(times.len() - 1)]
}

fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// The highest resident size so far, from the kernel.
fn peak_rss(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel says it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}
