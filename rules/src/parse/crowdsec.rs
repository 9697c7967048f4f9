//! Decisions of a CrowdSec LAPI, `{"decisions":[...]}`, as the client keeps them: bans in force, each
//! with the time when it ends. Of several for one address the longest counts, as of all claims.

use super::{
    Limits, ParseFailure, Parsed, RejectReason, SkipReason,
    address::network,
    date,
    json_rows::{self, Layout, Path, Values},
    lines::Line,
    reader::{Ending, Facts, Families, Reader, Row},
};
use crate::indicator::Traffic;

const FIELDS: [&str; 4] = ["scope", "value", "scenario", "until"];
const SCOPE: usize = 0;
const VALUE: usize = 1;
const SCENARIO: usize = 2;
const UNTIL: usize = 3;

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    let text = String::from_utf8_lossy(text);
    let layout = Layout {
        rows: vec![Path::new("decisions")],
        fields: FIELDS.into_iter().map(Path::new).collect(),
    };
    let mut families = Families::default();
    let mut number = 0_u32;
    json_rows::read(&text, &layout, &mut |values| {
        number = number.saturating_add(1);
        let line = Line { number, text: values.get(VALUE).unwrap_or_default().as_bytes() };
        reader.row(line, || row(values, &mut families, number))
    })?;
    reader.finish(Ending::Closed)
}

fn row(values: &Values<'_>, families: &mut Families, line: u32) -> Result<Row, RejectReason> {
    if values.is_ambiguous {
        return Err(RejectReason::BadJson);
    }
    let scope = values.get(SCOPE).ok_or(RejectReason::MissingColumn)?;
    if !["ip", "range"].iter().any(|known| known.eq_ignore_ascii_case(scope)) {
        return Ok(Row::Skip(SkipReason::OtherType));
    }
    let value = values.get(VALUE).ok_or(RejectReason::MissingColumn)?;
    let facts = Facts {
        malware: values.get(SCENARIO).map(|scenario| families.get(scenario)),
        valid_until: values.get(UNTIL).and_then(|until| date::rfc3339(until.as_bytes())),
        ..Facts::default()
    };
    Ok(Row::Indicator(facts.on(network(value.trim().as_bytes())?, Traffic::ANY, line)))
}
