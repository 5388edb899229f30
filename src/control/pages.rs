//! The two documents of the port: the description of the API, and the page for a browser. Neither holds any data.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heapless::String as Text;

use crate::crypto::Digest;

/// OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// One page without anything from elsewhere.
pub(super) const DOCS: &str = include_str!("docs.html");

/// What the page may do (Content Security Policy 3): run its own script, show its own style, call this port.
pub(super) fn policy() -> Text<448> {
    let mut policy = Text::new();
    let _fits = write!(
        policy,
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        hash_of("script"),
        hash_of("style")
    );
    policy
}

/// SHA-256 of the one element of this name, in base64 as a policy has it.
fn hash_of(element: &str) -> String {
    let inside =
        DOCS.split_once(&format!("<{element}>")).and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
    STANDARD.encode(Digest::of(inside.map_or("", |(inside, _)| inside).as_bytes()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else_and_has_one_script_and_one_style() {
        for element in ["script", "style"] {
            assert_eq!(DOCS.matches(&format!("<{element}")).count(), 1, "{element}");
            assert_eq!(DOCS.matches(&format!("<{element}>")).count(), 1, "{element} with attributes is not its hash");
        }
        for outside in ["http://", "https://", "src=", "@import", "url(", "eval(", "innerHTML", "style=", "onclick="] {
            assert!(!DOCS.contains(outside), "{outside}");
        }
        assert!(!DOCS.contains(env!("CARGO_PKG_VERSION")), "a stranger may read it: no version");
        assert!(
            policy().ends_with("require-trusted-types-for 'script'") && !policy().contains("sha256-47DEQ"),
            "{}",
            policy()
        );
    }
}
