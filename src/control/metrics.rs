//! `GET /metrics`: what the agent counts and what it holds, in Prometheus' text format.
//!
//! The names are documented in `docs/CONTROL-PORT.md` and used by the alerts in `images/prometheus/`.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::desk::Gauges;
use super::routes::Call;
use crate::metrics;
use crate::unlock::State;

/// Answers by call and by the hundred of their status.
#[derive(Debug, Default)]
pub(super) struct Requests([[Cell<u64>; 3]; Call::ALL.len() + 1]);

const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

impl Requests {
    /// One more answer; `None` is a request that is none of the calls.
    pub(super) fn count(&self, call: Option<Call>, status: u16) {
        let row = call.map_or(Call::ALL.len(), |call| call as usize);
        let class = match status {
            0..400 => 0,
            400..500 => 1,
            500.. => 2,
        };
        if let Some(cell) = self.0.get(row).and_then(|row| row.get(class)) {
            cell.set(cell.get() + 1);
        }
    }

    fn shown(&self) -> Vec<Sample> {
        let names = Call::ALL.iter().map(|call| call.as_str()).chain(["none"]);
        let rows = names.zip(&self.0).flat_map(|(call, row)| {
            row.iter()
                .zip(CLASSES)
                .map(move |(seen, class)| (vec![("call", call.into()), ("status", class.into())], seen.get()))
        });
        rows.filter(|(_, seen)| *seen > 0).collect()
    }
}

type Labels = Vec<(&'static str, Cow<'static, str>)>;
type Sample = (Labels, u64);

/// The whole page.
pub(super) fn exposition(gauges: &Gauges, requests: &Requests) -> String {
    let mut registry = Registry::with_prefix("azaion_loader");
    registry.register_collector(Box::new(Page { gauges: gauges.clone(), requests: requests.shown() }));
    let mut page = String::new();
    // Writing text into memory does not fail.
    let _written = prometheus_text::encode(&mut page, &registry);
    page
}

#[derive(Debug)]
struct Page {
    gauges: Gauges,
    requests: Vec<Sample>,
}

/// A family of metrics on its way out.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counter(&mut self, name: &str, help: &str, samples: &[Sample]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        samples.iter().try_for_each(|(labels, value)| {
            let none: Option<&Exemplar<NoLabelSet, u64>> = None;
            if labels.is_empty() {
                return family.encode_counter(value, none);
            }
            family.encode_family(&Shown(labels))?.encode_counter(value, none)
        })
    }

    fn gauge(&mut self, name: &str, help: &str, samples: &[(Labels, f64)]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        samples.iter().try_for_each(|(labels, value)| {
            if labels.is_empty() {
                return family.encode_gauge(value);
            }
            family.encode_family(&Shown(labels))?.encode_gauge(value)
        })
    }

    fn number(&mut self, name: &str, help: &str, value: Option<u64>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.gauge(name, help, &[(Vec::new(), as_float(value))]))
    }
}

struct Shown<'a>(&'a Labels);

impl EncodeLabelSet for Shown<'_> {
    fn encode(&self, encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>) -> fmt::Result {
        let pairs: Vec<(&str, &str)> = self.0.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        pairs.as_slice().encode(encoder)
    }
}

/// Prometheus knows 64-bit floats alone: whole up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "8 PiB are shown to the byte, what is more is rounded")]
fn as_float(value: u64) -> f64 {
    value as f64
}

fn one(label: &'static str, value: impl Into<Cow<'static, str>>) -> Labels {
    vec![(label, value.into())]
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut out, gauges) = (Out(encoder), &self.gauges);
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        out.gauge("build_info", "The agent's version", &[(one("version", gauges.version), 1.0)])?;
        out.gauge("uptime_seconds", "Since the agent began", &[(Vec::new(), gauges.uptime.as_secs_f64())])?;
        out.number("audit_lines", "Lines of the audit log, ever", gauges.audit_lines)?;
        out.gauge(
            "board_changed",
            "Whether the board is not the one its keys were made for",
            &[(Vec::new(), flag(gauges.board_changed))],
        )?;
        out.gauge("logged_in", "Whether somebody is logged in", &[(Vec::new(), flag(gauges.logged_in))])?;
        let states = State::ALL.map(|state| (one("state", state.as_str()), flag(state == gauges.unlock)));
        out.gauge("unlock_state", "1 for the state that the unlock is in", &states)?;
        let durations: Vec<_> =
            gauges.stages.iter().map(|(stage, took)| (one("stage", *stage), took.as_secs_f64())).collect();
        out.gauge("unlock_stage_seconds", "How long each stage of the last unlock took", &durations)?;
        out.number("cache_bytes", "Held by the cache", gauges.cache.map(|cache| cache.bytes))?;
        out.number("cache_max_bytes", "What the cache may hold", gauges.cache.and_then(|cache| cache.max_bytes))?;
        out.number("cache_entries", "Models in the cache", gauges.cache.map(|cache| cache.entries))?;
        out.number("cache_usable", "Whether the cache works", gauges.cache.map(|cache| cache.usable.into()))?;
        out.number(
            "uploads_waiting",
            "Uploads that wait for the cloud",
            gauges.cache.map(|cache| cache.uploads_waiting),
        )?;
        let free: Vec<_> = gauges.free.iter().map(|(place, bytes)| (one("place", *place), as_float(*bytes))).collect();
        out.gauge("free_bytes", "Free on the file system of", &free)?;
        out.gauge("clients", "Connections to the control port", &[(Vec::new(), as_float(gauges.clients))])?;

        let results = |good: (&'static str, &metrics::Counter), bad: (&'static str, &metrics::Counter)| {
            [good, bad].map(|(name, counter)| (one("result", name), counter.get()))
        };
        out.counter(
            "logins",
            "Log-ins by their result",
            &results(("accepted", &metrics::LOGINS_ACCEPTED), ("refused", &metrics::LOGINS_REFUSED)),
        )?;
        out.counter(
            "unlocks",
            "Unlocks by their result",
            &results(("ready", &metrics::UNLOCKS_READY), ("error", &metrics::UNLOCKS_FAILED)),
        )?;
        out.counter("bytes", "Bytes that passed, by kind", &bytes())?;
        let written = [
            ("cache", gauges.cache.map_or(0, |cache| cache.bytes_written)),
            ("state", metrics::STATE_WRITTEN.get()),
            ("log", metrics::LOG_WRITTEN.get()),
        ];
        out.counter(
            "flash_written_bytes",
            "Written to flash; of the cache since it was made, else since the agent began",
            &written.map(|(kind, bytes)| (one("kind", kind), bytes)),
        )?;
        out.counter(
            "retries",
            "Attempts that failed and were made again, by why",
            &by_code(&metrics::RETRIES, "reason"),
        )?;
        out.counter("errors", "Errors that were told, by code", &by_code(&metrics::ERRORS, "code"))?;
        out.counter("requests", "Answers of the control port", &self.requests)?;
        let (sum, count, buckets) = metrics::TURNS.shown();
        let none = None::<&std::collections::HashMap<usize, Exemplar<NoLabelSet, f64>>>;
        out.0
            .encode_descriptor("loop_lag_seconds", "How long one turn of the loop took", None, MetricType::Histogram)?
            .encode_histogram(sum, count, &buckets, none)
    }
}

fn bytes() -> Vec<Sample> {
    [
        ("api_received", &metrics::API.received),
        ("api_sent", &metrics::API.sent),
        ("cdn_received", &metrics::CDN.received),
        ("cdn_sent", &metrics::CDN.sent),
        ("engine_received", &metrics::ENGINE.received),
        ("engine_sent", &metrics::ENGINE.sent),
        ("archive_read", &metrics::ARCHIVE_READ),
        ("models_received", &metrics::MODELS.received),
        ("models_sent", &metrics::MODELS.sent),
    ]
    .map(|(kind, counter)| (one("kind", kind), counter.get()))
    .into()
}

fn by_code(counters: &metrics::PerCode, label: &'static str) -> Vec<Sample> {
    counters.seen().map(|(code, times)| (one(label, code.as_str()), times)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::CacheView;

    #[test]
    fn every_sample_stands_under_its_type_and_hostile_text_stays_in_its_quotes() {
        let cache =
            CacheView { entries: 2, bytes: 3, max_bytes: None, bytes_written: 5, uploads_waiting: 0, usable: true };
        let gauges = Gauges {
            version: "1.\"2\n",
            uptime: Duration::from_millis(1500),
            unlock: State::Ready,
            stages: vec![("decrypting", Duration::from_millis(250))],
            logged_in: true,
            board_changed: false,
            audit_lines: Some(7),
            cache: Some(cache),
            free: vec![("cache", 1 << 40)],
            clients: 1,
        };
        let requests = Requests::default();
        requests.count(Some(Call::Status), 200);
        requests.count(Some(Call::Status), 204);
        requests.count(None, 404);
        let page = exposition(&gauges, &requests);
        for line in [
            r#"azaion_loader_build_info{version="1.\"2\n"} 1"#,
            "azaion_loader_uptime_seconds 1.5",
            r#"azaion_loader_unlock_state{state="ready"} 1"#,
            r#"azaion_loader_unlock_state{state="idle"} 0"#,
            r#"azaion_loader_unlock_stage_seconds{stage="decrypting"} 0.25"#,
            "azaion_loader_audit_lines 7",
            "azaion_loader_cache_usable 1",
            r#"azaion_loader_free_bytes{place="cache"} 1099511627776"#,
            r#"azaion_loader_requests_total{call="status",status="2xx"} 2"#,
            r#"azaion_loader_requests_total{call="none",status="4xx"} 1"#,
            r#"azaion_loader_flash_written_bytes_total{kind="cache"} 5"#,
            "# TYPE azaion_loader_loop_lag_seconds histogram",
        ] {
            assert!(page.lines().any(|had| had == line || had == format!("{line}.0")), "{line} is not in\n{page}");
        }
        assert!(!page.contains("cache_max_bytes"), "what is not known is not shown");
    }
}
