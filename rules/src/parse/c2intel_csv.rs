//! C2IntelFeeds, `IPC2s*.csv` and `domainC2s*.csv`: `#ip,ioc` or `#domain,ioc,uri_path,ip`.
//!
//! A list of names may have a column `ip` too: what the name resolved to one day, often a CDN, and
//! so never taken.

use super::{
    Limits, ParseFailure, Parsed, RejectReason,
    address::endpoint,
    csv_table::{self, Column, Table},
    name::domain,
    reader::{Ending, Facts, Names, Row},
};
use crate::indicator::Subject;

const COLUMNS: &[Column<'_>] = &[
    Column { names: &["ioc"], required: true },
    Column { names: &["ip"], required: false },
    Column { names: &["domain"], required: false },
];

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let mut names = Names::default();
    let table = Table::with_commas(COLUMNS, Ending::Open);
    csv_table::read(text, limits, &table, |fields, line| {
        let malware = fields.get(0).map(|what| names.get(family(what)));
        let facts = Facts { malware, ..Facts::default() };
        if fields.has(2) {
            let name = domain(fields.need(2)?).ok_or(RejectReason::NotAName)?;
            return Ok(Row::Named(facts.naming(Subject::Domain(name), line)));
        }
        let (network, traffic) = endpoint(fields.need(1)?)?;
        Ok(Row::Indicator(facts.on(network, traffic, line)))
    })
}

/// `Cobaltstrike` of `Possible Cobaltstrike C2 IP`.
fn family(what: &[u8]) -> &[u8] {
    let what = what.strip_prefix(b"Possible ").unwrap_or(what);
    let end = what.windows(3).position(|part| part == b" C2").unwrap_or(what.len());
    what.get(..end).unwrap_or(what)
}
