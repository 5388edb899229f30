//! Where the control port is and what opens it: from `--url` and `--token-file`, or else from the configuration.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::client::Client;
use super::{Failure, exit};
use crate::config::{ConfigError, Control, Listen, Settings, Source, read_token};
use crate::limits::UNIX_PATH_BYTES;

/// What the options of a client command say of the port.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) source: Source,
    pub(super) url: Option<String>,
    pub(super) token_file: Option<PathBuf>,
}

impl Default for Port {
    fn default() -> Self {
        Self { source: Source::Default, url: None, token_file: None }
    }
}

/// The port's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `host:port` of plain HTTP.
    Tcp(String),
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Target {
    fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            let allowed = "host:port, http://host:port or unix:/path";
            Failure::new(exit::USAGE, format_args!("--url cannot be {text:?}; allowed: {allowed}"))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let fits = path.starts_with('/') && path.len() <= UNIX_PATH_BYTES && !path.contains('\0');
            return if fits { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let parsed: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
        let is_plain = parsed.port_u16().is_some() && !parsed.host().is_empty() && !authority.contains('@');
        if is_plain { Ok(Self::Tcp(authority.to_owned())) } else { Err(wrong()) }
    }

    /// How a client on the same board calls what listens there.
    fn of(listen: &Listen) -> Self {
        match listen {
            Listen::Unix(path) => Self::Unix(path.clone()),
            Listen::Tcp(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
                    ip => ip,
                };
                Self::Tcp(SocketAddr::new(ip, address.port()).to_string())
            }
        }
    }
}

impl Port {
    /// The client for this port.
    ///
    /// # Errors
    /// Options, configuration or token file are not what they must be.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let (target, token_file) = self.resolve(std::env::vars_os().collect())?;
        let token = token_file.map(|path| read_token(&path)).transpose()?;
        Ok(Client::new(target, token))
    }

    /// Address and token file. A client need not be allowed to read the agent's file, which holds salts: then what is
    /// said in options, environment and defaults must do. With `--url`, nothing else is asked but a token file.
    fn resolve(&self, environment: Vec<(OsString, OsString)>) -> Result<(Target, Option<PathBuf>), Failure> {
        if let (Some(url), Source::Default) = (&self.url, &self.source) {
            return Ok((Target::parse(url)?, self.token_file.clone()));
        }
        let settings = match Settings::read(&self.source, environment.clone()) {
            Err(ConfigError::Unreadable { source, .. })
                if self.source == Source::Default && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Settings::of_environment(environment)
            }
            other => other,
        }?;
        let control = Control::of(&settings)?;
        let target = match (&self.url, control.listen.first()) {
            (Some(url), _) => Target::parse(url)?,
            // Which port the system chose stands in the agent's log alone.
            (None, Some(Listen::Tcp(address))) if address.port() == 0 => {
                return Err(Failure::new(exit::USAGE, "[control] listen has port 0, chosen at start; use --url"));
            }
            (None, Some(listen)) => Target::of(listen),
            (None, None) => return Err(Failure::new(exit::USAGE, "[control] listen is empty; use --url")),
        };
        Ok((target, self.token_file.clone().or(control.token_file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(port: &Port, environment: &[(&str, &str)]) -> (String, Option<PathBuf>) {
        let environment = environment.iter().map(|(n, v)| (OsString::from(n), OsString::from(v))).collect();
        let (target, token) = port.resolve(environment).expect("resolved");
        (target.to_string(), token)
    }

    #[test]
    fn addresses_people_write() {
        for (text, target) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://board.local:8080/", "http://board.local:8080"),
            ("[::1]:80", "http://[::1]:80"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:///run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(Target::parse(text).expect(text).to_string(), target);
        }
        for text in ["", "board", "https://board:8080", "http://a@b:80", "unix:run/x", "http://b:80/status", "b:99999"]
        {
            assert_eq!(Target::parse(text).expect_err(text).exit, exit::USAGE, "{text}");
        }
    }

    #[test]
    fn the_first_address_of_the_configuration_is_called() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("loader.toml");
        // No salts: a client needs none.
        std::fs::write(&file, "[control]\nlisten = ['0.0.0.0:81', 'unix:/x']\ntoken_file = '/t'\n").expect("written");
        let port = Port { source: Source::Given(file), ..Port::default() };
        assert_eq!(resolve(&port, &[]), ("http://127.0.0.1:81".into(), Some("/t".into())));
        let unix = [("AZAION_CONTROL_LISTEN", "unix:/run/x.sock")];
        assert_eq!(resolve(&port, &unix).0, "unix:/run/x.sock");
        let chosen = vec![("AZAION_CONTROL_LISTEN".into(), "127.0.0.1:0".into())];
        assert_eq!(port.resolve(chosen).expect_err("nobody can call port 0").exit, exit::USAGE);
        let url = Port { url: Some("b:1".into()), token_file: Some("/own".into()), ..port };
        assert_eq!(resolve(&url, &[]), ("http://b:1".into(), Some("/own".into())));
    }

    #[test]
    fn a_named_address_needs_no_configuration() {
        let port = Port { url: Some("b:1".into()), ..Port::default() };
        assert_eq!(resolve(&port, &[("AZAION_NO_SUCH", "x")]), ("http://b:1".into(), None));
    }
}
