//! Names of images in paths and queries of the engine's API.

/// Beside letters, digits and `-._~`: what stands in image names and has no other meaning in a path.
pub(super) const KEPT_IN_PATHS: &str = "/:@";

/// Percent-encodes everything but unreserved characters (RFC 3986 section 2.3) and those of `kept`. A name that comes
/// from an archive can then neither end the path nor climb out of it.
pub(super) fn encoded(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for segment in text.split_inclusive('/') {
        // Dots alone would be taken for a step in the tree.
        let is_step = matches!(segment.trim_end_matches('/'), "." | "..");
        for byte in segment.bytes() {
            let unreserved = byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || (byte == b'.' && !is_step);
            if unreserved || kept.as_bytes().contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push('%');
                out.extend([byte >> 4, byte & 15].map(|half| char::from(b"0123456789ABCDEF"[usize::from(half)])));
            }
        }
    }
    out
}

/// `name:tag`, at the last colon behind the last slash: a registry's port comes before one.
pub(super) fn split(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        Some(_) | None => (name, "latest"),
    }
}
