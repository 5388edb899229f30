//! `[boot] credentials_file`: who the board logs in as when nobody is there (CONTRACT section 7).
//!
//! JSON `{"email","password"}`, readable by its owner alone. A relative path is looked up in `$CREDENTIALS_DIRECTORY`,
//! where systemd puts what `LoadCredential=` names.

use std::env;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::file::read_checked;
use crate::json::{self, JsonRefused};
use crate::limits::CREDENTIALS_FILE_BYTES;
use crate::secret::{Credentials, CredentialsRefused, SecretText};

/// Why a credentials file is refused. Never shows what is in it.
#[derive(Debug)]
pub enum CredentialsFileError {
    /// A relative path, and systemd passed no credentials.
    NoDirectory {
        /// The path as configured.
        path: PathBuf,
    },
    /// Others than its owner may read it.
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not `{"email","password"}`.
    NotCredentials {
        /// The file.
        path: PathBuf,
        /// Where it stops to be.
        source: JsonRefused,
    },
    /// Address or password are empty or too long.
    Refused {
        /// The file.
        path: PathBuf,
        /// Which of them.
        source: CredentialsRefused,
    },
}

impl fmt::Display for CredentialsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDirectory { path } => write!(
                f,
                "credentials file {} has a relative path and $CREDENTIALS_DIRECTORY is not set; \
                 use a path from / or systemd's LoadCredential",
                path.display()
            ),
            Self::OpenToOthers { path, mode } => write!(
                f,
                "credentials file {} has mode {mode:04o}, readable by more than its owner; chmod 0400 it",
                path.display()
            ),
            Self::Unreadable { path, .. } => write!(f, "cannot read credentials file {}", path.display()),
            Self::NotCredentials { path, .. } => {
                write!(f, "credentials file {} is not {{\"email\",\"password\"}}", path.display())
            }
            Self::Refused { path, .. } => write!(f, "credentials file {}", path.display()),
        }
    }
}

impl std::error::Error for CredentialsFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoDirectory { .. } | Self::OpenToOthers { .. } => None,
            Self::Unreadable { source, .. } => Some(source),
            Self::NotCredentials { source, .. } => Some(source),
            Self::Refused { source, .. } => Some(source),
        }
    }
}

/// Reads credentials from `path`. For start-up and for [`crate::net::lend`]: it blocks on flash.
///
/// # Errors
/// Each reason is a [`CredentialsFileError`] of its own.
pub fn read_credentials(path: &Path) -> Result<Credentials, CredentialsFileError> {
    read_in(path, env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).as_deref())
}

/// `email` and `password`, before their lengths are checked.
#[derive(Deserialize)]
struct Form {
    email: String,
    password: String,
}

fn read_in(path: &Path, directory: Option<&Path>) -> Result<Credentials, CredentialsFileError> {
    let path = match (path.is_absolute(), directory) {
        (true, _) => path.to_owned(),
        (false, Some(directory)) => directory.join(path),
        (false, None) => return Err(CredentialsFileError::NoDirectory { path: path.to_owned() }),
    };
    let mut open_mode = None;
    let bytes = read_checked(&path, CREDENTIALS_FILE_BYTES, |file| {
        if is_open_to_others(file)? {
            open_mode = Some(file.metadata()?.mode() & 0o7777);
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    });
    if let Some(mode) = open_mode {
        return Err(CredentialsFileError::OpenToOthers { path, mode });
    }
    let bytes = match bytes {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(source) => return Err(CredentialsFileError::Unreadable { path, source }),
    };
    let form: Form = match json::from_slice(&bytes, CREDENTIALS_FILE_BYTES) {
        Ok(form) => form,
        Err(source) => return Err(CredentialsFileError::NotCredentials { path, source }),
    };
    Credentials::new(form.email, SecretText::new(form.password))
        .map_err(|source| CredentialsFileError::Refused { path, source })
}

/// Whether somebody besides owner, root and this process's own user may read the file.
///
/// systemd gives a service's user its credentials by an access control list on a file of root, where the file system
/// has them (`write_credential` in systemd's `exec-credential.c`). The group bits of the mode are then the list's
/// mask, not the group's right: `0440` although no group may read. So the list itself is asked.
fn is_open_to_others(file: &File) -> io::Result<bool> {
    let mode = file.metadata()?.mode();
    if mode & 0o007 != 0 {
        return Ok(true);
    }
    if mode & 0o070 == 0 {
        return Ok(false);
    }
    let mut list = [0_u8; 1024];
    match rustix::fs::fgetxattr(file, "system.posix_acl_access", &mut list) {
        Ok(len) => Ok(acl_lets_others_read(&list[..len], rustix::process::geteuid().as_raw())),
        // No list, none on this file system, or one longer than any systemd writes.
        Err(_) => Ok(true),
    }
}

/// `struct posix_acl_xattr_header` and `_entry` of `linux/posix_acl_xattr.h`, tags of `linux/posix_acl.h`.
fn acl_lets_others_read(list: &[u8], own: u32) -> bool {
    const USER_OBJ: u16 = 0x01;
    const USER: u16 = 0x02;
    const MASK: u16 = 0x10;
    let Some((&[2, 0, 0, 0], entries)) = list.split_first_chunk::<4>() else { return true };
    let (entries, rest) = entries.as_chunks::<8>();
    !rest.is_empty()
        || entries.iter().any(|&[tag_low, tag_high, perm, _, id @ ..]| {
            match u16::from_le_bytes([tag_low, tag_high]) {
                USER_OBJ | MASK => false,
                USER => perm != 0 && ![0, own].contains(&u32::from_le_bytes(id)),
                // The owning group, named groups, everyone else, and tags of a later kernel.
                _ => perm != 0,
            }
        })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("boot");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("own file");
        (dir, path)
    }

    const GOOD: &str = r#"{"email":"a@b","password":"пароль\n"}"#;

    #[test]
    fn both_ways_to_name_the_file() {
        let (dir, path) = file(GOOD, 0o400);
        for (name, directory) in [(path.as_path(), None), (Path::new("boot"), Some(dir.path()))] {
            let credentials = read_in(name, directory).expect("good");
            assert_eq!((credentials.email(), credentials.password().expose()), ("a@b", "пароль\n"));
        }
        let error = read_in(Path::new("boot"), None).expect_err("no directory");
        assert!(matches!(error, CredentialsFileError::NoDirectory { .. }), "{error}");
    }

    #[test]
    fn readable_by_others_is_refused() {
        for mode in [0o440, 0o404, 0o420, 0o401, 0o644] {
            let (_dir, path) = file(GOOD, mode);
            let error = read_in(&path, None).expect_err("open to others");
            assert!(matches!(error, CredentialsFileError::OpenToOthers { mode: m, .. } if m == mode), "{error}");
        }
    }

    #[test]
    fn what_is_in_it_is_checked_and_never_shown() {
        for (text, part) in [
            ("", "is not"),
            (r#"{"email":"a@b"}"#, "is not"),
            (r#"{"email":"a@b","password":4711}"#, "is not"),
            (r#"{"email":"a@b","password":"canary","password":"canary"}"#, "is not"),
            (r#"{"email":"","password":"canary"}"#, "email must"),
            (r#"{"email":"a@b","password":""}"#, "password must"),
        ] {
            let (_dir, path) = file(text, 0o600);
            let error = crate::error::chain(&read_in(&path, None).expect_err(text));
            assert!(error.contains(part) && !error.contains("canary") && !error.contains("4711"), "{error}");
        }
    }

    #[test]
    fn the_file_is_bounded() {
        let text = |n: usize| format!("{GOOD}{}", " ".repeat(n - GOOD.len()));
        let (_dir, path) = file(&text(CREDENTIALS_FILE_BYTES), 0o600);
        assert!(read_in(&path, None).is_ok());
        let (_dir, path) = file(&text(CREDENTIALS_FILE_BYTES + 1), 0o600);
        assert!(matches!(read_in(&path, None), Err(CredentialsFileError::Unreadable { .. })));
    }

    /// As `fd_add_uid_acl_permission` of systemd leaves it on a file of mode 0400.
    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut list = vec![2, 0, 0, 0];
        for (tag, perm, id) in entries {
            list.extend(tag.to_le_bytes().iter().chain(&perm.to_le_bytes()).chain(&id.to_le_bytes()));
        }
        list
    }

    const NOBODY: u32 = u32::MAX;

    #[test]
    fn an_access_list_for_the_own_user_is_not_open_to_others() {
        let systemd = |user| list(&[(1, 4, NOBODY), (2, 4, user), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)]);
        assert!(!acl_lets_others_read(&systemd(990), 990));
        assert!(acl_lets_others_read(&systemd(991), 990));
        assert!(acl_lets_others_read(&list(&[(1, 4, NOBODY), (4, 4, NOBODY), (32, 0, NOBODY)]), 990));
        assert!(acl_lets_others_read(&list(&[(1, 4, NOBODY), (8, 4, 990), (32, 0, NOBODY)]), 990));
        assert!(acl_lets_others_read(&systemd(990)[..43], 990), "cut");
        assert!(acl_lets_others_read(&[], 990));
    }

    #[test]
    fn the_list_on_a_real_file_is_read() {
        let (_dir, path) = file(GOOD, 0o400);
        let own = rustix::process::geteuid().as_raw();
        let entries = list(&[(1, 4, NOBODY), (2, 4, own), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)]);
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(&path, "system.posix_acl_access", &entries, flags).is_err() {
            println!("skipped: the temporary directory's file system has no access control lists");
            return;
        }
        let mode = path.metadata().expect("it is there").mode() & 0o777;
        assert_eq!(mode, 0o440, "the mask stands in the group's place");
        assert!(read_in(&path, None).is_ok());
    }
}
