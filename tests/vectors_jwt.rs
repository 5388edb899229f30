//! The tokens of `vectors/jwt.json`, made by another implementation (CONTRACT section 1).

use std::path::Path;

use azaion_loader::cloud::Token;
use azaion_loader::secret::SecretText;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    why: String,
    token: String,
    ok: bool,
    user_id: Option<String>,
    email: Option<String>,
    role: Option<String>,
    expires_at: Option<i64>,
}

/// The copy in this repository, and the shared original where it is at hand.
#[test]
fn every_token_is_accepted_or_refused_as_the_other_implementation_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = 0;
    for file in ["tests/fixtures/vectors/jwt.json", "../shared/vectors/jwt.json"] {
        let Ok(text) = std::fs::read(root.join(file)) else {
            assert!(file.starts_with(".."), "{file} is missing");
            continue;
        };
        let cases: Vec<Case> = serde_json::from_slice(&text).expect("an array of cases");
        assert!(!cases.is_empty());
        for case in &cases {
            let parsed = Token::parse(SecretText::new(case.token.clone()), None);
            assert_eq!(parsed.is_ok(), case.ok, "{}: {:?}", case.why, parsed.err());
            let Ok(token) = parsed else { continue };
            let user = token.user();
            assert_eq!(Some(&user.id), case.user_id.as_ref(), "{}", case.why);
            assert_eq!(Some(&user.email), case.email.as_ref(), "{}", case.why);
            assert_eq!(Some(user.role.as_str()), case.role.as_deref(), "{}", case.why);
            assert_eq!(Some(token.expires_at()), case.expires_at, "{}", case.why);
        }
        println!("{file}: {} tokens", cases.len());
        files += 1;
    }
    assert!(files > 0);
}
