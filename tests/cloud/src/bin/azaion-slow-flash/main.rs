//! `azaion-slow-flash`: a directory seen through a mount that is as slow as bad flash, and as full, read-only or broken
//! as a switch file says. For tests of the agent's cache.
//!
//! A pass-through in FUSE. Nothing is kept in memory: every read and write goes to the directory behind, at the given
//! rate, one at a time, while names and attributes are answered meanwhile. It must never be left mounted: it unmounts
//! when its command ends, at SIGTERM and SIGINT, and at the end of its standard input.

mod flash;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use fuser::{Config, MountOption, SessionACL};
use tokio::signal::unix::{SignalKind, signal};

use flash::Flash;

const HELP: &str = "\
azaion-slow-flash: a directory through a mount that is as slow, full or broken as told

usage: azaion-slow-flash [--rate BYTES] [--switch FILE] DIR MOUNTPOINT [COMMAND ARGUMENT...]

  --rate BYTES     bytes read and written a second, together; without it as fast as it goes
  --switch FILE    words in this file, read anew at every call, say what is wrong now:
                   enospc   nothing can be written or made, and no space is free
                   erofs    nothing can be changed
                   eio      reads, writes and syncs fail
                   rate=N   this rate instead
                   an empty or missing file: nothing

With COMMAND it mounts, runs it, unmounts and exits as it did. Without, it prints \"mounted\" and stays until its standard
input ends or SIGTERM or SIGINT comes. Exit code 69: this machine does not mount (one line says why).
";

/// Threads that answer: one waits for the flash, the others answer what needs none.
const THREADS: usize = 4;

/// What the command line asked for.
struct Arguments {
    flash: Flash,
    mountpoint: PathBuf,
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let arguments = match parse(lexopt::Parser::from_env()) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("azaion-slow-flash: {error}; --help tells what is allowed");
            return ExitCode::from(64);
        }
    };
    run(arguments).unwrap_or_else(|error| {
        eprintln!("azaion-slow-flash: {error}");
        ExitCode::from(69)
    })
}

/// `None` when help was asked for.
fn parse(mut parser: lexopt::Parser) -> Result<Option<Arguments>, lexopt::Error> {
    let (mut rate, mut switch, mut places) = (None, None, Vec::new());
    while places.len() < 2 {
        match parser.next()? {
            Some(lexopt::Arg::Long("rate")) => {
                rate = Some(parser.value()?.to_string_lossy().parse().map_err(|_| "--rate takes bytes a second")?);
            }
            Some(lexopt::Arg::Long("switch")) => switch = Some(PathBuf::from(parser.value()?)),
            Some(lexopt::Arg::Short('h') | lexopt::Arg::Long("help")) => return Ok(None),
            Some(lexopt::Arg::Value(place)) => places.push(PathBuf::from(place)),
            Some(unknown) => return Err(unknown.unexpected()),
            None => return Err("DIR and MOUNTPOINT are missing".into()),
        }
    }
    let command = parser.raw_args()?.collect();
    let mountpoint = places.pop().ok_or("MOUNTPOINT is missing")?;
    let root = places.pop().ok_or("DIR is missing")?;
    let flash = Flash::new(&root, rate, switch).map_err(|error| format!("{}: {error}", root.display()))?;
    Ok(Some(Arguments { flash, mountpoint, command }))
}

fn run(Arguments { flash, mountpoint, command }: Arguments) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything is mounted: a signal from now on ends the program in good order.
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("slow-flash".into()), MountOption::DefaultPermissions];
        config.acl = SessionACL::All;
        config.n_threads = Some(THREADS);
        let mounted = fuser::spawn_mount(flash, &mountpoint, &config)?;
        let code = if let Some((program, arguments)) = command.split_first() {
            let mut child = tokio::process::Command::new(program).args(arguments).kill_on_drop(true).spawn()?;
            tokio::select! {
                status = child.wait() => status?.code(),
                _ = terminate.recv() => None,
                _ = interrupt.recv() => None,
            }
        } else {
            writeln!(io::stdout(), "mounted")?;
            let (closed, stdin_closed) = tokio::sync::oneshot::channel::<()>();
            // Not joined: it waits for a standard input that may stay open.
            std::thread::spawn(move || {
                let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                drop(closed);
            });
            tokio::select! {
                _ = stdin_closed => {}
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            Some(0)
        };
        // Lazily first, for who still holds a file of it: the name is gone at once whatever happens.
        rustix::mount::unmount(&mountpoint, rustix::mount::UnmountFlags::DETACH)?;
        drop(mounted);
        Ok(ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
    })
}
