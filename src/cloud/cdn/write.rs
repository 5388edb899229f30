//! Writing: an object in one piece, or in parts that are joined at the end.
//!
//! An object appears whole or not at all: that is what S3 promises of both ways. Bytes come from any [`BodySource`];
//! only one that can go back to its beginning is sent again.

use http::{HeaderValue, Method, header};

use super::answer::{element, etag, failure};
use super::call::{Ask, Cdn, Object, Shared, signed};
use super::error::{CdnError, CdnFault, CdnOperation, PutError};
use super::settings::Signer;
use crate::limits::{
    CDN_ANSWER_BYTES, CDN_ETAG_BYTES, CDN_FINISH_TIMEOUT, CDN_MARK_BYTES, CDN_PARTS, CDN_STORE_TIMEOUT,
    CDN_UPLOAD_ID_BYTES,
};
use crate::name::{Folder, ResourceName};
use crate::net::{BodySource, Bytes, NoBody, Response, Timeouts};

/// Metadata of an object that came in parts: by it an end whose answer was lost is known again.
pub(super) const MARK: &str = "x-amz-meta-azaion-version";

impl Cdn {
    /// Puts an object in one piece; returns its entity tag.
    ///
    /// # Errors
    /// [`PutError::Source`] when the bytes cannot be had; what may pass is repeated first, if `body` can go back.
    pub async fn put<B: BodySource>(
        &self,
        folder: &Folder,
        name: &ResourceName,
        mut body: B,
    ) -> Result<String, PutError<B::Error>> {
        let shared = &self.shared;
        let object = shared.object(folder, name)?;
        let ask = Ask {
            operation: CdnOperation::Put,
            method: Method::PUT,
            signer: Signer::Uploader,
            sign: &|keys, time| signed!(object.bucket.put_object(Some(keys), &object.key), time),
            headers: &[(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))],
            timeouts: shared.storing(),
        };
        shared
            .call(&shared.budget(), &ask, &mut body, async |response| shared.stored(ask.operation, response).await)
            .await
    }

    /// Begins an upload in parts; returns its id. `mark`, of at most [`CDN_MARK_BYTES`] letters and digits, is kept with
    /// the object: [`Cdn::finish_upload`] knows it again by that, so it must be another one for other bytes.
    ///
    /// # Errors
    /// What may pass is repeated first, within the budget. An upload whose answer was lost stays at the server, which
    /// throws it away by its age.
    pub async fn begin_upload(&self, folder: &Folder, name: &ResourceName, mark: &str) -> Result<String, CdnError> {
        let shared = &self.shared;
        let operation = CdnOperation::BeginUpload;
        let object = shared.object(folder, name)?;
        if mark.len() > CDN_MARK_BYTES || !mark.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(CdnError::Parts);
        }
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (header::HeaderName::from_static(MARK), HeaderValue::try_from(mark).map_err(|_| CdnError::Parts)?),
        ];
        let ask = Ask {
            operation,
            method: Method::POST,
            signer: Signer::Uploader,
            sign: &|keys, time| {
                let mut action = object.bucket.create_multipart_upload(Some(keys), &object.key);
                // S3 wants every header of its own signed.
                rusty_s3::S3Action::headers_mut(&mut action).insert(MARK, mark);
                signed!(action, time)
            },
            headers: &headers,
            timeouts: shared.timeouts,
        };
        let take = async |response: Response| {
            let xml = shared.xml(operation, response).await?;
            let id = element(&xml, "UploadId").filter(|id| (1..=CDN_UPLOAD_ID_BYTES).contains(&id.len()));
            id.map(std::borrow::Cow::into_owned).ok_or_else(|| shared.protocol(operation, CdnFault::Xml))
        };
        shared.call_simple(&ask, NoBody, take).await
    }

    /// Puts part `number`, from 1; returns its entity tag. A part that is put again replaces the one before.
    ///
    /// # Errors
    /// As [`Cdn::put`]; [`CdnError::NoSuchUpload`] when the upload has to begin anew.
    pub async fn put_part<B: BodySource>(
        &self,
        folder: &Folder,
        name: &ResourceName,
        upload_id: &str,
        number: u32,
        mut body: B,
    ) -> Result<String, PutError<B::Error>> {
        let shared = &self.shared;
        let object = shared.object(folder, name)?;
        let number = u16::try_from(number).ok().filter(|number| (1..=CDN_PARTS).contains(&usize::from(*number)));
        let number = number.ok_or(CdnError::Parts)?;
        let ask = Ask {
            operation: CdnOperation::PutPart,
            method: Method::PUT,
            signer: Signer::Uploader,
            sign: &|keys, time| signed!(object.bucket.upload_part(Some(keys), &object.key, number, upload_id), time),
            headers: &[],
            timeouts: shared.storing(),
        };
        shared
            .call(&shared.budget(), &ask, &mut body, async |response| shared.stored(ask.operation, response).await)
            .await
    }

    /// Joins the parts, which are numbered from 1 without a gap; returns the object's entity tag.
    ///
    /// An upload that is not known any more has succeeded if the object carries `mark`: then an earlier answer was lost.
    ///
    /// # Errors
    /// [`CdnError::NoSuchUpload`] when the upload has to begin anew; what may pass is repeated first.
    pub async fn finish_upload(
        &self,
        folder: &Folder,
        name: &ResourceName,
        upload_id: &str,
        parts: &[(u32, String)],
        mark: &str,
    ) -> Result<String, CdnError> {
        let shared = &self.shared;
        let operation = CdnOperation::FinishUpload;
        let object = shared.object(folder, name)?;
        let in_order = (1..).zip(parts).all(|(number, part): (u32, _)| part.0 == number);
        if !in_order || !(1..=CDN_PARTS).contains(&parts.len()) {
            return Err(CdnError::Parts);
        }
        let tags = parts.iter().map(|(_, etag)| etag.as_str());
        // The body needs no keys, and the signature no parts.
        let xml = object.bucket.complete_multipart_upload(None, &object.key, upload_id, tags).body();
        let ask = Ask {
            operation,
            method: Method::POST,
            signer: Signer::Uploader,
            sign: &|keys, time| {
                let none = std::iter::empty();
                signed!(object.bucket.complete_multipart_upload(Some(keys), &object.key, upload_id, none), time)
            },
            headers: &[(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"))],
            // The server may say 200 at once and then keep the line warm with spaces.
            timeouts: Timeouts { headers: CDN_FINISH_TIMEOUT, idle_body: CDN_FINISH_TIMEOUT, ..shared.timeouts },
        };
        let take = async |response: Response| {
            let status = response.status;
            let xml = shared.xml(operation, response).await?;
            if element(&xml, "Code").is_some() {
                return Err(failure(operation, status, &xml, None, |text| shared.settings.scrub(text)));
            }
            let tag = element(&xml, "ETag").filter(|tag| (1..=CDN_ETAG_BYTES).contains(&tag.len()));
            tag.map(std::borrow::Cow::into_owned).ok_or_else(|| shared.protocol(operation, CdnFault::Xml))
        };
        match shared.call_simple(&ask, Bytes::new(xml), take).await {
            Err(CdnError::NoSuchUpload) => shared.finished_before(&object, mark).await,
            other => other,
        }
    }

    /// Throws the parts of an upload away; one that is not known any more is thrown away already.
    ///
    /// # Errors
    /// What may pass is repeated first, within the budget.
    pub async fn abort_upload(&self, folder: &Folder, name: &ResourceName, upload_id: &str) -> Result<(), CdnError> {
        let shared = &self.shared;
        let object = shared.object(folder, name)?;
        let ask = Ask {
            operation: CdnOperation::AbortUpload,
            method: Method::DELETE,
            signer: Signer::Uploader,
            sign: &|keys, time| signed!(object.bucket.abort_multipart_upload(Some(keys), &object.key, upload_id), time),
            headers: &[],
            timeouts: shared.timeouts,
        };
        match shared.call_simple(&ask, NoBody, async |_| Ok(())).await {
            Err(CdnError::NoSuchUpload | CdnError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }
}

impl Shared {
    /// Time-outs of what stores bytes.
    fn storing(&self) -> Timeouts {
        Timeouts { headers: self.timeouts.headers.max(CDN_STORE_TIMEOUT), ..self.timeouts }
    }

    /// The tag of what was stored. The body, which has nothing to say, is read for the connection's sake.
    async fn stored(&self, operation: CdnOperation, response: Response) -> Result<String, CdnError> {
        let tag = etag(&response.headers).map_err(|fault| self.protocol(operation, fault))?;
        let _unread = response.bytes(CDN_ANSWER_BYTES).await;
        Ok(tag)
    }

    async fn xml(&self, operation: CdnOperation, response: Response) -> Result<String, CdnError> {
        let bytes = response.bytes(CDN_ANSWER_BYTES).await.map_err(|source| self.net(operation, source))?;
        String::from_utf8(bytes).map_err(|_| self.protocol(operation, CdnFault::Xml))
    }

    /// The object's tag, if it is the one of the upload that is not known any more.
    async fn finished_before(&self, object: &Object, mark: &str) -> Result<String, CdnError> {
        match object.look(self).await {
            Ok(seen) if !mark.is_empty() && seen.mark.as_deref() == Some(mark) => Ok(seen.etag),
            Ok(_) | Err(CdnError::NotFound { .. }) => Err(CdnError::NoSuchUpload),
            Err(error) => Err(error),
        }
    }
}
