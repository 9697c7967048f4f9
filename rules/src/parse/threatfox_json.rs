//! abuse.ch ThreatFox as JSON: the export, an object of one-element arrays by number, and the
//! answer of the API, `{"query_status":"ok","data":[...]}`.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    Limits, ParseFailure, Parsed, RejectReason, date,
    json_rows::{self, Layout, Path, Values},
    lines::{Line, holds},
    reader::{Ending, Facts, Families, Reader, Row, is_missing, percentage, shown},
    threatfox,
};

/// Bytes at the beginning that hold the status of the API's answer.
const HEAD: usize = 256;
const FIELDS: [&str; 10] = [
    "ioc_value",
    "ioc",
    "ioc_type",
    "threat_type",
    "malware_printable",
    "first_seen_utc",
    "first_seen",
    "last_seen_utc",
    "last_seen",
    "confidence_level",
];
const COMPROMISED: usize = FIELDS.len();

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    query_status: Cow<'a, str>,
}

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    let is_answer = holds(&text[..text.len().min(HEAD)], b"\"query_status\"");
    let text = String::from_utf8_lossy(text);
    if is_answer {
        let answer: Answer<'_> =
            serde_json::from_str(&text).map_err(|error| json_rows::failure_of(&error))?;
        match &*answer.query_status {
            "ok" => {}
            "no_result" => return reader.finish(Ending::Closed),
            status => {
                let detail = format!("the server answers query_status '{}'", shown(status));
                return Err(ParseFailure::BadJson { detail });
            }
        }
    }
    let fields = FIELDS.into_iter().chain(["is_compromised"]).map(Path::new).collect();
    let rows = vec![Path::new(if is_answer { "data" } else { "*" })];
    let mut families = Families::default();
    let mut number = 0_u32;
    json_rows::read(&text, &Layout { rows, fields }, &mut |values| {
        number = number.saturating_add(1);
        let value = values.get(0).or(values.get(1)).unwrap_or_default();
        let line = Line { number, text: value.as_bytes() };
        reader.row(line, || row(values, value, &mut families, number))
    })?;
    reader.finish(Ending::Closed)
}

fn row(
    values: &Values<'_>,
    value: &str,
    families: &mut Families,
    line: u32,
) -> Result<Row, RejectReason> {
    if values.is_ambiguous {
        return Err(RejectReason::BadJson);
    }
    let get = |field| values.get(field).map(str::as_bytes).filter(|value| !is_missing(value));
    let need = |field| get(field).ok_or(RejectReason::MissingColumn);
    let seen = |field| get(field).or(get(field + 1)).and_then(date::utc);
    let facts = Facts {
        malware: get(4).map(|name| families.get(&String::from_utf8_lossy(name))),
        first_seen: seen(5),
        last_seen: seen(7),
        confidence: get(9).and_then(percentage),
        compromised: get(COMPROMISED).is_some_and(threatfox::is_yes),
        ..Facts::default()
    };
    if value.is_empty() {
        return Err(RejectReason::MissingColumn);
    }
    threatfox::row(value.as_bytes(), need(2)?, need(3)?, facts, line)
}
