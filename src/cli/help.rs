//! The help texts: what each command does, its options, and an example to copy.

mod port;
mod publisher;

pub(super) use port::*;
pub(super) use publisher::*;

pub(super) const OVERVIEW: &str = "\
azaion-loader: turns the encrypted image archive on this board into running software

Usage: azaion-loader COMMAND [OPTION]...

Commands:
  run          the agent itself; systemd starts it
  status       what the agent is, holds and does
  login        log in and say as whom
  unlock       log in and unlock the board, and follow it until it is ready
  wait         return when the board is ready
  load         a model into a file
  upload       a model to the cloud
  events       what happens on the board, a line for each event
  check        what is well with this board, what is not, what to do next
  plan         what an unlock would send to the engine, without doing it
  cache        list, verify or evict what is cached of models
  token        make a bearer token for the control port
  errors       what an error code means, why it most likely came, what to do next
  trust        what this board has seen of seals; lets an older archive in
  fingerprint  the facts this board is recognised by
  config       the configuration in effect, and where each value came from

For the publisher, on any machine:
  seal         make images.enc and its seal from a tar or from docker save
  verify       check an archive and its seal wholly, without an engine
  inspect      what a seal claims, and which chunks of a copy are damaged; needs no key

  --help       this text; after a command, that command's
  --version    the version

Exit codes:
  0  done; for unlock and wait: ready
  1  failed, and why was said; for check: something is wrong
  2  the command line or the configuration is wrong
  3  wait --timeout ran out
  4  the agent does not answer
  5  run: another agent uses the same state directory

Examples:
  azaion-loader status
  azaion-loader unlock --email technician@example.com
  azaion-loader load detector.onnx --folder models -o detector.onnx
  azaion-loader check
  azaion-loader unlock --help
  docker save azaion/a:1 azaion/b:1 | azaion-loader seal --key-fragment fleet.key --out images.enc";

pub(super) const RUN: &str = "\
azaion-loader run: the agent; it serves the control port until it is told to end (SIGTERM, Ctrl-C)

  --config FILE   configuration; default /etc/azaion/loader.toml, which may be absent

Every key of the file can be set in the environment, as AZAION_<SECTION>_<KEY>; the environment wins. A mistake in
either is told in one line and ends it with exit code 2.

Examples:
  azaion-loader run --config ./loader.toml
  AZAION_LOG_LEVEL=debug azaion-loader run";

pub(super) const CONFIG: &str = "\
azaion-loader config: the configuration in effect as TOML, each value with its origin, salts as …

  --config FILE   configuration; default /etc/azaion/loader.toml

Exit code 2 and one line if the agent would not start with it.

Example:
  azaion-loader config --config ./loader.toml";

pub(super) const PLAN: &str = "\
azaion-loader plan: what an unlock would send to the container engine, image by image; nothing is changed

It logs in, because the archive's key is in the cloud, reads the archive's index and asks the engine what it has. Beside a
running agent it disturbs nothing.

Who logs in, one of:
  --email ADDRESS    this address; the password is asked for without showing it
  --credentials F    a file with {\"email\",\"password\"}, readable by its owner alone
  default            [boot] credentials_file

The password of --email, instead of the prompt (never as an argument):
  --password-file F  the first line of F
  --password-stdin   standard input

  --json             the plan as JSON
  --config FILE      configuration; default /etc/azaion/loader.toml

Exit code 1 when there is no plan, and when the images cannot fit.

Examples:
  azaion-loader plan --email technician@example.com
  azaion-loader plan --json --credentials boot.json";

pub(super) const CACHE: &str = "\
azaion-loader cache: what this board keeps of models; works beside a running agent and without one

  cache list                           every model: name, folder, size, chunks held, last use (1 is the latest), state
  cache verify                         reads every chunk and says which are damaged; the agent fetches those again
  cache evict NAME [--folder FOLDER]  removes one model
  cache evict --all                    removes all of them, and the damaged files that were set aside

  --config FILE   configuration with [cache] dir and the salts; default /etc/azaion/loader.toml

What the agent is using, and uploads that wait for the cloud, are never removed.

Exit code 1 when verify finds damage, and when evict leaves something that is in use.

Examples:
  azaion-loader cache list
  azaion-loader cache evict detector.onnx --folder models";

pub(super) const TRUST: &str = "\
azaion-loader trust: what this board has seen of seals; works beside a running agent and without one

  trust [show]                    the policy, whether something sealed was seen, the highest version of each archive
  trust allow VERSION [--name N]  lets archives from this version on in, for going back to an older release
  trust reset                     forgets everything: unsealed and older archives are taken again, as the policy says

  --config FILE   configuration with [archive] and [state] dir; default /etc/azaion/loader.toml

The agent looks at it with the next unlock.

Examples:
  azaion-loader trust
  azaion-loader trust allow 1790000000";

pub(super) const ERRORS: &str = "\
azaion-loader errors: what an error code means, why it most likely came, what to do next

  azaion-loader errors [CODE]

Of one code it says all that there is to say; without one, a line for each code.

  --markdown      the whole catalogue as docs/ERRORS.md has it

Examples:
  azaion-loader errors
  azaion-loader errors api_tls";

pub(super) const FINGERPRINT: &str = "\
azaion-loader fingerprint: the facts this board is recognised by, where each was read, the text they make, and its hash

  --root DIR      read the facts under DIR instead of / (a mounted card, a host seen from a container)
  --profile NAME  use this profile instead of the one that recognises the board
  --accept        remember the facts as they are now: a change is no longer told; the keys are those of the facts anyway
  --config FILE   configuration with [board] and the salts for the hash; default /etc/azaion/loader.toml

Facts marked key go into the keys. Facts marked drift change in ordinary life and are only compared. What the agent
remembers is compared with what is found; a running agent tells of a change until the cloud accepts the board, or until it
is started again after --accept.

Examples:
  azaion-loader fingerprint
  azaion-loader fingerprint --root /mnt --profile generic-arm64";
