//! Spamhaus DROP as JSON lines, `drop_v4.json` and `drop_v6.json`, and ASN-DROP, `asndrop.json`,
//! whose numbers are kept and block nothing. The last line is metadata with the number of rows,
//! duplicates included.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    Limits, ParseFailure, Parsed, RejectReason,
    address::network,
    date,
    lines::Lines,
    reader::{Ending, Facts, Reader, Row},
};
use crate::indicator::{Indicator, Subject, Traffic};

/// A line of either kind; what else it says is not needed.
#[derive(Deserialize)]
struct DropLine<'a> {
    #[serde(borrow)]
    cidr: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    timestamp: Option<i64>,
    records: Option<u64>,
    asn: Option<u64>,
}

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    for line in Lines::new(text) {
        let lossy =
            String::from_utf8_lossy(&line.text[..line.text.len().min(limits.max_line_bytes)]);
        let read = serde_json::from_str::<DropLine<'_>>(&lossy);
        if let Ok(DropLine { kind: Some(kind), timestamp, records, .. }) = &read
            && kind == "metadata"
        {
            if let Some(stamp) = timestamp.and_then(date::epoch) {
                reader.stamp(stamp);
            }
            if let Some(records) = *records {
                reader.announce(records);
            }
            continue;
        }
        reader.row(line, || match read {
            Ok(DropLine { cidr: Some(cidr), .. }) => {
                let network = network(cidr.as_bytes())?;
                Ok(Row::Indicator(Indicator::bare(network, Traffic::ANY, line.number)))
            }
            Ok(DropLine { asn: Some(asn), .. }) => {
                let number = u32::try_from(asn).map_err(|_| RejectReason::BadJson)?;
                let facts = Facts::default();
                Ok(Row::Named(facts.naming(Subject::Asn(number), line.number)))
            }
            Ok(_) => Err(RejectReason::MissingColumn),
            Err(_) => Err(RejectReason::BadJson),
        })?;
    }
    reader.finish(Ending::Count)
}
