//! Facts of sysfs that belong to a device: the card behind a flash block device, the address of a network interface.
//!
//! Interfaces and block devices are named by the order in which a kernel finds them, and a new kernel may name them
//! otherwise: a fact never depends on a name. What is plugged in is left out.

use std::path::PathBuf;

use super::probe::{FactMissing, Found, Probe};
use crate::limits::{BOARD_DEVICES, FACT_BYTES};

/// What kind of card a block device of the MMC bus is, as `device/type` says.
const EMMC: &str = "MMC";
const SD: &str = "SD";

const BLOCK: &str = "sys/block";
const NET: &str = "sys/class/net";

/// A card identification without its checksum, in hexadecimal digits.
const CID_DIGITS: usize = 30;

/// `ARPHRD_ETHER` of `linux/if_arp.h`: Ethernet and Wi-Fi.
const ETHERNET: &str = "1";

/// `NET_ADDR_PERM` of `linux/netdevice.h`: the address was given with the device, not by chance and not by a person.
const PERMANENT: &str = "0";

impl Probe {
    pub(super) fn emmc_cid(&self) -> Result<Found, FactMissing> {
        self.cid(EMMC)
    }

    pub(super) fn sd_cid(&self) -> Result<Found, FactMissing> {
        self.cid(SD)
    }

    /// The lowest card identification of this kind of card: 16 bytes (JESD84-B51 section 7.2, SD Physical Layer 5.2), that a
    /// maker gives once. The last is a checksum that many controllers drop (`sdhci_read_rsp_136` in Linux): left out.
    fn cid(&self, kind: &str) -> Result<Found, FactMissing> {
        let mut lowest: Option<Found> = None;
        let mut fault = None;
        let devices = self.names(BLOCK)?;
        for device in devices.iter().filter(|name| is_card(name)) {
            let file = |name: &str| format!("{BLOCK}/{device}/device/{name}");
            if !self.text(&[&file("type")]).is_ok_and(|found| found.text == kind) {
                continue;
            }
            // An MMC card in a slot says that it is one too; only soldered flash has boot areas.
            if kind == EMMC && !devices.iter().any(|name| name.strip_prefix(device.as_str()) == Some("boot0")) {
                continue;
            }
            match self.text(&[&file("cid")]) {
                Ok(found) if is_cid(&found.text) => {
                    let found = Found { text: found.text[..CID_DIGITS].to_ascii_lowercase(), ..found };
                    if lowest.as_ref().is_none_or(|known| found.text < known.text) {
                        lowest = Some(found);
                    }
                }
                Ok(found) => fault = Some(FactMissing::Garbage { place: found.place }),
                Err(missing) => fault = Some(missing),
            }
        }
        let none = || FactMissing::Absent { place: self.path(BLOCK).join("mmcblk*/device").display().to_string() };
        lowest.ok_or_else(|| fault.unwrap_or_else(none))
    }

    /// The permanent addresses of the network interfaces that are built in, sorted, separated by commas; as many as fit.
    pub(super) fn mac(&self) -> Result<Found, FactMissing> {
        let mut addresses = Vec::new();
        for interface in self.names(NET)? {
            let text = |name: &str| self.text(&[&format!("{NET}/{interface}/{name}")]).map(|found| found.text);
            let says = |name: &str, wanted: &str| text(name).is_ok_and(|text| text == wanted);
            if !self.is_plugged_in(&interface) && says("type", ETHERNET) && says("addr_assign_type", PERMANENT) {
                addresses.extend(text("address").ok().filter(|address| is_address(address)));
            }
        }
        addresses.sort();
        addresses.dedup();
        let mut all = String::new();
        for address in addresses {
            let comma = if all.is_empty() { "" } else { "," };
            if all.len() + comma.len() + address.len() > FACT_BYTES {
                break;
            }
            all.push_str(comma);
            all.push_str(&address);
        }
        if all.is_empty() {
            return Err(FactMissing::Absent { place: self.path(NET).join("*/address").display().to_string() });
        }
        Ok(Found { text: all, place: self.path(NET).join("*/address").display().to_string() })
    }

    /// Whether an interface is virtual, or hangs on USB: such a one is here today and gone tomorrow.
    fn is_plugged_in(&self, interface: &str) -> bool {
        // The link alone: what it points at need not be there, as in a tree that was copied from a board.
        match std::fs::read_link(self.path(&format!("{NET}/{interface}/device/subsystem"))) {
            Ok(bus) => bus.file_name().is_none_or(|bus| bus == "usb"),
            Err(_) => true,
        }
    }

    /// The entries of a directory by name, at most [`BOARD_DEVICES`].
    fn names(&self, dir: &str) -> Result<Vec<String>, FactMissing> {
        let path: PathBuf = self.path(dir);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(FactMissing::NoFile { places: vec![path] });
            }
            Err(source) => return Err(FactMissing::Unreadable { path, source }),
        };
        let names = entries.take(BOARD_DEVICES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.collect())
    }
}

/// Whether a block device is a whole card: `mmcblk0`, not its partitions, nor the boot areas of an eMMC.
fn is_card(name: &str) -> bool {
    name.strip_prefix("mmcblk").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn is_cid(text: &str) -> bool {
    text.len() == CID_DIGITS + 2 && text.bytes().all(|b| b.is_ascii_hexdigit()) && text.bytes().any(|b| b != b'0')
}

fn is_address(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    parts.len() == 6 && parts.iter().all(is_byte) && parts.iter().any(|part| *part != "00")
}

#[cfg(test)]
mod tests {
    use super::super::probe::tests::{text, tree};
    use super::super::profile::Source;
    use super::*;

    const CID: &str = "150100444a4e423452079f43adb9a4ab";

    /// A block device of the MMC bus.
    fn card(dir: &tempfile::TempDir, name: &str, kind: &str, cid: &str) {
        let device = dir.path().join(format!("sys/block/{name}/device"));
        std::fs::create_dir_all(&device).expect("made");
        std::fs::write(device.join("type"), format!("{kind}\n")).expect("written");
        std::fs::write(device.join("cid"), format!("{cid}\n")).expect("written");
    }

    /// A network interface; no bus: a virtual one.
    fn interface(dir: &tempfile::TempDir, name: &str, address: &str, bus: Option<&str>, assigned: &str) {
        let path = dir.path().join("sys/class/net").join(name);
        std::fs::create_dir_all(path.join("device")).expect("made");
        for (file, content) in [("address", address), ("type", "1"), ("addr_assign_type", assigned)] {
            std::fs::write(path.join(file), format!("{content}\n")).expect("written");
        }
        if let Some(bus) = bus {
            std::os::unix::fs::symlink(format!("../../../../bus/{bus}"), path.join("device/subsystem"))
                .expect("linked");
        }
    }

    #[test]
    fn soldered_flash_and_cards_are_told_apart_by_their_kind_not_by_their_number() {
        let (dir, probe) = tree(&[]);
        let other = CID.replace("15", "fe");
        assert!(matches!(probe.fact(Source::EmmcCid), Err(FactMissing::NoFile { .. })));
        card(&dir, "mmcblk1", EMMC, &CID.to_ascii_uppercase());
        card(&dir, "mmcblk0", SD, &other);
        card(&dir, "mmcblk1boot0", EMMC, "00");
        card(&dir, "sda", EMMC, "00");
        card(&dir, "mmcblk3", EMMC, &CID.replace("15", "00"));
        assert_eq!(text(&probe, Source::EmmcCid).as_deref(), Some(&CID[..30]), "a card in a slot has no boot area");
        assert_eq!(text(&probe, Source::SdCid).as_deref(), Some(&other[..30]));
        card(&dir, "mmcblk7", EMMC, &other);
        card(&dir, "mmcblk7boot0", EMMC, &other);
        assert_eq!(text(&probe, Source::EmmcCid).as_deref(), Some(&CID[..30]), "the lowest, whatever its number");
    }

    #[test]
    fn a_card_that_does_not_tell_is_no_fact() {
        for cid in ["", "0000", &"0".repeat(32), &CID[1..], &CID.replace('a', "x"), "\u{1b}[31m"] {
            let (dir, probe) = tree(&[]);
            card(&dir, "mmcblk0", SD, cid);
            assert!(matches!(probe.fact(Source::SdCid), Err(FactMissing::Garbage { .. })), "{cid:?}");
            assert!(matches!(probe.fact(Source::EmmcCid), Err(FactMissing::Absent { .. })));
        }
    }

    #[test]
    fn only_addresses_of_what_is_built_in_count_in_whatever_order_they_come() {
        let (dir, probe) = tree(&[]);
        interface(&dir, "lo", "00:00:00:00:00:00", None, "0");
        interface(&dir, "docker0", "02:42:5a:00:00:01", None, "3");
        interface(&dir, "usb0", "00:0e:c6:01:02:03", Some("usb"), "0");
        interface(&dir, "wlan1", "da:a1:19:01:02:03", Some("pci"), "3");
        interface(&dir, "odd0", "none", Some("pci"), "0");
        assert!(matches!(probe.fact(Source::Mac), Err(FactMissing::Absent { .. })));
        interface(&dir, "wlan0", "d8:3a:dd:01:02:04", Some("sdio"), "0");
        interface(&dir, "eth0", "d8:3a:dd:01:02:03", Some("platform"), "0");
        let both = Some("d8:3a:dd:01:02:03,d8:3a:dd:01:02:04".to_owned());
        assert_eq!(text(&probe, Source::Mac), both);
        std::fs::rename(dir.path().join("sys/class/net/eth0"), dir.path().join("sys/class/net/zz")).expect("renamed");
        assert_eq!(text(&probe, Source::Mac), both, "a new kernel calls it otherwise");
        for n in 0..9 {
            interface(&dir, &format!("p{n}"), &format!("d8:3a:dd:01:03:0{n}"), Some("pci"), "0");
        }
        assert!(text(&probe, Source::Mac).is_some_and(|text| text.len() <= FACT_BYTES && text.split(',').count() == 7));
    }

    #[test]
    fn a_directory_without_end_is_left_at_its_bound() {
        let (dir, probe) = tree(&[]);
        for n in 0..=BOARD_DEVICES {
            std::fs::create_dir_all(dir.path().join(format!("sys/block/loop{n}"))).expect("made");
        }
        assert_eq!(probe.names(BLOCK).expect("readable").len(), BOARD_DEVICES);
    }
}
