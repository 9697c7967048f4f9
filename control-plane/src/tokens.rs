//! Who may change something: those who hold a token of the operator's file.

use std::{fs, io, path::Path};

use subtle::ConstantTimeEq as _;

/// Shortest token: what is shorter can be guessed.
const SHORTEST: usize = 16;
/// The name of whoever holds a token that has no name in the file.
const NAMELESS: &str = "api";

/// A token and the name of whoever holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// For the record of who did what.
    pub name: String,
    /// The secret.
    pub secret: String,
}

/// The secret is nobody's to see.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads a file of tokens: a line `NAME TOKEN` or `TOKEN` each; blank lines and `#` comments between.
/// No error text holds a token.
pub fn read(path: &Path) -> io::Result<Vec<Token>> {
    let text = fs::read_to_string(path)?;
    let lines = (1..).zip(text.lines().map(str::trim));
    let tokens = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let tokens: Vec<_> =
        tokens.map(|(number, line)| token(number, line)).collect::<Result<_, _>>()?;
    if tokens.is_empty() {
        return Err(wrong("there is no token in it".to_owned()));
    }
    Ok(tokens)
}

fn token(number: u32, line: &str) -> io::Result<Token> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, secret) = match words[..] {
        [secret] => (NAMELESS, secret),
        [name, secret] => (name, secret),
        _ => return Err(wrong(format!("line {number}: expected NAME TOKEN"))),
    };
    if secret.len() < SHORTEST {
        return Err(wrong(format!("line {number}: a token has at least {SHORTEST} characters")));
    }
    Ok(Token { name: name.to_owned(), secret: secret.to_owned() })
}

fn wrong(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The name of whoever holds this secret. How long it takes tells nothing about any token but its
/// length.
pub fn holder<'a>(tokens: &'a [Token], secret: &str) -> Option<&'a str> {
    let mut found = None;
    for token in tokens {
        if bool::from(token.secret.as_bytes().ct_eq(secret.as_bytes())) {
            found = Some(token.name.as_str());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> io::Result<Vec<Token>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn tokens_have_names_and_are_told_apart() {
        let text = "# desk\n\nalice  0123456789abcdef\n fedcba9876543210 \n";
        let tokens = read_text(text).unwrap();
        assert_eq!(holder(&tokens, "0123456789abcdef"), Some("alice"));
        assert_eq!(holder(&tokens, "fedcba9876543210"), Some("api"));
        for wrong in ["", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0", "alice"] {
            assert_eq!(holder(&tokens, wrong), None, "{wrong}");
        }
        assert!(!format!("{tokens:?}").contains("0123"));
    }

    #[test]
    fn a_file_without_a_token_that_nobody_guesses_is_refused_without_saying_it() {
        for (text, words) in [
            ("", "no token"),
            ("# only a comment\n", "no token"),
            ("alice secret-of-16-chr\nbob hunter2\n", "line 2: a token has at least 16"),
            ("alice has a 0123456789abcdef\n", "line 1: expected NAME TOKEN"),
        ] {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
            assert!(!error.contains("hunter2"));
        }
    }
}
