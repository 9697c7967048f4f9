//! Lines that could not be read.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// Most samples that are kept of a list.
pub const MAX_SAMPLES: usize = 100;
/// Longest text of a sample, in characters.
const MAX_SAMPLE_CHARS: usize = 80;

/// Why a line could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Neither an IPv4 nor an IPv6 address in its usual notation.
    NotAnAddress,
    /// The prefix length is no number of the family.
    BadPrefixLength,
    /// The network has host bits: `192.0.2.77/24` may mean one host or 256.
    HostBitsSet,
    /// Neither a host name of two labels or more nor a URL with a host.
    NotAName,
    /// The port is no number from 1 to 65535.
    BadPort,
    /// An IPv6 address with a zone, `fe80::1%eth0`.
    ZoneId,
    /// Something follows the address that the format doesn't have.
    TrailingText,
    /// Longer than the limit.
    LineTooLong,
    /// The row has no value in a column that it needs.
    MissingColumn,
    /// The row stands for more claims than one row may.
    TooManyClaims,
    /// The rule has no such head: `alert tcp SOURCE PORT -> DESTINATION PORT (...)`.
    BadRule,
    /// The quotes of the row don't match.
    BadQuoting,
    /// The line or element is no JSON of the format.
    BadJson,
}

impl RejectReason {
    /// The name in reports and as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAnAddress => "not_an_address",
            Self::BadPrefixLength => "bad_prefix_length",
            Self::HostBitsSet => "host_bits_set",
            Self::NotAName => "not_a_name",
            Self::BadPort => "bad_port",
            Self::ZoneId => "zone_id",
            Self::TrailingText => "trailing_text",
            Self::LineTooLong => "line_too_long",
            Self::MissingColumn => "missing_column",
            Self::TooManyClaims => "too_many_claims",
            Self::BadRule => "bad_rule",
            Self::BadQuoting => "bad_quoting",
            Self::BadJson => "bad_json",
        }
    }

    /// What is wrong and what was expected, for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotAnAddress => {
                "no IPv4 or IPv6 address in its usual notation: no leading zeros, integers, ranges, masks"
            }
            Self::BadPrefixLength => "the length behind '/' is none from 0 to 32 or 128",
            Self::HostBitsSet => "a network with host bits may mean one host or all of it",
            Self::NotAName => "no host name of two labels or more, and no URL with a host",
            Self::BadPort => "the port is no number from 1 to 65535",
            Self::ZoneId => "an IPv6 address with a zone is of one link only",
            Self::TrailingText => "something follows the address that the format doesn't have",
            Self::LineTooLong => "longer than a line may be",
            Self::MissingColumn => "no value in a column or key that it needs",
            Self::TooManyClaims => "more claims than one row may stand for",
            Self::BadRule => {
                "no rule of the shape ACTION PROTOCOL SOURCE PORT -> DESTINATION PORT (...)"
            }
            Self::BadQuoting => "the quotes don't match",
            Self::BadJson => "no JSON of the format",
        }
    }

    /// Whether a row that is cut off in the middle looks like this.
    pub(super) const fn is_cut(self) -> bool {
        matches!(self, Self::BadQuoting | Self::MissingColumn)
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// 1-based.
    pub line: u32,
    /// Why.
    pub reason: RejectReason,
    /// The beginning of the line; whatever is not printable ASCII is escaped.
    pub text: String,
}

/// The lines that could not be read: all counted, the first ones kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rejects {
    /// How many, by reason.
    pub by_reason: BTreeMap<RejectReason, u64>,
    /// The first of them, at most [`MAX_SAMPLES`].
    pub samples: Vec<Reject>,
}

impl Rejects {
    /// How many lines were rejected.
    pub fn total(&self) -> u64 {
        self.by_reason.values().sum()
    }

    /// The first reject, as the end of a sentence.
    pub(super) fn first_text(&self) -> String {
        self.samples.first().map_or_else(String::new, |Reject { line, reason, text }| {
            format!("; the first is line {line} ({reason}): {text}")
        })
    }

    /// Adds those of the lines behind.
    pub(super) fn append(&mut self, next: Self) {
        for (reason, count) in next.by_reason {
            *self.by_reason.entry(reason).or_default() += count;
        }
        let room = MAX_SAMPLES.saturating_sub(self.samples.len());
        self.samples.extend(next.samples.into_iter().take(room));
    }

    pub(super) fn add(&mut self, line: u32, reason: RejectReason, text: &[u8]) {
        *self.by_reason.entry(reason).or_default() += 1;
        if self.samples.len() < MAX_SAMPLES {
            self.samples.push(Reject { line, reason, text: printable(text) });
        }
    }
}

/// The beginning of hostile bytes as text that is safe to print.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        let escaped = byte.escape_ascii();
        if text.len() + escaped.len() > MAX_SAMPLE_CHARS {
            break;
        }
        text.extend(escaped.map(char::from));
    }
    text
}
