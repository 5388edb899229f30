//! What S3's operations do with the store, and who may call them.

use std::io::SeekFrom;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use hyper::header::IF_RANGE;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput,
    DeleteObjectOutput, ETag, ETagCondition, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    Object, Part, PutObjectInput, PutObjectOutput, Range, StreamingBlob, Timestamp, UploadPartInput, UploadPartOutput,
};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::validation::NameValidation;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::S3Keys;
use super::store::{Metadata, Store, Stored, Trouble};

/// Marks a request whose range is to be ignored, by a fault.
#[derive(Clone, Copy)]
pub(crate) struct WithoutRange;

/// Pieces in which objects are read from the disk.
const PIECE_BYTES: usize = 256 << 10;

/// The operations whose name does not begin with one of these are the uploader's alone.
const READS: [&str; 3] = ["Get", "Head", "List"];

/// The service that checks signatures and calls the operations.
pub(crate) fn service(store: Arc<Store>, downloader: &S3Keys, uploader: &S3Keys) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Operations(store));
    builder.set_auth(Keys([downloader.clone(), uploader.clone()]));
    builder.set_access(OnlyTheUploaderWrites(uploader.access.clone()));
    builder.set_validation(AnyName);
    // The clock is checked by `server`, which may have moved it; an expired URL stays expired here too.
    let mut config = S3Config::default();
    config.presigned_url_max_skew_time_secs = u32::MAX;
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}

struct Keys([S3Keys; 2]);

#[async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let found = self.0.iter().find(|keys| keys.access == access_key);
        let unknown = || S3Error::with_message(S3ErrorCode::InvalidAccessKeyId, "there is no such access key");
        found.map(|keys| SecretKey::from(keys.secret.clone())).ok_or_else(unknown)
    }
}

/// Holds the uploader's access key.
struct OnlyTheUploaderWrites(String);

#[async_trait]
impl S3Access for OnlyTheUploaderWrites {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let reads = READS.iter().any(|prefix| context.s3_op().name().starts_with(prefix));
        match context.credentials() {
            Some(keys) if reads || keys.access_key == self.0 => Ok(()),
            _ => Err(S3Error::with_message(S3ErrorCode::AccessDenied, "these keys may not do that")),
        }
    }
}

/// CONTRACT section 5 has folders that AWS would not have as buckets: one letter, capitals, underscores.
struct AnyName;

impl NameValidation for AnyName {
    fn validate_bucket_name(&self, name: &str) -> bool {
        !name.is_empty()
    }
}

impl From<Trouble> for S3Error {
    fn from(trouble: Trouble) -> Self {
        let code = match trouble {
            Trouble::NoSuchBucket => S3ErrorCode::NoSuchBucket,
            Trouble::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            Trouble::InvalidPart => S3ErrorCode::InvalidPart,
            Trouble::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
            Trouble::EntityTooSmall => S3ErrorCode::EntityTooSmall,
            Trouble::Disk(error) => return Self::with_message(S3ErrorCode::InternalError, error.to_string()),
        };
        Self::new(code)
    }
}

struct Operations(Arc<Store>);

impl Operations {
    fn object(&self, bucket: &str, key: &str) -> S3Result<Arc<Stored>> {
        self.0.object(bucket, key).ok_or_else(|| {
            S3Error::new(if self.0.has_bucket(bucket) { S3ErrorCode::NoSuchKey } else { S3ErrorCode::NoSuchBucket })
        })
    }

    /// Writes a body into a file. A body that breaks off leaves none.
    async fn receive(&self, body: Option<StreamingBlob>) -> S3Result<Stored> {
        let mut draft = self.0.draft().map_err(Trouble::from)?;
        if let Some(mut body) = body {
            while let Some(bytes) = body.next().await {
                let bytes = bytes.map_err(|_| S3Error::new(S3ErrorCode::IncompleteBody))?;
                // Into the page cache, at most a socket's buffer of it: not worth a thread.
                draft.write(&bytes).map_err(Trouble::from)?;
            }
        }
        Ok(draft.finish())
    }
}

fn etag(stored: &Stored) -> ETag {
    ETag::Strong(stored.etag().to_owned())
}

fn modified(stored: &Stored) -> Timestamp {
    Timestamp::from(stored.modified())
}

fn size(stored: &Stored) -> i64 {
    i64::try_from(stored.size()).unwrap_or(i64::MAX)
}

fn is(condition: &ETagCondition, stored: &Stored) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(tag) => tag.strong_cmp(&etag(stored)),
    }
}

fn check(if_match: Option<&ETagCondition>, if_none: Option<&ETagCondition>, stored: &Stored) -> S3Result<()> {
    if if_match.is_some_and(|condition| !is(condition, stored)) {
        return Err(S3Error::new(S3ErrorCode::PreconditionFailed));
    }
    if if_none.is_some_and(|condition| is(condition, stored)) {
        return Err(S3Error::new(S3ErrorCode::NotModified));
    }
    Ok(())
}

/// From where to where, when part of it is asked for.
fn part(range: Option<Range>, stored: &Stored) -> S3Result<Option<std::ops::Range<u64>>> {
    // A suffix of nothing is nothing (RFC 9110 section 14.1.2): not to be satisfied.
    if range.is_some() && stored.size() == 0 {
        return Err(S3Error::new(S3ErrorCode::InvalidRange));
    }
    let checked = range.map(|range| range.check(stored.size())).transpose();
    checked.map_err(|_| S3Error::new(S3ErrorCode::InvalidRange))
}

fn told_by(metadata: Option<s3s::dto::Metadata>) -> Metadata {
    metadata.unwrap_or_default().into_iter().collect()
}

fn told(part: &std::ops::Range<u64>, stored: &Stored) -> String {
    format!("bytes {}-{}/{}", part.start, part.end - 1, stored.size())
}

#[async_trait]
impl S3 for Operations {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.0.make_bucket(&req.input.bucket);
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        if !self.0.has_bucket(&req.input.bucket) {
            return Err(Trouble::NoSuchBucket.into());
        }
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let S3Request { input, headers, extensions, .. } = req;
        let stored = self.object(&input.bucket, &input.key)?;
        check(input.if_match.as_ref(), input.if_none_match.as_ref(), &stored)?;
        let tag = format!("\"{}\"", stored.etag());
        let other = headers.get(IF_RANGE).is_some_and(|wanted| wanted.as_bytes() != tag.as_bytes());
        let whole = other || extensions.get::<WithoutRange>().is_some();
        let part = part(input.range.filter(|_| !whole), &stored)?;
        let bytes = part.clone().unwrap_or(0..stored.size());
        let failed = |error: std::io::Error| S3Error::from(Trouble::Disk(error));
        let mut file = tokio::fs::File::open(stored.file()).await.map_err(failed)?;
        file.seek(SeekFrom::Start(bytes.start)).await.map_err(failed)?;
        let pieces = ReaderStream::with_capacity(file.take(bytes.end - bytes.start), PIECE_BYTES);
        Ok(S3Response::new(GetObjectOutput {
            body: Some(StreamingBlob::wrap(pieces)),
            accept_ranges: Some("bytes".into()),
            content_length: i64::try_from(bytes.end - bytes.start).ok(),
            content_range: part.map(|part| told(&part, &stored)),
            e_tag: Some(etag(&stored)),
            last_modified: Some(modified(&stored)),
            metadata: Some(stored.metadata().clone().into_iter().collect()),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let stored = self.object(&input.bucket, &input.key)?;
        check(input.if_match.as_ref(), input.if_none_match.as_ref(), &stored)?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(size(&stored)),
            e_tag: Some(etag(&stored)),
            last_modified: Some(modified(&stored)),
            metadata: Some(stored.metadata().clone().into_iter().collect()),
            ..HeadObjectOutput::default()
        }))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        if !self.0.has_bucket(&input.bucket) {
            return Err(Trouble::NoSuchBucket.into());
        }
        let stored = self.receive(input.body).await?.with(told_by(input.metadata));
        let stored = self.0.put(&input.bucket, &input.key, stored)?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(etag(&stored)), ..PutObjectOutput::default() }))
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.remove(&req.input.bucket, &req.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let prefix = req.input.prefix.unwrap_or_default();
        let mut objects = self.0.objects(&req.input.bucket).ok_or(Trouble::NoSuchBucket)?;
        objects.retain(|(key, _)| key.starts_with(&prefix));
        let contents: Vec<Object> = objects
            .into_iter()
            .map(|(key, stored)| Object {
                e_tag: Some(etag(&stored)),
                key: Some(key),
                last_modified: Some(modified(&stored)),
                size: Some(size(&stored)),
                ..Object::default()
            })
            .collect();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(req.input.bucket),
            key_count: i32::try_from(contents.len()).ok(),
            is_truncated: Some(false),
            contents: Some(contents),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let CreateMultipartUploadInput { bucket, key, metadata, .. } = req.input;
        let upload_id = Some(self.0.begin(&bucket, &key, told_by(metadata))?);
        let output =
            CreateMultipartUploadOutput { upload_id, bucket: Some(bucket), key: Some(key), ..Default::default() };
        Ok(S3Response::new(output))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        let at = (&*input.bucket, &*input.key, &*input.upload_id);
        self.0.parts(at)?;
        let stored = self.receive(input.body).await?;
        let number = u32::try_from(input.part_number).ok().filter(|number| (1..=10_000).contains(number));
        let tag = self.0.part(at, number.ok_or(Trouble::InvalidPart)?, stored)?;
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(ETag::Strong(tag)), ..UploadPartOutput::default() }))
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let parts = self.0.parts((&*input.bucket, &*input.key, &*input.upload_id))?;
        let parts = parts.iter().map(|(number, stored)| Part {
            e_tag: Some(etag(stored)),
            last_modified: Some(modified(stored)),
            part_number: i32::try_from(*number).ok(),
            size: Some(size(stored)),
            ..Part::default()
        });
        Ok(S3Response::new(ListPartsOutput {
            parts: Some(parts.collect()),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(false),
            ..ListPartsOutput::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let CompleteMultipartUploadInput { bucket, key, upload_id, multipart_upload, .. } = req.input;
        let parts = multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let wanted: Option<Vec<_>> = parts
            .into_iter()
            .map(|part| Some((u32::try_from(part.part_number?).ok()?, part.e_tag?.into_value())))
            .collect();
        let wanted = wanted.ok_or(Trouble::InvalidPart)?;
        let (store, place) = (Arc::clone(&self.0), (bucket.clone(), key.clone()));
        let work = move || store.complete((&place.0, &place.1, &upload_id), &wanted);
        let stored = tokio::task::spawn_blocking(work).await.map_err(|error| Trouble::Disk(error.into()))??;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            e_tag: Some(etag(&stored)),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = req.input;
        self.0.abort((&*input.bucket, &*input.key, &*input.upload_id))?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}
