//! Passwords by prompt, standard input or file, never as arguments.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use secrecy::{ExposeSecret, SecretString};

use crate::bootstrap::StartError;

/// A password from a file, from a person at the terminal (asked twice, not shown), or the first line of standard input.
///
/// # Errors
/// It cannot be read, is empty, or was typed differently the second time.
pub(super) fn read(file: Option<&Path>) -> Result<SecretString, StartError> {
    let password = match file {
        Some(path) => first_line(&fs::read_to_string(path).map_err(StartError::file(path))?),
        None if io::stdin().is_terminal() => {
            let first = prompt("Password: ")?;
            let second = prompt("Once more: ")?;
            if first.expose_secret() != second.expose_secret() {
                return Err(StartError::Refused("the two passwords differ".to_owned()));
            }
            first
        }
        None => line_of_stdin()?,
    };
    if password.expose_secret().is_empty() {
        return Err(StartError::Refused("the password is empty".to_owned()));
    }
    Ok(password)
}

fn first_line(text: &str) -> SecretString {
    text.lines().next().unwrap_or_default().to_owned().into()
}

fn line_of_stdin() -> Result<SecretString, StartError> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|source| StartError::System { what: "reading standard input", source })?;
    Ok(first_line(&line))
}

/// Shows again what is typed, however this ends.
struct Echo(Termios);

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

fn prompt(text: &str) -> Result<SecretString, StartError> {
    let failed = |source: nix::Error| StartError::System { what: "the terminal", source: source.into() };
    eprint!("{text}");
    let _ = io::stderr().flush();
    let before = tcgetattr(io::stdin()).map_err(failed)?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(io::stdin(), SetArg::TCSANOW, &silent).map_err(failed)?;
    let echo = Echo(before);
    let line = line_of_stdin();
    drop(echo);
    eprintln!();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "a good password\nsomething else\n").unwrap();
        assert_eq!(read(Some(&path)).unwrap().expose_secret(), "a good password");
        fs::write(&path, "\n").unwrap();
        assert!(read(Some(&path)).unwrap_err().to_string().contains("empty"));
        assert_eq!(read(Some(Path::new("/no/such/file"))).unwrap_err().exit_code(), 2);
    }
}
