//! Models with a seal.

use super::*;
