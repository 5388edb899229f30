//! Reading against servers that answer by a script.
