//! Reports in the columns of Shadowserver, found by name: `timestamp`, `ip` or `dst_ip`, `port` or
//! `dst_port`, `protocol`, `infection`.
//!
//! In an event report, `src_ip` is the victim and `dst_ip` the server that it spoke to, so that a
//! report with a source and no destination lists our own subscribers and is refused as a whole.

use super::{
    Limits, ParseFailure, Parsed, SkipReason,
    address::{network, port},
    csv_table::{self, Column, Table},
    date,
    mapped::protocol,
    reader::{Ending, Facts, Names, Row},
};
use crate::indicator::Traffic;

const COLUMNS: &[Column<'_>] = &[
    Column { names: &["dst_ip", "ip"], required: true },
    Column { names: &["timestamp"], required: true },
    Column { names: &["dst_port", "port"], required: false },
    Column { names: &["protocol"], required: false },
    Column { names: &["infection", "family", "malware"], required: false },
    Column { names: &["src_ip"], required: false },
    Column { names: &["dst_ip"], required: false },
];

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let mut names = Names::default();
    let mut has_victims_only = false;
    let table = Table::with_commas(COLUMNS, Ending::Open);
    let parsed = csv_table::read(text, limits, &table, |fields, line| {
        has_victims_only |= fields.has(5) && !fields.has(6);
        let network = network(fields.need(0)?)?;
        let protocol = match fields.get(3).map(protocol) {
            Some(None) => return Ok(Row::Skip(SkipReason::OtherType)),
            Some(protocol) => protocol,
            None => None,
        };
        let traffic = Traffic { protocol, port: fields.get(2).map(port).transpose()? };
        let seen = fields.get(1).and_then(|text| date::any(text, None));
        let facts = Facts {
            first_seen: seen,
            last_seen: seen,
            malware: fields.get(4).map(|name| names.get(name)),
            ..Facts::default()
        };
        Ok(Row::Indicator(facts.on(network, traffic, line)))
    })?;
    if has_victims_only {
        return Err(ParseFailure::MissingColumn { column: "dst_ip".into() });
    }
    Ok(parsed)
}
