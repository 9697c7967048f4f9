//! abuse.ch URLhaus, `csv_online`, `csv_recent` and the full dump: URLs that malware is fetched
//! from. They are kept as URLs: a host may be a customer's broken-into device or a hosting giant.

use super::{
    Limits, ParseFailure, Parsed, RejectReason,
    csv_table::{self, Column, Table},
    date,
    name::url,
    reader::{Ending, Facts, Row},
};
use crate::indicator::Subject;

const COLUMNS: &[Column<'_>] = &[
    Column { names: &["url"], required: true },
    Column { names: &["url_status"], required: true },
    Column { names: &["dateadded"], required: false },
    Column { names: &["last_online"], required: false },
];

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let table = Table::with_commas(COLUMNS, Ending::Open);
    csv_table::read(text, limits, &table, |fields, line| {
        let subject = Subject::Url(url(fields.need(0)?).ok_or(RejectReason::NotAName)?);
        let facts = Facts {
            first_seen: fields.get(2).and_then(date::utc),
            last_seen: fields.get(3).and_then(date::utc),
            ..Facts::default()
        };
        Ok(Row::Named(facts.naming(subject, line)))
    })
}
