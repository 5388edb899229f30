//! What several rooms say alike: the same words for the same step.

use std::io;

/// What helps when the clock is wrong. The time itself is not given: it would be pasted as it stands.
pub const SET_CLOCK: &str = "set the board's clock: sudo date -u -s 'YYYY-MM-DD HH:MM' with the time of now in UTC, or sudo timedatectl \
                             set-ntp true where there is internet; then try again";

/// What helps when flash is full.
pub const MAKE_ROOM: &str = "df -h shows where; free some: sudo journalctl --vacuum-size=50M, sudo docker image prune -f, sudo azaion-loader cache evict \
                             --all; then try again";

/// Whether flash has no room: `ENOSPC` and `EDQUOT`.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Bytes as people read them.
pub fn size(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_cut_and_not_rounded_up() {
        let shown = [0, 1023, 1024, 1535, 1 << 20, (1 << 30) - 1, 3 << 30].map(size);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.4 KiB", "1.0 MiB", "1023.9 MiB", "3.0 GiB"]);
    }
}
