//! `azaion-archive`: packs files and directories as `docker save` does and encrypts the result, for the demo and for
//! trying things by hand.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use azaion_cloud::archive::{Image, Layer, Layout, architecture, encrypt, write_for};
use lexopt::{Arg, ValueExt as _};

const HELP: &str = "\
azaion-archive: makes an encrypted image archive (images.enc) for demo and tests

usage: azaion-archive --fragment-file FILE --out images.enc --image NAME:TAG LAYER... [--image ...]

  --fragment-file FILE   the key fragment whose SHA-256 is the key
  --out FILE             where the archive goes; scratch files lie beside it while it is made
  --layout oci|classic   as Docker from 25 on, or before (default oci)
  --arch NAME            what the images say they are for, as amd64 or arm64 (default: this machine)
  --plain                writes the tar unencrypted

each image is followed by its layers, from the bottom up, and what it runs:
  --file PATH=FILE       a layer with one executable file
  --dir PATH=DIR         a layer with a directory tree
  --command 'WORDS'      what `docker run` starts
";

/// What the command line asked for.
struct Arguments {
    fragment: Vec<u8>,
    out: PathBuf,
    layout: Layout,
    arch: String,
    plain: bool,
    images: Vec<Image>,
}

fn main() -> ExitCode {
    let arguments = match parse(lexopt::Parser::from_env()) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("azaion-archive: {error}; --help tells what is allowed");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("azaion-archive: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `None` when help was asked for.
fn parse(mut parser: lexopt::Parser) -> Result<Option<Arguments>, lexopt::Error> {
    let mut fragment = None;
    let mut out = None;
    let mut layout = Layout::Oci;
    let mut arch = architecture().to_owned();
    let mut plain = false;
    let mut images: Vec<Image> = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("fragment-file") => fragment = Some(read(&PathBuf::from(parser.value()?))?),
            Arg::Long("out") => out = Some(PathBuf::from(parser.value()?)),
            Arg::Long("plain") => plain = true,
            Arg::Long("arch") => arch = parser.value()?.string()?,
            Arg::Long("layout") => {
                layout = match parser.value()?.string()?.as_str() {
                    "oci" => Layout::Oci,
                    "classic" => Layout::Classic,
                    other => return Err(format!("--layout is oci or classic, not {other:?}").into()),
                }
            }
            Arg::Long("image") => {
                let tag = parser.value()?.string()?;
                images.push(Image { tags: vec![tag], layers: Vec::new(), command: Vec::new() });
            }
            Arg::Long("file") => {
                let (to, from) = pair(&parser.value()?.string()?)?;
                last(&mut images)?.layers.push(Layer::Files(vec![(to, 0o755, read(&from)?)]));
            }
            Arg::Long("dir") => {
                let (to, from) = pair(&parser.value()?.string()?)?;
                last(&mut images)?.layers.push(Layer::Directory { from, to });
            }
            Arg::Long("command") => {
                let words = parser.value()?.string()?;
                last(&mut images)?.command = words.split_whitespace().map(str::to_owned).collect();
            }
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            unknown => return Err(unknown.unexpected()),
        }
    }
    if images.is_empty() {
        return Err("--image is missing".into());
    }
    Ok(Some(Arguments {
        fragment: fragment.ok_or("--fragment-file is missing")?,
        out: out.ok_or("--out is missing")?,
        layout,
        arch,
        plain,
        images,
    }))
}

fn read(path: &Path) -> Result<Vec<u8>, lexopt::Error> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn pair(text: &str) -> Result<(String, PathBuf), lexopt::Error> {
    let (to, from) = text.split_once('=').ok_or_else(|| format!("PATH=SOURCE is expected, not {text:?}"))?;
    Ok((to.to_owned(), from.into()))
}

fn last(images: &mut [Image]) -> Result<&mut Image, lexopt::Error> {
    images.last_mut().ok_or_else(|| "--image comes before its layers".into())
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let beside = arguments.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let tar = arguments.out.with_extension("tar.tmp");
    write_for(&arguments.arch, arguments.layout, &arguments.images, beside, BufWriter::new(File::create(&tar)?))?;
    if arguments.plain {
        return fs::rename(&tar, &arguments.out);
    }
    let plain = BufReader::new(File::open(&tar)?);
    // Nameless from here on: the plaintext goes away with the handle.
    fs::remove_file(&tar)?;
    encrypt(&arguments.fragment, plain, BufWriter::new(File::create(&arguments.out)?))
}
