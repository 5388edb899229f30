//! The token that `/login` gives: a JSON Web Token (RFC 7519), its claims as in CONTRACT section 1.
//!
//! The token is not evidence here: the TLS-authenticated server issued it, and only that server decides by it. So its
//! signature is checked only when a key is configured, and its expiry is a hint that is measured on the boot clock. The
//! board's wall clock must never decide over it.

use std::time::Duration;
use std::{error, fmt};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::session::User;
use super::token_key::TokenKey;
use crate::json::{self, JsonRefused};
use crate::limits::TOKEN_BYTES;
use crate::secret::SecretText;

/// What a user may do, least first, in the order of CONTRACT section 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// No role, or one that is not known here.
    None,
    /// Operates a board.
    Operator,
    /// Validates annotations.
    Validator,
    /// A companion computer.
    CompanionPc,
    /// Administers.
    Admin,
    /// Uploads resources.
    ResourceUploader,
    /// Administers the API itself.
    ApiAdmin,
}

impl Role {
    /// The role as the token spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Operator => "Operator",
            Self::Validator => "Validator",
            Self::CompanionPc => "CompanionPC",
            Self::Admin => "Admin",
            Self::ResourceUploader => "ResourceUploader",
            Self::ApiAdmin => "ApiAdmin",
        }
    }

    /// All of them, least first.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Operator,
        Self::Validator,
        Self::CompanionPc,
        Self::Admin,
        Self::ResourceUploader,
        Self::ApiAdmin,
    ];

    /// The role of this exact spelling.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Anything that is not a role by its exact spelling is no role.
    fn of(claim: Option<&Value>) -> Self {
        claim.and_then(Value::as_str).and_then(Self::named).unwrap_or(Self::None)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The three parts of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// What signs it, and how.
    Header,
    /// The claims.
    Payload,
    /// The signature.
    Signature,
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

/// Why a text is not a token that is accepted.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Longer than [`TOKEN_BYTES`].
    TooLong,
    /// Not three segments.
    Segments,
    /// A segment is not base64url without padding.
    Base64(Segment),
    /// A segment is not a JSON object.
    Json {
        /// Which.
        segment: Segment,
        /// Why.
        source: JsonRefused,
    },
    /// The header names no algorithm.
    NoAlgorithm,
    /// The algorithm is `none`, or the signature is empty.
    Unsigned,
    /// `exp` is missing or not an integer.
    Expiry,
    /// The algorithm is not the one of the configured key.
    Algorithm {
        /// The one of the key.
        wanted: &'static str,
    },
    /// The header demands an extension (`crit`, RFC 7515 section 4.1.11); none is known here.
    Critical,
    /// The signature does not fit the configured key.
    Signature,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the token is longer than {TOKEN_BYTES} bytes"),
            Self::Segments => f.write_str("the token does not have three segments"),
            Self::Base64(segment) => write!(f, "the token's {segment} is not base64url without padding"),
            Self::Json { segment, .. } => write!(f, "the token's {segment} is not a json object"),
            Self::NoAlgorithm => f.write_str("the token names no algorithm"),
            Self::Unsigned => f.write_str("the token is not signed"),
            Self::Expiry => f.write_str("the token's exp is missing or not an integer"),
            Self::Algorithm { wanted } => {
                write!(f, "the token is signed by another algorithm than {wanted}, which the configured key is for")
            }
            Self::Critical => f.write_str("the token demands an extension that is not known"),
            Self::Signature => f.write_str("the token's signature does not fit the configured key"),
        }
    }
}

impl error::Error for TokenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Json { source, .. } => Some(source),
            Self::TooLong
            | Self::Segments
            | Self::Base64(_)
            | Self::NoAlgorithm
            | Self::Unsigned
            | Self::Expiry
            | Self::Algorithm { .. }
            | Self::Critical
            | Self::Signature => None,
        }
    }
}

/// A token that was accepted.
pub struct Token {
    text: SecretText,
    user: User,
    expires_at: i64,
    issued_at: Option<i64>,
}

impl Token {
    /// Takes a token over, with its signature checked if there is a `key`.
    ///
    /// # Errors
    /// [`TokenError`]; it never repeats what stands in the token.
    pub fn parse(text: SecretText, key: Option<&TokenKey>) -> Result<Self, TokenError> {
        let whole = text.expose();
        if whole.len() > TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let mut segments = whole.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(TokenError::Segments);
        };
        let signed = &whole[..header.len() + 1 + payload.len()];
        let header = object(Segment::Header, header)?;
        let payload = object(Segment::Payload, payload)?;
        let signature = decode(Segment::Signature, signature)?;

        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(TokenError::NoAlgorithm)?;
        if algorithm.eq_ignore_ascii_case("none") || signature.is_empty() {
            return Err(TokenError::Unsigned);
        }
        if let Some(key) = key {
            if algorithm != key.algorithm() {
                return Err(TokenError::Algorithm { wanted: key.algorithm() });
            }
            if header.contains_key("crit") {
                return Err(TokenError::Critical);
            }
            if !key.verifies(signed.as_bytes(), &signature) {
                return Err(TokenError::Signature);
            }
        }
        // A number with a point or an exponent is not an integer, whatever its value. Any integer is taken, past or
        // future: whether the token still holds is the server's to say.
        let expires_at = payload.get("exp").and_then(Value::as_i64).ok_or(TokenError::Expiry)?;
        let issued_at = payload.get("iat").and_then(Value::as_i64);
        let text_of = |claim: &str| payload.get(claim).and_then(Value::as_str).unwrap_or_default().to_owned();
        let user = User { id: text_of("nameid"), email: text_of("unique_name"), role: Role::of(payload.get("role")) };
        Ok(Self { text, user, expires_at, issued_at })
    }

    /// Who logged in.
    pub const fn user(&self) -> &User {
        &self.user
    }

    /// When it expires by the server's clock, in seconds since 1970.
    pub const fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// When it was issued by the server's clock, in seconds since 1970, if it says.
    pub const fn issued_at(&self) -> Option<i64> {
        self.issued_at
    }

    /// How long it lives: `exp − iat`. `None` where that says nothing; then only the server's refusal ends it.
    pub fn lifetime(&self) -> Option<Duration> {
        let seconds = self.expires_at.checked_sub(self.issued_at?)?;
        u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// Whether its life has passed on the boot clock. A hint: the token is still tried when there is no other.
    pub fn needs_renewal(&self, received_at: Duration, now: Duration) -> bool {
        self.lifetime().is_some_and(|lifetime| now.saturating_sub(received_at) >= lifetime)
    }

    /// The token's text, for the one place that keeps it out of messages.
    pub(super) fn expose(&self) -> &str {
        self.text.expose()
    }

    /// The value of `Authorization`: its bytes wipe themselves with the last copy, and no formatter prints them.
    pub(super) fn authorization(&self) -> HeaderValue {
        let text = self.text.expose();
        let mut value = Zeroizing::new(Vec::with_capacity("Bearer ".len() + text.len()));
        value.extend_from_slice(b"Bearer ");
        value.extend_from_slice(text.as_bytes());
        let mut value = HeaderValue::from_maybe_shared(bytes::Bytes::from_owner(value))
            .expect("three base64url segments and two points");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

fn decode(segment: Segment, text: &str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).map_err(|_| TokenError::Base64(segment))
}

fn object(segment: Segment, text: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = decode(segment, text)?;
    json::from_slice(&bytes, TOKEN_BYTES).map_err(|source| TokenError::Json { segment, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str, signature: &str) -> SecretText {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        SecretText::new(format!("{}.{}.{}", encode(header), encode(payload), encode(signature)))
    }

    fn claims(payload: &str) -> Result<Token, TokenError> {
        Token::parse(token(r#"{"alg":"HS256"}"#, payload, "signature"), None)
    }

    #[test]
    fn what_is_unsigned_is_refused_however_it_is_spelt() {
        let header = |header: &str| Token::parse(token(header, r#"{"exp":1}"#, "s"), None).err();
        assert_eq!(header(r#"{"alg":"HS256"}"#), None);
        for alg in ["none", "None", "NONE", "nOnE"] {
            assert_eq!(header(&format!(r#"{{"alg":"{alg}"}}"#)), Some(TokenError::Unsigned));
        }
        assert_eq!(header("{}"), Some(TokenError::NoAlgorithm));
        assert_eq!(header(r#"{"alg":7}"#), Some(TokenError::NoAlgorithm));
        assert!(matches!(header(r#"["HS256"]"#), Some(TokenError::Json { segment: Segment::Header, .. })));
        assert!(matches!(header(r#"{"alg":"none","alg":"HS256"}"#), Some(TokenError::Json { .. })));
        let empty = Token::parse(token(r#"{"alg":"HS256"}"#, r#"{"exp":1}"#, ""), None);
        assert_eq!(empty.err(), Some(TokenError::Unsigned));
    }

    #[test]
    fn the_expiry_is_an_integer_or_nothing() {
        for exp in ["1767240000", "0", "-1", "9223372036854775807"] {
            assert!(claims(&format!(r#"{{"exp":{exp}}}"#)).is_ok(), "{exp}");
        }
        for exp in ["1767240000.0", "1.7e9", "\"1767240000\"", "null", "true", "[1]", "9223372036854775808"] {
            assert_eq!(claims(&format!(r#"{{"exp":{exp}}}"#)).err(), Some(TokenError::Expiry), "{exp}");
        }
        assert_eq!(claims("{}").err(), Some(TokenError::Expiry));
    }

    #[test]
    fn padding_and_the_other_alphabet_are_refused() {
        for text in ["e30=.e30.AA", "e30.e30=.AA", "e30.e30.AA==", "e30.e30.++", "e3 0.e30.AA", "e30.é.AA"] {
            let error = Token::parse(SecretText::new(text.into()), None).err();
            assert!(matches!(error, Some(TokenError::Base64(_))), "{text}: {error:?}");
        }
    }

    #[test]
    fn the_length_holds_at_its_bound() {
        let long = |length: usize| Token::parse(SecretText::new("x".repeat(length)), None).err();
        assert_eq!(long(TOKEN_BYTES), Some(TokenError::Segments));
        assert_eq!(long(TOKEN_BYTES + 1), Some(TokenError::TooLong));
    }

    #[test]
    fn a_token_is_renewed_when_its_life_has_passed_on_the_boot_clock() {
        let second = Duration::from_secs;
        let token = claims(r#"{"iat":1000,"exp":1060}"#).expect("a token");
        assert!(!token.needs_renewal(second(5), second(64)));
        assert!(token.needs_renewal(second(5), second(65)));
        assert!(!token.needs_renewal(second(65), second(5)), "a clock that went back");
        for no_hint in [r#"{"exp":1060}"#, r#"{"iat":1060,"exp":1060}"#, r#"{"iat":"x","exp":1}"#] {
            assert!(!claims(no_hint).expect("a token").needs_renewal(second(0), second(u64::from(u32::MAX))));
        }
        let overflow = claims(r#"{"iat":-9223372036854775808,"exp":9223372036854775807}"#).expect("a token");
        assert_eq!(overflow.lifetime(), None);
    }

    #[test]
    fn roles_are_ordered_and_spelt_exactly() {
        let role = |value: &str| claims(&format!(r#"{{"exp":1,"role":{value}}}"#)).expect("a token").user().role;
        assert_eq!(role("\"CompanionPC\""), Role::CompanionPc);
        for none in ["\"\"", "\"operator\"", "\"Operator \"", "[\"Operator\"]", "3", "null"] {
            assert_eq!(role(none), Role::None, "{none}");
        }
        assert!(Role::None < Role::Operator && Role::Admin < Role::ApiAdmin);
    }

    #[test]
    fn no_formatter_prints_a_token() {
        let token = claims(r#"{"exp":1,"nameid":"canary"}"#).expect("a token");
        let text = token.expose().to_owned();
        let value = token.authorization();
        assert_eq!(value.as_bytes(), format!("Bearer {text}").as_bytes());
        let shown = format!("{token:?} {value:?}");
        assert!(!shown.contains(&text) && !shown.contains("canary"), "{shown}");
    }
}
