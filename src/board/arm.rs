//! The names of ARM cores, by the implementer and part number that the core itself reports (`MIDR_EL1`).
//!
//! The numbers are those of `arch/arm64/include/asm/cputype.h` in Linux. A name goes into the fingerprint, so a line is
//! never changed, and a core that was once told by its numbers is never given a name: both would lock boards out. For
//! the same reason the name is not taken from a library, whose table grows.

/// The core's name, or its two numbers where it has none here.
pub(super) fn core_name(implementer: u32, part: u32) -> String {
    let name = match (implementer, part) {
        (0x41, 0xd03) => "Cortex-A53",
        (0x41, 0xd04) => "Cortex-A35",
        (0x41, 0xd05) => "Cortex-A55",
        (0x41, 0xd07) => "Cortex-A57",
        (0x41, 0xd08) => "Cortex-A72",
        (0x41, 0xd09) => "Cortex-A73",
        (0x41, 0xd0a) => "Cortex-A75",
        (0x41, 0xd0b) => "Cortex-A76",
        (0x41, 0xd0c) => "Neoverse-N1",
        (0x41, 0xd0d) => "Cortex-A77",
        (0x41, 0xd40) => "Neoverse-V1",
        (0x41, 0xd41) => "Cortex-A78",
        (0x41, 0xd42) => "Cortex-A78AE",
        (0x41, 0xd46) => "Cortex-A510",
        (0x41, 0xd47) => "Cortex-A710",
        (0x41, 0xd49) => "Neoverse-N2",
        (0x41, 0xd4b) => "Cortex-A78C",
        (0x41, 0xd4d) => "Cortex-A715",
        (0x41, 0xd4f) => "Neoverse-V2",
        (0x4e, 0x003) => "Denver 2",
        (0x4e, 0x004) => "Carmel",
        (0xc0, 0xac3) => "Ampere-1",
        _ => return format!("ARM {implementer:#04x} part {part:#05x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_without_a_name_is_told_by_its_numbers() {
        assert_eq!(core_name(0x41, 0xd0b), "Cortex-A76");
        assert_eq!(core_name(0x61, 0x22), "ARM 0x61 part 0x022");
    }
}
