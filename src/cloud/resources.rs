//! Files of the Resource API: the small parts of resources, whole ones, `cdn.yaml`.
//!
//! What is fetched comes under the API key; this module must never open it, and never decides what a file that is not
//! there means.

use http::{HeaderMap, Request, header};
use serde::Serialize;
use zeroize::Zeroizing;

use super::api::Api;
use super::error::{CloudError, Operation};
use super::session::Session;
use crate::crypto::HardwareHash;
use crate::limits::ERROR_BODY_BYTES;
use crate::name::Folder;
use crate::net::{Bytes, NetError, Response, Timeouts};

/// Error codes that the API sends with 409 for something else than an unknown file: wrong password, hardware that is
/// another one, hardware that is not told.
const NOT_ABOUT_THE_FILE: [i64; 3] = [30, 40, 45];

/// The body of a file, still under the API key.
pub struct ResourceBody {
    response: Response,
    host: String,
}

impl Api {
    /// Asks for a file; returns when its body begins.
    ///
    /// # Errors
    /// [`CloudError::Unknown`] when there is none of this name; else as every call with a token.
    pub async fn resource(
        &self,
        session: &Session,
        hardware: &HardwareHash,
        folder: &Folder,
        file_name: &str,
    ) -> Result<ResourceBody, CloudError> {
        let request = WantedFile { session, hardware, folder, file_name };
        // A body may take as long as it takes, as long as it does not fall silent.
        let timeouts = Timeouts { whole_call: None, ..*self.timeouts() };
        self.bearer(session, Operation::Resource, async |token| self.want(&request, token, &timeouts).await).await
    }

    /// Fetches a file of at most `limit` bytes whole; a body that was cut is asked for again.
    ///
    /// # Errors
    /// As [`Api::resource`]; a longer body is [`CloudError::Protocol`].
    pub async fn small_resource(
        &self,
        session: &Session,
        hardware: &HardwareHash,
        folder: &Folder,
        file_name: &str,
        limit: usize,
    ) -> Result<Vec<u8>, CloudError> {
        let request = WantedFile { session, hardware, folder, file_name };
        self.bearer(session, Operation::Resource, async |token| {
            let body = self.want(&request, token, self.timeouts()).await?;
            self.body(Operation::Resource, body.response, limit).await
        })
        .await
    }

    /// Puts a file of this name, in place of what is there.
    ///
    /// # Errors
    /// As every call with a token.
    pub async fn put_resource(
        &self,
        session: &Session,
        folder: &Folder,
        file_name: &str,
        bytes: &[u8],
    ) -> Result<(), CloudError> {
        let boundary = boundary(bytes);
        let body = form(&boundary, file_name, bytes);
        let path = self.url().path(&folder_path("/resources", folder));
        self.bearer(session, Operation::PutResource, async |authorization| {
            let request = Request::post(&path)
                .header(header::AUTHORIZATION, authorization)
                .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"));
            let scrub = |text| session.scrub(text);
            let response = self.ask(Operation::PutResource, request, Bytes::new(&*body), scrub).await?;
            // Read only for the connection's sake: the status has said it all.
            let _unread = response.bytes(ERROR_BODY_BYTES).await;
            Ok(())
        })
        .await
    }

    /// One attempt.
    async fn want(
        &self,
        wanted: &WantedFile<'_>,
        authorization: &http::HeaderValue,
        timeouts: &Timeouts,
    ) -> Result<ResourceBody, CloudError> {
        let body = wanted.body();
        let request = Request::post(self.url().path(&folder_path("/resources/get", wanted.folder)))
            .header(header::AUTHORIZATION, authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/octet-stream");
        let scrub = |text| wanted.session.scrub(text);
        let asked = self.ask_within(timeouts, Operation::Resource, request, Bytes::new(&*body), scrub).await;
        match asked {
            Ok(response) => {
                self.hardware_accepted();
                Ok(ResourceBody { response, host: self.url().host() })
            }
            Err(CloudError::Failed { status, error_code, message, .. }) if is_unknown(status, error_code) => {
                Err(CloudError::Unknown { message })
            }
            Err(error) => Err(error),
        }
    }
}

/// CONTRACT section 1: 404 or 409 to an unknown file.
fn is_unknown(status: u16, error_code: Option<i64>) -> bool {
    status == 404 || (status == 409 && !error_code.is_some_and(|code| NOT_ABOUT_THE_FILE.contains(&code)))
}

impl ResourceBody {
    /// Its length, where the API states it.
    pub fn length(&self) -> Option<u64> {
        self.response.length()
    }

    /// What the API said of it besides.
    pub const fn headers(&self) -> &HeaderMap {
        &self.response.headers
    }

    /// Reads some bytes into `into`, which must not be empty; 0 is the end.
    ///
    /// # Errors
    /// [`CloudError::Net`]; the body is then lost, and never taken for a whole one.
    pub async fn chunk(&mut self, into: &mut [u8]) -> Result<usize, CloudError> {
        self.response.chunk(into).await.map_err(|source| lost(&self.host, source))
    }

    /// Reads the rest, if it is no longer than `limit`.
    ///
    /// # Errors
    /// As [`ResourceBody::chunk`].
    pub async fn bytes(self, limit: usize) -> Result<Vec<u8>, CloudError> {
        let Self { response, host } = self;
        response.bytes(limit).await.map_err(|source| lost(&host, source))
    }
}

fn lost(host: &str, source: NetError) -> CloudError {
    CloudError::Net { operation: Operation::Resource, host: host.to_owned(), source }
}

/// What one request for a file says.
struct WantedFile<'a> {
    session: &'a Session,
    hardware: &'a HardwareHash,
    folder: &'a Folder,
    file_name: &'a str,
}

impl WantedFile<'_> {
    /// `{"password","hardware","fileName"}` in a buffer that never moves while it grows: wiping it leaves no copy.
    fn body(&self) -> Zeroizing<Vec<u8>> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wanted<'a> {
            password: &'a str,
            hardware: &'a str,
            file_name: &'a str,
        }
        let password = self.session.credentials().password().expose();
        let wanted = Wanted { password, hardware: self.hardware.as_str(), file_name: self.file_name };
        // One byte becomes six at the most (`\u0001`); the names and signs around take 43.
        let most = 6 * (password.len() + wanted.hardware.len() + self.file_name.len()) + 48;
        let mut body = Zeroizing::new(Vec::with_capacity(most));
        serde_json::to_writer(&mut *body, &wanted).expect("three strings, into memory");
        debug_assert!(body.len() <= most, "the buffer has moved");
        body
    }
}

/// A folder needs no percent-encoding: all its characters are unreserved ones (RFC 3986 section 2.3).
fn folder_path(call: &str, folder: &Folder) -> String {
    if folder.is_none() { call.to_owned() } else { format!("{call}/{}", folder.as_str()) }
}

/// A text that does not stand in `bytes`.
fn boundary(bytes: &[u8]) -> String {
    let mut random = getrandom::u64().unwrap_or_default();
    loop {
        let boundary = format!("azaion-{random:016x}");
        if !bytes.windows(boundary.len()).any(|window| window == boundary.as_bytes()) {
            return boundary;
        }
        random = random.wrapping_add(1);
    }
}

/// One part named `data` (RFC 7578); its file name in raw UTF-8, escaped as browsers do (HTML, "multipart form data").
fn form(boundary: &str, file_name: &str, bytes: &[u8]) -> Vec<u8> {
    let file_name = file_name.replace('\r', "%0D").replace('\n', "%0A").replace('"', "%22");
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"data\"; filename=\"{file_name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_one_part_with_the_raw_name() {
        let text = String::from_utf8(form("b", "модель \"x\"\r\n.small", b"bytes")).expect("UTF-8");
        assert_eq!(
            text,
            "--b\r\nContent-Disposition: form-data; name=\"data\"; filename=\"модель %22x%22%0D%0A.small\"\r\n\
             Content-Type: application/octet-stream\r\n\r\nbytes\r\n--b--\r\n"
        );
    }

    #[test]
    fn unknown_is_404_and_409_unless_it_is_about_something_else() {
        assert!(
            is_unknown(404, None) && is_unknown(404, Some(30)) && is_unknown(409, None) && is_unknown(409, Some(1))
        );
        assert!(NOT_ABOUT_THE_FILE.iter().all(|code| !is_unknown(409, Some(*code))));
        assert!(!is_unknown(500, None) && !is_unknown(400, Some(1)));
    }

    #[test]
    fn a_folder_is_one_more_segment() {
        assert_eq!(folder_path("/resources", &Folder::default()), "/resources");
        assert_eq!(folder_path("/resources", &Folder::new("m.2").expect("a folder")), "/resources/m.2");
    }
}
