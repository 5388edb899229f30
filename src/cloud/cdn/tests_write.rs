//! Writing against servers that answer by a script.
