//! The bytes of a list to indicators: one format a file.

mod address;
mod csv_table;
mod date;
mod drop_json;
mod drop_text;
mod failure;
mod feodo_csv;
mod feodo_json;
mod hosts;
mod lines;
mod plain;
mod reader;
mod reject;
mod sslbl_csv;
mod threatfox_csv;

pub use failure::ParseFailure;
pub use reject::{MAX_SAMPLES, Reject, RejectReason, Rejects};

use std::collections::BTreeMap;

use crate::{feed::Format, indicator::Indicator, moment::Moment};

/// How much of a hostile list is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest file, in bytes.
    pub max_bytes: usize,
    /// Most lines (JSON: elements) of a file.
    pub max_lines: usize,
    /// Longest line in bytes; a longer one is a reject.
    pub max_line_bytes: usize,
    /// Share of rejected lines, in percent, above which the whole file is refused ...
    pub max_reject_percent: u8,
    /// ... provided that there are more rejected lines than this.
    pub tolerated_rejects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 128 << 20,
            max_lines: 4_000_000,
            max_line_bytes: 4_096,
            max_reject_percent: 5,
            tolerated_rejects: 20,
        }
    }
}

/// What a list holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The claims, in the order of the file.
    pub indicators: Vec<Indicator>,
    /// The lines that could not be read.
    pub rejects: Rejects,
    /// Rows that are well-formed and no network address to act on: names, URLs, hashes.
    pub skipped: BTreeMap<SkipReason, u64>,
    /// When the publisher says the list was made.
    pub stamp: Option<Moment>,
}

impl Parsed {
    /// How many rows were skipped, for whatever reason.
    pub fn skipped_total(&self) -> u64 {
        self.skipped.values().sum()
    }
}

/// Why a well-formed row is no indicator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// A host name; names are never resolved.
    Name,
    /// An IOC type other than an address: URL, domain, hash.
    OtherType,
    /// A threat other than a C&C server.
    OtherThreat,
}

impl SkipReason {
    /// The name in reports and as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::OtherType => "other_type",
            Self::OtherThreat => "other_threat",
        }
    }
}

/// Reads a list. Total: any bytes give a result, in memory bounded by `limits`.
pub fn parse(format: Format, bytes: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    if bytes.len() > limits.max_bytes {
        return Err(ParseFailure::TooLarge { limit: limits.max_bytes });
    }
    let text = lines::text_of(bytes)?;
    let read = match format {
        Format::Plain => plain::read,
        Format::Hosts => hosts::read,
        Format::FeodoCsv => feodo_csv::read,
        Format::FeodoJson => feodo_json::read,
        Format::ThreatfoxCsv => threatfox_csv::read,
        Format::SslblCsv => sslbl_csv::read,
        Format::SpamhausDropJson => drop_json::read,
        Format::SpamhausDropText => drop_text::read,
    };
    read(text, limits)
}
