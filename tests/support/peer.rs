//! A second implementation of split resources: `boto3` and `cryptography`, by `tests/tools/boto3-peer`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use azaion_cloud::Cloud;
use azaion_cloud::keys::Salts;
use tempfile::TempDir;

/// The peer with its log-in at one cloud.
#[derive(Debug)]
pub(crate) struct Peer {
    dir: TempDir,
    fixed: Vec<String>,
}

fn tool(name: &str) -> String {
    format!("{}/tests/tools/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

impl Peer {
    /// A peer that logs in at this cloud as this user, who is bound to no hardware. The CDN is the one that the cloud's
    /// `cdn.yaml` names.
    ///
    /// # Errors
    /// Why none can run on this machine, for [`super::skip`].
    pub(crate) fn new(cloud: &Cloud, email: &str, password: &str, salts: &Salts) -> Result<Self, String> {
        let installed = Command::new(tool("python-peer")).output().expect("tests/tools/python-peer can be run");
        if !installed.status.success() {
            return Err(said(&installed));
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, cloud.ca_pem()).expect("the authority is written");
        let url = cloud.url();
        let fixed = [
            ("--api", url.as_str()),
            ("--ca", ca.to_str().expect("a temporary directory has a name in UTF-8")),
            ("--email", email),
            ("--password", password),
            ("--api-salt", &salts.api),
            ("--resource-salt", &salts.resource),
            ("--separator", &salts.separator),
        ];
        let fixed = fixed.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok(Self { dir, fixed })
    }

    /// The same peer with another CDN: its `cdn.yaml`, and the authority of its certificate besides the cloud's.
    #[must_use]
    pub(crate) fn with_cdn(mut self, cdn_yaml: &str, ca_pem: &str) -> Self {
        let (yaml, ca) = (self.dir.path().join("cdn.yaml"), self.dir.path().join("ca.pem"));
        std::fs::write(&yaml, cdn_yaml).expect("the settings are written");
        let both = std::fs::read_to_string(&ca).expect("the authority was written") + ca_pem;
        std::fs::write(&ca, both).expect("the authorities are written");
        self.fixed.push(format!("--cdn-yaml={}", yaml.display()));
        self
    }

    /// Seals and splits a file, big part to the CDN, small part to the API.
    ///
    /// # Errors
    /// What it says when it fails.
    pub(crate) fn put(&self, folder: &str, name: &str, file: &Path) -> Result<(), String> {
        self.run(&["put".as_ref()], folder, name, file)
    }

    /// Fetches and joins a resource into a file and checks that it equals another.
    ///
    /// # Errors
    /// What it says when it fails, or the two differ.
    pub(crate) fn get(&self, folder: &str, name: &str, equals: &Path) -> Result<(), String> {
        let into = self.dir.path().join("got");
        self.run(&["get".as_ref(), "--equals".as_ref(), equals.as_os_str()], folder, name, &into)
    }

    fn run(&self, what: &[&OsStr], folder: &str, name: &str, file: &Path) -> Result<(), String> {
        let output = Command::new(tool("python-peer"))
            .arg(tool("boto3-peer"))
            .args(what)
            .args(&self.fixed)
            .args([format!("--folder={folder}"), format!("--name={name}")])
            .arg("--file")
            .arg(file)
            .arg("--tmp")
            .arg(self.dir.path())
            .output()
            .expect("tests/tools/python-peer can be run");
        if output.status.success() { Ok(()) } else { Err(said(&output)) }
    }
}
