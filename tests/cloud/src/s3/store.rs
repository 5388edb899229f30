//! Buckets, objects and multipart uploads; no HTTP here. Each version of an object is a file of its own that is written
//! once, so that a reader never sees two of them mixed; what is where stands in memory.
//!
//! Not `s3s-fs`: that makes file names from keys, which ends at some 170 bytes of a key (the contract allows 259), lets
//! parts be completed under wrong `ETag`s, ignores `If-Match`, and hashes an object anew at every call that it did not
//! store itself.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use s3s::crypto::{Checksum as _, Md5};

use super::hex;
use crate::lock;

/// Why an operation cannot be.
#[derive(Debug)]
pub(crate) enum Trouble {
    NoSuchBucket,
    NoSuchUpload,
    /// A part that never came, or with another `ETag`.
    InvalidPart,
    InvalidPartOrder,
    /// A part before the last under 5 MiB.
    EntityTooSmall,
    Disk(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Every part but the last has at least this much.
const PART_BYTES: u64 = 5 << 20;

/// Bytes in a file that goes when nobody holds it any more.
#[derive(Debug)]
pub(crate) struct Stored {
    file: PathBuf,
    size: u64,
    /// Without quotes.
    etag: String,
    md5: [u8; 16],
    modified: SystemTime,
    metadata: Metadata,
}

/// `x-amz-meta-*`, as it came.
pub(crate) type Metadata = HashMap<String, String>;

impl Stored {
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn etag(&self) -> &str {
        &self.etag
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The same with this metadata.
    pub(crate) fn with(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    pub(crate) fn modified(&self) -> SystemTime {
        self.modified
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        // Its directory may be gone already, with everything in it.
        let _ = fs::remove_file(&self.file);
    }
}

/// Bytes on their way into a file; dropped unfinished, it goes.
pub(crate) struct Draft {
    path: PathBuf,
    file: Option<File>,
    md5: Md5,
    size: u64,
}

impl Draft {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.md5.update(bytes);
        self.size += bytes.len() as u64;
        self.file.as_mut().expect("a draft is open until it is finished").write_all(bytes)
    }

    pub(crate) fn finish(mut self) -> Stored {
        let md5 = std::mem::replace(&mut self.md5, Md5::new()).finalize();
        self.file = None;
        Stored {
            file: self.path.clone(),
            size: self.size,
            etag: hex(&md5),
            md5,
            modified: SystemTime::now(),
            metadata: Metadata::new(),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[derive(Default)]
struct Inner {
    buckets: BTreeMap<String, BTreeMap<String, Arc<Stored>>>,
    uploads: BTreeMap<String, Upload>,
    files: u64,
}

struct Upload {
    bucket: String,
    key: String,
    parts: BTreeMap<u32, Arc<Stored>>,
    metadata: Metadata,
}

/// Everything the server holds.
pub(crate) struct Store {
    dir: PathBuf,
    inner: Mutex<Inner>,
}

impl Store {
    pub(crate) fn new(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), inner: Mutex::default() })
    }

    fn fresh(&self) -> PathBuf {
        let mut inner = lock(&self.inner);
        inner.files += 1;
        self.dir.join(format!("{}-{:06}", std::process::id(), inner.files))
    }

    pub(crate) fn draft(&self) -> io::Result<Draft> {
        let path = self.fresh();
        Ok(Draft { file: Some(File::create_new(&path)?), path, md5: Md5::new(), size: 0 })
    }

    pub(crate) fn make_bucket(&self, bucket: &str) {
        lock(&self.inner).buckets.entry(bucket.to_owned()).or_default();
    }

    pub(crate) fn has_bucket(&self, bucket: &str) -> bool {
        lock(&self.inner).buckets.contains_key(bucket)
    }

    pub(crate) fn object(&self, bucket: &str, key: &str) -> Option<Arc<Stored>> {
        lock(&self.inner).buckets.get(bucket)?.get(key).cloned()
    }

    pub(crate) fn objects(&self, bucket: &str) -> Option<Vec<(String, Arc<Stored>)>> {
        let inner = lock(&self.inner);
        Some(inner.buckets.get(bucket)?.iter().map(|(key, stored)| (key.clone(), Arc::clone(stored))).collect())
    }

    pub(crate) fn put(&self, bucket: &str, key: &str, stored: Stored) -> Result<Arc<Stored>, Trouble> {
        let stored = Arc::new(stored);
        let mut inner = lock(&self.inner);
        let objects = inner.buckets.get_mut(bucket).ok_or(Trouble::NoSuchBucket)?;
        objects.insert(key.to_owned(), Arc::clone(&stored));
        Ok(stored)
    }

    pub(crate) fn put_bytes(&self, bucket: &str, key: &str, bytes: &[u8]) -> Result<(), Trouble> {
        let mut draft = self.draft()?;
        draft.write(bytes)?;
        self.make_bucket(bucket);
        self.put(bucket, key, draft.finish()).map(drop)
    }

    pub(crate) fn put_file(&self, bucket: &str, key: &str, from: &Path) -> Result<(), Trouble> {
        let (mut md5, mut size) = (Md5::new(), 0);
        let mut reader = File::open(from)?;
        let mut piece = vec![0; 1 << 20];
        loop {
            match reader.read(&mut piece)? {
                0 => break,
                read => {
                    md5.update(&piece[..read]);
                    size += read as u64;
                }
            }
        }
        let file = self.fresh();
        fs::hard_link(from, &file).or_else(|_| fs::copy(from, &file).map(drop))?;
        let md5 = md5.finalize();
        self.make_bucket(bucket);
        let stored =
            Stored { file, size, etag: hex(&md5), md5, modified: SystemTime::now(), metadata: Metadata::new() };
        self.put(bucket, key, stored).map(drop)
    }

    pub(crate) fn remove(&self, bucket: &str, key: &str) -> bool {
        lock(&self.inner).buckets.get_mut(bucket).is_some_and(|objects| objects.remove(key).is_some())
    }

    pub(crate) fn begin(&self, bucket: &str, key: &str, metadata: Metadata) -> Result<String, Trouble> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let id = hex(&bytes);
        let mut inner = lock(&self.inner);
        if !inner.buckets.contains_key(bucket) {
            return Err(Trouble::NoSuchBucket);
        }
        let upload = Upload { bucket: bucket.to_owned(), key: key.to_owned(), parts: BTreeMap::new(), metadata };
        inner.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    pub(crate) fn part(&self, at: (&str, &str, &str), number: u32, stored: Stored) -> Result<String, Trouble> {
        let etag = stored.etag.clone();
        lock(&self.inner).upload(at)?.parts.insert(number, Arc::new(stored));
        Ok(etag)
    }

    /// The parts that have come.
    pub(crate) fn parts(&self, at: (&str, &str, &str)) -> Result<BTreeMap<u32, Arc<Stored>>, Trouble> {
        Ok(lock(&self.inner).upload(at)?.parts.clone())
    }

    /// Makes the object of these parts; the upload is over only when that has succeeded. Copies: blocks its thread.
    pub(crate) fn complete(&self, at: (&str, &str, &str), wanted: &[(u32, String)]) -> Result<Arc<Stored>, Trouble> {
        let came = self.parts(at)?;
        if wanted.is_empty() {
            return Err(Trouble::InvalidPart);
        }
        if !wanted.is_sorted_by(|one, next| one.0 < next.0) {
            return Err(Trouble::InvalidPartOrder);
        }
        let mut parts = Vec::new();
        for (number, etag) in wanted {
            parts.push(came.get(number).filter(|part| part.etag == *etag).ok_or(Trouble::InvalidPart)?);
        }
        if parts.iter().rev().skip(1).any(|part| part.size < PART_BYTES) {
            return Err(Trouble::EntityTooSmall);
        }
        let mut draft = self.draft()?;
        let file = draft.file.as_mut().expect("a draft is open until it is finished");
        for part in &parts {
            io::copy(&mut File::open(&part.file)?, file)?;
        }
        let mut of_parts = Md5::new();
        for part in &parts {
            of_parts.update(&part.md5);
        }
        let mut stored = draft.finish();
        stored.md5 = of_parts.finalize();
        stored.size = parts.iter().map(|part| part.size).sum();
        // As AWS forms it, and clients that check MD5 know it by the dash.
        stored.etag = format!("{}-{}", hex(&stored.md5), parts.len());
        stored.metadata.clone_from(&lock(&self.inner).upload(at)?.metadata);
        let stored = self.put(at.0, at.1, stored)?;
        lock(&self.inner).uploads.remove(at.2);
        Ok(stored)
    }

    pub(crate) fn abort(&self, at: (&str, &str, &str)) -> Result<(), Trouble> {
        let mut inner = lock(&self.inner);
        inner.upload(at)?;
        inner.uploads.remove(at.2);
        Ok(())
    }

    pub(crate) fn uploads(&self) -> Vec<String> {
        lock(&self.inner).uploads.keys().cloned().collect()
    }

    pub(crate) fn forget_uploads(&self) {
        lock(&self.inner).uploads.clear();
    }
}

impl Inner {
    /// The upload of this bucket, key and id.
    fn upload(&mut self, (bucket, key, id): (&str, &str, &str)) -> Result<&mut Upload, Trouble> {
        let upload = self.uploads.get_mut(id).ok_or(Trouble::NoSuchUpload)?;
        if upload.bucket == bucket && upload.key == key { Ok(upload) } else { Err(Trouble::NoSuchUpload) }
    }
}
