//! `azaion-cloud`: the Resource API of the crate as a program, for the demo and for trying things by hand.
//!
//! It must never face a network: it listens on 127.0.0.1 only, and its users stand on the command line.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{fs, thread};

use azaion_cloud::{Call, Cloud, Fault, Options, Route, User};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

const HELP: &str = "\
azaion-cloud: the Azaion Resource API for demo and tests, on 127.0.0.1 with TLS of its own authority

usage: azaion-cloud --dir DIR --user EMAIL:PASSWORD[:ROLE] --fragment-file FILE [options]

  --dir DIR               where ca.pem and url are written once it listens, url last
  --user E:P[:ROLE]       who can log in; may stand more than once; no colon in the password
  --fragment-file FILE    the key fragment that logged-in boards are given
  --hardware-salt S       the salts and the separator of scheme v1, as in the agent's [keys];
  --api-salt S            defaults: hardware-salt, api-salt, resource-salt and none
  --resource-salt S
  --separator S
  --s3                    an S3 server too, with the bucket \"models\"; s3_url, s3_plain_url and cdn.yaml are written
  --bucket NAME           one more bucket for --s3; may stand more than once
  --port N                the port to listen on (default: a free one); url is of the same
  --authority FILE        its authority's key, made when it is not there: ca.pem of an earlier run stays good
  --slow MS               lets every call wait this long before it is answered
  --until-stdin-closes    stops when standard input ends, besides SIGTERM and SIGINT
  --help                  this text

One line is printed for each call: method, path, status, milliseconds. Resources come by upload and are kept in memory.
A password on a command line can be read by everyone on the machine: this is a demo, give it demo passwords.
";

/// What the command line asked for.
struct Arguments {
    dir: PathBuf,
    options: Options,
    buckets: Vec<String>,
    slow: Option<Duration>,
    until_stdin_closes: bool,
}

fn main() -> ExitCode {
    let arguments = match parse(lexopt::Parser::from_env()) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("azaion-cloud: {error}; --help tells what is allowed");
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("azaion-cloud: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `None` when help was asked for.
fn parse(mut parser: lexopt::Parser) -> Result<Option<Arguments>, lexopt::Error> {
    let mut options = Options { observer: Some(Box::new(print_call)), ..Options::default() };
    let mut dir = None;
    let mut buckets = vec!["models".to_owned()];
    let mut slow = None;
    let mut until_stdin_closes = false;
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("dir") => dir = Some(PathBuf::from(parser.value()?)),
            lexopt::Arg::Long("user") => options.users.push(user(&text(parser.value()?)?)?),
            lexopt::Arg::Long("fragment-file") => {
                let path = PathBuf::from(parser.value()?);
                let fragment = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                options.fragment = Some(fragment);
            }
            lexopt::Arg::Long("hardware-salt") => options.salts.hardware = text(parser.value()?)?,
            lexopt::Arg::Long("api-salt") => options.salts.api = text(parser.value()?)?,
            lexopt::Arg::Long("resource-salt") => options.salts.resource = text(parser.value()?)?,
            lexopt::Arg::Long("separator") => options.salts.separator = text(parser.value()?)?,
            lexopt::Arg::Long("s3") => options.s3 = true,
            lexopt::Arg::Long("bucket") => buckets.push(text(parser.value()?)?),
            lexopt::Arg::Long("slow") => {
                let millis = text(parser.value()?)?;
                let millis = millis.parse().map_err(|_| format!("--slow takes milliseconds, not {millis:?}"))?;
                slow = Some(Duration::from_millis(millis));
            }
            lexopt::Arg::Long("port") => {
                let port = text(parser.value()?)?;
                options.port = port.parse().map_err(|_| format!("--port takes 0 to 65535, not {port:?}"))?;
            }
            lexopt::Arg::Long("authority") => {
                let path = PathBuf::from(parser.value()?);
                let key = authority(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                options.authority = Some(key);
            }
            lexopt::Arg::Long("until-stdin-closes") => until_stdin_closes = true,
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => return Ok(None),
            unknown => return Err(unknown.unexpected()),
        }
    }
    let dir = dir.ok_or("--dir is missing")?;
    if options.users.is_empty() {
        return Err("--user is missing".into());
    }
    if options.fragment.is_none() {
        return Err("--fragment-file is missing".into());
    }
    Ok(Some(Arguments { dir, options, buckets, slow, until_stdin_closes }))
}

fn text(value: OsString) -> Result<String, lexopt::Error> {
    value.into_string().map_err(lexopt::Error::NonUnicodeValue)
}

fn user(argument: &str) -> Result<User, lexopt::Error> {
    let mut parts = argument.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(email), Some(password), Some(role)) => Ok(User::new(email, password, role)),
        (Some(email), Some(password), None) => Ok(User::new(email, password, "Operator").without_role()),
        // The argument is not repeated: it may be a password.
        _ => Err("--user takes EMAIL:PASSWORD or EMAIL:PASSWORD:ROLE".into()),
    }
}

/// The key in this file; a fresh one is put there when there is none.
fn authority(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let key = azaion_cloud::new_authority()?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.as_bytes())?;
    Ok(key)
}

fn run(arguments: Arguments) -> io::Result<()> {
    // Before anything is written: a signal from now on ends the program in good order.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let url = arguments.dir.join("url");
    // A url left by an earlier run would be taken for this one's.
    match fs::remove_file(&url) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let with_s3 = arguments.options.s3;
    let cloud = Cloud::try_start(arguments.options)?;
    if let Some(pause) = arguments.slow {
        for route in Route::CALLS {
            cloud.always(route, Fault::Delay(pause));
        }
    }
    publish(&arguments.dir.join("ca.pem"), cloud.ca_pem())?;
    if with_s3 {
        let s3 = cloud.s3();
        for bucket in &arguments.buckets {
            s3.make_bucket(bucket);
        }
        publish(&arguments.dir.join("s3_url"), &s3.url())?;
        publish(&arguments.dir.join("s3_plain_url"), &s3.plain_url())?;
        publish(&arguments.dir.join("cdn.yaml"), &s3.cdn_yaml(&s3.url()))?;
    }
    publish(&url, &cloud.url())?;

    let (closed, stdin_closed) = oneshot::channel::<()>();
    let _open = if arguments.until_stdin_closes {
        // Not joined: it waits for a standard input that may stay open.
        thread::spawn(move || {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            drop(closed);
        });
        None
    } else {
        // Held, so that this end never comes.
        Some(closed)
    };
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = stdin_closed => {}
        }
    });
    Ok(())
}

/// Writes a file that is there in full or not at all.
fn publish(path: &Path, content: &str) -> io::Result<()> {
    let unfinished = path.with_extension("tmp");
    fs::write(&unfinished, content)?;
    fs::rename(&unfinished, path)
}

fn print_call(call: &Call) {
    let status = call.status.map_or("-".to_owned(), |status| status.to_string());
    let millis = call.took.unwrap_or_default().as_millis();
    // Whoever reads standard output may have gone; the cloud goes on.
    let _ = writeln!(io::stdout(), "{} {} {status} {millis} ms", call.method, call.path);
}
