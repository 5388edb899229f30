//! The alerts of `images/prometheus/` ask for metrics that there are.

use std::collections::BTreeSet;

use super::*;
use crate::control::metrics::{Requests, exposition};

const ALERTS: &str = include_str!("../../../images/prometheus/alerts.yml");

#[test]
fn every_metric_of_an_alert_is_shown() {
    let cache =
        CacheView { entries: 1, bytes: 1, max_bytes: Some(1), bytes_written: 1, uploads_waiting: 1, usable: true };
    let gauges = Gauges {
        version: "0.1.0",
        uptime: Duration::from_secs(7),
        unlock: State::Idle,
        stages: Vec::new(),
        logged_in: false,
        board_changed: false,
        audit_lines: Some(1),
        cache: Some(cache),
        free: vec![("cache", 1)],
        clients: 0,
    };
    let page = exposition(&gauges, &Requests::default());
    let shown: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let is_part = |c: char| c == '_' || c.is_ascii_lowercase();
    let mut asked: BTreeSet<_> =
        ALERTS.split(|c| !is_part(c)).filter(|word| word.starts_with("azaion_loader_")).collect();
    asked = asked.into_iter().map(|name| name.trim_end_matches("_bucket")).collect();
    assert!(asked.len() > 8, "{asked:?}");
    assert_eq!(asked.difference(&shown).collect::<Vec<_>>(), Vec::<&&str>::new(), "{page}");
}
