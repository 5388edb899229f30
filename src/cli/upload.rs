//! `upload`: a file, or standard input, to the cloud by way of the board.
//!
//! The board lets an upload in, or refuses it, before the first byte is sent; it may still refuse in the middle, and then
//! what it says is shown.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Instant;

use lexopt::Parser;

use super::args::{Command, Item, Options, Parsed, Wrong, folder, port_option};
use super::client::{Client, Upload};
use super::load::{Moved, resource};
use super::meter::Meter;
use super::screen::{Screen, plain, size};
use super::target::Port;
use super::wire::Early;
use super::{Failure, exit, help};
use crate::crypto::Sha256;
use crate::name::{Folder, ResourceName};

const COMMAND: &str = "upload";

#[derive(Debug)]
pub(super) struct UploadOptions {
    port: Port,
    file: Given,
    as_json: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Given {
    /// `None` for standard input.
    from: Option<PathBuf>,
    name: ResourceName,
    folder: Folder,
}

pub(super) fn parse(parser: Parser) -> Result<Parsed, Wrong> {
    let known = &["--name", "--folder", "--config", "--url", "--token-file", "--json", "--help"];
    let mut options = Options { parser, command: COMMAND, known };
    let (mut port, mut as_json) = (Port::default(), false);
    let (mut from, mut name, mut within) = (None, None, Folder::default());
    while let Some(item) = options.item()? {
        match item {
            Item::Option("--name") => name = Some(resource(COMMAND, options.value()?)?),
            Item::Option("--folder") => within = folder(&mut options)?,
            Item::Option("--json") => as_json = true,
            Item::Option("--help") => return Ok(Parsed::Text(help::UPLOAD)),
            Item::Option(option) => {
                port_option(option, &mut options, &mut port)?;
            }
            Item::Word(word) if from.is_none() => from = Some(word),
            Item::Word(_) => return Err(Wrong::Together { command: COMMAND, what: "one file at a time" }),
        }
    }
    let Some(from) = from else {
        return Err(Wrong::Together { command: COMMAND, what: "say which file: upload FILE" });
    };
    let from = (from != "-").then(|| PathBuf::from(from));
    let name = match (name, from.as_ref().and_then(|path| path.file_name())) {
        (Some(name), _) => name,
        (None, Some(file)) => resource(COMMAND, file.to_owned())?,
        (None, None) => {
            return Err(Wrong::Together { command: COMMAND, what: "there is no file whose name to take: add --name" });
        }
    };
    let file = Given { from, name, folder: within };
    Ok(Parsed::Command(Command::Upload(UploadOptions { port, file, as_json })))
}

pub(super) fn run(options: &UploadOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    upload(&options.port.client()?, &options.file, options.as_json, screen)
}

fn upload(client: &Client, given: &Given, as_json: bool, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let shown = given.from.as_ref().map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let (source, length) = open(given).map_err(|error| cannot_read(&shown, &error))?;
    let begun = Instant::now();
    let meter = Meter::new((!as_json).then_some(&mut *screen), "uploading", length);
    let mut body =
        Sending { source, left: length, early: client.early(), sent: 0, hash: Sha256::new(), failed: None, meter };
    let answer = client.upload((&given.name, &given.folder), length, &mut body);
    if let Some(error) = body.failed {
        return Err(cannot_read(&shown, &error));
    }
    let (bytes, sha256) = (body.sent, body.hash.finish().hex());
    let answer = answer?;
    let seconds = begun.elapsed().as_secs_f64();
    screen.print(&if as_json {
        let result = match answer {
            Upload::Published => "published",
            Upload::Accepted => "accepted",
        };
        let folder = (!given.folder.is_none()).then_some(given.folder.as_str());
        let moved = Moved { name: given.name.as_str(), folder, result: Some(result), bytes, seconds, sha256 };
        serde_json::to_string(&moved).unwrap_or_default()
    } else {
        let told = match answer {
            Upload::Published => "published",
            Upload::Accepted => "accepted: the board has it, and sends it when the cloud answers again:",
        };
        format!("{told} {}  {} in {seconds:.1} s  sha256 {sha256}", plain(given.name.as_str()), size(bytes))
    });
    Ok(exit::DONE)
}

/// The bytes, and how many, where that is known before.
fn open(given: &Given) -> io::Result<(Box<dyn Read>, Option<u64>)> {
    let Some(path) = &given.from else { return Ok((Box::new(io::stdin()), None)) };
    let file = File::open(path)?;
    let known = file.metadata()?;
    if known.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let length = known.is_file().then_some(known.len());
    Ok((Box::new(file), length))
}

fn cannot_read(shown: &str, error: &io::Error) -> Failure {
    Failure::new(exit::FAILED, format_args!("cannot read {shown}: {error}"))
}

/// The body on its way.
struct Sending<'a, 'screen> {
    source: Box<dyn Read>,
    /// Of what was announced.
    left: Option<u64>,
    early: Early,
    sent: u64,
    hash: Sha256,
    /// What is wrong with the file itself.
    failed: Option<io::Error>,
    meter: Meter<'a, 'screen>,
}

impl Read for Sending<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.left.map_or(buffer.len(), |left| usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len()));
        if self.early.is_answered() {
            // What was announced is counted through; none of it is read or sent any more.
            self.left = self.left.map(|left| left - room as u64);
            return Ok(if self.left.is_some() { room } else { 0 });
        }
        let count = loop {
            match self.source.read(&mut buffer[..room]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fail(error)),
                Ok(0) if self.left.is_some_and(|left| left > 0) => {
                    return Err(self.fail(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "it became shorter while it was sent; upload it again",
                    )));
                }
                Ok(count) => break count,
            }
        };
        self.hash.update(&buffer[..count]);
        self.sent += count as u64;
        self.left = self.left.map(|left| left - count as u64);
        self.meter.done(self.sent);
        Ok(count)
    }
}

impl Sending<'_, '_> {
    /// Keeps the error for the person, and gives the connection another to end by.
    fn fail(&mut self, error: io::Error) -> io::Error {
        let kind = error.kind();
        self.failed = Some(error);
        kind.into()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::testing::Port as Fake;
    use super::*;

    fn parsed(words: &[&str]) -> Result<Given, String> {
        match parse(Parser::from_args(words.iter().copied())).map_err(|wrong| wrong.to_string())? {
            Parsed::Command(Command::Upload(options)) => Ok(options.file),
            other => panic!("{other:?}"),
        }
    }

    fn given(from: &Path) -> Given {
        let name = ResourceName::new("a b+").expect("a name");
        Given { from: Some(from.into()), name, folder: Folder::new("models").expect("a folder") }
    }

    fn uploaded(fake: &Fake, given: &Given, as_json: bool) -> Result<String, Failure> {
        let mut out = Vec::new();
        upload(&fake.client(), given, as_json, &mut Screen::into(&mut out, false))?;
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn what_is_sent_and_what_it_is_called() {
        let named = parsed(&["dir/m.onnx", "--folder", "models"]).expect("parsed");
        assert_eq!((named.name.as_str(), named.folder.as_str()), ("m.onnx", "models"));
        assert_eq!(parsed(&["m.onnx", "--name", "n"]).expect("parsed").name.as_str(), "n");
        assert_eq!(parsed(&["-", "--name", "n"]).expect("parsed").from, None);
        for (wrong, said) in [
            (&[][..], "upload FILE"),
            (&["-"], "--name"),
            (&["dir/.."], "--name"),
            (&["m", "n"], "one file"),
            (&["m", "--name", "a/b"], "holds no /"),
        ] {
            let told = parsed(wrong).expect_err("wrong");
            assert!(told.contains(said), "{told}");
        }
    }

    #[test]
    fn a_file_goes_with_its_length_and_a_pipe_in_chunks() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (file, empty) = (dir.path().join("file"), dir.path().join("empty"));
        std::fs::write(&file, "bytes").expect("written");
        std::fs::write(&empty, "").expect("written");
        let fake = Fake::answering(&[
            (200, r#"{"status":"success"}"#),
            (202, r#"{"status":"accepted"}"#),
            (200, r#"{"status":"success"}"#),
            (200, "<html>"),
        ]);
        let said = uploaded(&fake, &given(&file), false).expect("published");
        assert!(said.contains("\npublished a b+  5 B in "), "{said}");
        let asked = fake.asked.recv().expect("asked");
        assert!(asked.starts_with("PUT /upload/a%20b%2B?folder=models HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("content-length: 5\r\n") && asked.contains("expect: 100-continue\r\n"), "{asked}");
        assert!(asked.ends_with("\r\n\r\nbytes"), "{asked}");
        let said = uploaded(&fake, &given(&empty), true).expect("accepted");
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(
            (&said["result"], &said["bytes"], &said["folder"]),
            (&"accepted".into(), &0.into(), &"models".into())
        );
        assert!(fake.asked.recv().expect("asked").contains("content-length: 0\r\n"));
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .expect("made");
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "through a pipe")
        });
        uploaded(&fake, &given(&pipe), false).expect("published");
        writer.join().expect("ours").expect("written");
        let asked = fake.asked.recv().expect("asked");
        assert!(asked.contains("transfer-encoding: chunked\r\n") && asked.contains("through a pipe"), "{asked}");
        let failure = uploaded(&fake, &given(&file), false).expect_err("another server");
        assert!(failure.said.contains("is not azaion-loader"), "{}", failure.said);
    }

    #[test]
    fn a_refusal_comes_before_the_bytes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("file");
        File::create(&file).expect("made").set_len(64 << 20).expect("a hole");
        let refusal = r#"{"error":{"code":"role_too_low","message":"m","next":"n"}}"#;
        let fake = Fake::answering(&[(403, refusal)]);
        let failure = uploaded(&fake, &given(&file), false).expect_err("refused");
        assert_eq!((failure.exit, failure.said.as_str()), (exit::FAILED, "m (role_too_low)\nnext: n"));
    }

    #[test]
    fn a_refusal_in_the_middle_is_shown_and_no_broken_pipe() {
        use std::io::{BufRead, BufReader, Write};
        use std::os::unix::net::UnixListener;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("file");
        File::create(&file).expect("made").set_len(1 << 40).expect("a hole");
        let refusal = r#"{"error":{"code":"no_space","message":"m","next":"n"}}"#;
        for (kind, name) in [("whole", "a"), ("chunked", "b")] {
            let socket = dir.path().join(name);
            let listener = UnixListener::bind(&socket).expect("a socket");
            let port = std::thread::spawn(move || {
                let (stream, _) = listener.accept().expect("called");
                let mut reader = BufReader::new(&stream);
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    reader.read_line(&mut line).expect("a head");
                }
                (&stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").expect("written");
                let mut some = vec![0; 1 << 20];
                reader.read_exact(&mut some).expect("a part of the body");
                write!(&stream, "HTTP/1.1 507 X\r\ncontent-length: {}\r\n\r\n{refusal}", refusal.len())
                    .expect("written");
                // Then it is gone, with megabytes unread.
            });
            let client = Client::new(super::super::target::Target::Unix(socket), None);
            let from = if kind == "whole" { file.clone() } else { PathBuf::from("/dev/zero") };
            let mut out = Vec::new();
            let refused = upload(&client, &given(&from), true, &mut Screen::into(&mut out, false));
            assert_eq!(refused.expect_err("refused").said, "m (no_space)\nnext: n", "{kind}");
            port.join().expect("no panic");
        }
    }

    #[test]
    fn a_file_that_is_not_there_or_becomes_shorter_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let failure = uploaded(&Fake::answering(&[]), &given(&dir.path().join("none")), false).expect_err("none");
        assert!(failure.said.starts_with("cannot read ") && failure.exit == exit::FAILED, "{}", failure.said);
        let mut body = Sending {
            source: Box::new(&b"abc"[..]),
            left: Some(4),
            early: Early::default(),
            sent: 0,
            hash: Sha256::new(),
            failed: None,
            meter: Meter::new(None, "uploading", None),
        };
        let mut buffer = [0; 8];
        assert_eq!(body.read(&mut buffer).expect("read"), 3);
        body.read(&mut buffer).expect_err("shorter");
        assert!(body.failed.expect("kept").to_string().contains("became shorter"));
    }
}
