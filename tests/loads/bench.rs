//! A board at a real engine, and the plain way beside it: `docker load` of the same bytes.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::process::{Command, Stdio};

use azaion_cloud::{Cloud, archive};

use crate::api::{Api, holds, until};
use crate::harness::{self, Board, FRAGMENT};
use crate::record::{Record, differences, record};
use crate::support;
use crate::support::engine::{Engine, Kind};

/// An engine, a cloud, and boards one after the other.
pub(crate) struct Bench {
    pub(crate) kind: Kind,
    pub(crate) engine: Engine,
    pub(crate) api: Api,
    pub(crate) cloud: Cloud,
}

impl Bench {
    /// `None` where this engine cannot run here, which has been said.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        match Engine::start(kind) {
            Ok(engine) => Some(Self { kind, api: Api::of(&engine), engine, cloud: harness::cloud() }),
            Err(reason) => {
                support::skip(&reason);
                None
            }
        }
    }

    /// Removes every container and every image, and waits until the engine has forgotten their layers too.
    pub(crate) fn wipe(&self) {
        self.api.wipe();
        if self.kind == Kind::Docker26Containerd {
            self.engine.release();
        }
        let layers = match self.kind {
            Kind::Docker26Containerd => "data/containerd/daemon/io.containerd.content.v1.content/blobs/sha256",
            Kind::Docker20 | Kind::Docker26 => "data/image/overlay2/layerdb/sha256",
        };
        until("layers of removed images", || match fs::read_dir(self.engine.dir().join(layers)) {
            Ok(left) => holds(left.count() == 0, || format!("{layers} is not empty")),
            Err(_) => Ok(()),
        });
    }

    /// A new board at this engine.
    pub(crate) fn board(&self) -> Board {
        Board::new(&self.cloud).engine(&format!("unix://{}", self.engine.socket().display()))
    }

    /// A new board with this archive, whose agent unlocks it and ends.
    ///
    /// # Errors
    /// The error that the unlock ended in.
    pub(crate) fn by_agent(&self, tar: &[u8]) -> Result<(), String> {
        let board = self.board();
        put(&board, tar);
        unlock(&board)
    }

    /// `docker load`.
    ///
    /// # Errors
    /// What it says.
    pub(crate) fn plainly(&self, tar: &[u8]) -> Result<(), String> {
        let mut command = Command::new("docker");
        command.arg("load").env("DOCKER_HOST", format!("unix://{}", self.engine.socket().display()));
        command.env("DOCKER_CONFIG", self.engine.dir().join("config")).env_remove("DOCKER_CONTEXT");
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut load = piped.spawn().expect("the docker command can be run");
        // An engine that refuses the beginning does not read the rest.
        let _early_end = load.stdin.take().expect("it was asked for").write_all(tar);
        let output = load.wait_with_output().expect("ours");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
    }

    /// Loads `tar` by the agent into the engine that `prepare` leaves, then `plain` by `docker load` into the same, and
    /// tells how the ends differ: both must fail, or both succeed and the engine show the same in every field.
    pub(crate) fn compare(&self, tar: &[u8], plain: &[u8], prepare: &dyn Fn(&Self)) -> Compared {
        self.wipe();
        prepare(self);
        let by_agent = self.by_agent(tar);
        let after_agent = by_agent.is_ok().then(|| record(&self.api));
        self.wipe();
        prepare(self);
        let plainly = self.plainly(plain);
        let differs = match (&by_agent, &plainly, &after_agent) {
            (Ok(()), Ok(()), Some(agent)) => differences(agent, &record(&self.api)),
            (Err(_), Err(_), _) => Vec::new(),
            _ => vec![format!("the agent ends in {by_agent:?}, docker load in {plainly:?}")],
        };
        self.wipe();
        Compared { record: after_agent, failed: plainly.err(), differs }
    }
}

/// What became of two loads of one archive.
pub(crate) struct Compared {
    /// The engine after the agent's load, where it succeeded.
    pub(crate) record: Option<Record>,
    /// Why `docker load` failed, where it did.
    pub(crate) failed: Option<String>,
    pub(crate) differs: Vec<String>,
}

/// Many comparisons, all made before the test fails.
#[derive(Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    /// The archive loads, and as `docker load` loads it.
    pub(crate) fn same(&mut self, what: &str, compared: Compared) {
        if let Some(why) = &compared.failed {
            self.0.push(format!("{what}: docker load fails: {why}"));
        }
        self.same_end(what, compared);
    }

    /// The archive comes to the end that `docker load` brings it to, be it an error.
    pub(crate) fn same_end(&mut self, what: &str, compared: Compared) {
        let images = compared.record.map_or(0, |record| record.len());
        println!("{what}: {images} images, docker load: {:?}", compared.failed);
        self.0.extend(compared.differs.into_iter().map(|difference| format!("{what}: {difference}")));
    }

    /// Something else that was asked.
    pub(crate) fn hold(&mut self, what: &str, holds: Result<(), String>) {
        self.0.extend(holds.err().map(|why| format!("{what}: {why}")));
    }

    pub(crate) fn none(self) {
        assert!(self.0.is_empty(), "{} findings:\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// Puts an archive on a board, as a careful updater does: by a rename.
pub(crate) fn put(board: &Board, tar: &[u8]) {
    let new = board.path("new.enc");
    archive::encrypt(FRAGMENT, tar, BufWriter::new(File::create(&new).expect("created"))).expect("encrypted");
    fs::rename(new, board.archive()).expect("renamed");
}

/// Starts the agent, unlocks, and ends it.
///
/// # Errors
/// The error that the unlock ended in.
pub(crate) fn unlock(board: &Board) -> Result<(), String> {
    let mut agent = board.start();
    let (status, answer) = agent.unlock();
    assert!(status == 202 || status == 200, "{status} {answer}");
    let (answer, _) = agent.settle();
    let error = answer["error"].clone();
    let ready = answer["state"] == "ready";
    let log = if ready { String::new() } else { agent.log().to_owned() };
    agent.terminate();
    if ready { Ok(()) } else { Err(format!("{error}\n{log}")) }
}
