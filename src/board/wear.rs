//! What the kernel tells of the flash: how worn an eMMC says it is, and errors that a file system has counted.
//!
//! `life_time` and `pre_eol_info` are fields of the extended CSD (JEDEC 84-B51, section 7.4); SD cards have none.
//! `errors_count` is ext4's own (Documentation/ABI/testing/sysfs-fs-ext4).

use std::fmt;
use std::path::Path;

use crate::config::read_small;
use crate::limits::BOARD_FILE_BYTES;

/// Devices that are looked at.
const DEVICES: usize = 16;

/// What is told of one device or file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wear {
    /// An eMMC: how much of its life is used, in tenths, for both kinds of its cells, and how much of its spare blocks.
    Emmc {
        /// `mmcblk0`
        device: String,
        /// 1 to 11: 0 to 10 % used, …, more than it was made for; the larger of both.
        life: u8,
        /// 1 normal, 2 80 % of the spare blocks are used, 3 90 %.
        spare: u8,
    },
    /// A file system has counted errors.
    Ext4 {
        /// `mmcblk0p2`
        device: String,
        /// How many.
        errors: u64,
    },
}

impl Wear {
    /// Whether it should be changed soon.
    pub fn is_worn(&self) -> bool {
        match self {
            Self::Emmc { life, spare, .. } => *life >= 9 || *spare == 2,
            Self::Ext4 { .. } => false,
        }
    }

    /// Whether it fails.
    pub fn is_failing(&self) -> bool {
        match self {
            Self::Emmc { life, spare, .. } => *life >= 11 || *spare >= 3,
            Self::Ext4 { errors, .. } => *errors > 0,
        }
    }
}

impl fmt::Display for Wear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emmc { device, life: 11.., .. } => write!(f, "{device}: used beyond what it was made for"),
            Self::Emmc { device, life, spare } => {
                write!(f, "{device}: {} to {} % of its life used", (life - 1) * 10, life * 10)?;
                f.write_str(match spare {
                    2 => ", 80 % of its spare blocks",
                    3.. => ", 90 % of its spare blocks",
                    _ => "",
                })
            }
            Self::Ext4 { device, errors: 0 } => write!(f, "{device}: no errors"),
            Self::Ext4 { device, errors } => write!(f, "{device}: {errors} errors of the file system"),
        }
    }
}

/// All that is told under `root`. Blocks on small files: lend it.
pub fn wear(root: &Path) -> Vec<Wear> {
    let mut told = Vec::new();
    for device in names(&root.join("sys/block")).into_iter().filter(|name| name.starts_with("mmcblk")) {
        let field = |name: &str| text(&root.join("sys/block").join(&device).join("device").join(name));
        let life = field("life_time").and_then(|text| text.split_whitespace().filter_map(hex).max());
        if let Some(life) = life.filter(|life| (1..=11).contains(life)) {
            let spare = field("pre_eol_info").and_then(|text| hex(text.trim())).unwrap_or_default();
            told.push(Wear::Emmc { device, life, spare });
        }
    }
    for device in names(&root.join("sys/fs/ext4")) {
        let errors = text(&root.join("sys/fs/ext4").join(&device).join("errors_count"));
        if let Some(errors) = errors.and_then(|text| text.trim().parse().ok()) {
            told.push(Wear::Ext4 { device, errors });
        }
    }
    told
}

/// The names in a directory, in order; none where there is none.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.take(DEVICES).filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.bytes().all(|byte| byte.is_ascii_graphic()));
    names.sort();
    names
}

fn text(path: &Path) -> Option<String> {
    String::from_utf8(read_small(path, BOARD_FILE_BYTES).ok()?).ok()
}

fn hex(text: &str) -> Option<u8> {
    u8::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, content: &str) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, content).expect("written");
    }

    #[test]
    fn what_the_kernel_tells_is_read_and_nonsense_is_passed_over() {
        let root = tempfile::tempdir().expect("a directory");
        assert!(wear(root.path()).is_empty());
        write(root.path(), "sys/block/mmcblk0/device/life_time", "0x01 0x02\n");
        write(root.path(), "sys/block/mmcblk0/device/pre_eol_info", "0x01\n");
        write(root.path(), "sys/block/mmcblk1/device/name", "SC64G\n");
        write(root.path(), "sys/block/mmcblk2/device/life_time", "0xff garbage\n");
        write(root.path(), "sys/block/sda/device/life_time", "0x09 0x09\n");
        write(root.path(), "sys/fs/ext4/mmcblk0p2/errors_count", "0\n");
        write(root.path(), "sys/fs/ext4/features/x", "1\n");
        let told = wear(root.path());
        assert_eq!(
            told.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["mmcblk0: 10 to 20 % of its life used", "mmcblk0p2: no errors"]
        );
        assert!(!told.iter().any(|wear| wear.is_worn() || wear.is_failing()));
        write(root.path(), "sys/fs/ext4/mmcblk0p2/errors_count", "3\n");
        assert!(wear(root.path())[1].is_failing());
    }

    #[test]
    fn worn_and_failing_are_told_apart() {
        let emmc = |life, spare| Wear::Emmc { device: "mmcblk0".into(), life, spare };
        for (wear, worn, failing) in [
            (emmc(8, 1), false, false),
            (emmc(9, 1), true, false),
            (emmc(1, 2), true, false),
            (emmc(1, 3), false, true),
            (emmc(11, 1), true, true),
        ] {
            assert_eq!((wear.is_worn(), wear.is_failing()), (worn, failing), "{wear}");
        }
        assert!(emmc(11, 1).to_string().ends_with("beyond what it was made for"));
    }
}
