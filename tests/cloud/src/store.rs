//! What the cloud knows: users, tokens, the fragment, files. No HTTP here.

use std::collections::{BTreeMap, HashMap};

use crate::options::User;

/// A file's place: folder (empty: none) and name.
type Place = (String, String);

/// Everything that calls read and change.
#[derive(Default)]
pub(crate) struct Store {
    users: HashMap<String, User>,
    tokens: Vec<Issued>,
    pub(crate) fragment: Option<Vec<u8>>,
    files: BTreeMap<Place, Vec<u8>>,
}

/// A token and whom it was issued to.
struct Issued {
    text: String,
    email: String,
    expires: u64,
    revoked: bool,
}

impl Store {
    /// Adds a user, or puts a new one in the place of the one with this e-mail address.
    pub(crate) fn add_user(&mut self, user: User) {
        self.users.insert(user.email.clone(), user);
    }

    pub(crate) fn user(&self, email: &str) -> Option<&User> {
        self.users.get(email)
    }

    pub(crate) fn note_token(&mut self, text: String, email: String, expires: u64) {
        self.tokens.push(Issued { text, email, expires, revoked: false });
    }

    /// Whose token it is, if it still lives at `now`.
    pub(crate) fn bearer(&self, token: &str, now: u64) -> Option<&User> {
        let lives = |issued: &&Issued| issued.text == token && !issued.revoked && now < issued.expires;
        self.tokens.iter().find(lives).and_then(|issued| self.user(&issued.email))
    }

    pub(crate) fn expire_tokens(&mut self) {
        for issued in &mut self.tokens {
            issued.revoked = true;
        }
    }

    pub(crate) fn issued_tokens(&self) -> Vec<String> {
        self.tokens.iter().map(|issued| issued.text.clone()).collect()
    }

    pub(crate) fn put_file(&mut self, folder: &str, name: &str, bytes: Vec<u8>) {
        self.files.insert((folder.into(), name.into()), bytes);
    }

    pub(crate) fn remove_file(&mut self, folder: &str, name: &str) -> bool {
        self.files.remove(&(folder.to_owned(), name.to_owned())).is_some()
    }

    pub(crate) fn file(&self, folder: &str, name: &str) -> Option<&Vec<u8>> {
        self.files.get(&(folder.to_owned(), name.to_owned()))
    }
}
