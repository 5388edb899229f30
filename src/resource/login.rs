//! What belongs to one log-in: the API key, the CDN's keys, the key of kept small parts.
//!
//! Nothing here outlives the log-in, and nothing of it is written anywhere.

use std::io;
use std::rc::Rc;

use smol::lock::OnceCell;

use super::error::{Damage, ResourceError};
use super::vault::{self, VaultKey};
use super::{Held, Models};
use crate::cloud::{Api, Cdn, CdnSettings, CloudError, Session};
use crate::config;
use crate::crypto::{AesKey, Digest, HardwareHash, unseal};
use crate::limits::CDN_YAML_SEALED_BYTES;
use crate::name::Folder;
use crate::secret::{Credentials, SecretBytes};

/// The file of the Resource API that tells the CDN (CONTRACT section 2).
const CDN_YAML: &str = "cdn.yaml";

/// One log-in.
pub(super) struct Login {
    pub(super) session: Rc<Session>,
    /// What the API's files come under.
    pub(super) api_key: AesKey,
    /// Whose uploads these are: the SHA-256 of the e-mail address.
    pub(super) owner: [u8; 32],
    cdn: OnceCell<Rc<Cdn>>,
    vault: OnceCell<Rc<VaultKey>>,
}

/// Somebody who could not log in.
pub(super) struct Offline {
    credentials: Credentials,
    vault: OnceCell<Rc<VaultKey>>,
}

/// Who is served.
#[derive(Clone)]
pub(super) enum Guest {
    Login(Rc<Login>),
    Offline(Rc<Offline>),
}

impl Guest {
    pub(super) fn login(&self) -> Option<&Rc<Login>> {
        match self {
            Self::Login(login) => Some(login),
            Self::Offline(_) => None,
        }
    }
}

impl Models {
    /// Takes the log-in over: its `cdn.yaml` is fetched anew when it is needed, and its waiting uploads go on.
    pub fn logged_in(self: &Rc<Self>, session: &Rc<Session>) {
        let login = self.login_of(session);
        self.without_login.take();
        self.away_since.set(None);
        let has_uploads = self.parts.cache.uploads().iter().any(|upload| *upload.owner() == login.owner);
        if self.parts.offline || has_uploads {
            // Ahead of the first load that needs it; who comes earlier waits for the same one.
            let (models, login) = (Rc::clone(self), Rc::clone(&login));
            self.publisher.beside(&self.parts.executor, async move {
                if let Err(error) = models.vault(&Guest::Login(login)).await {
                    log::warn!("small parts cannot be kept: {}", crate::error::chain(&error));
                }
            });
        }
        self.resume_uploads(&login);
    }

    /// What is held of `session`; a session that is not known yet is a new log-in.
    pub(super) fn login_of(&self, session: &Rc<Session>) -> Rc<Login> {
        if let Some(login) = self.login.borrow().as_ref().filter(|login| Rc::ptr_eq(&login.session, session)) {
            return Rc::clone(login);
        }
        let credentials = session.credentials();
        let login = Rc::new(Login {
            session: Rc::clone(session),
            api_key: AesKey::from_text(&self.parts.salts.api_key(credentials, &self.parts.hardware)),
            owner: *Digest::of(credentials.email().as_bytes()).as_bytes(),
            cdn: OnceCell::new(),
            vault: OnceCell::new(),
        });
        self.login.replace(Some(Rc::clone(&login)));
        login
    }

    pub(super) fn guest(&self, held: Held) -> Guest {
        match held {
            Held::Session(session) => Guest::Login(self.login_of(&session)),
            Held::Credentials(credentials) => {
                let mut before = self.without_login.borrow_mut();
                let same = |known: &&Rc<Offline>| known.is_of(&credentials);
                if let Some(known) = before.as_ref().filter(same) {
                    return Guest::Offline(Rc::clone(known));
                }
                let offline = Rc::new(Offline { credentials, vault: OnceCell::new() });
                *before = Some(Rc::clone(&offline));
                Guest::Offline(offline)
            }
        }
    }

    /// The last log-in, if it is of `owner`.
    pub(super) fn login_for(&self, owner: [u8; 32]) -> Option<Rc<Login>> {
        self.login.borrow().as_ref().filter(|login| login.owner == owner).map(Rc::clone)
    }

    /// The key of what is kept for `guest`: computed once, whoever asks meanwhile waits for it.
    pub(super) async fn vault(&self, guest: &Guest) -> Result<Rc<VaultKey>, ResourceError> {
        let (cell, credentials) = match guest {
            Guest::Login(login) => (&login.vault, login.session.credentials()),
            Guest::Offline(offline) => (&offline.vault, &offline.credentials),
        };
        let derive = async || {
            let salt = *self.salt.get_or_try_init(|| vault::salt(&self.parts.state_dir)).await?;
            VaultKey::derive(credentials, salt).await.map(Rc::new)
        };
        cell.get_or_try_init(derive).await.map(Rc::clone).map_err(|error: io::Error| ResourceError::Board(error))
    }

    /// The CDN, to read from.
    ///
    /// # Errors
    /// What the API said of `cdn.yaml`. `None` for who is not logged in, unless the configuration says everything.
    pub(super) async fn cdn(&self, login: Option<&Login>) -> Result<Option<Rc<Cdn>>, ResourceError> {
        let over = &self.parts.over;
        if CdnSettings::is_enough_alone(over, false) {
            let make = async || Ok::<_, ResourceError>(self.cdn_of(CdnSettings::from_yaml(None, over)?));
            return self.cdn_alone.get_or_try_init(make).await.map(|cdn| Some(Rc::clone(cdn)));
        }
        match login {
            Some(login) => self.cdn_of_login(login).await.map(Some),
            None => Ok(None),
        }
    }

    /// The CDN, to read from, as far as it is known without asking the API.
    pub(super) async fn cdn_known(&self, login: Option<&Login>) -> Result<Option<Rc<Cdn>>, ResourceError> {
        match login.and_then(|login| login.cdn.get()) {
            Some(cdn) => Ok(Some(Rc::clone(cdn))),
            None => self.cdn(None).await,
        }
    }

    /// The CDN, to write to.
    pub(super) async fn cdn_for_upload(&self, login: &Login) -> Result<Rc<Cdn>, ResourceError> {
        self.cdn_of_login(login).await
    }

    /// Fetched once per log-in, when it is first needed; whoever asks meanwhile waits for the same answer.
    async fn cdn_of_login(&self, login: &Login) -> Result<Rc<Cdn>, ResourceError> {
        let over = &self.parts.over;
        let make = async || {
            if CdnSettings::is_enough_alone(over, true) {
                return Ok(self.cdn_of(CdnSettings::from_yaml(None, over)?));
            }
            let parts = &self.parts;
            cdn_settings(&parts.api, &login.session, &parts.hardware, &login.api_key, over)
                .await
                .map(|s| self.cdn_of(s))
        };
        login.cdn.get_or_try_init(make).await.map(Rc::clone)
    }

    fn cdn_of(&self, settings: CdnSettings) -> Rc<Cdn> {
        let cdn = Cdn::new(Rc::clone(&self.parts.client), settings, self.parts.cdn_clock.clone());
        Rc::new(cdn.with_policy(self.parts.retry).with_observer(|retry| {
            log::warn!("{} ({}); once more in {:.1?}", retry.cause.message, retry.cause.code, retry.pause);
        }))
    }
}

/// With what the CDN is called: `cdn.yaml` of this log-in, with what the configuration sets over it.
///
/// # Errors
/// The API's, or what is missing in the settings.
pub async fn cdn_settings(
    api: &Api,
    session: &Session,
    hardware: &HardwareHash,
    api_key: &AesKey,
    over: &config::Cdn,
) -> Result<CdnSettings, ResourceError> {
    let none = Folder::default();
    let yaml = match api.small_resource(session, hardware, &none, CDN_YAML, CDN_YAML_SEALED_BYTES).await {
        Ok(sealed) => Some(unseal(api_key, sealed).map_err(|error| ResourceError::Damaged(Damage::ApiKey(error)))?),
        // Then what is configured must do, or the error names what is missing.
        Err(CloudError::Unknown { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(CdnSettings::from_yaml(yaml.as_ref().map(SecretBytes::expose), over)?)
}

impl Offline {
    /// In a time that does not tell how much of the password is right.
    fn is_of(&self, other: &Credentials) -> bool {
        use subtle::ConstantTimeEq as _;
        let same = |a: &str, b: &str| bool::from(a.as_bytes().ct_eq(b.as_bytes()));
        let ours = &self.credentials;
        same(ours.email(), other.email()) & same(ours.password().expose(), other.password().expose())
    }
}
