//! abuse.ch ThreatFox, CSV export: indicators of all kinds, of which the `ip:port` ones of
//! botnet C&C servers are taken. The transport protocol is not said and so not restricted.

use super::{
    Limits, ParseFailure, Parsed, RejectReason, SkipReason,
    address::{endpoint, number},
    csv_table::{self, Column},
    date,
    reader::{Ending, Names, Row, indicator},
};

const COLUMNS: &[Column] = &[
    Column { names: &["ioc_value"], required: true },
    Column { names: &["ioc_type"], required: true },
    Column { names: &["threat_type"], required: true },
    Column { names: &["first_seen_utc"], required: false },
    Column { names: &["last_seen_utc"], required: false },
    Column { names: &["malware_printable"], required: false },
    Column { names: &["confidence_level"], required: false },
    Column { names: &["is_compromised"], required: false },
];

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let mut names = Names::default();
    csv_table::read(text, limits, COLUMNS, Ending::Open, |fields, line| {
        let value = fields.need(0)?;
        if fields.need(1)? != b"ip:port" {
            return Ok(Row::Skip(SkipReason::OtherType));
        }
        if fields.need(2)? != b"botnet_cc" {
            return Ok(Row::Skip(SkipReason::OtherThreat));
        }
        let (network, traffic) = endpoint(value)?;
        if traffic.port.is_none() {
            return Err(RejectReason::BadPort);
        }
        let mut claim = indicator(network, traffic, line);
        claim.first_seen = fields.get(3).and_then(date::utc);
        claim.last_seen = fields.get(4).and_then(date::utc);
        claim.malware = fields.get(5).map(|name| names.get(name));
        claim.confidence = fields.get(6).and_then(percentage);
        claim.compromised =
            fields.get(7).is_some_and(|flag| flag.eq_ignore_ascii_case(b"true") || flag == b"1");
        Ok(Row::Indicator(claim))
    })
}

fn percentage(text: &[u8]) -> Option<u8> {
    number(text, 3).and_then(|n| u8::try_from(n).ok()).filter(|&n| n <= 100)
}
