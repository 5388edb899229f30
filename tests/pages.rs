//! Man pages and completions are made from `--help` (`images/pages.py`): every help text must have a shape that is
//! understood there, and nothing of it may be lost on the way.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn binary() -> PathBuf {
    std::env::var_os("LOADER_UNDER_TEST")
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_azaion-loader").into())
}

fn help(arguments: &[&str]) -> String {
    let said = Command::new(binary()).args(arguments).arg("--help").output().expect("the binary runs");
    assert!(said.status.success(), "{arguments:?} --help");
    String::from_utf8(said.stdout).expect("it is text")
}

fn commands() -> Vec<String> {
    help(&[])
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| *word != "azaion-loader" && *word != "docker")
        .map(str::to_owned)
        .collect()
}

/// The words of a help text that are options, without those of its examples.
fn options(text: &str) -> BTreeSet<String> {
    let text = text.split("\nExample").next().unwrap_or_default();
    let words = text.split(|c: char| c.is_whitespace() || "[](),.;".contains(c));
    let options = words.filter(|word| word.len() > 2 && word.starts_with("--")).map(str::to_owned);
    options.chain(["--help".to_owned()]).collect()
}

fn made() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/pages.py");
    let said = Command::new(pages).arg(binary()).arg(dir.path()).output().expect("pages.py runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    dir
}

#[test]
fn bash_offers_what_help_lists() {
    let dir = made();
    let offered = |words: &[&str]| -> BTreeSet<String> {
        // As the shell calls it: the words of the line, and which of them the cursor is in.
        let script = "source \"$1\"; complete -p azaion-loader >/dev/null || exit 1; shift; COMP_WORDS=(azaion-loader \"$@\"); \
                      COMP_CWORD=$#; _azaion_loader; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let said = Command::new("bash")
            .args(["--norc", "-c", script, "bash"])
            .arg(dir.path().join("azaion-loader.bash"))
            .args(words)
            .output()
            .expect("bash runs");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let commands = commands();
    assert!(commands.len() >= 12, "{commands:?}");
    let first = offered(&[""]);
    for command in &commands {
        assert!(first.contains(command), "{command} is not offered");
        assert_eq!(offered(&[command, "--"]), options(&help(&[command])), "{command}");
    }
    assert_eq!(offered(&["cache", "e"]), BTreeSet::from(["evict".to_owned()]));
    // What an option takes is completed as such: a file here, nothing there.
    let cargo = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.tom").to_string_lossy().into_owned();
    assert_eq!(offered(&["run", "--config", &cargo]), BTreeSet::from([format!("{cargo}l")]));
    assert_eq!(offered(&["unlock", "--email", ""]), BTreeSet::new());
}

#[test]
fn the_man_page_has_every_command_option_and_exit_code() {
    let dir = made();
    let page = fs::read_to_string(dir.path().join("azaion-loader.1")).expect("made");
    for command in commands() {
        let section = page
            .split("\n.SS ")
            .find_map(|section| section.strip_prefix(&format!("{command}\n")))
            .unwrap_or_else(|| panic!("no section on {command}"))
            .split("\n.SH ")
            .next()
            .unwrap_or_default()
            .replace("\\-", "-");
        for option in options(&help(&[&command])).iter().filter(|option| *option != "--help") {
            assert!(section.contains(option.as_str()), "{command}: {option} is missing");
        }
    }
    for code in 0..=5 {
        assert!(page.contains(&format!("\n.TP\n{code}\n")), "exit code {code} is missing");
    }
}

#[test]
fn the_page_on_the_configuration_has_every_key() {
    let dir = made();
    let page = fs::read_to_string(dir.path().join("azaion-loader.toml.5")).expect("made").replace("\\-", "-");
    let empty = dir.path().join("loader.toml");
    fs::write(&empty, "").expect("written");
    let said = Command::new(binary()).args(["config", "--config"]).arg(&empty).output().expect("the binary runs");
    let shown = String::from_utf8_lossy(&said.stdout).into_owned();
    // Nothing but keys and sections begins with a letter or a bracket, but for the comment that names an unset key.
    let keys: Vec<_> = shown
        .lines()
        .filter_map(|line| {
            let line = line.strip_prefix("# ").filter(|line| line.contains(" is not set")).unwrap_or(line);
            let word = line.split_whitespace().next()?;
            (word.starts_with('[') || (word.chars().all(|c| c.is_ascii_lowercase() || c == '_')))
                .then(|| word.to_owned())
        })
        .collect();
    assert!(keys.len() > 40, "{keys:?}");
    for key in keys {
        let found = if key.starts_with('[') { format!("\n.SS {key}") } else { format!("\\fB{key}\\fR = ") };
        assert!(page.contains(&found), "{key} is missing");
    }
}
