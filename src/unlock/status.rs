//! What an observer sees of an unlock: a small `Copy` view derived from the stage, never the stage itself.

use std::fmt;

/// The states of CONTRACT section 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Nothing was asked for yet.
    #[default]
    Idle,
    /// Logging in to the Resource API.
    Authenticating,
    /// Fetching the key fragment.
    DownloadingKey,
    /// Reading the archive: key, index, manifests.
    Decrypting,
    /// The engine takes the images in, and is asked whether it has them.
    LoadingImages,
    /// The engine holds every image of the archive that is on flash now.
    Ready,
    /// The last unlock stopped; why is told beside it. It can be asked for again.
    Error,
}

impl State {
    /// All of them, in the order in which they come.
    pub const ALL: [Self; 7] = [
        Self::Idle,
        Self::Authenticating,
        Self::DownloadingKey,
        Self::Decrypting,
        Self::LoadingImages,
        Self::Ready,
        Self::Error,
    ];

    /// The name as the control port writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Authenticating => "authenticating",
            Self::DownloadingKey => "downloading_key",
            Self::Decrypting => "decrypting",
            Self::LoadingImages => "loading_images",
            Self::Ready => "ready",
            Self::Error => "error",
        }
    }

    /// Whether an unlock is under way.
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Authenticating | Self::DownloadingKey | Self::Decrypting | Self::LoadingImages)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far an unlock is. `None` is what is not known yet; the control port writes it as null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The stage in the words of [`State`]; `None` when no unlock has run.
    pub stage: Option<&'static str>,
    /// Images the engine has been seen to hold.
    pub images_done: Option<u32>,
    /// Images in the archive.
    pub images_total: Option<u32>,
    /// Bytes of this stage's work that are done.
    pub bytes_done: Option<u64>,
    /// Bytes of this stage's work.
    pub bytes_total: Option<u64>,
    /// Mean rate of this stage.
    pub bytes_per_second: Option<u64>,
    /// What is left at that rate.
    pub seconds_left: Option<u64>,
}
