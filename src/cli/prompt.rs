//! Asks for a password on the terminal without showing it.
//!
//! The terminal is put back as it was on every way out, Ctrl-C included: with signals off it arrives as a character.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::limits::CREDENTIAL_BYTES;
use crate::secret::SecretText;

/// Asks on the terminal of this process, whatever standard input is.
///
/// # Errors
/// There is no terminal, or the person gave up (Ctrl-C, Ctrl-D).
pub(super) fn password(question: &str) -> io::Result<SecretText> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let quiet = Quiet::make(&terminal)?;
    (&terminal).write_all(question.as_bytes())?;
    let answer = read_line(&mut &terminal);
    drop(quiet);
    (&terminal).write_all(b"\n")?;
    answer
}

/// A terminal that neither shows nor interprets what is typed, until dropped.
struct Quiet<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Quiet<'t> {
    fn make(terminal: &'t File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut modes = before.clone();
        modes.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        tcsetattr(terminal, OptionalActions::Flush, &modes)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Nothing is left to do if the terminal is gone.
        let _restored = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// One line, with the editing that a terminal would do.
fn read_line(input: &mut impl Read) -> io::Result<SecretText> {
    let mut line = Zeroizing::new(Vec::with_capacity(CREDENTIAL_BYTES + 1));
    let mut byte = [0];
    loop {
        let end = input.read(&mut byte)? == 0;
        match byte[0] {
            _ if end => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the terminal went away")),
            b'\r' | b'\n' => break,
            // Ctrl-C, Ctrl-D, Ctrl-\
            0x03 | 0x04 | 0x1c => return Err(io::Error::new(io::ErrorKind::Interrupted, "given up")),
            // Ctrl-U
            0x15 => line.clear(),
            // Backspace: one character, whatever its length in UTF-8.
            0x08 | 0x7f => while line.pop().is_some_and(|b| b & 0xc0 == 0x80) {},
            // One more than fits, so that it is refused for its length and not cut.
            other if line.len() <= CREDENTIAL_BYTES => line.push(other),
            _ => {}
        }
    }
    match str::from_utf8(&line) {
        Ok(text) => Ok(SecretText::new(text.to_owned())),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "what was typed is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str) -> Result<String, io::ErrorKind> {
        read_line(&mut keys.as_bytes()).map(|text| text.expose().to_owned()).map_err(|error| error.kind())
    }

    #[test]
    fn a_line_is_edited_as_on_a_terminal() {
        assert_eq!(typed("abc\n").as_deref(), Ok("abc"));
        assert_eq!(typed("пароль\r").as_deref(), Ok("пароль"));
        assert_eq!(typed("aш\x7f\x7fb\n").as_deref(), Ok("b"));
        assert_eq!(typed("\x7fa\x15b\n").as_deref(), Ok("b"));
        assert_eq!(typed("a\x03b\n"), Err(io::ErrorKind::Interrupted));
        assert_eq!(typed("a"), Err(io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn a_password_over_the_bound_is_not_cut_to_one_that_fits() {
        let long = "x".repeat(2 * CREDENTIAL_BYTES) + "\n";
        assert_eq!(typed(&long).map(|text| text.len()), Ok(CREDENTIAL_BYTES + 1));
    }
}
