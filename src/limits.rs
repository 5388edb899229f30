//! Every bound of the agent in one table: buffers, queues, bodies, names, retries, time-outs.
//!
//! A number that limits memory, time or trust stands here with its unit (in the type or in the name), what it
//! protects, and what happens at it. Nothing else in the crate may invent one. Each has a test at the bound, at the
//! foot of the room that enforces it.

mod client;
mod control;
mod images;
mod models;

use std::time::Duration;

pub use client::*;
pub use control::*;
pub use images::*;
pub use models::*;

// ---- The loop -------------------------------------------------------------------------------------------------

/// Bytes of cipher and hash work that all tasks together may do in one turn of the loop; then the loop looks at its
/// sockets again. 64 KiB are 10 µs on a desktop, 0.8 ms on a Raspberry Pi 4 without AES instructions.
pub const CRYPTO_PER_TURN_BYTES: usize = 64 * 1024;

/// Bytes moved in one piece between flash, cipher and socket. Equals the turn, so that one piece is one turn.
pub const PIECE_BYTES: usize = 64 * 1024;

/// System calls lent to helper threads at one time (flash and name look-up). More would be more OS threads.
pub const LENT_CALLS: usize = 2;

/// A helper thread that had nothing to do for this long ends. Between two pieces of a slow flash it stays.
pub const LENT_IDLE: Duration = Duration::from_millis(300);

// ---- Secrets and names ----------------------------------------------------------------------------------------

/// E-mail address and password, each, in bytes of UTF-8: longer is refused as malformed input.
pub const CREDENTIAL_BYTES: usize = 1024;

/// Name of a resource (CONTRACT section 5).
pub const NAME_BYTES: usize = 255;

/// Folder of a resource (CONTRACT section 5).
pub const FOLDER_BYTES: usize = 63;

/// Key fragment: 1 to this many bytes (CONTRACT section 1).
pub const KEY_FRAGMENT_BYTES: usize = 4096;

/// A JSON Web Token, whole; longer is refused before it is parsed.
pub const TOKEN_BYTES: usize = 16 * 1024;

// ---- Received JSON --------------------------------------------------------------------------------------------

/// Nesting of any JSON that is read from outside.
pub const JSON_DEPTH: usize = 32;

// ---- net ------------------------------------------------------------------------------------------------------

/// Waiting for a name look-up. The system's resolver has its own, longer time-outs; its answer is then thrown away.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Waiting for a connection, all addresses of the name together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Waiting for the TLS handshake.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// Waiting for the whole head of an answer after the request was sent.
pub const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);

/// Silence in a body, ours or theirs: this long without one byte ends the exchange.
pub const IDLE_BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Addresses of one name that are tried; further ones are left out.
pub const ADDRESSES_TRIED: usize = 8;

/// The next address is tried after this long although the one before has not failed yet (RFC 8305 section 5).
pub const CONNECT_STAGGER: Duration = Duration::from_millis(250);

/// Head of a request, whole: the longest token and the lines around it. Longer is refused before it is sent.
pub const REQUEST_HEAD_BYTES: usize = TOKEN_BYTES + 4 * 1024;

/// Head of an answer, informational ones before it included. Also the read buffer of a connection.
pub const RESPONSE_HEAD_BYTES: usize = 16 * 1024;

/// Sizes, extensions and trailers of a chunked body between two bytes of content; more is refused.
pub const CHUNK_FRAMING_BYTES: usize = 8 * 1024;

/// Connections kept open per endpoint when idle; further ones are closed.
pub const IDLE_CONNECTIONS: usize = 4;

/// An idle connection older than this is closed, not used: shorter than what common servers keep (60 s and more).
pub const IDLE_CONNECTION_AGE: Duration = Duration::from_secs(20);

// ---- cloud ----------------------------------------------------------------------------------------------------

/// First pause before a call is repeated; doubles each time, with jitter.
pub const RETRY_FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The doubling stops here.
pub const RETRY_LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Attempts of one call, the first included, a log-in in between included.
pub const RETRY_ATTEMPTS: u32 = 6;

/// No attempt of a call begins later than this after the first one. A `Retry-After` that goes beyond ends the call.
pub const RETRY_TOTAL: Duration = Duration::from_mins(2);

/// One attempt of a call with a small answer, from name look-up to the last byte.
pub const API_WHOLE_CALL: Duration = Duration::from_mins(1);

/// Answer of `/login`: a token and what may stand around it.
pub const LOGIN_ANSWER_BYTES: usize = TOKEN_BYTES + 4 * 1024;

/// Body of a failure that is looked at for a message; the rest is not read.
pub const ERROR_BODY_BYTES: usize = 8 * 1024;

/// A server's message as it is shown: longer is cut.
pub const SERVER_MESSAGE_BYTES: usize = 512;

// ---- config, logging, board, cli ------------------------------------------------------------------------------

/// The configuration file, whole; a larger one is refused.
pub const CONFIG_BYTES: usize = 256 * 1024;

/// The longest silence of the Resource API that can be configured.
pub const CLOUD_TIMEOUT_SECONDS: u64 = 600;

/// A PEM file that the configuration names: roots, a public key. Debian's whole root bundle has 220 KiB.
pub const PEM_BYTES: usize = 1024 * 1024;

/// One text of the configuration: salts, the fixed fingerprint.
pub const CONFIG_TEXT_BYTES: usize = 4096;

/// `credentials_file`, whole: two texts of [`CREDENTIAL_BYTES`] with every character escaped, and the JSON around.
pub const CREDENTIALS_FILE_BYTES: usize = 2 * 6 * CREDENTIAL_BYTES + 256;

/// Addresses the control port listens on at the same time.
pub const LISTENERS: usize = 8;

/// Names in `control.allow_hosts` and users in `control.allow_uids`, each.
pub const ALLOW_LIST: usize = 64;

/// A unix socket's path: the kernel's `sun_path` is 108 bytes with its end mark.
pub const UNIX_PATH_BYTES: usize = 107;

/// One file of `/proc` or `/sys` that a fact is read from. `cpuinfo` has 1.5 KiB per core on x86-64.
pub const BOARD_FILE_BYTES: usize = 512 * 1024;

/// Each step of a checkup on its way to the cloud, to the CDN and to the engine.
pub const CHECK_STEP: Duration = Duration::from_secs(10);

/// What a checkup found is shown again for this long: asking without pause asks nobody else.
pub const CHECK_AGE: Duration = Duration::from_secs(2);

/// A clock further from the server's than this is worth a word.
pub const CHECK_CLOCK_APART: Duration = Duration::from_mins(1);

/// State, cache and logs need at least so much room.
pub const CHECK_STATE_BYTES: u64 = 16 << 20;

/// One fact of the fingerprint; a longer one is garbage.
pub const FACT_BYTES: usize = 128;

/// One profile of a board, as a file.
pub const PROFILE_BYTES: usize = 16 * 1024;

/// Profiles in `board.profiles_dir`.
pub const PROFILES: usize = 64;

/// Block devices, and network interfaces, that are looked at for a fact.
pub const BOARD_DEVICES: usize = 256;

/// `board.json`: what is remembered of a board's facts.
pub const BOARD_RECORD_BYTES: usize = 16 * 1024;

/// One line of the log, cut beyond it. Below the 4096 bytes that a pipe takes as one.
pub const LOG_LINE_BYTES: usize = 2048;

/// Lines waiting for flash; further ones are counted and said later.
pub const LOG_QUEUE_LINES: usize = 256;

/// One daily file; then it is set aside under `.1`, in place of what was there, and begun anew.
pub const LOG_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The user's id in a line of the audit log; a longer one is cut.
pub const AUDIT_USER_BYTES: usize = 64;

/// One line of the audit log: 400 bytes around a user's id of which every byte may be escaped as `\u0000`.
pub const AUDIT_LINE_BYTES: usize = 400 + 6 * AUDIT_USER_BYTES;

/// Audit lines that wait for flash; further ones are counted, and the next line says how many.
pub const AUDIT_QUEUE_LINES: usize = 256;

/// What is read at start of the newest audit file's end. More than one full queue: that much may be ahead of the state.
pub const AUDIT_TAIL_BYTES: u64 = 256 * 1024;

/// One audit file; then the next one is begun, under its own name.
pub const AUDIT_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// All audit files together; then the oldest goes before its time. A day can have 14,400 refused log-ins
/// ([`LOGIN_REFILL`]): 130 MB of 300-byte lines in thirty days; as unlocks, three lines each, this is twenty days.
pub const AUDIT_BYTES: u64 = 256 * 1024 * 1024;

/// What anybody can do as often as they like (a wrong token, an upload without the role) is one line in this time, with a
/// count.
pub const AUDIT_FOLD: Duration = Duration::from_mins(1);

/// `audit.json`, the head of the audit log.
pub const AUDIT_STATE_BYTES: usize = 1024;

/// Heads that `audit verify` compares with: `--head` and what `--head-from` finds, each of its lines up to
/// [`CLIENT_ANSWER_BYTES`].
pub const AUDIT_HEADS: usize = 65_536;

/// Faults that `audit verify` tells one by one; further ones are counted. Notes, too; further ones are left out.
pub const AUDIT_FAULTS: usize = 64;

/// Lines that `audit show` shows at most.
pub const AUDIT_SHOWN: usize = 10_000;

/// Days that daily log files can be kept for.
pub const LOG_RETENTION_DAYS: u32 = 3650;

/// Chunks on their way between the two threads of `azaion-loader seal` and `verify`, in each direction: 1 MiB.
pub const PUBLISHER_CHUNKS: usize = 4;

// ---- agent ----------------------------------------------------------------------------------------------------

/// After a log-in that the API did not answer, loads do without it for this long.
pub const AWAY_PAUSE: Duration = Duration::from_secs(30);

/// Requests to unlock that may wait at once for a look at the engine; further ones are told to come again.
pub const LOOKS_AT_ONCE: usize = 16;

/// The state on flash, `ready.json`: 256 images of 127 layers each, and as much again in tags. A larger one is not
/// written, and so the next start needs an unlock.
pub const LEDGER_BYTES: usize = 4 * 1024 * 1024;

/// The kernel's identifier of a boot, in bytes: a UUID and a line end.
pub const BOOT_ID_BYTES: usize = 64;

/// First pause before a headless board tries its unlock again; doubles each time.
pub const BOOT_FIRST_PAUSE: Duration = Duration::from_secs(5);

/// Longest pause between two tries of a headless board: how late it may notice that the network is back.
pub const BOOT_LONGEST_PAUSE: Duration = Duration::from_mins(2);

/// Pause between two looks of a headless board for an archive that is not there yet; a look reads no flash.
pub const BOOT_ARCHIVE_PAUSE: Duration = Duration::from_secs(5);
