//! Bounds of archives, seals and the engine.

use std::time::Duration;

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

// ---- seals ----------------------------------------------------------------------------------------------------

/// Piece of an archive that has its own hash in the seal: what is read, checked and only then used.
pub const SEAL_CHUNK_BYTES: u64 = 256 * 1024;

/// Chunks of an archive: at 32 bytes each, 8 MiB of memory while an archive of 64 GiB is read.
pub const SEAL_CHUNKS: u64 = 262_144;

/// Chunks of a sealed archive in memory, those on their way too: one for each image that goes in side by side, and one for
/// documents. At 256 KiB each.
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
