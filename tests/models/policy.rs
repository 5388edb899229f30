//! What a board demands of models.

use super::*;
