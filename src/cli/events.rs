//! `events`: what happens on the board, a line for each event, for as long as somebody reads.
//!
//! The stream is that of server-sent events (HTML standard, section 9.2). When it breaks, the follower comes back and goes on
//! behind the last event it saw.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use lexopt::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::args::{Command, Options, Parsed, Wrong, port_option};
use super::client::Client;
use super::follow::{self, Shape};
use super::screen::{Screen, plain};
use super::target::Port;
use super::{Failure, exit, help};
use crate::error::chain;
use crate::limits::{CLIENT_ANSWER_BYTES, CLIENT_EVENTS_PAUSE};

const COMMAND: &str = "events";

#[derive(Debug)]
pub(super) struct EventsOptions {
    port: Port,
    since: Option<u64>,
    shape: Shape,
}

pub(super) fn parse(parser: Parser) -> Result<Parsed, Wrong> {
    let known = &["--since", "--config", "--url", "--token-file", "--json", "--help"];
    let mut options = Options { parser, command: COMMAND, known };
    let mut parsed = EventsOptions { port: Port::default(), since: None, shape: Shape::Lines };
    while let Some(name) = options.next()? {
        match name {
            "--since" => {
                let text = options.text()?;
                let allowed = "the id of an event, a whole number";
                let wrong = |text| Wrong::Value { command: COMMAND, option: "--since", text, allowed };
                parsed.since = Some(text.parse().map_err(|_| wrong(text))?);
            }
            "--json" => parsed.shape = Shape::Json,
            "--help" => return Ok(Parsed::Text(help::EVENTS)),
            _ => {
                port_option(name, &mut options, &mut parsed.port)?;
            }
        }
    }
    Ok(Parsed::Command(Command::Events(parsed)))
}

pub(super) fn run(options: &EventsOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let client = options.port.client()?;
    let shape = options.shape;
    follow(&client, options.since, screen, follow::pause, |found, screen| {
        if let Found::Event(event) = found {
            show(event, shape, screen);
        }
        is_read()
    })
}

/// Something in the stream.
enum Found<'e> {
    Event(&'e Event),
    /// The board lives, and nothing happened.
    Nothing,
}

/// Follows until `take` wants no more.
fn follow(
    client: &Client,
    since: Option<u64>,
    screen: &mut Screen<'_>,
    pause: impl Fn(Duration),
    mut take: impl FnMut(&Found<'_>, &mut Screen<'_>) -> bool,
) -> Result<u8, Failure> {
    let (soonest, longest) = CLIENT_EVENTS_PAUSE;
    let (mut seen, mut next_pause, mut was_there) = (since, soonest, false);
    loop {
        let why = match client.events(seen) {
            Ok(stream) => {
                if was_there {
                    screen.complain("following again");
                }
                was_there = true;
                let mut stream = BufReader::new(stream);
                loop {
                    match next(&mut stream) {
                        Ok(Some(block)) => {
                            next_pause = soonest;
                            let event = block.event();
                            // An agent that was started anew counts anew.
                            seen = event.as_ref().map(|event| event.id).or(seen);
                            let found = event.as_ref().map_or(Found::Nothing, Found::Event);
                            if !take(&found, screen) {
                                return Ok(exit::DONE);
                            }
                        }
                        Ok(None) => break "the agent ended the stream".to_owned(),
                        Err(error) => break error.to_string(),
                    }
                }
            }
            Err(error) if was_there && error.may_pass() => chain(&error),
            Err(error) => return Err(error.into()),
        };
        screen.complain(&format!("the connection broke: {why}; again in {} s", next_pause.as_secs()));
        pause(next_pause);
        next_pause = (next_pause * 2).min(longest);
    }
}

/// What stands between two empty lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Block {
    id: Option<u64>,
    topic: String,
    data: String,
}

/// One event.
#[derive(Debug, PartialEq)]
struct Event {
    id: u64,
    topic: String,
    data: BTreeMap<String, Value>,
}

impl Block {
    /// `None` for comments alone, and for what no version of the agent sends.
    fn event(&self) -> Option<Event> {
        let data = crate::json::from_slice(self.data.as_bytes(), CLIENT_ANSWER_BYTES).ok()?;
        Some(Event { id: self.id?, topic: self.topic.clone(), data })
    }
}

/// The next block; `None` at the end of the stream.
fn next(stream: &mut impl BufRead) -> io::Result<Option<Block>> {
    let (mut block, mut left) = (Block::default(), CLIENT_ANSWER_BYTES);
    loop {
        let mut line = Vec::new();
        let count = stream.by_ref().take(left as u64).read_until(b'\n', &mut line)?;
        let Some(line) = line.strip_suffix(b"\n") else {
            let is_long = count == left;
            return if is_long { Err(io::Error::other("an event is too long")) } else { Ok(None) };
        };
        left -= count;
        if line.is_empty() {
            return Ok(Some(block));
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => block.id = value.parse().ok(),
            "event" => value.clone_into(&mut block.topic),
            "data" => value.clone_into(&mut block.data),
            // Comments, `retry`, and what later versions may add.
            _ => {}
        }
    }
}

fn show(event: &Event, shape: Shape, screen: &mut Screen<'_>) {
    if shape == Shape::Json {
        let mut line = serde_json::json!({ "id": event.id, "event": event.topic });
        if let Some(fields) = line.as_object_mut() {
            fields.extend(event.data.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        // The escapes of JSON hold no control characters.
        screen.print(&line.to_string());
        return;
    }
    let text = |name: &str| event.data.get(name).and_then(Value::as_str).map(plain);
    let seconds = event.data.get("boot_ms").and_then(Value::as_u64).unwrap_or_default() / 1000;
    // Since the board was started: its clock may be wrong.
    let uptime = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut line = format!("{uptime} {}: {}", plain(&event.topic), text("text").unwrap_or_default());
    line.extend(text("code").map(|code| format!(" ({code})")));
    line.extend(text("next").map(|next| format!("; next: {next}")));
    if event.topic == "progress" { screen.pass(&line) } else { screen.print(&line) }
}

/// Whether somebody still reads standard output: a closed pipe is noticed without writing to it.
fn is_read() -> bool {
    let out = io::stdout();
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_err() || !fds[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::testing::Port as Fake;
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    fn notice(id: u64, text: &str) -> String {
        chunk(&format!(
            ": 00:00:01 note: {text}\nid: {id}\nevent: note\ndata: {{\"time\":\"t\",\"boot_ms\":3723004,\"text\":\"{text}\",\
             \"state\":null,\"percent\":null,\"code\":\"no_space\",\"next\":\"n\\u001b[2J\"}}\n\n"
        ))
    }

    #[test]
    fn it_comes_back_behind_the_last_event_and_later_each_time() {
        let begun = chunk(": following\nretry: 2000\n\n");
        let (first, nothing) = (format!("{HEAD}{begun}{}{}", notice(7, "one"), notice(8, "two")), String::new());
        let last = format!("{HEAD}{begun}{}", notice(9, "three"));
        let busy = r#"{"error":{"code":"too_many","message":"m","next":"n"}}"#;
        let busy = format!("HTTP/1.1 429 X\r\ncontent-length: {}\r\n\r\n{busy}", busy.len());
        let fake = Fake::raw(&[&first, &nothing, &busy, &last]);
        let (mut ids, pauses) = (Vec::new(), RefCell::new(Vec::new()));
        let mut out = Vec::new();
        let pause = |length: Duration| pauses.borrow_mut().push(length.as_secs());
        let code = follow(&fake.client(), Some(6), &mut Screen::into(&mut out, false), pause, |found, _| {
            if let Found::Event(event) = found {
                ids.push(event.id);
            }
            ids.last() != Some(&9)
        });
        assert_eq!((code.expect("ended"), ids), (exit::DONE, vec![7, 8, 9]));
        assert_eq!(*pauses.borrow(), [1, 2, 4]);
        let asked: Vec<String> =
            fake.asked.iter().map(|asked| asked.lines().next().unwrap_or_default().into()).collect();
        let lines = [6, 8, 8, 8].map(|id| format!("GET /events?since={id} HTTP/1.1"));
        assert_eq!(asked, lines);
    }

    #[test]
    fn what_was_never_there_and_what_is_refused_ends_it() {
        let never = |fake: &Fake| {
            let mut out = Vec::new();
            follow(&fake.client(), None, &mut Screen::into(&mut out, false), |_| panic!("no pause"), |_, _| true)
        };
        assert_eq!(never(&Fake::answering(&[])).expect_err("nobody").exit, exit::NOT_RUNNING);
        let refusal = r#"{"error":{"code":"token_required","message":"m","next":"n"}}"#;
        let failure = never(&Fake::answering(&[(401, refusal)])).expect_err("refused");
        assert_eq!((failure.exit, failure.said.as_str()), (exit::FAILED, "m (token_required)\nnext: n"));
    }

    #[test]
    fn an_event_is_one_line_for_people_and_one_for_programs() {
        let text = notice(7, "one");
        let block = next(&mut text.split_once("\r\n").expect("a chunk").1.as_bytes()).expect("read").expect("a block");
        let event = block.event().expect("an event");
        let shown = |shape| {
            let mut out = Vec::new();
            show(&event, shape, &mut Screen::into(&mut out, false));
            String::from_utf8(out).expect("UTF-8")
        };
        assert_eq!(shown(Shape::Lines), "01:02:03 note: one (no_space); next: n [2J\n");
        let line = shown(Shape::Json);
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&value["id"], &value["event"], &value["text"]), (&7.into(), &"note".into(), &"one".into()));
        assert!(line.lines().count() == 1 && !line.contains('\u{1b}'), "{line}");
    }

    #[test]
    fn a_block_is_bounded_and_half_a_one_is_none() {
        assert_eq!(next(&mut &b": still here\n\n"[..]).expect("read"), Some(Block::default()));
        assert_eq!(next(&mut &b"id: 7\ndata: {}\n"[..]).expect("read"), None);
        let endless = vec![b'x'; CLIENT_ANSWER_BYTES + 1];
        next(&mut endless.as_slice()).expect_err("too long");
        let many = b"data: {}\n".repeat(CLIENT_ANSWER_BYTES / 8);
        next(&mut many.as_slice()).expect_err("too long");
    }
}
