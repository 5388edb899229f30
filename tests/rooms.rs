//! Imports never point up (ARCHITECTURE.md, "Rooms"): a room may name the rooms below it and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The rooms from bottom to top. A room may import what stands in an earlier row, and itself.
const ROWS: &[&[&str]] = &[
    &["error", "limits"],
    &["metrics", "name", "secret"],
    &["json"],
    &["crypto", "flash", "net"],
    &["seal"],
    &["config"],
    &["logging"],
    &["audit"],
    &["archive", "board", "cache", "cloud"],
    &["engine"],
    &["resource", "unlock"],
    &["control"],
    &["agent"],
    &["cli"],
];

fn rows() -> BTreeMap<&'static str, usize> {
    ROWS.iter().enumerate().flat_map(|(row, rooms)| rooms.iter().map(move |room| (*room, row))).collect()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a source names: `crate::room` anywhere outside comments, `use crate::{room, …}` included.
fn named(text: &str) -> Vec<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word =
            |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut begins = true;
            for (i, c) in group.char_indices() {
                if begins && depth == 0 && !c.is_whitespace() {
                    rooms.push(word(&group[i..]));
                    begins = false;
                }
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => begins = true,
                    _ => {}
                }
            }
        } else {
            rooms.push(word(rest));
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

/// What points up in one source of a room.
fn upward(room: &str, text: &str, rows: &BTreeMap<&str, usize>) -> Vec<String> {
    let own = rows[room];
    named(text)
        .into_iter()
        .filter(|other| other != room)
        .filter(|other| rows.get(other.as_str()).is_some_and(|row| *row >= own))
        .collect()
}

#[test]
fn no_import_points_up() {
    let rows = rows();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(&src).expect("found below src");
        let first = inside.components().next().expect("a file has a name");
        let room = Path::new(first.as_os_str()).file_stem().and_then(|s| s.to_str()).expect("names are UTF-8");
        if ["main", "lib"].contains(&room) {
            continue;
        }
        assert!(rows.contains_key(room), "{room} has no row in tests/rooms.rs: decide where it stands");
        let text = std::fs::read_to_string(file).expect("sources are readable");
        for other in upward(room, &text, &rows) {
            wrong.push(format!("{}: {room} → {other}", inside.display()));
        }
    }
    assert!(files.len() > 20, "the walk found the sources");
    assert!(wrong.is_empty(), "imports that point up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn the_check_sees_every_way_to_write_an_import() {
    let rows = rows();
    let seen = |text| upward("archive", text, &rows);
    assert_eq!(seen("use crate::engine::Engine;"), ["engine"]);
    assert_eq!(seen("use crate::{net, engine::{A, B}, agent};"), ["engine", "agent"]);
    assert_eq!(seen("let x = crate::unlock::State::Idle;"), ["unlock"]);
    assert_eq!(seen("use crate::cloud::Api;"), ["cloud"], "a neighbour is not below");
    assert!(seen("// crate::engine is above\nuse crate::{net::lend, limits, archive::Layer};").is_empty());
}
