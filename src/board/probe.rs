//! Reads facts of the board: processor, memory, serial number, device tree.
//!
//! For the board it runs on (`root` is `/`) memory, architecture and the x86 processor's name come from `sysinfo`;
//! elsewhere from the files under `root`, so that a container sees its host and a test sees any board. Both ways give
//! the same text. What is read was written by firmware and by whoever made the card: every file is bounded, every text
//! is printable or refused. Nothing here is cached, nothing is written.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::arm::core_name;
use super::profile::Source;
use crate::config::read_small;
use crate::limits::{BOARD_FILE_BYTES, FACT_BYTES};

/// Where the board is seen.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    root: PathBuf,
}

/// A fact that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its text.
    pub text: String,
    /// The file, or `sysinfo`.
    pub place: String,
}

/// Why a fact is not there.
#[derive(Debug)]
pub enum FactMissing {
    /// None of these files exists.
    NoFile {
        /// Where it was looked for.
        places: Vec<PathBuf>,
    },
    /// A file is there and cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is there and does not hold the fact.
    Absent {
        /// The file, or `sysinfo`.
        place: String,
    },
    /// What is there cannot be part of a fingerprint.
    Garbage {
        /// The file, or `sysinfo`.
        place: String,
    },
}

impl FactMissing {
    /// Whether the board does not have it, rather than that it cannot be told.
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::NoFile { .. } | Self::Absent { .. })
    }
}

impl fmt::Display for FactMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile { places } => {
                f.write_str("there is no ")?;
                for (n, place) in places.iter().enumerate() {
                    write!(f, "{}{}", if n > 0 { " or " } else { "" }, place.display())?;
                }
                Ok(())
            }
            Self::Unreadable { path, .. } => write!(f, "cannot read {}", path.display()),
            Self::Absent { place } => write!(f, "{place} does not tell"),
            Self::Garbage { place } => {
                write!(f, "{place} holds no text of 1 to {FACT_BYTES} printable ascii characters")
            }
        }
    }
}

impl std::error::Error for FactMissing {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::NoFile { .. } | Self::Absent { .. } | Self::Garbage { .. } => None,
        }
    }
}

/// The device tree is a symbolic link from `/proc` into `/sys`; a container is often given `/sys` alone.
const DEVICE_TREES: [&str; 2] = ["sys/firmware/devicetree/base", "proc/device-tree"];

impl Probe {
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Whether memory and processor are this kernel's own. A container that was given `/sys` of its host and not
    /// `/proc` sees the host's memory and processor in its own `/proc`: they have no namespace.
    fn is_here(&self) -> bool {
        self.root == Path::new("/") || !self.root.join("proc").exists()
    }

    pub(super) fn fact(&self, source: Source) -> Result<Found, FactMissing> {
        match source {
            Source::CpuModel => self.cpu_model(),
            Source::Memory => self.memory(),
            Source::SocSerial => self.soc_serial(),
            Source::DmiProductName => self.text(&["sys/class/dmi/id/product_name"]),
            Source::EmmcCid => self.emmc_cid(),
            Source::Mac => self.mac(),
            Source::SdCid => self.sd_cid(),
            Source::MachineId => self.text(&["etc/machine-id"]),
        }
    }

    /// The architecture as `uname -m` names it, if it can be told.
    pub(super) fn arch(&self) -> Option<String> {
        if self.is_here() {
            return Some(sysinfo::System::cpu_arch());
        }
        // Linux has this file since 6.1.
        if let Ok(found) = self.text(&["proc/sys/kernel/arch"]) {
            return Some(found.text);
        }
        let (_, cpuinfo) = self.cpuinfo().ok()?;
        if entry(&cpuinfo, "CPU implementer").is_some() {
            Some("aarch64".to_owned())
        } else {
            entry(&cpuinfo, "vendor_id").map(|_| "x86_64".to_owned())
        }
    }

    /// The entries of the device tree's `compatible`, the most special first; none where there is no device tree.
    pub(super) fn compatible(&self) -> Vec<String> {
        let bytes = DEVICE_TREES.iter().find_map(|tree| self.read(&format!("{tree}/compatible")).ok());
        let bytes = bytes.map(|(_, bytes)| bytes).unwrap_or_default();
        bytes.split(|b| *b == 0).filter_map(printable).collect()
    }

    /// The device tree's name for people; empty where there is none.
    pub(super) fn model(&self) -> String {
        let places = DEVICE_TREES.map(|tree| format!("{tree}/model"));
        self.text(&places.each_ref().map(String::as_str)).map(|found| found.text).unwrap_or_default()
    }

    /// Where `path` of the board is seen.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn cpu_model(&self) -> Result<Found, FactMissing> {
        let (path, cpuinfo) = self.cpuinfo()?;
        let place = path.display().to_string();
        let number = |name| {
            let text = entry(&cpuinfo, name)?;
            u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
        };
        if let (Some(implementer), Some(part)) = (number("CPU implementer"), number("CPU part")) {
            return Ok(Found { text: core_name(implementer, part), place });
        }
        let (model, place) = if self.is_here() {
            (sysinfo_brand(), "sysinfo".to_owned())
        } else {
            (entry(&cpuinfo, "model name").map(str::to_owned), place)
        };
        match model {
            Some(model) => found(model.as_bytes(), place),
            None => Err(FactMissing::Absent { place }),
        }
    }

    fn memory(&self) -> Result<Found, FactMissing> {
        let (bytes, place) = if self.is_here() {
            (sysinfo_memory(), "sysinfo".to_owned())
        } else {
            let (path, bytes) = self.read("proc/meminfo")?;
            let meminfo = String::from_utf8_lossy(&bytes);
            let kib = entry(&meminfo, "MemTotal").and_then(|text| text.strip_suffix(" kB")?.trim().parse::<u64>().ok());
            (kib.and_then(|kib| kib.checked_mul(1024)), path.display().to_string())
        };
        match bytes {
            None | Some(0) => Err(FactMissing::Absent { place }),
            Some(bytes) => Ok(Found { text: format!("{} GiB", size_as_sold(bytes)), place }),
        }
    }

    fn soc_serial(&self) -> Result<Found, FactMissing> {
        let places = DEVICE_TREES.map(|tree| format!("{tree}/serial-number"));
        let serial = match self.text(&places.each_ref().map(String::as_str)) {
            Err(FactMissing::NoFile { places }) => {
                // The Raspberry Pi's and the older Jetsons' kernels tell it here as well.
                let (path, cpuinfo) = self.cpuinfo()?;
                match entry(&cpuinfo, "Serial") {
                    Some(serial) => found(serial.as_bytes(), path.display().to_string())?,
                    None => return Err(FactMissing::NoFile { places }),
                }
            }
            other => other?,
        };
        // What firmware says that was never given a number.
        if serial.text.bytes().all(|b| b == b'0') {
            return Err(FactMissing::Absent { place: serial.place });
        }
        Ok(Found { text: serial.text.to_ascii_lowercase(), ..serial })
    }

    fn cpuinfo(&self) -> Result<(PathBuf, String), FactMissing> {
        let (path, bytes) =
            if self.is_here() { Self::at(Path::new("/")).read("proc/cpuinfo") } else { self.read("proc/cpuinfo") }?;
        Ok((path, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The first of these files that is there, as one text.
    pub(super) fn text(&self, paths: &[&str]) -> Result<Found, FactMissing> {
        for path in paths {
            match self.read(path) {
                Err(FactMissing::NoFile { .. }) => {}
                Err(other) => return Err(other),
                Ok((path, bytes)) => return found(&bytes, path.display().to_string()),
            }
        }
        Err(FactMissing::NoFile { places: paths.iter().map(|path| self.root.join(path)).collect() })
    }

    fn read(&self, path: &str) -> Result<(PathBuf, Vec<u8>), FactMissing> {
        let path = self.root.join(path);
        match read_small(&path, BOARD_FILE_BYTES) {
            Ok(bytes) => Ok((path, bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FactMissing::NoFile { places: vec![path] }),
            Err(source) => Err(FactMissing::Unreadable { path, source }),
        }
    }
}

/// The memory in GiB that a board was sold with, of what its kernel has been left.
fn size_as_sold(bytes: u64) -> u64 {
    const SIZES: [u64; 14] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128];
    let gib = bytes.div_ceil(1 << 30);
    SIZES.into_iter().find(|size| gib <= *size).unwrap_or_else(|| gib.div_ceil(32) * 32)
}

/// The value of the first line `name : value`, as `/proc` writes its tables.
fn entry<'t>(table: &'t str, name: &str) -> Option<&'t str> {
    table.lines().find_map(|line| {
        let (left, right) = line.split_once(':')?;
        (left.trim_end() == name).then(|| right.trim()).filter(|value| !value.is_empty())
    })
}

fn found(bytes: &[u8], place: String) -> Result<Found, FactMissing> {
    match printable(bytes) {
        Some(text) => Ok(Found { text, place }),
        None => Err(FactMissing::Garbage { place }),
    }
}

/// Printable ASCII without the end marks and line ends around it, spaces inside brought to one.
fn printable(bytes: &[u8]) -> Option<String> {
    let text = str::from_utf8(bytes).ok()?.trim_matches(['\0', '\n', ' ']);
    let fits = (1..=FACT_BYTES).contains(&text.len()) && text.bytes().all(|b| matches!(b, b' '..=b'~'));
    fits.then(|| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
}

fn sysinfo_brand() -> Option<String> {
    let kind = sysinfo::RefreshKind::nothing().with_cpu(sysinfo::CpuRefreshKind::nothing());
    let system = sysinfo::System::new_with_specifics(kind).ok()?;
    system.cpus().first().map(|cpu| cpu.brand().to_owned()).filter(|brand| !brand.is_empty())
}

fn sysinfo_memory() -> Option<u64> {
    let kind = sysinfo::RefreshKind::nothing().with_memory(sysinfo::MemoryRefreshKind::nothing().with_ram());
    sysinfo::System::new_with_specifics(kind).ok().map(|system| system.total_memory())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::board) fn tree(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Probe) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Without it the probe takes the board for a container's host.
        std::fs::create_dir(dir.path().join("proc")).expect("created");
        for (path, bytes) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("created");
            std::fs::write(path, bytes).expect("written");
        }
        let probe = Probe::at(dir.path());
        (dir, probe)
    }

    pub(in crate::board) fn text(probe: &Probe, source: Source) -> Option<String> {
        probe.fact(source).ok().map(|found| found.text)
    }

    #[test]
    fn sysinfo_and_the_files_say_the_same_of_this_machine() {
        let here = Probe::at(Path::new("/"));
        let files = |name: &str| std::fs::read(format!("/proc/{name}")).expect("Linux");
        let (_dir, copy) = tree(&[("proc/meminfo", &files("meminfo")), ("proc/cpuinfo", &files("cpuinfo"))]);
        for source in [Source::CpuModel, Source::Memory] {
            assert_eq!(text(&here, source), text(&copy, source), "{source:?}");
        }
        assert_eq!(here.arch(), copy.arch());
    }

    #[test]
    fn memory_is_rounded_up_to_the_size_that_is_sold() {
        // 6481 and 7620 MB: one Orin Nano under two releases of its firmware (boards/README.md).
        for (kib, gib) in [
            (1, "1 GiB"),
            (1_048_576, "1 GiB"),
            (1_048_577, "2 GiB"),
            (8_245_736, "8 GiB"),
            (6481 * 1024, "8 GiB"),
            (7620 * 1024, "8 GiB"),
            (128 << 20, "128 GiB"),
            ((128 << 20) + 1, "160 GiB"),
            (u64::MAX >> 11, "8589934592 GiB"),
        ] {
            let (_dir, probe) = tree(&[("proc/meminfo", format!("MemTotal:  {kib} kB\nMemFree: 1 kB\n").as_bytes())]);
            assert_eq!(text(&probe, Source::Memory).as_deref(), Some(gib));
        }
    }

    #[test]
    fn the_serial_comes_from_the_device_tree_or_else_from_cpuinfo() {
        let sys: (&str, &[u8]) = ("sys/firmware/devicetree/base/serial-number", b"10000000A1B2C3D4\0");
        let proc: (&str, &[u8]) = ("proc/device-tree/serial-number", b"2\0");
        let cpuinfo: (&str, &[u8]) = ("proc/cpuinfo", b"processor : 0\n\nSerial\t\t: 3\n");
        for (files, serial) in
            [(&[sys, proc, cpuinfo][..], "10000000a1b2c3d4"), (&[proc, cpuinfo], "2"), (&[cpuinfo], "3")]
        {
            assert_eq!(text(&tree(files).1, Source::SocSerial).as_deref(), Some(serial));
        }
    }

    #[test]
    fn garbage_is_told_and_not_taken() {
        for bytes in [&b"\0"[..], b"", b"\xff\xfe", b"a\nb", b"\x1b[31m", &[b'x'; FACT_BYTES + 1]] {
            let (_dir, probe) = tree(&[("etc/machine-id", bytes)]);
            let error = probe.fact(Source::MachineId).expect_err("garbage");
            assert!(matches!(error, FactMissing::Garbage { .. }), "{error}");
        }
        let (_dir, probe) = tree(&[("etc/machine-id", &[b'x'; FACT_BYTES])]);
        assert!(probe.fact(Source::MachineId).is_ok());
        let (_dir, probe) = tree(&[("proc/device-tree/serial-number", b"00000000\0")]);
        assert!(matches!(probe.fact(Source::SocSerial), Err(FactMissing::Absent { .. })));
        let (_dir, probe) = tree(&[("proc/meminfo", b"MemTotal: lots\n"), ("proc/cpuinfo", b":::\n\0\n")]);
        assert!(matches!(probe.fact(Source::Memory), Err(FactMissing::Absent { .. })));
        assert!(matches!(probe.fact(Source::CpuModel), Err(FactMissing::Absent { .. })));
    }

    #[test]
    fn files_are_bounded() {
        let with = |n: usize| [&b"MemTotal: 1 kB\n"[..], &vec![b' '; n - 15]].concat();
        let (_dir, probe) = tree(&[("proc/meminfo", &with(BOARD_FILE_BYTES))]);
        assert!(probe.fact(Source::Memory).is_ok());
        let (_dir, probe) = tree(&[("proc/meminfo", &with(BOARD_FILE_BYTES + 1))]);
        assert!(matches!(probe.fact(Source::Memory), Err(FactMissing::Unreadable { .. })));
    }
}
