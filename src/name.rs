//! What a resource is called: its name and its folder, by the rule of CONTRACT section 5.
//!
//! A name is never normalised and never becomes a file name on this board as it is.

use std::fmt;

use crate::limits::{FOLDER_BYTES, NAME_BYTES};

/// The name of a resource: 1 to [`NAME_BYTES`] bytes of UTF-8, one path segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceName(String);

/// The folder of a resource; the empty one stands for none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Folder(String);

/// Why a text is no name or no folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRefused {
    /// Empty, or longer than [`NAME_BYTES`].
    Length {
        /// Bytes there were.
        bytes: usize,
    },
    /// A control character.
    Control,
    /// `/` or `\`.
    Separator,
    /// `.` or `..`.
    Dots,
    /// Not UTF-8.
    Encoding,
    /// Not one segment of `[A-Za-z0-9._-]`, 1 to [`FOLDER_BYTES`] bytes.
    Folder,
}

impl ResourceName {
    /// Takes a name that was percent-decoded once.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn new(name: impl Into<String>) -> Result<Self, NameRefused> {
        let name = name.into();
        if !(1..=NAME_BYTES).contains(&name.len()) {
            return Err(NameRefused::Length { bytes: name.len() });
        }
        if name.contains(['/', '\\']) {
            return Err(NameRefused::Separator);
        }
        if name.chars().any(char::is_control) {
            return Err(NameRefused::Control);
        }
        if name == "." || name == ".." {
            return Err(NameRefused::Dots);
        }
        Ok(Self(name))
    }

    /// The same from bytes.
    ///
    /// # Errors
    /// The first rule they break.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NameRefused> {
        // Before anything is copied: whoever sends a megabyte gets no second one.
        if bytes.len() > NAME_BYTES {
            return Err(NameRefused::Length { bytes: bytes.len() });
        }
        Self::new(str::from_utf8(bytes).map_err(|_| NameRefused::Encoding)?)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the small part is called at the Resource API.
    pub fn small(&self) -> String {
        format!("{}.small", self.0)
    }

    /// What the seal is called at the Resource API.
    pub fn seal(&self) -> String {
        format!("{}.seal", self.0)
    }

    /// What the big part is called at the CDN.
    pub fn big(&self) -> String {
        format!("{}.big", self.0)
    }
}

impl Folder {
    /// Takes a folder; the empty text is none.
    ///
    /// # Errors
    /// [`NameRefused::Folder`].
    pub fn new(folder: impl Into<String>) -> Result<Self, NameRefused> {
        let folder = folder.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if folder.len() > FOLDER_BYTES || !folder.bytes().all(allowed) || folder == "." || folder == ".." {
            return Err(NameRefused::Folder);
        }
        Ok(Self(folder))
    }

    /// The folder, empty for none.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The bucket at the CDN (CONTRACT section 2).
    pub fn bucket(&self) -> &str {
        if self.0.is_empty() { "default" } else { &self.0 }
    }
}

impl fmt::Display for NameRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { bytes } => write!(f, "a name has 1 to {NAME_BYTES} bytes of UTF-8, this one {bytes}"),
            Self::Control => f.write_str("a name holds no control characters"),
            Self::Separator => f.write_str("a name holds no / and no \\"),
            Self::Dots => f.write_str("a name is not . or .."),
            Self::Encoding => f.write_str("a name is UTF-8"),
            Self::Folder => {
                write!(
                    f,
                    "a folder is one segment of 1 to {FOLDER_BYTES} letters, digits, dots, underscores and dashes"
                )
            }
        }
    }
}

impl std::error::Error for NameRefused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_of_every_edge_of_a_name() {
        for name in ["a", "a b", "+", "ü", "модель.onnx", "🚀", "...", ".a", "%2F", &"x".repeat(255), &"я".repeat(127)]
        {
            assert_eq!(ResourceName::new(name).expect(name).as_str(), name);
        }
        for (name, why) in [
            ("", NameRefused::Length { bytes: 0 }),
            (&"x".repeat(256), NameRefused::Length { bytes: 256 }),
            (&"я".repeat(128), NameRefused::Length { bytes: 256 }),
            (".", NameRefused::Dots),
            ("..", NameRefused::Dots),
            ("../x", NameRefused::Separator),
            ("a/b", NameRefused::Separator),
            ("a\\b", NameRefused::Separator),
            ("a\0", NameRefused::Control),
            ("a\nb", NameRefused::Control),
            ("\u{7f}", NameRefused::Control),
            ("\u{85}", NameRefused::Control),
        ] {
            assert_eq!(ResourceName::new(name), Err(why), "{name:?}");
        }
        assert_eq!(ResourceName::from_bytes(b"\xff"), Err(NameRefused::Encoding));
        assert_eq!(ResourceName::from_bytes(&vec![b'x'; 65536]), Err(NameRefused::Length { bytes: 65536 }));
    }

    #[test]
    fn each_side_of_every_edge_of_a_folder() {
        for folder in ["", "a", "models.v2", "a_b-C", "...", &"x".repeat(63)] {
            assert_eq!(Folder::new(folder).expect(folder).as_str(), folder);
        }
        for folder in [".", "..", "a/b", "a b", "ü", "a\0", "%2e", &"x".repeat(64)] {
            assert_eq!(Folder::new(folder), Err(NameRefused::Folder), "{folder:?}");
        }
        assert_eq!((Folder::default().bucket(), Folder::new("m").expect("plain").bucket()), ("default", "m"));
    }
}
