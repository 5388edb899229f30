use std::fs;
use std::path::Path;

use smol::LocalExecutor;

use super::*;
use crate::net::turn;

fn place(dir: &Path) -> Place {
    fs::create_dir_all(dir.join("state")).expect("made");
    Place { state_dir: dir.join("state"), dir: Some(dir.join("log")), retention_days: 30 }
}

/// Runs until everything that was taken down is on flash, or cannot be.
fn run(audit: &Audit) {
    audit.close();
    turn::block_on(&LocalExecutor::new(), audit.run());
    audit.is_closed.set(false);
}

fn entries(dir: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    each_line(&dir.join("log"), |entry| entries.push(entry)).expect("readable");
    entries
}

fn is_good(dir: &Path) -> bool {
    let known = Known::read(&Known::path(&dir.join("state"))).expect("readable").expect("there");
    verify(&dir.join("log"), Some(&known), &[]).expect("readable").is_good()
}

#[test]
fn events_become_lines_and_the_head_is_theirs() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let audit = Audit::open(place(dir.path()));
    assert_eq!(audit.head(), None);
    audit.note(Event::LoginRefused, None, Some(Code::CredentialsWrong));
    audit.note(Event::UnlockReady, Some(&"ш".repeat(AUDIT_USER_BYTES)), None);
    assert_eq!(audit.head(), None, "not before flash has them");
    run(&audit);
    let entries = entries(dir.path());
    assert_eq!(
        (entries[0].n, &*entries[0].event, entries[0].code.as_deref()),
        (1, "login_refused", Some("credentials_wrong"))
    );
    assert_eq!(entries[1].user.as_ref().map(String::len), Some(AUDIT_USER_BYTES));
    let known = Known::read(&Known::path(&dir.path().join("state"))).expect("readable").expect("there");
    assert_eq!((audit.head(), known.first), (Some(known.head), 1));
    assert!(is_good(dir.path()));

    let again = Audit::open(place(dir.path()));
    assert_eq!(again.head(), Some(known.head), "shown at once after a restart");
    run(&again);
    assert_eq!(self::entries(dir.path()).len(), 2, "nothing is written when nothing happens");
}

#[test]
fn a_disk_that_takes_no_lines_costs_none_and_what_is_too_many_is_counted_in_one() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let audit = Audit::open(place(dir.path()));
    fs::write(dir.path().join("log"), "in the way").expect("written");
    for _ in 0..AUDIT_QUEUE_LINES {
        audit.note(Event::LoginRefused, None, None);
    }
    run(&audit);
    assert_eq!((audit.head(), audit.lost.get()), (None, 0), "they wait");
    audit.note(Event::LoginAccepted, None, None);
    audit.note(Event::LoginAccepted, None, None);
    run(&audit);
    fs::remove_file(dir.path().join("log")).expect("out of the way");
    run(&audit);
    let entries = entries(dir.path());
    assert_eq!(entries.len(), AUDIT_QUEUE_LINES + 1);
    let last = entries.last().expect("lines");
    assert_eq!((&*last.event, last.times), ("audit_lost", 2));
    assert!(is_good(dir.path()));
    audit.note(Event::LoginAccepted, None, None);
    run(&audit);
    assert_eq!(self::entries(dir.path()).last().map(|last| last.event.clone()), Some("login_accepted".into()));
}

#[test]
fn a_flood_of_refusals_is_one_line_at_once_and_one_at_the_end() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let audit = Audit::open(place(dir.path()));
    for _ in 0..10_000 {
        audit.note(Event::PortRefused, None, Some(Code::TokenRequired));
    }
    run(&audit);
    let told: Vec<_> = entries(dir.path()).iter().map(|entry| (entry.event.to_string(), entry.times)).collect();
    assert_eq!(told, [("port_refused".to_owned(), 1), ("port_refused".to_owned(), 9_999)]);
}

#[test]
fn a_broken_log_says_so_in_a_line_of_its_own() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let audit = Audit::open(place(dir.path()));
    audit.note(Event::LoginAccepted, None, None);
    audit.note(Event::LoginAccepted, None, None);
    run(&audit);
    fs::remove_dir_all(dir.path().join("log")).expect("removed");
    // While it runs, and after a restart.
    audit.note(Event::LoginAccepted, None, None);
    run(&audit);
    let told = |at: usize| entries(dir.path()).get(at).map(|entry| (entry.n, entry.event.to_string()));
    assert_eq!(told(0), Some((3, "login_accepted".to_owned())));
    assert_eq!(told(1), Some((4, "audit_broken".to_owned())));
    fs::remove_dir_all(dir.path().join("log")).expect("removed");
    run(&Audit::open(place(dir.path())));
    assert_eq!(told(0), Some((5, "audit_broken".to_owned())));
    assert!(!is_good(dir.path()));
}
