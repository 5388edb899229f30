use std::fs;

use proptest::prelude::*;

use super::super::chain::tests::lines;
use super::*;

/// The row of 12 lines that is tampered with, in three files.
fn row() -> Vec<String> {
    lines(12)
}

fn head(lines: &[String], n: usize) -> Head {
    Head::after(n as u64, lines[n - 1].as_bytes())
}

fn known(lines: &[String]) -> Known {
    Known { head: head(lines, lines.len()), first: 1 }
}

/// The files that this text is: a new one before lines 5 and 9.
fn write(dir: &Path, rows: &[String]) {
    for entry in fs::read_dir(dir).expect("readable") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    // By their place, as they were written; what stands there may be anything.
    for (at, rows) in rows.chunks(4).enumerate() {
        let text = rows.join("\n") + "\n";
        // Names in an order of days that is not the order of lines.
        fs::write(dir.join(format!("audit-2026-11-{}.{}.jsonl", 23 - at, at * 4 + 1)), text).expect("written");
    }
}

fn found(rows: &[String], known: Option<&Known>, heads: &[Head]) -> Outcome {
    let dir = tempfile::tempdir().expect("a temporary directory");
    write(dir.path(), rows);
    verify(dir.path(), known, heads).expect("readable")
}

fn faults(rows: &[String], against: &Known) -> Vec<String> {
    found(rows, Some(against), &[]).faults.iter().map(ToString::to_string).collect()
}

#[test]
fn a_whole_log_is_good_whatever_its_files_are_called() {
    let rows = row();
    let known = known(&rows);
    let outcome = found(&rows, Some(&known), &[head(&rows, 1), head(&rows, 7)]);
    assert!(outcome.is_good() && outcome.notes.is_empty(), "{outcome:?}");
    assert_eq!((outcome.lines, outcome.first.map(|(n, _)| n)), (12, Some(1)));
    assert_eq!(outcome.last.map(|(head, _)| head), Some(known.head));
}

#[test]
fn what_is_wrong_is_told_by_line() {
    let rows = row();
    let known = known(&rows);
    let mut deleted = rows.clone();
    deleted.drain(3..6);
    assert_eq!(faults(&deleted, &known), ["lines 4 to 6 are missing"]);

    let mut edited = rows.clone();
    edited[6] = edited[6].replace("boot_ms\":1007", "boot_ms\":1008");
    let told = faults(&edited, &known);
    assert!(
        told.len() == 1 && told[0].starts_with("line 7 was changed, or line 8 (audit-2026-11-22.5.jsonl row 4"),
        "{told:?}"
    );

    let mut last = rows.clone();
    last[11] = last[11].replace("boot_ms\":1012", "boot_ms\":1013");
    assert!(faults(&last, &known)[0].starts_with("line 12 was changed"));

    let mut swapped = rows.clone();
    swapped.swap(5, 6);
    let told = faults(&swapped, &known);
    assert!(
        told[0] == "line 6 is missing" && told[1].starts_with("line 6 stands where it does not belong"),
        "{told:?}"
    );

    let mut twice = rows.clone();
    twice.insert(5, rows[4].clone());
    let told = faults(&twice, &known);
    assert!(told.len() == 1 && told[0].starts_with("line 5 stands where it does not belong"), "{told:?}");

    assert_eq!(faults(&rows[..9], &known), ["the tail is cut: the head says 12, the last line is 9"]);
    assert_eq!(faults(&rows[..8], &known), ["the tail is cut: the head says 12, the last line is 8"], "a whole file");
    assert_eq!(faults(&[], &known), ["the tail is cut: the head says 12, there is no line"]);
    assert_eq!(faults(&rows[4..], &known), ["lines 1 to 4 are missing"], "the oldest file");

    for garbage in ["x".to_owned(), String::new(), "x".repeat(5000), rows[6].replace("\"n\":", "\"n\": "), "{}".into()]
    {
        let mut broken = rows.clone();
        broken[6].clone_from(&garbage);
        let told = faults(&broken, &known);
        assert!(told.len() == 1 && told[0].contains("row 3: it is no line"), "{garbage}: {told:?}");
        broken = rows.clone();
        broken[11] = garbage;
        let told = faults(&broken, &known);
        assert!(told.len() == 1 && told[0].contains("it is no line"), "{told:?}");
    }
    let mut more = rows.clone();
    more.insert(6, "x".into());
    assert_eq!(faults(&more, &known).len(), 1);
}

/// Whoever rewrites the whole chain and the state with it is found by a head that was kept elsewhere, and only by that.
#[test]
fn a_log_that_was_written_anew_is_found_by_an_older_head_alone() {
    let rows = row();
    let mut forged: Vec<String> = Vec::new();
    let mut before = Head::none();
    for line in &rows {
        let mut entry = Entry::parse(line.as_bytes()).expect("a line");
        if entry.n == 3 {
            entry.event = "login_accepted".into();
        }
        entry.prev = before.hash.hex();
        forged.push(entry.to_line());
        before = Head::after(entry.n, forged[forged.len() - 1].as_bytes());
    }
    let state = known(&forged);
    assert!(found(&forged, Some(&state), &[]).is_good(), "nothing on the board shows it");
    assert!(found(&forged, Some(&state), &[head(&rows, 2)]).is_good(), "nor a head from before");
    for n in 3..=12 {
        let outcome = found(&forged, Some(&state), &[head(&rows, n)]);
        assert_eq!(outcome.faults.len(), 1, "{n}: {outcome:?}");
        assert!(outcome.faults[0].to_string().starts_with(&format!("line {n} was changed, or one before it")));
    }
    // Cut, and the state with it.
    let state = known(&rows[..9]);
    let cut = found(&rows[..9], Some(&state), &[head(&rows, 10)]);
    assert_eq!(cut.faults, [Fault::Cut { head: head(&rows, 10), last: 9 }]);
}

#[test]
fn what_is_older_than_what_is_kept_is_compared_as_far_as_it_can_be() {
    let rows = row();
    let mut known = known(&rows);
    known.first = 5;
    // Four lines at each file: without the first one it begins at line 5.
    let dir = tempfile::tempdir().expect("a temporary directory");
    write(dir.path(), &rows);
    fs::remove_file(dir.path().join("audit-2026-11-23.1.jsonl")).expect("removed");
    let check = |heads: &[Head]| verify(dir.path(), Some(&known), heads).expect("readable");
    assert!(check(&[]).is_good());
    let outcome = check(&[head(&rows, 3), head(&rows, 4)]);
    assert!(outcome.is_good() && outcome.notes.len() == 1, "{outcome:?}");
    let wrong = Head { count: 4, ..head(&rows, 3) };
    assert!(matches!(check(&[wrong]).faults[..], [Fault::Differs { .. }]), "line 5 says what line 4 was");
    let alone = verify(dir.path(), None, &[]).expect("readable");
    assert!(alone.is_good() && alone.notes[0].contains("no head"), "{alone:?}");
}

#[test]
fn an_unfinished_line_counts_only_where_somebody_was_told_of_it() {
    let rows = row();
    let dir = tempfile::tempdir().expect("a temporary directory");
    write(dir.path(), &rows);
    let last = dir.path().join("audit-2026-11-21.9.jsonl");
    let whole = fs::read_to_string(&last).expect("text");
    let check = |lines: usize| verify(dir.path(), Some(&known(&rows[..lines])), &[]).expect("readable");
    for cut in 1..rows[11].len() {
        fs::write(&last, &whole[..whole.len() - cut]).expect("cut");
        assert_eq!(check(12).faults, [Fault::Cut { head: head(&rows, 12), last: 11 }], "{cut}");
        let outcome = check(11);
        assert!(outcome.is_good() && outcome.notes[0].contains("unfinished"), "{outcome:?}");
    }
    fs::write(&last, &whole).expect("whole again");
    let ahead = check(11);
    assert!(ahead.is_good() && ahead.notes[0].starts_with("1 lines behind"), "{ahead:?}");
}

#[test]
fn many_faults_are_counted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("audit-2026-11-23.1.jsonl"), "x\n".repeat(AUDIT_FAULTS + 36)).expect("written");
    let outcome = verify(dir.path(), None, &[]).expect("readable");
    assert_eq!((outcome.faults.len(), outcome.more_faults), (AUDIT_FAULTS, 36));
}

#[test]
fn a_link_in_a_files_place_is_not_followed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("audit-2026-11-23.1.jsonl")).expect("linked");
    assert!(verify(dir.path(), None, &[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_change_of_any_byte_is_found(line in 0_usize..12, at: prop::sample::Index, byte: u8) {
        let mut rows: Vec<Vec<u8>> = row().into_iter().map(String::into_bytes).collect();
        let at = at.index(rows[line].len());
        prop_assume!(rows[line][at] != byte);
        let state = known(&row());
        rows[line][at] = byte;
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("audit-2026-11-23.1.jsonl"), rows.join(&b'\n')).expect("written");
        let mut file = fs::OpenOptions::new().append(true).open(dir.path().join("audit-2026-11-23.1.jsonl")).expect("there");
        io::Write::write_all(&mut file, b"\n").expect("written");
        prop_assert!(!verify(dir.path(), Some(&state), &[]).expect("readable").is_good());
    }

    #[test]
    fn any_run_of_bytes_that_goes_is_found(from: prop::sample::Index, len in 1_usize..600) {
        let text = row().join("\n") + "\n";
        let from = from.index(text.len());
        let cut = [&text[..from], &text[text.len().min(from + len)..]].concat();
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("audit-2026-11-23.1.jsonl"), cut).expect("written");
        prop_assert!(!verify(dir.path(), Some(&known(&row())), &[]).expect("readable").is_good());
    }
}
