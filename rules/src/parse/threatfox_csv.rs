//! abuse.ch ThreatFox, CSV export: indicators of all kinds, of which those of botnet C&C servers
//! are taken.

use super::{
    Limits, ParseFailure, Parsed,
    csv_table::{self, Column, Table},
    date,
    reader::{Ending, Facts, Names, percentage},
    threatfox,
};

const COLUMNS: &[Column<'_>] = &[
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
    let table = Table::with_commas(COLUMNS, Ending::Open);
    csv_table::read(text, limits, &table, |fields, line| {
        let facts = Facts {
            first_seen: fields.get(3).and_then(date::utc),
            last_seen: fields.get(4).and_then(date::utc),
            malware: fields.get(5).map(|name| names.get(name)),
            confidence: fields.get(6).and_then(percentage),
            compromised: fields.get(7).is_some_and(threatfox::is_yes),
            ..Facts::default()
        };
        threatfox::row(fields.need(0)?, fields.need(1)?, fields.need(2)?, facts, line)
    })
}
