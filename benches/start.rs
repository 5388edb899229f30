//! How soon a board is there: from the start of the process to the first 200 of `/health`, and to `ready` when the suite
//! is in the engine already. Medians of many starts; bounds in DESIGN: 20 ms, and 50 ms plus the inspects.
//!
//! `make bench`; the archive has 300 MB, because its size must not matter.

#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "../tests/e2e/harness.rs"]
mod harness;
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "../tests/e2e/samples.rs"]
mod samples;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use azaion_cloud::archive::Layout;
use harness::{Agent, Board, cloud};
use support::engine::{Engine, Kind};

const STARTS: usize = 21;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// From the spawn to the first 200 of `/health`, asked without a pause.
fn to_health(board: &Board, port: u16) -> Duration {
    let config = board.configure();
    let began = Instant::now();
    let mut agent = harness::clean(&harness::binary())
        .args(["run", "--config"])
        .arg(config)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the agent starts");
    loop {
        let mut answer = [0; 64];
        let asked = TcpStream::connect(("127.0.0.1", port)).and_then(|mut socket| {
            write!(socket, "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
            socket.read(&mut answer)
        });
        if asked.is_ok() && answer.starts_with(b"HTTP/1.1 200") {
            break;
        }
        std::thread::yield_now();
    }
    let took = began.elapsed();
    agent.kill().expect("it was ours");
    agent.wait().expect("it was ours");
    took
}

/// From the spawn to the line that says `ready`.
fn to_ready(board: &Board) -> Duration {
    let config = board.configure();
    let began = Instant::now();
    let mut agent = Agent::start(&config);
    agent.wait_for_line("ready: ");
    began.elapsed()
}

fn measure(name: &str, board: &Board) {
    samples::write(&board.archive(), Layout::Oci, &samples::large(300_000_000));
    board.start().unlock_to_ready();
    let times = (0..STARTS).map(|_| to_ready(board)).collect();
    println!("ready again, {name:<28} {:>8.1?}", median(times));
}

fn main() {
    let cloud = cloud();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let board = Board::new(&cloud).set("control", &format!("listen = [\"127.0.0.1:{port}\"]"));
    let times = (0..STARTS).map(|_| to_health(&board, port)).collect();
    println!("first 200 of /health                       {:>8.1?}", median(times));

    measure("OCI directory", &Board::new(&cloud));
    for (name, kind) in [("Docker 20.10", Kind::Docker20), ("Docker 26.1, containerd store", Kind::Docker26Containerd)]
    {
        match Engine::start(kind) {
            Ok(engine) => {
                measure(name, &Board::new(&cloud).engine(&format!("unix://{}", engine.socket().display())));
            }
            Err(reason) => println!("{name}: not measured: {reason}"),
        }
    }
}
