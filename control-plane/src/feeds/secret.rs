//! Keys and passwords: read where the catalogue says they are, shown nowhere.

use std::{
    env, fmt,
    fs::OpenOptions,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::fcntl::OFlag;
use sekisho_rules::access::SecretRef;
use serde::{Serialize, Serializer};

use super::fetch::{FetchError, FetchErrorKind};

/// Longest secret: keys are tens of bytes, signed tokens a few thousand.
const LONGEST: u64 = 8 << 10;
/// The permission bit of everybody.
const WORLD_READABLE: u32 = 0o004;
const SHOWN: &str = "(secret)";

/// A key or password. Whatever prints it prints `(secret)`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Box<str>);

/// A secret, and what is wrong with the way it is kept.
#[derive(Debug)]
pub struct Found {
    /// The secret.
    pub secret: Secret,
    /// What to tell the operator.
    pub warning: Option<String>,
}

impl Secret {
    /// Reads it; blocks. The error says what is missing, where, and what to do.
    pub fn read(from: &SecretRef) -> Result<Found, FetchError> {
        let found = match from {
            SecretRef::File(path) => read_file(path),
            SecretRef::Env(name) => {
                let why = |why: &str| {
                    format!("the environment variable {name}, which should hold the key, {why}")
                };
                match env::var(name) {
                    Ok(text) => Self::of(&text).map_err(why).map(Found::fine),
                    Err(env::VarError::NotPresent) => Err(why("is not set: set it and restart")),
                    Err(env::VarError::NotUnicode(_)) => Err(why("is not UTF-8")),
                }
            }
        };
        found.map_err(|detail| FetchError::new(FetchErrorKind::Secret, detail))
    }

    /// The secret itself, for the request that needs it and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// For use in a URL: everything but RFC 3986's unreserved characters is escaped.
    pub fn url_encoded(&self) -> Self {
        let mut encoded = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        Self(encoded.into())
    }

    fn of(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty: put the key there");
        }
        if text.chars().any(char::is_control) {
            return Err("holds more than one line: put the key there and nothing else");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHOWN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHOWN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(SHOWN)
    }
}

impl Found {
    const fn fine(secret: Secret) -> Self {
        Self { secret, warning: None }
    }
}

fn read_file(path: &Path) -> Result<Found, String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        format!("the key can't be read from {shown}: {error}; put it there, readable by the daemon")
    };
    // A pipe that nobody writes into must not hold the thread that opens it.
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = file.map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(format!("{shown}, which should hold the key, is no regular file"));
    }
    if meta.len() > LONGEST {
        return Err(format!("{shown}, which should hold the key, has more than {LONGEST} bytes"));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => {
            format!("{shown}, which should hold the key, is not UTF-8")
        }
        _ => unreadable(error),
    })?;
    let secret =
        Secret::of(&text).map_err(|why| format!("{shown}, which should hold the key, {why}"))?;
    let warning = (meta.mode() & WORLD_READABLE != 0)
        .then(|| format!("{shown} holds a key and every user can read it: run `chmod o= {shown}`"));
    Ok(Found { secret, warning })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn file(text: &[u8], mode: u32) -> (tempfile::TempDir, SecretRef) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, SecretRef::File(path))
    }

    fn error(from: &SecretRef) -> String {
        let error = Secret::read(from).unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Secret);
        error.detail
    }

    #[test]
    fn a_secret_is_read_without_the_blanks_around_it_and_shown_nowhere() {
        let (_dir, from) = file(b"  hunter2\r\n", 0o600);
        let Found { secret, warning } = Secret::read(&from).unwrap();
        assert_eq!((secret.expose(), warning), ("hunter2", None));
        let shown = format!("{secret} {secret:?} {}", serde_json::to_string(&secret).unwrap());
        assert_eq!(shown, "(secret) (secret) \"(secret)\"");
    }

    #[test]
    fn a_file_that_everybody_can_read_is_told_with_the_command_that_mends_it() {
        let (_dir, from) = file(b"hunter2", 0o644);
        let warning = Secret::read(&from).unwrap().warning.unwrap();
        assert!(warning.contains(&format!("run `chmod o= {from}`")), "{warning}");
        let (_dir, from) = file(b"hunter2", 0o640);
        assert_eq!(Secret::read(&from).unwrap().warning, None);
    }

    #[test]
    fn what_holds_no_secret_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let missing = SecretRef::File(dir.path().join("none"));
        let told = error(&missing);
        assert!(told.contains(&missing.to_string()) && told.contains("put it there"), "{told}");
        let folder = SecretRef::File(dir.path().to_owned());
        assert!(error(&folder).contains("no regular file"));
        for (text, why) in [
            (&b" \n"[..], "is empty"),
            (b"one\ntwo\n", "more than one line"),
            (b"\xff\xfe", "is not UTF-8"),
            (&[b'x'; 9_000], "more than 8192 bytes"),
        ] {
            let (_dir, from) = file(text, 0o600);
            let told = error(&from);
            assert!(told.contains(why) && told.contains(&from.to_string()), "{told}");
            assert!(!told.contains("two"), "{told}");
        }
        let told = error(&SecretRef::Env("SEKISHO_TEST_NOT_SET".to_owned()));
        assert!(told.contains("SEKISHO_TEST_NOT_SET") && told.contains("is not set"), "{told}");
    }

    #[test]
    fn a_variable_of_the_environment_is_read() {
        // Cargo sets it for every test.
        let found = Secret::read(&SecretRef::Env("CARGO_PKG_NAME".to_owned())).unwrap();
        assert_eq!(found.secret.expose(), "sekisho");
    }

    #[test]
    fn in_a_url_a_secret_is_one_segment() {
        let (_dir, from) = file("a/b?c=ä {key}".as_bytes(), 0o600);
        let encoded = Secret::read(&from).unwrap().secret.url_encoded();
        assert_eq!(encoded.expose(), "a%2Fb%3Fc%3D%C3%A4%20%7Bkey%7D");
    }
}
