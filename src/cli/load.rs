//! `load`: a model into a file that appears when the model is whole, or to standard output.
//!
//! While it comes it has no name (see [`draft`]); a cut leaves nothing, and what was there before stays. What is no
//! plain file, a device or a pipe, is written to as it is.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Instant;

use lexopt::{Parser, ValueExt};
use serde::Serialize;

use super::args::{Command, Item, Options, Parsed, Wrong, folder, port_option};
use super::client::{Client, Model};
use super::draft::{self, Draft};
use super::meter::Meter;
use super::screen::{Screen, plain, size};
use super::target::Port;
use super::{Failure, exit, help};
use crate::crypto::Sha256;
use crate::limits::PIECE_BYTES;
use crate::name::{Folder, ResourceName};

const COMMAND: &str = "load";

#[derive(Debug)]
pub(super) struct LoadOptions {
    port: Port,
    wanted: Wanted,
    as_json: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    name: ResourceName,
    folder: Folder,
    /// `None` for standard output.
    to: Option<PathBuf>,
}

/// What moved, for `--json`.
#[derive(Serialize)]
pub(super) struct Moved<'a> {
    pub(super) name: &'a str,
    pub(super) folder: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<&'static str>,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) sha256: String,
}

pub(super) fn parse(parser: Parser) -> Result<Parsed, Wrong> {
    let known = &["-o", "--out", "--folder", "--config", "--url", "--token-file", "--json", "--help"];
    let mut options = Options { parser, command: COMMAND, known };
    let (mut port, mut as_json) = (Port::default(), false);
    let (mut name, mut within, mut to) = (None, Folder::default(), None);
    while let Some(item) = options.item()? {
        match item {
            Item::Option("-o" | "--out") => to = Some(options.value()?),
            Item::Option("--folder") => within = folder(&mut options)?,
            Item::Option("--json") => as_json = true,
            Item::Option("--help") => return Ok(Parsed::Text(help::LOAD)),
            Item::Option(option) => {
                port_option(option, &mut options, &mut port)?;
            }
            Item::Word(word) if name.is_none() => name = Some(resource(COMMAND, word)?),
            Item::Word(_) => return Err(Wrong::Together { command: COMMAND, what: "one model at a time" }),
        }
    }
    let (Some(name), Some(to)) = (name, to) else {
        return Err(Wrong::Together { command: COMMAND, what: "say which model, and where to: load NAME -o FILE" });
    };
    let wanted = Wanted { name, folder: within, to: (to != "-").then(|| to.into()) };
    Ok(Parsed::Command(Command::Load(LoadOptions { port, wanted, as_json })))
}

/// A word as the name of a model.
pub(super) fn resource(command: &'static str, word: OsString) -> Result<ResourceName, Wrong> {
    let text = word.string().map_err(|error| Wrong::Shape { command, said: error.to_string() })?;
    ResourceName::new(text).map_err(|refused| Wrong::Shape { command, said: refused.to_string() })
}

pub(super) fn run(options: &LoadOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    load(&options.port.client()?, &options.wanted, options.as_json, screen)
}

fn load(client: &Client, wanted: &Wanted, as_json: bool, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    if wanted.to.is_none() {
        screen.stand_aside();
    }
    // First of all: nobody waits for a model that has no place.
    let mut place = Place::of(wanted.to.as_deref())?;
    let begun = Instant::now();
    let model = client.load(&wanted.name, &wanted.folder)?;
    let meter = Meter::new((!as_json).then_some(&mut *screen), "loading", model.length);
    let (bytes, sha256) = place.fill(model, meter)?;
    place.finish()?;
    let seconds = begun.elapsed().as_secs_f64();
    screen.print(&if as_json {
        let folder = (!wanted.folder.is_none()).then_some(wanted.folder.as_str());
        let moved = Moved { name: wanted.name.as_str(), folder, result: None, bytes, seconds, sha256 };
        serde_json::to_string(&moved).unwrap_or_default()
    } else {
        format!("loaded {}  {} in {seconds:.1} s  sha256 {sha256}", plain(wanted.name.as_str()), size(bytes))
    });
    Ok(exit::DONE)
}

/// Where the model goes.
struct Place {
    /// For messages.
    shown: String,
    kind: Kind,
}

enum Kind {
    /// Standard output, a device, a pipe.
    Open(File),
    Draft(Draft),
}

impl Place {
    fn of(path: Option<&Path>) -> Result<Self, Failure> {
        let shown = path.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
        let kind = match path {
            // Not by way of `io::Stdout`, which looks for the ends of lines.
            None => io::stdout().as_fd().try_clone_to_owned().map(|fd| Kind::Open(File::from(fd))),
            Some(path) => open(path),
        };
        kind.map(|kind| Self { shown: shown.clone(), kind }).map_err(|error| cannot_write(&shown, &error))
    }

    /// Takes all of the model; how many bytes, and their hash.
    fn fill(&mut self, mut model: Model, mut meter: Meter<'_, '_>) -> Result<(u64, String), Failure> {
        let mut file = match &self.kind {
            Kind::Open(file) => file,
            Kind::Draft(draft) => draft.file(),
        };
        let (mut bytes, mut hash) = (0, Sha256::new());
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = match model.body.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.cut(bytes, model.length, &error)),
            };
            hash.update(&piece[..count]);
            file.write_all(&piece[..count]).map_err(|error| cannot_write(&self.shown, &error))?;
            bytes += count as u64;
            meter.done(bytes);
        }
        Ok((bytes, hash.finish().hex()))
    }

    fn cut(&self, bytes: u64, length: Option<u64>, error: &io::Error) -> Failure {
        let of = length.map(|length| format!(" of {}", size(length))).unwrap_or_default();
        let left = match self.kind {
            Kind::Draft(_) => "nothing was kept",
            Kind::Open(_) => "what was written is not the whole model",
        };
        let next = "journalctl -u azaion-loader -n 50 says why; then load it again";
        let said = format_args!("the model was cut after {}{of}: {error}; {left}\nnext: {next}", size(bytes));
        Failure::new(exit::FAILED, said)
    }

    /// The model is whole: the file gets its name.
    fn finish(self) -> Result<(), Failure> {
        let done = match self.kind {
            Kind::Open(mut file) => file.flush(),
            Kind::Draft(draft) => draft::publish(vec![draft]),
        };
        done.map_err(|error| cannot_write(&self.shown, &error))
    }
}

fn open(path: &Path) -> io::Result<Kind> {
    let known = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Draft::begin(path).map(Kind::Draft),
        known => known?,
    };
    if known.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !known.is_file() {
        return OpenOptions::new().write(true).open(path).map(Kind::Open);
    }
    // Through a link to what it names, as curl -o does; whoever could read the old file can read the new one.
    let draft = Draft::begin(&fs::canonicalize(path)?)?;
    if rustix::process::geteuid().is_root() {
        fchown(draft.file(), Some(known.uid()), Some(known.gid()))?;
    }
    draft.file().set_permissions(known.permissions())?;
    Ok(Kind::Draft(draft))
}

fn cannot_write(shown: &str, error: &io::Error) -> Failure {
    let next = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there, or write elsewhere with -o",
        _ => "choose another place with -o",
    };
    Failure::new(exit::FAILED, format_args!("cannot write to {shown}: {error}\nnext: {next}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Port as Fake;
    use super::*;

    fn parsed(words: &[&str]) -> Result<Wanted, String> {
        match parse(Parser::from_args(words.iter().copied())).map_err(|wrong| wrong.to_string())? {
            Parsed::Command(Command::Load(options)) => Ok(options.wanted),
            other => panic!("{other:?}"),
        }
    }

    fn wanted(name: &str, to: &Path) -> Wanted {
        Wanted { name: ResourceName::new(name).expect("a name"), folder: Folder::default(), to: Some(to.into()) }
    }

    fn loaded(fake: &Fake, wanted: &Wanted, as_json: bool) -> Result<String, Failure> {
        let mut out = Vec::new();
        load(&fake.client(), wanted, as_json, &mut Screen::into(&mut out, false))?;
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    fn names(dir: &Path) -> Vec<OsString> {
        fs::read_dir(dir).expect("there").map(|entry| entry.expect("read").file_name()).collect()
    }

    #[test]
    fn which_model_and_where_to() {
        let named = parsed(&["a b", "-o", "x", "--folder", "models"]).expect("parsed");
        assert_eq!((named.name.as_str(), named.folder.as_str()), ("a b", "models"));
        assert_eq!(named.to, Some("x".into()));
        assert_eq!(parsed(&["m", "-o", "-"]).expect("parsed").to, None);
        assert_eq!(parsed(&["-o-", "--", "-m"]).expect("parsed").name.as_str(), "-m");
        for (wrong, said) in [
            (&["m"][..], "load NAME -o FILE"),
            (&["-o", "x"], "load NAME -o FILE"),
            (&["m", "n", "-o", "x"], "one model"),
            (&["a/b", "-o", "x"], "holds no /"),
            (&["m", "-o", "x", "--folder", "a/b"], "one segment"),
        ] {
            let told = parsed(wrong).expect_err("wrong");
            assert!(told.contains(said), "{told}");
        }
    }

    #[test]
    fn a_name_is_escaped_and_the_file_appears_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let to = dir.path().join("model");
        fs::write(&to, "old").expect("written");
        fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o640)).expect("own file");
        let fake = Fake::answering(&[(200, "whole"), (200, "")]);
        let said = loaded(&fake, &wanted("ü %2F+?#a.onnx", &to), false).expect("loaded");
        assert!(said.contains("loaded ü %2F+?#a.onnx  5 B in "), "{said}");
        let asked = fake.asked.recv().expect("asked");
        assert!(asked.starts_with("POST /load/%C3%BC%20%252F%2B%3F%23a.onnx HTTP/1.1\r\n"), "{asked}");
        assert!(asked.ends_with("\r\n\r\n{\"folder\":\"\"}"), "{asked}");
        assert_eq!(fs::read(&to).expect("there"), b"whole");
        assert_eq!(to.metadata().expect("there").mode() & 0o777, 0o640, "who may read it stays");
        // A model of no bytes is one.
        let said = loaded(&fake, &wanted("empty", &to), true).expect("loaded");
        let said: serde_json::Value = serde_json::from_str(&said).expect("one JSON object");
        assert_eq!(
            (&said["name"], &said["bytes"], &said["folder"]),
            (&"empty".into(), &0.into(), &serde_json::Value::Null)
        );
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(said["sha256"], nothing);
        assert_eq!(fs::read(&to).expect("there"), b"");
        assert_eq!(names(dir.path()), ["model"]);
    }

    #[test]
    fn what_is_cut_leaves_what_was_there_and_says_so() {
        let length = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
        let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
        for raw in [length, chunks] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let to = dir.path().join("model");
            for before in [None, Some("old")] {
                before.inspect(|text| fs::write(&to, text).expect("written"));
                let failure = loaded(&Fake::raw(&[raw]), &wanted("m", &to), false).expect_err("cut");
                assert_eq!(failure.exit, exit::FAILED);
                assert!(
                    failure.said.contains("cut after 4 B") && failure.said.contains("\nnext: "),
                    "{}",
                    failure.said
                );
                assert_eq!(fs::read_to_string(&to).ok().as_deref(), before);
                assert_eq!(names(dir.path()).len(), usize::from(before.is_some()));
            }
        }
        // Without a length and without chunks its end would look like a cut.
        let dir = tempfile::tempdir().expect("a temporary directory");
        let fake = Fake::raw(&["HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nwhole?"]);
        let failure = loaded(&fake, &wanted("m", &dir.path().join("model")), false).expect_err("not the agent");
        assert!(failure.said.contains("is not azaion-loader"), "{}", failure.said);
    }

    #[test]
    fn a_place_that_cannot_be_is_told_before_anything_is_asked() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for to in [dir.path().to_owned(), dir.path().join("none/model")] {
            let fake = Fake::answering(&[(200, "whole")]);
            let failure = loaded(&fake, &wanted("m", &to), false).expect_err("no place");
            assert!(failure.said.contains("cannot write to") && failure.exit == exit::FAILED, "{}", failure.said);
            assert!(fake.asked.try_recv().is_err());
        }
    }

    #[test]
    fn a_link_is_followed_and_a_device_stays_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "old").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("made");
        loaded(&Fake::answering(&[(200, "whole")]), &wanted("m", &link), false).expect("loaded");
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).expect("there"), b"whole");
        loaded(&Fake::answering(&[(200, "whole")]), &wanted("m", Path::new("/dev/null")), false).expect("loaded");
        assert!(!fs::metadata("/dev/null").expect("there").is_file());
    }
}
