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
        let message = plain(&message.replace(&place, ""));
        YamlError { file: file.to_owned(), line, column, message }
    })
}

/// The reader's words for what it found, where they are about YAML itself rather than about what
/// people write.
fn plain(message: &str) -> String {
    let twice = message.strip_prefix("duplicate mapping key: ");
    if let Some((key, _)) = twice.and_then(|rest| rest.split_once(',')) {
        return format!("'{key}' is there twice");
    }
    let plain = match message {
        "expected sequence start" => "expected a list: [one, two], or one item a line behind '- '",
        "expected mapping start" => "expected keys with values: {key: value}, or one a line",
        "expected string scalar" => "expected a text",
        "unexpected end of input" => "nothing is there: expected keys with values",
        "invalid u8" => "expected a whole number from 0 to 255",
        "invalid u16" => "expected a whole number from 0 to 65535",
        "invalid u32" => "expected a whole number from 0 to 4294967295",
        "invalid u64" => "expected a whole number from 0 on",
        "externally tagged enum expected scalar or mapping" => "expected one word",
        "recursion limit exceeded" => "it is nested too deeply",
        other if other.starts_with("budget breached: Documents") => {
            "expected one document, found a second one behind '---'"
        }
        other => other,
    };
    plain.to_owned()
}

#[cfg(test)]
mod tests {
    use crate::policy::Policy;

    #[test]
    fn errors_are_in_the_words_of_people() {
        for (text, expected) in [
            ("own_prefixes: 198.18.0.0/15", "policy.yaml:1:15: expected a list: "),
            ("own_prefixes: [198.18.0.1]", "policy.yaml:1:16: expected keys with values: "),
            ("own_prefixes: [{network: [], name: x}]", "policy.yaml:1:26: expected a text"),
            (
                "false_positives: {halved_by: -1}",
                "policy.yaml:1:30: expected a whole number from 0",
            ),
            ("breaker: {at_least: many}", "policy.yaml:1:21: expected a whole number from 0"),
            ("score: {block: 1, block: 2}", "policy.yaml:1:19: 'block' is there twice"),
            ("rollout: {first_list: [observe]}", "policy.yaml:1:23: expected one word"),
            ("{}\n---\n{}\n", "policy.yaml:2:1: expected one document"),
            ("max_sites_v6: -3", "policy.yaml:1:15: expected a whole number from 0 on"),
        ] {
            let error = Policy::from_yaml(text, "policy.yaml").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let empty = crate::catalogue::Catalogue::from_yaml("", "feeds.yaml").unwrap_err();
        assert_eq!(empty.message, "nothing is there: expected keys with values");
    }
}
