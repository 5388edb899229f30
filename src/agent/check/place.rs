//! The engine, the archive, and the room for both.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use smol::Timer;
use smol::future::or;

use super::super::parts::Parts;
use super::super::trust::Trust;
use crate::control::{Check, Finding};
use crate::engine::{EngineFacts, EngineStore};
use crate::error::{MAKE_ROOM, Report, size};
use crate::limits::{CHECK_STATE_BYTES, CHECK_STEP, ENGINE_SPARE_BYTES};
use crate::net::lend;
use crate::unlock::State;

/// The engine, and what it said of itself.
pub(super) async fn engine(parts: &Parts) -> (Check, Option<EngineFacts>) {
    const NAME: &str = "engine";
    let surveyed = or(async { Some(parts.engine.survey().await) }, async {
        Timer::after(CHECK_STEP).await;
        None
    });
    match surveyed.await {
        Some(Ok(facts)) => {
            let store = match facts.store {
                EngineStore::Classic => "classic store",
                EngineStore::Containerd => "containerd store",
                EngineStore::Layout => return (Check::ok(NAME, "an OCI directory"), Some(facts)),
            };
            let unknown = "unknown".to_owned();
            let text = format!(
                "Docker {}, API {}, {store} ({})",
                facts.version.as_ref().unwrap_or(&unknown),
                facts.api_version.as_ref().unwrap_or(&unknown),
                facts.driver.as_ref().unwrap_or(&unknown)
            );
            (Check::ok(NAME, text), Some(facts))
        }
        Some(Err(error)) => {
            let report = Report::of(&error);
            (Check::fail(NAME, format!("{} ({})", report.message, report.code), report.next), None)
        }
        None => {
            let next = "systemctl status docker; restart it if it hangs";
            (Check::fail(NAME, "the container engine does not answer in time", next), None)
        }
    }
}

/// The archive as it lies there, and its length.
pub(super) async fn archive(trust: &Trust, unlock: State) -> (Check, Option<u64>) {
    const NAME: &str = "archive";
    let ready = if unlock == State::Ready { "; its images are in the engine" } else { "" };
    let path = trust.path().to_owned();
    let length = match lend(move || ends(&path)).await {
        Ok(length) => length,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let next = "copy images.enc and images.enc.seal to where [archive] path says";
            let check = if unlock == State::Ready {
                Check::warn(NAME, "there is none; the images of the last one are in the engine", next)
            } else {
                Check::fail(NAME, "there is none", next)
            };
            return (check, None);
        }
        Err(error) => {
            let next = "ls -l it: the user azaion-loader must be able to read it; dmesg tells of failing flash";
            return (Check::fail(NAME, format!("it cannot be read: {error}"), next), None);
        }
    };
    let copy = "copy images.enc and images.enc.seal again and compare their lengths with the originals";
    if length < 32 || length % 16 != 0 {
        let text = format!("{}: no archive has this length, the copy was cut", size(length));
        return (Check::fail(NAME, text, copy), Some(length));
    }
    let check = match trust.look(length).await {
        Ok(seal) => Check::ok(NAME, format!("{}, both ends can be read, {seal}{ready}", size(length))),
        Err(report) => {
            Check::fail(NAME, format!("{}; {} ({})", size(length), report.message, report.code), report.next)
        }
    };
    (check, Some(length))
}

/// Reads the first and the last block; the length.
fn ends(path: &Path) -> std::io::Result<u64> {
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut block = [0; 16];
    for at in [0, metadata.size().saturating_sub(16)] {
        let _short_is_told_by_the_length = file.read_at(&mut block, at)?;
    }
    Ok(metadata.size())
}

/// What a file system has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    /// The file system: places on one are told together.
    device: u64,
    free: u64,
    total: u64,
    is_read_only: bool,
}

/// A directory that is not made yet will be made where the nearest one above it is.
fn room_of(path: &Path) -> std::io::Result<Room> {
    let mut ancestors = path.ancestors().filter(|path| !path.as_os_str().is_empty());
    loop {
        let path = ancestors.next().unwrap_or(Path::new("."));
        let stat = match rustix::fs::statvfs(path) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        return Ok(Room {
            device: std::fs::metadata(path)?.dev(),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            is_read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
        });
    }
}

async fn rooms(places: Vec<(&'static str, PathBuf)>) -> Vec<(&'static str, std::io::Result<Room>)> {
    lend(move || places.into_iter().map(|(name, path)| (name, room_of(&path))).collect()).await
}

/// Free bytes of each place that can be looked at.
pub(super) async fn free_of(places: &[(&'static str, PathBuf)]) -> Vec<(&'static str, u64)> {
    let rooms = rooms(places.to_vec()).await;
    rooms.into_iter().filter_map(|(name, room)| Some((name, room.ok()?.free))).collect()
}

/// Free space where something is written, and whether the archive's images have room.
pub(super) async fn space(
    places: &[(&'static str, PathBuf)],
    engine: &Option<EngineFacts>,
    archive: &Option<u64>,
    unlock: State,
) -> Check {
    let mut places = places.to_vec();
    places.extend(engine.iter().map(|facts| ("engine", facts.root_dir.clone())));
    // A board that is ready has its images. An unlock, which knows the layers that are there, may need less.
    let needed = if unlock == State::Ready { 0 } else { archive.map_or(0, |length| length + ENGINE_SPARE_BYTES) };
    judged(rooms(places).await, needed)
}

fn judged(rooms: Vec<(&'static str, std::io::Result<Room>)>, needed: u64) -> Check {
    const NAME: &str = "space";
    let (mut texts, mut worst, mut next) = (Vec::new(), Finding::Ok, None);
    let mut systems: Vec<(Vec<&'static str>, Room)> = Vec::new();
    for (name, room) in rooms {
        match room {
            Ok(room) => match systems.iter_mut().find(|(_, known)| known.device == room.device) {
                Some((names, _)) => names.push(name),
                None => systems.push((vec![name], room)),
            },
            // The engine may see another file system than the agent.
            Err(_) if name == "engine" => texts.push("engine: cannot be seen from here".to_owned()),
            Err(error) => {
                texts.push(format!("{name}: {error}"));
                worst = Finding::Warn;
                next = Some("ls -ld the directory: it must be the agent's");
            }
        }
    }
    for (names, room) in systems {
        let place = names.join(", ");
        texts.push(format!("{place}: {} of {} free", size(room.free), size(room.total)));
        let has_engine = names.contains(&"engine");
        let least = if has_engine && needed > 0 { ENGINE_SPARE_BYTES } else { CHECK_STATE_BYTES };
        let found = match room {
            Room { is_read_only: true, .. } => {
                texts.push("mounted read-only".to_owned());
                next = Some("dmesg tells why: most often failing flash, and then the card must be changed");
                Finding::Fail
            }
            Room { free, .. } if free < least => {
                texts.push(format!("it needs {}", size(least)));
                next = Some(MAKE_ROOM);
                // Logs are lost then, and nothing else.
                if names == ["log"] { Finding::Warn } else { Finding::Fail }
            }
            Room { free, .. } if has_engine && free < needed => {
                texts.push(format!("the archive's images may need {}", size(needed)));
                next = next.or(Some(MAKE_ROOM));
                Finding::Warn
            }
            Room { .. } => Finding::Ok,
        };
        worst = worst.max(found);
    }
    Check { name: NAME, result: worst, text: texts.join("; "), next: next.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_judged_by_what_it_is_for() {
        let room = |device, free, is_read_only| Ok(Room { device, free, total: 1 << 34, is_read_only });
        let good = judged(vec![("state", room(1, 1 << 30, false)), ("engine", room(1, 1 << 30, false))], 1 << 30);
        assert_eq!((good.result, &*good.text), (Finding::Ok, "state, engine: 1.0 GiB of 16.0 GiB free"));
        let full = judged(vec![("state", room(1, CHECK_STATE_BYTES - 1, false))], 0);
        assert!(full.result == Finding::Fail && full.next.as_deref() == Some(MAKE_ROOM), "{full:?}");
        let small = judged(vec![("engine", room(1, (1 << 30) - 1, false))], 1 << 30);
        assert!(small.result == Finding::Warn && small.text.contains("may need 1.0 GiB"), "{small:?}");
        let none = judged(vec![("engine", room(1, ENGINE_SPARE_BYTES - 1, false))], 1 << 30);
        assert_eq!(none.result, Finding::Fail);
        assert_eq!(judged(vec![("log", room(1, 0, false))], 0).result, Finding::Warn);
        let dead = judged(vec![("cache", room(1, 1 << 30, true)), ("state", room(2, 1 << 30, false))], 0);
        assert!(dead.result == Finding::Fail && dead.text.contains("read-only"), "{dead:?}");
        let unseen = || Err(std::io::ErrorKind::NotFound.into());
        assert_eq!(judged(vec![("engine", unseen())], 1 << 30).result, Finding::Ok);
        assert_eq!(judged(vec![("state", unseen())], 0).result, Finding::Warn);
    }

    #[test]
    fn both_ends_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("images.enc");
        std::fs::write(&path, [7; 48]).expect("written");
        assert_eq!(ends(&path).expect("read"), 48);
        assert!(ends(dir.path()).is_err(), "a directory is no archive");
        assert!(ends(&dir.path().join("no")).is_err());
    }
}
