//! Bounds of the CDN, the cache and models.

use std::time::Duration;

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

/// A resource's seal: head, names, hashes, tag. A longer file is none.
pub const RESOURCE_SEAL_BYTES: u64 = 1024 + CACHE_CHUNKS * 32;

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
