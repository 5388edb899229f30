//! Lines of arguments, and what becomes of them.

use super::*;
use crate::name::{Folder, ResourceName};

fn parsed(line: &str) -> Result<Parsed, String> {
    parse(line.split_whitespace().map(OsString::from)).map_err(|wrong| wrong.to_string())
}

fn wrong(line: &str) -> String {
    parsed(line).expect_err(line)
}

#[test]
fn what_is_unknown_is_told_with_the_nearest() {
    assert_eq!(wrong(""), "no command was given");
    assert_eq!(wrong("unlok"), "unknown command \"unlok\"; the nearest known is unlock");
    assert_eq!(wrong("--versoin"), "unknown command \"--versoin\"; the nearest known is --version");
    assert_eq!(wrong("run --conf x"), "run: unknown option --conf; the nearest known is --config");
    assert_eq!(wrong("status now"), "status: unexpected argument now");
    assert_eq!(wrong("wait --timeout soon"), "wait: --timeout cannot be \"soon\"; allowed: whole seconds");
    assert!(wrong("run --config").contains("missing argument"), "{}", wrong("run --config"));
    assert!(wrong("status --json=1").contains("unexpected argument"), "{}", wrong("status --json=1"));
}

#[test]
fn a_password_is_never_an_argument() {
    for line in [
        "unlock --email a@b --password canary",
        "unlock --password=canary",
        "login --password canary",
        "plan --password=canary",
    ] {
        let said = wrong(line);
        assert!(said.contains("--password-stdin") && !said.contains("canary"), "{said}");
    }
}

#[test]
fn who_logs_in_is_said_once() {
    let login = |line| match parsed(line) {
        Ok(Parsed::Command(Command::Unlock(options))) => options.login,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(login("unlock"), Login::Held);
    assert_eq!(login("unlock --held"), Login::Held);
    assert_eq!(login("unlock --credentials f"), Login::File("f".into()));
    assert_eq!(login("unlock --email a@b"), Login::Email("a@b".into(), Password::Prompt));
    assert_eq!(login("unlock --password-stdin --email a@b"), Login::Email("a@b".into(), Password::Stdin));
    for line in ["unlock --held --email a@b", "unlock --credentials f --email a@b", "unlock --password-stdin"] {
        assert!(parsed(line).is_err(), "{line}");
    }
}

#[test]
fn what_is_done_with_the_cache_is_said_once() {
    let action = |line| match parsed(line) {
        Ok(Parsed::Command(Command::Cache(options))) => options.action,
        other => panic!("{line}: {other:?}"),
    };
    let evict = |name: &str, folder: &str| CacheAction::Evict {
        name: ResourceName::new(name).expect("plain"),
        folder: Folder::new(folder).expect("plain"),
    };
    assert_eq!(action("cache list"), CacheAction::List);
    assert_eq!(action("cache verify --config f"), CacheAction::Verify);
    assert_eq!(action("cache evict --all"), CacheAction::EvictAll);
    assert_eq!(action("cache evict list"), evict("list", ""));
    assert_eq!(action("cache evict --folder f -- --all"), evict("--all", "f"));
    for line in [
        "cache",
        "cache lst",
        "cache list m",
        "cache list --all",
        "cache verify --folder f",
        "cache evict",
        "cache evict m n",
        "cache evict m --all",
        "cache evict --all --folder f",
        "cache evict a/b",
        "cache evict m --folder a/b",
    ] {
        assert!(parsed(line).is_err(), "{line}");
    }
    assert_eq!(wrong("cache lst"), "cache: the action cannot be \"lst\"; allowed: list, verify, evict");
}

#[test]
fn every_command_has_help_that_names_all_its_options() {
    for command in COMMANDS {
        let Ok(Parsed::Text(text)) = parsed(&format!("{command} --help")) else { panic!("{command}") };
        assert!(text.contains("Example"), "{command}");
        let unknown = wrong(&format!("{command} --zz"));
        assert!(unknown.contains("nearest known is --"), "{unknown}");
        assert!(help::OVERVIEW.contains(&format!("\n  {command} ")), "{command}");
    }
    let options = [
        ("run", "--config"),
        ("fingerprint", "--root"),
        ("status", "--json"),
        ("unlock", "--no-wait"),
        ("unlock", "--credentials"),
        ("unlock", "--password-file"),
        ("wait", "--fail-on-error"),
        ("wait", "--timeout"),
        ("login", "--credentials"),
        ("load", "--out"),
        ("load", "-o"),
        ("upload", "--name"),
        ("events", "--since"),
        ("check", "--bundle"),
        ("token", "--force"),
        ("cache", "--folder"),
        ("cache", "--all"),
        ("cache", "verify"),
    ];
    for (command, option) in options {
        let Ok(Parsed::Text(text)) = parsed(&format!("{command} -h")) else { panic!("{command}") };
        assert!(text.contains(option), "{command} {option}");
    }
}
