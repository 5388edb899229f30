//! `check --bundle FILE`: what a support call needs, in one plain text file without secrets.
//!
//! Each section is taken best effort: what cannot be had says why. Before it is written the whole text is searched for
//! every secret that the configuration names, and e-mail addresses, serial numbers and the like become the first digits of a MAC
//! under a key of the fleet, by which its owner sees that two files are of one board.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use rustix::system::uname;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::audit;
use super::screen::{plain, size};
use super::target::Port;
use super::{Failure, exit};
use crate::board::Board;
use crate::config::{Config, Settings, Source};
use crate::crypto::HmacSha256;
use crate::error::chain;
use crate::limits::{BUNDLE_LOG_BYTES, BUNDLE_LOGS, BUNDLE_SECRET_BYTES};
use crate::logging::Stamp;

/// Writes the file; one that is there is not touched.
pub(super) fn write(file: &Path, port: &Port, checks: &str) -> Result<(), Failure> {
    let config = Config::load(&port.source);
    let mask = Mask::of(config.as_ref().ok());
    let text = mask.scrubbed(&gathered(port, config.as_ref().ok(), checks, &mask));
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = open.and_then(|mut open| open.write_all(text.as_bytes()).and_then(|()| open.sync_all()));
    written.map_err(|error| {
        let next = "name a file that is not there yet, in a directory that can be written to";
        Failure::new(exit::FAILED, format_args!("cannot write {}: {error}\nnext: {next}", file.display()))
    })
}

fn gathered(port: &Port, config: Option<&Config>, checks: &str, mask: &Mask) -> String {
    let mut text = String::new();
    let mut section = |title: &str, content: String| {
        let content = if content.trim().is_empty() { "(nothing)" } else { content.trim_end() };
        let _fits = write!(text, "=== {title}\n{content}\n\n");
    };
    section("azaion-loader", format!("{} at {}", env!("CARGO_PKG_VERSION"), Stamp::now()));
    section("system", system());
    section("check", checks.to_owned());
    match port.client() {
        Ok(client) => {
            let said = |answer: Result<Vec<u8>, _>| match answer {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) => format!("not to be had: {}", chain(&error)),
            };
            section("status", said(client.status()));
            section(
                "unlock",
                client
                    .unlock_status(crate::limits::CLIENT_CALL)
                    .map_or_else(|error| chain(&error), |status| status.line),
            );
            section("events", client.recent_events().join("\n"));
            section("metrics", said(client.metrics()));
        }
        Err(failure) => section("status", failure.said),
    }
    section("audit", audit::summary(&port.source));
    section("config", shown_config(&port.source));
    if let Some(config) = config {
        section("board", board(config, mask));
        section("log", config.log.dir.as_deref().map_or_else(journal, newest_logs));
    } else {
        section("log", journal());
    }
    section("kernel", tail_of(Command::new("dmesg").args(["--level=emerg,alert,crit,err,warn"])));
    text
}

fn system() -> String {
    let name = uname();
    let wanted = MemoryRefreshKind::nothing().with_ram();
    let memory = System::new_with_specifics(RefreshKind::nothing().with_memory(wanted)).ok();
    let bytes =
        |of: fn(&System) -> u64| memory.as_ref().map_or_else(|| "unknown".to_owned(), |memory| size(of(memory)));
    format!(
        "{} {} {}; up {} s; memory {}, {} of it free",
        name.sysname().to_string_lossy(),
        name.release().to_string_lossy(),
        name.machine().to_string_lossy(),
        System::uptime().unwrap_or_default(),
        bytes(System::total_memory),
        bytes(System::available_memory)
    )
}

fn shown_config(source: &Source) -> String {
    match Settings::read(source, std::env::vars_os()) {
        Ok(settings) => settings.to_string(),
        Err(error) => chain(&error),
    }
}

/// The facts that the board is recognised by, each behind its mask.
fn board(config: &Config, mask: &Mask) -> String {
    match Board::detect(&config.board) {
        Err(error) => chain(&error),
        Ok(board) => {
            let mut text = format!("{} ({})\n", board.profile.title, board.profile.name);
            for fact in &board.facts {
                let value = match &fact.value {
                    Ok(found) => mask.short(&found.text),
                    Err(why) => why.to_string(),
                };
                let _fits = writeln!(text, "{}: {value}", fact.rule.label);
            }
            text
        }
    }
}

/// The ends of the log files that were written last; one of a day before the clock was set may be the one that matters.
fn newest_logs(dir: &Path) -> String {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut logs: Vec<(SystemTime, PathBuf)> = entries
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("loader-") && name.contains(".log")
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    logs.sort();
    if logs.is_empty() {
        return journal();
    }
    let mut text = String::new();
    for (_, path) in logs.iter().rev().take(BUNDLE_LOGS).rev() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let end = end_of(path).unwrap_or_else(|error| format!("not to be had: {error}"));
        let _fits = writeln!(text, "--- {name}\n{}", end.trim_end());
    }
    text
}

fn end_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BUNDLE_LOG_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(BUNDLE_LOG_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn journal() -> String {
    tail_of(Command::new("journalctl").args(["-u", "azaion-loader", "-n", "300", "--no-pager", "-o", "short-iso"]))
}

/// The end of what a command of the system says.
fn tail_of(command: &mut Command) -> String {
    match command.stdin(Stdio::null()).stderr(Stdio::null()).output() {
        Err(error) => format!("not to be had: {error}"),
        Ok(output) => {
            let from = output.stdout.len().saturating_sub(usize::try_from(BUNDLE_LOG_BYTES).unwrap_or(usize::MAX));
            String::from_utf8_lossy(&output.stdout[from..]).into_owned()
        }
    }
}

/// Everything in the configuration that nobody may read.
fn secrets(config: &Config) -> Vec<String> {
    let keys = &config.keys;
    let cdn = &config.cdn;
    let hidden = |secret: &Option<crate::secret::SecretText>| secret.as_ref().map(|secret| secret.expose().to_owned());
    let mut secrets = vec![keys.hardware.clone(), keys.api.clone(), keys.resource.clone()];
    secrets.extend(hidden(&cdn.downloader_access_secret).into_iter().chain(hidden(&cdn.uploader_access_secret)));
    secrets.extend(cdn.downloader_access_key.clone().into_iter().chain(cdn.uploader_access_key.clone()));
    secrets.extend(hidden(&config.board.fingerprint));
    secrets.extend(hidden(&config.control.token().ok().flatten()));
    if let Ok(Some(credentials)) = config.boot_credentials() {
        secrets.push(credentials.password().expose().to_owned());
    }
    // What is shorter would be found in every word, and is no secret.
    secrets.retain(|secret| secret.len() >= BUNDLE_SECRET_BYTES);
    secrets
}

/// What is taken out, and how what must not be read is shown.
struct Mask {
    secrets: Vec<String>,
    /// Of the fleet, so that its owner can compare two files; an address alone is too easy to guess.
    key: Vec<u8>,
}

impl Mask {
    fn of(config: Option<&Config>) -> Self {
        let key = config.map(|config| config.keys.resource_key().expose().as_bytes().to_vec());
        // Without a configuration there is nothing to compare with: any key will do.
        let random = || getrandom::u64().unwrap_or_default().to_be_bytes().to_vec();
        Self { secrets: config.map(secrets).unwrap_or_default(), key: key.unwrap_or_else(random) }
    }

    /// The text without secrets, without e-mail addresses, and without control characters.
    fn scrubbed(&self, text: &str) -> String {
        let without = self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "…"));
        let lines: Vec<String> = without.lines().map(|line| plain(&self.without_addresses(line))).collect();
        lines.join("\n") + "\n"
    }

    fn without_addresses(&self, line: &str) -> String {
        let part_of_address = |c: char| c.is_alphanumeric() || "@.!#$%&'*+/=?^_`{|}~-".contains(c);
        let mut shown = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(begin) = rest.find(part_of_address) {
            let length = rest[begin..].find(|c| !part_of_address(c)).unwrap_or(rest.len() - begin);
            let (before, word) = (&rest[..begin], &rest[begin..begin + length]);
            shown.push_str(before);
            match word.split_once('@') {
                Some((user, host)) if !user.is_empty() && host.contains('.') => {
                    let _fits = write!(shown, "<address {}>", self.short(word));
                }
                Some(_) | None => shown.push_str(word),
            }
            rest = &rest[begin + length..];
        }
        shown + rest
    }

    /// The beginning of its MAC (HMAC-SHA-256).
    fn short(&self, text: &str) -> String {
        let mut mac = HmacSha256::new(&self.key);
        mac.update(text.as_bytes());
        let [a, b, c, d, ..] = mac.finish();
        format!("{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_addresses_are_taken_out_wherever_they_stand() {
        let mask = Mask { secrets: vec!["canary-salt".to_owned(), "s3cret-токен".to_owned()], key: vec![7; 32] };
        let text = "a canary-salt b\n{\"email\":\"tech.nician+1@example.com\",\"x\":\"s3cret-токен\"}\nuser@ and @host stay\u{7}";
        let shown = mask.scrubbed(text);
        assert_eq!(
            shown,
            format!(
                "a … b\n{{\"email\":\"<address {}>\",\"x\":\"…\"}}\nuser@ and @host stay \n",
                mask.short("tech.nician+1@example.com")
            )
        );
    }

    #[test]
    fn a_file_that_is_there_is_not_touched_and_a_new_one_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("loader.toml");
        std::fs::write(&config, "[keys]\nhardware_salt = 'canary-hardware'\napi_salt = 'a'\nresource_salt = 'b'\n")
            .expect("written");
        let port = Port { source: Source::Given(config), url: Some("127.0.0.1:1".into()), token_file: None };
        let file = dir.path().join("support.txt");
        std::fs::write(&file, "mine").expect("written");
        assert!(write(&file, &port, "ok").is_err_and(|failure| failure.said.contains("not there yet")));
        assert_eq!(std::fs::read_to_string(&file).expect("there"), "mine");
        let file = dir.path().join("new.txt");
        write(&file, &port, "ok    clock  canary-hardware\n").expect("written");
        let text = std::fs::read_to_string(&file).expect("there");
        assert!(text.contains("=== check\nok    clock  …\n") && text.contains("=== config\n"), "{text}");
        assert!(!text.contains("canary"), "{text}");
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
