//! Every bound of the agent in one table: buffers, queues, bodies, names, retries, time-outs.
//!
//! A number that limits memory, time or trust stands here with its unit (in the type or in the name), what it
//! protects, and what happens at it. Nothing else in the crate may invent one. Each has a test at the bound, at the
//! foot of the room that enforces it.

use std::time::Duration;

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

// ---- archive --------------------------------------------------------------------------------------------------

/// Length of the plain tar: 1 TiB. It ends the reading of a compressed archive that never stops unfolding.
pub const TAR_BYTES: u64 = 1 << 40;

/// Headers of the tar, those of long names and pax records counted too. With [`TAR_NAMES_BYTES`] it bounds the index
/// in memory to about 4 MiB; an archive of 100 images with 60 layers each, as old engines write it, has 24,000.
pub const TAR_HEADERS: usize = 32_768;

/// Name or link target of one tar member.
pub const TAR_NAME_BYTES: usize = 1024;

/// Names and link targets of all tar members together.
pub const TAR_NAMES_BYTES: usize = 2 * 1024 * 1024;

/// A long name or the pax records in front of one tar member.
pub const TAR_EXTENSION_BYTES: u64 = 64 * 1024;

/// Links from link to link until a file must be reached.
pub const TAR_LINK_HOPS: usize = 8;

/// One JSON document of an archive: config, manifest, index.
pub const DOCUMENT_BYTES: u64 = 1024 * 1024;

/// All JSON documents of a compressed archive together: they are kept in memory, for it cannot be read again in part.
pub const DOCUMENTS_BYTES: usize = 4 * 1024 * 1024;

/// Images of one archive.
pub const ARCHIVE_IMAGES: usize = 256;

/// Layers of one image; engines stop at 127.
pub const IMAGE_LAYERS: usize = 256;

/// Tags of one image.
pub const IMAGE_TAGS: usize = 64;

/// One tag, with registry and repository.
pub const TAG_BYTES: usize = 512;

/// Descriptors followed from `index.json`, nested indexes and attestations counted too.
pub const OCI_DESCRIPTORS: usize = 1024;

/// Indexes inside indexes.
pub const OCI_INDEX_DEPTH: usize = 4;

/// Window of a zstd archive: what decompression must keep in memory. `zstd -19` stays within it, `--ultra` and
/// `--long` do not.
pub const ZSTD_WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes at each end of the archive by which it is known again without reading it whole.
pub const IDENTITY_END_BYTES: u64 = 64 * 1024;

// ---- engine ---------------------------------------------------------------------------------------------------

/// Path of a unix socket: `sun_path` holds 108 bytes with its closing zero (unix(7)). Longer is refused when parsed.
pub const SOCKET_PATH_BYTES: usize = 107;

/// One JSON document of the engine (version, info, inspect). Longer is a protocol error.
pub const ENGINE_DOCUMENT_BYTES: usize = 1024 * 1024;

/// The engine's list of all its images; only asked for when an image of the archive has no tag.
pub const ENGINE_LIST_BYTES: usize = 4 * 1024 * 1024;

/// Images of that list that are looked into while an untagged one is searched for; behind them it counts as missing.
pub const ENGINE_LIST_IMAGES: usize = 256;

/// Layers go in one request until they are this long together: what a cut costs at most, where layers are small. A request
/// by itself costs an engine 15 to 40 ms, the time of a few MiB.
pub const ENGINE_STEP_BYTES: u64 = 16 * 1024 * 1024;

/// A rest of an image shorter than this goes with what is before it, and a shared stack of layers shorter than this is no
/// step of its own.
pub const ENGINE_REST_BYTES: u64 = 4 * 1024 * 1024;

/// Images that go in side by side, at most; fewer where there are fewer cores, less memory or less room.
pub const ENGINE_LANES: usize = 4;

/// Memory that must be available for each image that goes in beside the first: what an engine needs to unpack one.
pub const ENGINE_LANE_MEMORY_BYTES: u64 = 128 * 1024 * 1024;

/// Free space that must remain under the engine's root: what the file system needs for itself.
pub const ENGINE_SPARE_BYTES: u64 = 32 * 1024 * 1024;

/// Suites that are remembered beside the present one until their images are removed; behind them the oldest is
/// forgotten, and its images stay.
pub const SUITES_REMEMBERED: usize = 16;

/// Earlier suites that `[engine] keep_old` can ask to keep.
pub const SUITES_KEPT: usize = 8;

/// One message in the answer to a load; a longer one is a protocol error.
pub const ENGINE_LOAD_MESSAGE_BYTES: usize = 64 * 1024;

/// All messages in the answer to a load together; more is a protocol error.
pub const ENGINE_LOAD_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// What is kept of the engine's own text in an error; the rest is cut.
pub const ENGINE_SAID_BYTES: usize = 512;

/// An answer of the engine to anything but a load. An engine under load on a slow flash needs seconds to answer.
pub const ENGINE_CALL_WAIT: Duration = Duration::from_mins(1);

/// Silence in a load, the engine taking no byte or saying none: it unpacks and hashes whole images between two words,
/// 10 GB at 5 MB/s. Longer means that it is stuck.
pub const ENGINE_LOAD_SILENCE: Duration = Duration::from_mins(40);

/// How often one load is begun when the engine dies under it. Each repetition sends everything again.
pub const ENGINE_LOAD_ATTEMPTS: u32 = 3;

/// How long an engine that died under a load is waited for, before the load counts as failed.
pub const ENGINE_RETURN_WAIT: Duration = Duration::from_mins(2);

/// Pause between two looks whether the engine is back.
pub const ENGINE_RETURN_PAUSE: Duration = Duration::from_millis(250);

/// `index.json` of an OCI directory, also a foreign one; longer is refused and left as it is.
pub const LAYOUT_INDEX_BYTES: usize = 1024 * 1024;

/// A manifest or an image configuration in an OCI directory (the limit the distribution specification names).
pub const LAYOUT_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;

/// The agent's own record in an OCI directory: 100 bytes for each blob.
pub const LAYOUT_RECORD_BYTES: usize = 1024 * 1024;

/// Manifests and indexes of an OCI directory, also foreign ones, that are followed to find what is still used; behind
/// them nothing is removed.
pub const LAYOUT_DOCUMENTS: usize = 4096;

/// Free space that must remain beside the blobs of an OCI directory: its index, record and the file system's own.
pub const LAYOUT_SPARE_BYTES: u64 = 1024 * 1024;

// ---- cdn ------------------------------------------------------------------------------------------------------

/// `cdn.yaml`, whole; a longer one is refused. Six values of [`CDN_VALUE_BYTES`] and their comments fit.
pub const CDN_YAML_BYTES: usize = 16 * 1024;

/// One value of `cdn.yaml`; a longer one is refused.
pub const CDN_VALUE_BYTES: usize = 1024;

/// Nesting of `cdn.yaml`, in values that are not looked at; deeper is refused.
pub const CDN_YAML_DEPTH: usize = 16;

/// How long a signed request is valid. Also how far behind a board's clock may be before the CDN says so.
pub const CDN_SIGNATURE_LIFE: Duration = Duration::from_mins(15);

/// A refusal whose `Date` is further from ours than this is taken for one of the clock, and repeated by the server's.
pub const CDN_CLOCK_SKEW: Duration = Duration::from_mins(1);

/// A body of an XML answer; a longer one is a protocol error.
pub const CDN_ANSWER_BYTES: usize = 64 * 1024;

/// An entity tag, with its quotes; a longer one is a protocol error.
pub const CDN_ETAG_BYTES: usize = 256;

/// The id of a multipart upload; a longer one is a protocol error. It stands in the request line of each part.
pub const CDN_UPLOAD_ID_BYTES: usize = 2048;

/// Parts of one multipart upload (S3's own bound).
pub const CDN_PARTS: usize = 10_000;

/// The mark that an upload carries, by which its object is known again.
pub const CDN_MARK_BYTES: usize = 64;

/// Waiting for the answer to the last byte of a part: the store may copy or check it first.
pub const CDN_STORE_TIMEOUT: Duration = Duration::from_mins(2);

/// Waiting for the answer to a finished multipart upload: stores that join the parts then need minutes.
pub const CDN_FINISH_TIMEOUT: Duration = Duration::from_mins(10);

/// Bytes read over when a server answers a ranged request with the whole object; an object where more would have to be
/// is a protocol error.
pub const CDN_SKIPPED_BYTES: u64 = 8 * 1024 * 1024;

/// A read that brought this much since its last failure has all its attempts again.
pub const CDN_PROGRESS_BYTES: u64 = 64 * 1024;

/// The end of an object that can be asked for together with its size: the last chunk of a sealed one, and the one before
/// where that is shorter than two blocks.
pub const CDN_TAIL_BYTES: u64 = 2 * 1024 * 1024 + 32;

// ---- seals ----------------------------------------------------------------------------------------------------

/// Piece of an archive that has its own hash in the seal: what is read, checked and only then used.
pub const SEAL_CHUNK_BYTES: u64 = 256 * 1024;

/// Chunks of an archive: at 32 bytes each, 8 MiB of memory while an archive of 64 GiB is read.
pub const SEAL_CHUNKS: u64 = 262_144;

/// Chunks of a sealed archive that are kept after they were compared: one for each image that goes in side by side, and
/// one for documents. At 256 KiB each.
pub const SEALED_CHUNKS_KEPT: usize = ENGINE_LANES + 1;

/// A sealed archive: 64 GiB.
pub const SEAL_LENGTH_BYTES: u64 = SEAL_CHUNKS * SEAL_CHUNK_BYTES;

/// The list of images in a seal, encrypted.
pub const SEAL_CONTENT_BYTES: usize = 1024 * 1024;

/// The name in an archive's seal.
pub const SEAL_NAME_BYTES: usize = 64;

/// An archive's seal: head, content, hashes, tag. A longer file is none.
pub const SEAL_BYTES: u64 = 1024 + SEAL_CONTENT_BYTES as u64 + SEAL_CHUNKS * 32;

/// What the state keeps of seals, `trust.json`.
pub const TRUST_BYTES: usize = 16 * 1024;

/// Names of archives whose highest version is kept.
pub const TRUST_NAMES: usize = 16;

/// A signature of minisign's: two comments and two lines of base64.
pub const SIGNATURE_BYTES: usize = 8 * 1024;

/// Publishers' keys in the configuration: the one that is used, the next one, and room for a mistake.
pub const PUBLISHER_KEYS: usize = 8;

/// A resource's seal: head, names, hashes, tag. A longer file is none.
pub const RESOURCE_SEAL_BYTES: u64 = 1024 + CACHE_CHUNKS * 32;

// ---- cache ----------------------------------------------------------------------------------------------------

/// Piece of a big part that has its own hash: what one read verifies and what a repair fetches again.
pub const CACHE_CHUNK_BYTES: u64 = 256 * 1024;

/// Chunks of one entry; bigger objects get bigger chunks. At 32 bytes each, 1 MiB of memory while it is used.
pub const CACHE_CHUNKS: u64 = 32_768;

/// The biggest object the cache takes: its chunks, read whole into memory, have 2 MiB. Bigger ones go past it.
pub const CACHE_OBJECT_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// Bytes of chunks written between two flushes: what a power cut costs at most of a download.
pub const CACHE_FLUSH_BYTES: u64 = 8 * 1024 * 1024;

/// Steps in which room is made for an upload, whose length nobody knows before its end.
pub const CACHE_STAGE_STEP_BYTES: u64 = 1024 * 1024;

/// Entries, whole or not; the least recently used one makes room for the next.
pub const CACHE_ENTRIES: usize = 4096;

/// Uploads that are accepted and wait for the cloud; the next one is refused until one of them is through.
pub const CACHE_UPLOADS: usize = 64;

/// Names in the directory, foreign ones too; behind them the directory is not looked at.
pub const CACHE_NAMES: usize = 65_536;

/// `ETag` of an object that is cached, or of an uploaded part. S3 has 34 to 70 bytes.
pub const CACHE_ETAG_BYTES: usize = 256;

/// The server's id of a multipart upload.
pub const CACHE_UPLOAD_ID_BYTES: usize = 2048;

/// A small part as it is kept, boxed: 3 KiB and what the box adds.
pub const CACHE_SMALL_BYTES: usize = 8 * 1024;

/// Journal of a download: every chunk recorded twice, each record with its own head and tag.
pub const CACHE_JOURNAL_BYTES: u64 = 8 * 1024 * 1024;

/// Record of an upload: 1 MiB of hashes and 10,000 parts of 300 bytes each.
pub const CACHE_UPLOAD_RECORD_BYTES: u64 = 8 * 1024 * 1024;

// ---- resource -------------------------------------------------------------------------------------------------

/// Sealed bytes from which on the small part has its full length, whatever follows (CONTRACT section 5): an upload keeps
/// so many in memory, and a shorter resource is joined in memory.
pub const SPLIT_HEAD_BYTES: usize = 10_240;

/// A small part (CONTRACT section 5); a longer file of that name is none.
pub const SMALL_BYTES: usize = 3072;

/// A small part under the API key: IV and padding on top.
pub const SMALL_SEALED_BYTES: usize = SMALL_BYTES + 32;

/// A resource's seal under the API key: IV and padding on top.
#[expect(clippy::cast_possible_truncation, reason = "a MiB fits")]
pub const RESOURCE_SEAL_SEALED_BYTES: usize = RESOURCE_SEAL_BYTES as usize + 32;

/// How often small part and seal are asked for together: an upload may pass between the two questions.
pub const SEAL_TRIES: u32 = 2;

/// A clock that shows less since 1970 was never set (2020): what is sealed by it has no version.
pub const CLOCK_WAS_SET: Duration = Duration::from_hours(438_288);

/// A small part in its box on flash: format, IV, padding, tag.
pub const BOX_BYTES: usize = SMALL_BYTES + 128;

/// `cdn.yaml` under the API key: IV and padding on top.
pub const CDN_YAML_SEALED_BYTES: usize = CDN_YAML_BYTES + 32;

/// An unsplit resource up to this long is decrypted whole before its first byte goes out: its length is then known.
pub const WHOLE_AT_ONCE_BYTES: u64 = 64 * 1024;

/// Memory of the password hash that locks kept small parts. The agent has 10 MiB in all, so this is less than the 7 MiB
/// that OWASP names as least; the passes make up for it.
pub const VAULT_MEMORY_KIB: u32 = 2048;

/// Passes of that hash: memory times passes, which is what a guess costs, is 5 times that of OWASP's 7 MiB and 5 passes.
pub const VAULT_PASSES: u32 = 96;

/// How long the API is tried before what is kept on flash is served in its place.
pub const OFFLINE_TRY: Duration = Duration::from_secs(3);

/// After a try that failed the API is not tried again for this long, where there is something to serve without it.
pub const OFFLINE_REST: Duration = Duration::from_secs(30);

/// How often one chunk is fetched again for one reader because flash gives it back damaged; then the rest comes from the
/// CDN without flash, which is not worn by writing to it over and over.
pub const CHUNK_REPAIRS: u32 = 2;

/// Ranges of one object that are fetched at once. More than one only where a link is long or thin.
pub const DOWNLOAD_WORKERS: usize = 4;

/// The first range of a download: the first byte goes out when its first chunk is there.
pub const SEGMENT_FIRST_BYTES: u64 = 1024 * 1024;

/// Ranges double up to this: on a fast link a request costs little beside it.
pub const SEGMENT_LONGEST_BYTES: u64 = 8 * 1024 * 1024;

/// A range that took longer than this calls for one more worker.
pub const SEGMENT_SLOW: Duration = Duration::from_millis(500);

/// Downloads into the cache at once; further models go straight from the CDN to their clients.
pub const DOWNLOADS: usize = 8;

/// One part of a multipart upload, and the longest object that is sent in one request. S3 wants 5 MiB at least; a cut
/// costs at most one.
pub const UPLOAD_PART_BYTES: u64 = 8 * 1024 * 1024;

/// Parts of one multipart upload (S3's bound); beyond it parts are longer.
pub const UPLOAD_PARTS: u64 = 10_000;

/// How often one attempt begins an upload anew that the store does not know any more.
pub const UPLOAD_RESTARTS: u32 = 2;

/// Uploads that are sent at once; others wait their turn.
pub const PUBLISHING: usize = 2;

/// First pause before an upload is tried again; doubles each time, with jitter.
pub const PUBLISH_FIRST_PAUSE: Duration = Duration::from_secs(2);

/// Longest pause between two tries of an upload; a log-in ends it.
pub const PUBLISH_LONGEST_PAUSE: Duration = Duration::from_mins(5);

// ---- control --------------------------------------------------------------------------------------------------

/// Connections that one listener holds at a time. The next one takes the seat of whoever waits longest for its own
/// client; only when all of them are inside a handler is it turned away (429).
pub const CLIENTS_PER_LISTENER: usize = 256;

/// Requests on one connection; the last one is answered with `Connection: close`.
pub const REQUESTS_PER_CONNECTION: usize = 1000;

/// Request line without its end: longer is 414. RFC 9112 section 3 recommends at least this.
pub const REQUEST_LINE_BYTES: usize = 8000;

/// Request head, line and empty line included: longer is 431. Buffers grow towards it only as bytes arrive.
pub const CLIENT_HEAD_BYTES: usize = 12 * 1024;

/// Header fields of one request: more is 431.
pub const REQUEST_HEADERS: usize = 64;

/// Path segments that any route has; a path with more is an unknown route.
pub const PATH_SEGMENTS: usize = 4;

/// First size of a connection's buffer, and what an idle one keeps.
pub const INLET_FIRST_BYTES: usize = 1024;

/// A JSON request body: longer is 413. Two credentials of [`CREDENTIAL_BYTES`] with every byte escaped fit.
pub const JSON_BODY_BYTES: usize = 16 * 1024;

/// What is left of a body nobody asked for is read over up to here, else the connection closes after the answer.
pub const BODY_DISCARD_BYTES: u64 = 16 * 1024;

/// One chunk-size line with its extension: longer is 400.
pub const CHUNK_LINE_BYTES: usize = 256;

/// The whole trailer section of a chunked body: longer is 431.
pub const TRAILER_BYTES: usize = 1024;

/// From the first byte of a head (or the accept) to its end: later is 408.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// A kept-alive connection without a request: closed silently after this.
pub const IDLE_PATIENCE: Duration = Duration::from_secs(30);

/// Waiting for body bytes, summed over the body, beyond [`BODY_BYTES_PER_SECOND`]: later is 408.
pub const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// Each of these bytes of a body buys its share of a second on top of [`BODY_PATIENCE`].
pub const BODY_BYTES_PER_SECOND: u64 = 1024;

/// One whole bounded answer must be taken by the client in this time, else the connection is cut. Of a streamed one,
/// which may be of any size, the client must take at least one byte each time this has passed.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Models that are sent or received at one time, over all listeners: each holds its pieces in memory. The next one
/// waits for its turn.
pub const STREAMS_AT_ONCE: usize = 64;

/// Waiting for that turn: later is 429.
pub const STREAM_TURN: Duration = Duration::from_secs(10);

/// An upload is whatever size it is and may come from a pipe: this long without one byte is 408, and so is a wait,
/// summed over the body, beyond this and [`BODY_BYTES_PER_SECOND`].
pub const UPLOAD_SILENCE: Duration = Duration::from_mins(1);

/// Bytes of a form in which neither a part begins nor one goes on (what stands before the first part, the head of a
/// part): more is 413.
pub const FORM_FRAMING_BYTES: usize = 64 * 1024;

/// Parts of a form that the call does not know, their bytes in all: more is 413.
pub const FORM_IGNORED_BYTES: usize = 64 * 1024;

/// Parts of a form: more is 413.
pub const FORM_PARTS: usize = 64;

/// The boundary of a form (RFC 2046 section 5.1.1): longer is 400.
pub const FORM_BOUNDARY_BYTES: usize = 70;

/// After a refusal, what still arrives is read over for this long, so that the client can read the answer
/// (CONTRACT section 6).
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// At shutdown, requests that run have this long to end.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Pause after a failed accept (no file descriptors left), so that the loop does not spin on it.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Log-in attempts, over all clients together, that may come at once.
pub const LOGIN_BURST: u32 = 10;

/// One more log-in attempt is allowed each time this has passed: 14,400 guesses a day.
pub const LOGIN_REFILL: Duration = Duration::from_secs(6);

/// The message of an error as the port shows it, in bytes of UTF-8; what is longer is cut.
pub const SHOWN_MESSAGE_BYTES: usize = 512;

/// The next step of an error as the port shows it.
pub const SHOWN_NEXT_BYTES: usize = 256;

/// An e-mail address as `/status` shows it; RFC 5321 allows 254.
pub const SHOWN_EMAIL_BYTES: usize = 256;

/// A note, a board's or an engine's name as `/status` shows it.
pub const SHOWN_NAME_BYTES: usize = 128;

/// Notes that `/status` shows; the first ones win.
pub const SHOWN_NOTES: usize = 8;

/// Any answer's JSON: all of the above with every byte escaped as two, and the field names.
pub const ANSWER_BYTES: usize = 8 * 1024;

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

/// One fact of the fingerprint; a longer one is garbage.
pub const FACT_BYTES: usize = 128;

/// One line of the log, cut beyond it. Below the 4096 bytes that a pipe takes as one.
pub const LOG_LINE_BYTES: usize = 2048;

/// Lines waiting for flash; further ones are counted and said later.
pub const LOG_QUEUE_LINES: usize = 256;

/// One daily file; then it is set aside under `.1`, in place of what was there, and begun anew.
pub const LOG_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The user's id in a line of the audit log; a longer one is cut.
pub const AUDIT_USER_BYTES: usize = 64;

/// One line of the audit log: 200 bytes around a user's id of which every byte may be escaped as `\u0000`.
pub const AUDIT_LINE_BYTES: usize = 200 + 6 * AUDIT_USER_BYTES;

/// What the command-line client reads of one answer of the control port.
pub const CLIENT_ANSWER_BYTES: usize = 256 * 1024;

/// How long the command-line client waits for a connection to the agent, which is on the same board or one hop away.
pub const CLIENT_CONNECT: Duration = Duration::from_secs(5);

/// How long the command-line client waits for an answer; the agent answers at all times.
pub const CLIENT_CALL: Duration = Duration::from_secs(15);

/// How often the command-line client asks how far an unlock is.
pub const CLIENT_POLL: Duration = Duration::from_millis(250);

/// How often `azaion-loader wait` asks: it may run for hours beside the agent.
pub const CLIENT_WAIT_POLL: Duration = Duration::from_secs(1);

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

/// First pause before a headless board tries its unlock again; doubles each time.
pub const BOOT_FIRST_PAUSE: Duration = Duration::from_secs(5);

/// Longest pause between two tries of a headless board: how late it may notice that the network is back.
pub const BOOT_LONGEST_PAUSE: Duration = Duration::from_mins(2);

/// Pause between two looks of a headless board for an archive that is not there yet; a look reads no flash.
pub const BOOT_ARCHIVE_PAUSE: Duration = Duration::from_secs(5);
