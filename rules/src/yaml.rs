//! YAML text to values, with errors that point at the place.

use serde::de::DeserializeOwned;
pub use serde_yaml::Spanned;

/// What is wrong with a YAML file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct YamlError {
    /// The file's name, as given.
    pub file: String,
    /// Line, 1-based; 1 when the fault has no place of its own.
    pub line: u64,
    /// Column, 1-based.
    pub column: u64,
    /// What was found and what was expected.
    pub message: String,
}

impl YamlError {
    /// An error at the place of a value that was read.
    pub fn at<T>(value: &Spanned<T>, file: &str, message: String) -> Self {
        let place = value.referenced;
        Self { file: file.to_owned(), line: place.line(), column: place.column(), message }
    }
}

/// Reads one YAML document; `file` only serves the error text.
pub fn from_yaml<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, YamlError> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_documents: 1,
            max_depth: 32,
            max_anchors: 64,
            max_aliases: 256,
        },
        with_snippet: false,
    };
    serde_yaml::from_str_with_options(text, options).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        let message = error.without_snippet().to_string();
        let place = format!(" at line {line}, column {column}");
        YamlError { file: file.to_owned(), line, column, message: message.replace(&place, "") }
    })
}
