//! STIX 2.1 bundles and the envelopes of TAXII 2.1 servers, which hold the same `objects`.
//!
//! Only indicators count. Of several versions of one, the one modified last does.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use super::{
    Limits, ParseFailure, Parsed, RejectReason, SkipReason, date,
    json_rows::{self, Layout, Path, Values},
    lines::Line,
    reader::{Claim, Ending, Facts, Families, Reader, Row, percentage},
    stix_pattern::{self, Meant},
};
use crate::moment::Moment;

const FIELDS: [&str; 11] = [
    "type",
    "pattern",
    "pattern_type",
    "id",
    "modified",
    "revoked",
    "valid_from",
    "valid_until",
    "confidence",
    "indicator_types",
    "labels",
];
const TYPE: usize = 0;
const PATTERN: usize = 1;
const PATTERN_TYPE: usize = 2;
const ID: usize = 3;
const MODIFIED: usize = 4;
const REVOKED: usize = 5;
const VALID_FROM: usize = 6;
const VALID_UNTIL: usize = 7;
const CONFIDENCE: usize = 8;
const INDICATOR_TYPES: usize = 9;
const LABELS: usize = 10;

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    let text = String::from_utf8_lossy(text);
    let layout = Layout {
        // Some servers put the objects of a page into an array and nothing else.
        rows: vec![Path::new(if is_array(&text) { "." } else { "objects" })],
        fields: FIELDS.into_iter().map(Path::new).collect(),
    };
    let newest = newest_versions(&text, &layout)?;
    let mut families = Families::default();
    let mut number = 0_u32;
    json_rows::read(&text, &layout, &mut |values| {
        number = number.saturating_add(1);
        let line = Line { number, text: values.get(PATTERN).unwrap_or_default().as_bytes() };
        reader.row(line, || row(values, &newest, &mut families, number))
    })?;
    reader.finish(Ending::Closed)
}

fn is_array(text: &str) -> bool {
    text.trim_start().starts_with('[')
}

/// When each object that is there in several versions was last modified.
fn newest_versions(text: &str, layout: &Layout) -> Result<HashMap<u64, Version>, ParseFailure> {
    let mut newest: HashMap<u64, Version> = HashMap::new();
    json_rows::read(text, layout, &mut |values| {
        if values.get(TYPE) == Some("indicator")
            && let (Some(id), Some(version)) = (values.get(ID), version(values))
        {
            let known = newest.entry(key(id)).or_insert_with(|| version.clone());
            if version > *known {
                *known = version;
            }
        }
        Ok(())
    })?;
    Ok(newest)
}

/// The time of a modification to the second and, as text, the fraction of it.
type Version = (Moment, Box<str>);

fn version(values: &Values<'_>) -> Option<Version> {
    let text = values.get(MODIFIED)?;
    let moment = date::rfc3339(text.as_bytes())?;
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction.trim_end_matches('Z'));
    Some((moment, fraction.trim_end_matches('0').into()))
}

/// Ids are long; nothing but the choice among equal ones depends on this.
fn key(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

fn row(
    values: &Values<'_>,
    newest: &HashMap<u64, Version>,
    families: &mut Families,
    line: u32,
) -> Result<Row, RejectReason> {
    if values.is_ambiguous {
        return Err(RejectReason::BadJson);
    }
    match values.get(TYPE) {
        Some("indicator") => {}
        Some(_) => return Ok(Row::Skip(SkipReason::OtherType)),
        None => return Err(RejectReason::BadJson),
    }
    let is_old = version(values).is_some_and(|version| {
        let known = values.get(ID).and_then(|id| newest.get(&key(id)));
        known.is_some_and(|known| version < *known)
    });
    if is_old || values.get(REVOKED) == Some("true") {
        return Ok(Row::Skip(SkipReason::Withdrawn));
    }
    if values.get(PATTERN_TYPE).is_some_and(|kind| kind != "stix") {
        return Ok(Row::Skip(SkipReason::Conditional));
    }
    let harmless = |kind| matches!(kind, "benign" | "anonymization");
    if values.all(INDICATOR_TYPES).any(harmless) {
        return Ok(Row::Skip(SkipReason::OtherThreat));
    }
    let pattern = values.get(PATTERN).ok_or(RejectReason::MissingColumn)?;
    let Some(meant) = stix_pattern::read(pattern)? else {
        return Ok(Row::Skip(SkipReason::Conditional));
    };
    Ok(claims(meant, &facts(values, families), line))
}

fn facts(values: &Values<'_>, families: &mut Families) -> Facts {
    let date = |field| values.get(field).and_then(|text: &str| date::rfc3339(text.as_bytes()));
    Facts {
        malware: values.get(LABELS).map(|label| families.get(label)),
        first_seen: date(VALID_FROM),
        valid_until: date(VALID_UNTIL),
        confidence: values.get(CONFIDENCE).and_then(|text| percentage(text.as_bytes())),
        compromised: values.all(INDICATOR_TYPES).any(|kind| kind == "compromised"),
        ..Facts::default()
    }
}

fn claims(meant: Vec<Meant>, facts: &Facts, line: u32) -> Row {
    let claims = meant.into_iter().map(|meant| match meant {
        Meant::Network(network, traffic) => {
            Claim::Indicator(facts.clone().on(network, traffic, line))
        }
        Meant::Named(subject) => Claim::Named(facts.clone().naming(subject, line)),
    });
    Row::Several(claims.collect())
}
