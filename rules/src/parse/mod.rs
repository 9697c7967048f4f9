//! The bytes of a list to indicators: one format a file.

mod address;
mod c2intel_csv;
mod crowdsec;
mod csv_table;
mod date;
mod drop_json;
mod drop_text;
mod failure;
mod feodo_csv;
mod feodo_json;
mod firehol;
mod hosts;
mod json_rows;
mod lines;
mod mapped;
mod misp;
mod misp_manifest;
mod name;
mod pieces;
mod plain;
mod reader;
mod reject;
mod shadowserver_csv;
mod sslbl_csv;
mod stix;
mod stix_pattern;
mod suricata;
mod threatfox;
mod threatfox_csv;
mod threatfox_json;
mod urlhaus_csv;

pub use failure::ParseFailure;
pub use misp_manifest::{ManifestEvent, misp_events, read_misp_manifest};
pub use reject::{MAX_SAMPLES, Reject, RejectReason, Rejects};

use std::collections::BTreeMap;

use crate::{
    feed::{FeedSpec, Format},
    indicator::{Indicator, Named},
    mapping::Mapping,
    moment::Moment,
};

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
    /// The claims about names, URLs and AS numbers, in the order of the file. None of them ever
    /// becomes a block.
    pub named: Vec<Named>,
    /// The lines that could not be read.
    pub rejects: Rejects,
    /// Rows that are well-formed and no claim to keep: hashes, other threats.
    pub skipped: BTreeMap<SkipReason, u64>,
    /// When the publisher says the list was made.
    pub stamp: Option<Moment>,
}

impl Parsed {
    /// Whether it claims nothing at all.
    pub fn is_empty(&self) -> bool {
        self.indicators.is_empty() && self.named.is_empty()
    }

    /// Whether another list claims the same, on whichever lines: many publishers put a new date on
    /// a list that they no longer tend.
    pub fn claims_the_same(&self, other: &Self) -> bool {
        let same_indicators = self.indicators.len() == other.indicators.len()
            && self.indicators.iter().zip(&other.indicators).all(|(a, b)| {
                let mut a = a.clone();
                a.line = b.line;
                a == *b
            });
        let same_names = self.named.len() == other.named.len()
            && self.named.iter().zip(&other.named).all(|(a, b)| {
                let mut a = a.clone();
                a.line = b.line;
                a == *b
            });
        same_indicators && same_names
    }

    /// How many rows were skipped, for whatever reason.
    pub fn skipped_total(&self) -> u64 {
        self.skipped.values().sum()
    }
}

/// Why a well-formed row is no indicator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// A name of this machine, `localhost`.
    Name,
    /// An IOC type other than an address, a name or a URL: a hash, say.
    OtherType,
    /// A threat other than a C&C server.
    OtherThreat,
    /// A row that a condition of the mapping leaves out.
    LeftOut,
    /// What the publisher does not mean for detection, or took back.
    Withdrawn,
    /// A pattern or rule with more conditions than an address and a port: what it names is bad only
    /// together with something that no packet filter sees.
    Conditional,
}

impl SkipReason {
    /// The name in reports and as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::OtherType => "other_type",
            Self::OtherThreat => "other_threat",
            Self::LeftOut => "left_out",
            Self::Withdrawn => "withdrawn",
            Self::Conditional => "conditional",
        }
    }
}

/// Reads the list of a feed. Total: any bytes give a result, in memory bounded by `limits`.
pub fn parse_feed(spec: &FeedSpec, bytes: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    match &spec.mapping {
        Some(mapping) => parse_mapped(spec.format, mapping, bytes, limits),
        None => parse(spec.format, bytes, limits),
    }
}

/// Reads a list, a generic one by the mapping that names a column or key `ip`.
pub fn parse(format: Format, bytes: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    parse_mapped(format, &Mapping::default(), bytes, limits)
}

/// Reads a list; the mapping is that of generic formats.
pub fn parse_mapped(
    format: Format,
    mapping: &Mapping,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Parsed, ParseFailure> {
    if bytes.len() > limits.max_bytes {
        return Err(ParseFailure::TooLarge { limit: limits.max_bytes });
    }
    let text = lines::text_of(bytes)?;
    match format {
        Format::Plain => plain::read(text, limits),
        Format::Hosts => hosts::read(text, limits),
        Format::FeodoCsv => feodo_csv::read(text, limits),
        Format::FeodoJson => feodo_json::read(text, limits),
        Format::ThreatfoxCsv => threatfox_csv::read(text, limits),
        Format::SslblCsv => sslbl_csv::read(text, limits),
        Format::SpamhausDropJson => drop_json::read(text, limits),
        Format::SpamhausDropText => drop_text::read(text, limits),
        Format::ThreatfoxJson => threatfox_json::read(text, limits),
        Format::UrlhausCsv => urlhaus_csv::read(text, limits),
        Format::FireholNetset => firehol::read(text, limits),
        Format::SuricataRules => suricata::read(text, limits),
        Format::C2intelCsv => c2intel_csv::read(text, limits),
        Format::ShadowserverCsv => shadowserver_csv::read(text, limits),
        Format::Misp => misp::read(text, limits),
        Format::Stix => stix::read(text, limits),
        Format::Crowdsec => crowdsec::read(text, limits),
        Format::Csv => mapped::read_csv(text, mapping, limits),
        Format::Json => mapped::read_json(text, mapping, limits),
        Format::JsonLines => mapped::read_json_lines(text, mapping, limits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_differ_in_comments_and_lines_claim_the_same() {
        let read = |text: &str| {
            let mapping = Mapping::default();
            parse_mapped(Format::Plain, &mapping, text.as_bytes(), &Limits::default()).unwrap()
        };
        let one = read("# of today\n198.18.0.1\n198.18.0.2:23\n");
        assert!(one.claims_the_same(&read("198.18.0.1\n# of tomorrow\n\n198.18.0.2:23\n")));
        for other in ["198.18.0.1\n", "198.18.0.1\n198.18.0.2:24\n", "198.18.0.2:23\n198.18.0.1\n"]
        {
            assert!(!one.claims_the_same(&read(other)), "{other}");
        }
        let names = |text: &str| parse(Format::Csv, text.as_bytes(), &Limits::default()).unwrap();
        let one = names("ip\nc2.example.net\n");
        assert!(one.claims_the_same(&names("ip\n\nc2.example.net\n")));
        assert!(!one.claims_the_same(&names("ip\nc3.example.net\n")));
    }
}
