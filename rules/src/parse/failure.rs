//! Why a whole list is refused.

use std::borrow::Cow;

use serde::Serialize;

use super::Rejects;

/// Why a whole list is refused; the last good copy stays in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ParseFailure {
    /// Nothing in it but blanks.
    #[error("the list is empty: not even a header or a comment")]
    Empty,
    /// A web page.
    #[error("a web page (HTML or XML) came in place of the list")]
    Html,
    /// Source text of a web server.
    #[error("program text (PHP) came in place of the list")]
    Php,
    /// UTF-16 or UTF-32.
    #[error("the text is UTF-16 or UTF-32: only ASCII and UTF-8 are read")]
    Utf16,
    /// NUL bytes, or the mark of an archive.
    #[error("the content is binary ({what}), not text")]
    Binary {
        /// What it looks like.
        what: &'static str,
    },
    /// The list ends before its end mark.
    #[error("the list is cut off: {detail}")]
    Truncated {
        /// Which mark is missing, or which counts differ.
        detail: String,
    },
    /// More bytes than allowed.
    #[error("the list has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// More lines than allowed.
    #[error("the list has more than {limit} lines")]
    TooManyLines {
        /// The limit.
        limit: usize,
    },
    /// The share of lines that can't be read says that this isn't the list.
    #[error("{} of {rows} rows can't be read{}", .rejects.total(), .rejects.first_text())]
    TooManyRejects {
        /// The rows that were rejected.
        rejects: Rejects,
        /// How many rows there are.
        rows: u64,
    },
    /// The header line or a column that is needed isn't there.
    #[error("it has no column or key '{column}'")]
    MissingColumn {
        /// The column.
        column: Cow<'static, str>,
    },
    /// A compressed list that can't be unpacked.
    #[error("the list can't be unpacked: {detail}")]
    Packed {
        /// What is wrong with it.
        detail: String,
    },
    /// A compressed list that unpacks to far more than any list does.
    #[error("the list is a decompression bomb: {detail}")]
    Bomb {
        /// How much from how little.
        detail: String,
    },
    /// JSON as a whole that can't be read.
    #[error("the JSON can't be read: {detail}")]
    BadJson {
        /// The parser's words.
        detail: String,
    },
}

impl ParseFailure {
    /// The name in reports and as a metric label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Html => "html",
            Self::Php => "php",
            Self::Utf16 => "utf16",
            Self::Binary { .. } => "binary",
            Self::Truncated { .. } => "truncated",
            Self::TooLarge { .. } => "too_large",
            Self::TooManyLines { .. } => "too_many_lines",
            Self::TooManyRejects { .. } => "too_many_rejects",
            Self::MissingColumn { .. } => "missing_column",
            Self::Packed { .. } => "packed",
            Self::Bomb { .. } => "bomb",
            Self::BadJson { .. } => "bad_json",
        }
    }
}
