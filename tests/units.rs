//! The systemd units of `images/`: what they expose stays bounded, and systemd understands them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod support;

/// `systemd-analyze security`'s exposure in tenths; issue 6 asks for 1.8 at most.
const EXPOSURE: &str = "18";
const SERVICES: [&str; 2] = ["azaion-loader.service", "azaion-ready.service"];
/// Keys that only newer versions know; older ones say so and go on, which is what the unit counts on.
const NEWER_KEYS: [(&str, u32); 2] = [("RestartSteps=", 254), ("RestartMaxDelaySec=", 254)];

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("images")
}

fn analyze(arguments: &[&str], units: &[PathBuf]) -> Output {
    Command::new("systemd-analyze").args(arguments).args(units).output().expect("systemd-analyze runs")
}

/// systemd's version, or `None` and a line of why not where there is no `systemd-analyze` that looks at files.
fn version() -> Option<u32> {
    let Ok(said) = Command::new("systemd-analyze").arg("--version").output() else {
        support::skip("systemd-analyze is missing: apt-get install systemd");
        return None;
    };
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    // `security --offline` came with 250.
    if version.is_none_or(|version| version < 250) {
        support::skip("systemd-analyze is older than 250");
        return None;
    }
    version
}

#[test]
fn what_the_services_expose_is_bounded() {
    if version().is_none() {
        return;
    }
    for service in SERVICES {
        let said = analyze(
            &["security", "--offline=true", "--no-pager", &format!("--threshold={EXPOSURE}")],
            &[images().join(service)],
        );
        let text = String::from_utf8_lossy(&said.stdout);
        let last = text.lines().rfind(|line| line.contains("Overall exposure level")).unwrap_or_default();
        assert!(said.status.success(), "{service}: {last}; allowed are {EXPOSURE} tenths\n{text}");
        assert!(last.contains(service), "{service}: no level was told\n{text}");
    }
}

#[test]
fn systemd_understands_every_line() {
    let Some(version) = version() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut units = Vec::new();
    for unit in SERVICES.into_iter().chain(["azaion-ready.target"]) {
        // On a board the program is at /usr/bin; here any program will do for the check that there is one.
        let text = fs::read_to_string(images().join(unit)).expect("the unit is there");
        let newer = |line: &str| NEWER_KEYS.iter().any(|(key, since)| version < *since && line.starts_with(key));
        let known: Vec<_> = text.lines().filter(|line| !newer(line)).collect();
        let path = dir.path().join(unit);
        fs::write(&path, known.join("\n").replace("/usr/bin/azaion-loader", "/bin/true")).expect("written");
        units.push(path);
    }
    // The drop-in as it is made for boards with lights.
    let boards = dir.path().join("boards");
    fs::create_dir(&boards).expect("made");
    fs::write(boards.join("a.toml"), "[led]\nnames = [\"ACT\", \"green:status\"]\n").expect("written");
    let made = Command::new(images().join("leds.py"))
        .arg(dir.path().join("azaion-loader.service.d"))
        .arg(&boards)
        .output()
        .expect("leds.py runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let said = analyze(&["verify", "--man=no", "--recursive-errors=no"], &units);
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && !text.contains(&*dir.path().to_string_lossy()), "systemd {version}: {text}");
}

#[test]
fn the_services_keep_what_boards_need() {
    let text = fs::read_to_string(images().join("azaion-loader.service")).expect("the unit is there");
    let set = |line: &str| text.lines().any(|found| found == line);
    // Without it the fingerprint loses the processor, the memory and the device tree, and with them the keys.
    assert!(!text.contains("\nProcSubset=pid"), "ProcSubset=pid hides the facts of the fingerprint");
    for line in
        ["Type=notify", "WatchdogSec=30", "Restart=on-failure", "SupplementaryGroups=docker", "User=azaion-loader"]
    {
        assert!(set(line), "{line} is missing");
    }
    // A missing file of credentials must not keep a board from starting: the second line is what stands in for it.
    assert!(set("LoadCredential=boot:/etc/azaion/boot.json") && set("SetCredential=boot:missing"), "{text}");
}

#[test]
fn freed_memory_goes_back_wherever_the_agent_is_started() {
    for (file, line) in [
        ("azaion-loader.service", "Environment=MALLOC_MMAP_THRESHOLD_=131072"),
        ("container/Containerfile", "ENV MALLOC_MMAP_THRESHOLD_=131072"),
    ] {
        let text = fs::read_to_string(images().join(file)).expect("readable");
        assert!(text.lines().any(|found| found == line), "{file}: no {line}");
    }
}

#[test]
fn the_lights_of_the_profiles_are_the_ones_that_may_be_written() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let boards = dir.path().join("boards");
    fs::create_dir(&boards).expect("made");
    let make = |out: &str| Command::new(images().join("leds.py")).arg(dir.path().join(out)).arg(&boards).output();
    fs::write(boards.join("a.toml"), "[led]\nnames = [\"ACT\", \"led0\"]\n").expect("written");
    fs::write(boards.join("b.toml"), "[led]\nnames = [\"green:status\", \"ACT\"]\n").expect("written");
    assert!(make("out").expect("leds.py runs").status.success());
    let read = |name: &str| fs::read_to_string(dir.path().join("out").join(name)).expect("made");
    assert!(read("azaion-loader.udev").contains("KERNEL==\"ACT|led0|green:status\""), "{}", read("azaion-loader.udev"));
    let holes: Vec<_> =
        read("led.conf").lines().filter(|line| line.starts_with("ReadWritePaths")).map(str::to_owned).collect();
    let expected = ["ACT", "led0", "green:status"].map(|name| format!("ReadWritePaths=-/sys/class/leds/{name}"));
    assert_eq!(holes, expected);

    // A name that would be a pattern for udev, or a way out of the directory, is refused.
    for name in ["*", "../../kernel", "a|b", "a b", "%i"] {
        fs::write(boards.join("c.toml"), format!("[led]\nnames = [\"{name}\"]\n")).expect("written");
        let said = make("refused").expect("leds.py runs");
        assert!(!said.status.success(), "{name} was taken");
    }
}
