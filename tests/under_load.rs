//! Large archives of real file trees: the port answers all the time, memory and threads stay bounded whatever the
//! size, and nothing of the plaintext is left in the agent's directories.
//!
//! A test binary of its own, and one test at a time in it: what is measured is the agent, not its neighbours.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use azaion_cloud::archive::{Image, Layer, Layout, Made};
use serde_json::json;

#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "e2e/harness.rs"]
mod harness;
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "e2e/samples.rs"]
mod samples;
#[path = "e2e/shown.rs"]
mod shown;
mod support;

use harness::{Agent, Board, binary, clean, cloud};
use shown::{docker_shows, skopeo_shows};
use support::engine::{Engine, Kind};

const MIB: u64 = 1 << 20;

/// As `Nice=` in images/azaion-loader.service: the port answers while the engine has every core.
const URGENCY: i32 = -5;

/// How soon 99 of 100 calls of `/health` are answered on a machine that lets them be.
const HEALTH_P99: Duration = Duration::from_millis(10);

/// Held by the one test that measures.
static ALONE: Mutex<()> = Mutex::new(());

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

/// Whether a file below `dir` holds the marker of the samples.
fn holds_marker(dir: &Path) -> bool {
    fs::read_dir(dir).expect("readable").any(|entry| {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            return holds_marker(&path);
        }
        let bytes = fs::read(&path).expect("readable");
        bytes.windows(samples::MARKER.len()).any(|window| window == samples::MARKER)
    })
}

/// Layers of one image, at most.
const LAYERS: usize = 8;

/// Images of this machine's own file trees, `size` bytes and hardly more, with the marker in each.
fn real_trees(size: u64) -> Vec<Image> {
    let marker = Layer::Files(vec![("etc/marker".into(), 0o644, samples::MARKER.to_vec())]);
    let mut layers = Vec::new();
    let mut so_far = 0;
    'full: for copy in 0.. {
        let before = so_far;
        for tree in ["/usr/share", "/usr/lib", "/usr/include"].iter().flat_map(fs::read_dir).flatten().flatten() {
            // Larger trees would overshoot, smaller ones make layers of nothing.
            let bytes = if tree.path().is_dir() { size_of(&tree.path()) } else { 0 };
            if (MIB..150 * MIB).contains(&bytes) {
                so_far += bytes;
                let to = format!("copy{copy}/{}", tree.file_name().display());
                layers.push(Layer::Directory { from: tree.path(), to });
            }
            if so_far >= size {
                break 'full;
            }
        }
        assert!(so_far > before, "this machine has no file trees to pack");
    }
    let images = layers.chunks(LAYERS - 1).enumerate();
    images
        .map(|(number, layers)| Image {
            tags: vec![format!("azaion/trees-{number}:1.0")],
            layers: std::iter::once(&marker).chain(layers).cloned().collect(),
            command: vec!["/x".into()],
        })
        .collect()
}

fn size_of(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |m| m.len()),
            _ => 0,
        })
        .sum()
}

/// Starts the agent as its unit does.
fn start(board: &Board) -> Agent {
    let mut command = clean(Path::new("nice"));
    command.arg("-n").arg(URGENCY.to_string()).arg(binary());
    Agent::start_by(command, &board.configure())
}

/// Unlocks under watch; returns the agent's peak of memory.
fn unlock_watched(board: &Board, agent: &mut Agent) -> u64 {
    let pid = agent.pid();
    let poller = Poller::start(&agent.base);
    assert_eq!(agent.unlock().0, 202);
    let mut most_threads = 0;
    let began = Instant::now();
    loop {
        most_threads = most_threads.max(threads(pid));
        let (_, answer) = agent.curl("/unlock/status", &[]);
        match answer["state"].as_str() {
            Some("ready") => break,
            Some("error") => panic!("{answer}\n{}", agent.log()),
            _ => assert!(began.elapsed() < Duration::from_mins(10), "{answer}"),
        }
    }
    let Polled { agent: times, echo } = poller.stop();
    let (p99, machine) = (within(&times, 990), within(&echo, 990));
    let peak = peak_rss(pid);
    eprintln!(
        "{} MiB in {:.1?}: {} polls of /health, median {:.2?}, p99 {p99:.2?}, max {:.2?} (echo: p99 {machine:.2?}, \
         max {:.2?}); {most_threads} threads, peak {} KiB",
        fs::metadata(board.archive()).map_or(0, |m| m.len()) / MIB,
        began.elapsed(),
        times.len(),
        within(&times, 500),
        within(&times, 1000),
        within(&echo, 1000),
        peak / 1024,
    );
    assert!(times.len() > 20, "the load was watched");
    assert!(p99 <= HEALTH_P99.max(machine * 2), "p99 of /health {p99:?}, of an echo {machine:?}");
    assert!(most_threads <= 4, "{most_threads} threads at work");
    let deadline = Instant::now() + Duration::from_secs(2);
    while threads(pid) > 2 {
        assert!(Instant::now() < deadline, "{} threads at rest", threads(pid));
    }
    assert!(peak <= 10 * MIB, "{peak} bytes of memory at the peak");
    for dir in ["state", "cache"] {
        assert!(!holds_marker(&board.path(dir)), "plaintext in {dir}");
    }
    peak
}

fn make(board: &Board, size: u64) -> Vec<Made> {
    let made = samples::write(&board.archive(), Layout::Oci, &real_trees(size));
    let length = fs::metadata(board.archive()).expect("there").len();
    assert!(length >= size, "{length} bytes");
    made
}

fn on_docker(kind: Kind, size: u64) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let engine = match Engine::start(kind) {
        Ok(engine) => engine,
        Err(reason) => return support::skip(&reason),
    };
    let cloud = cloud();
    let board = Board::new(&cloud).engine(&format!("unix://{}", engine.socket().display()));
    let made = make(&board, size);
    let mut agent = start(&board);
    unlock_watched(&board, &mut agent);
    docker_shows(&engine, &made);

    // Started again: ready without the cloud, within the inspects.
    assert_eq!(agent.terminate(), Some(0));
    drop(cloud);
    let mut agent = start(&board);
    agent.wait_for_line("ready: ");
    let (_, answer) = agent.curl("/unlock", &["-X", "POST"]);
    assert_eq!(answer, json!({"state": "ready"}));
}

#[test]
fn three_hundred_megabytes_into_docker_20() {
    on_docker(Kind::Docker20, 300_000_000);
}

#[test]
fn three_hundred_megabytes_into_docker_26_with_the_containerd_store() {
    on_docker(Kind::Docker26Containerd, 300_000_000);
}

#[test]
fn a_gigabyte_takes_no_more_memory_than_a_third_of_it() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cloud = cloud();
    let peaks: Vec<u64> = [300_000_000, 1_000_000_000]
        .into_iter()
        .map(|size| {
            let board = Board::new(&cloud);
            let made = make(&board, size);
            let mut agent = start(&board);
            let peak = unlock_watched(&board, &mut agent);
            skopeo_shows(&board, &made);
            peak
        })
        .collect();
    assert!(peaks[1] < peaks[0] + 2 * MIB, "memory grows with the archive: {peaks:?}");
}
