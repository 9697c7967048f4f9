//! Generic CSV, JSON and JSON lines: the catalogue's mapping says where what is.

use super::{
    Limits, ParseFailure, Parsed, RejectReason, SkipReason,
    address::{endpoint, number, port},
    csv_table::{self, Column, Layout, Table},
    date,
    json_rows::{self, Path, Values},
    lines::{Line, Lines},
    name::claim,
    reader::{Claim, Ending, Facts, Families, Reader, Row, is_missing, percentage},
};
use crate::{
    indicator::Protocol,
    mapping::{Delimiter, Mapping, Place},
};

/// The places of [`Mapping::places`], in its order.
const VALUE: usize = 0;
const PREFIX: usize = 1;
const PORT: usize = 2;
const PROTOCOL: usize = 3;
const MALWARE: usize = 4;
const FIRST_SEEN: usize = 5;
const LAST_SEEN: usize = 6;
const CONFIDENCE: usize = 7;
const CONDITIONS: usize = 8;
/// JSON lines hold whole reports, and so are longer than the lines of a text list.
const JSON_LINE_FACTOR: usize = 64;

pub(super) fn read_csv(
    text: &[u8],
    mapping: &Mapping,
    limits: &Limits,
) -> Result<Parsed, ParseFailure> {
    let delimiter = mapping.delimiter.unwrap_or(Delimiter::COMMA).byte();
    let mut families = Families::default();
    let read_row = |fields: &csv_table::Fields<'_, '_>, line| {
        row(mapping, &mut families, line, |place| fields.get(place))
    };
    if mapping.is_numbered() {
        let place = |place: Option<&Place>| match place {
            Some(Place::Number(number)) => usize::from(*number).checked_sub(1),
            _ => None,
        };
        let places: Vec<_> = mapping.places().map(place).collect();
        let layout = Layout::Numbered { places: &places, skip_rows: mapping.skip_rows };
        let table = Table { layout, delimiter, ending: Ending::Open };
        return csv_table::read(text, limits, &table, read_row);
    }
    // A place without a column gets a name that no header has.
    let name = |place: Option<&Place>| match place {
        Some(Place::Name(name)) => name.to_ascii_lowercase(),
        _ => "\0".to_owned(),
    };
    let names: Vec<_> = mapping.places().map(name).collect();
    let names: Vec<_> = names.iter().map(|name| [name.as_str()]).collect();
    let mapped = mapping.places().map(|place| place.is_some());
    let columns: Vec<_> =
        names.iter().zip(mapped).map(|(names, required)| Column { names, required }).collect();
    let table = Table { layout: Layout::Named(&columns), delimiter, ending: Ending::Open };
    csv_table::read(text, limits, &table, read_row)
}

pub(super) fn read_json(
    text: &[u8],
    mapping: &Mapping,
    limits: &Limits,
) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    let text = String::from_utf8_lossy(text);
    let rows = vec![Path::new(mapping.rows.as_deref().unwrap_or_default())];
    let layout = json_rows::Layout { rows, fields: paths(mapping) };
    let mut families = Families::default();
    let mut number = 0_u32;
    json_rows::read(&text, &layout, &mut |values| {
        number = number.saturating_add(1);
        let line = Line { number, text: values.get(VALUE).unwrap_or_default().as_bytes() };
        reader.row(line, || json_row(mapping, &mut families, values, number))
    })?;
    reader.finish(Ending::Closed)
}

pub(super) fn read_json_lines(
    text: &[u8],
    mapping: &Mapping,
    limits: &Limits,
) -> Result<Parsed, ParseFailure> {
    let max_line_bytes = limits.max_line_bytes.saturating_mul(JSON_LINE_FACTOR);
    let limits = &Limits { max_line_bytes, ..limits.clone() };
    let mut reader = Reader::new(text, limits);
    let fields = paths(mapping);
    let mut families = Families::default();
    let mut values = Values::new(fields.len());
    let mut is_cut = false;
    for line in Lines::new(text) {
        if let Some(comment) = line.comment() {
            reader.note(line, comment)?;
            continue;
        }
        is_cut = false;
        reader.row(line, || {
            let text = std::str::from_utf8(line.text).map_err(|_| RejectReason::BadJson)?;
            json_rows::read_row(text, &fields, &mut values).map_err(|error| {
                is_cut = error.is_eof();
                RejectReason::BadJson
            })?;
            json_row(mapping, &mut families, &values, line.number)
        })?;
    }
    if is_cut {
        return Err(ParseFailure::Truncated { detail: "the last line is not complete".into() });
    }
    reader.finish(Ending::Open)
}

/// A place without a key gets one that no path leads to, so that the order stays.
fn paths(mapping: &Mapping) -> Vec<Path> {
    let path = |place: Option<&Place>| match place {
        Some(Place::Name(keys)) => Path::new(keys),
        Some(Place::Number(_)) | None => Path::new("\0"),
    };
    mapping.places().map(path).collect()
}

fn json_row(
    mapping: &Mapping,
    families: &mut Families,
    values: &Values<'_>,
    line: u32,
) -> Result<Row, RejectReason> {
    if values.is_ambiguous {
        return Err(RejectReason::BadJson);
    }
    let get = |place| values.get(place).map(str::as_bytes).filter(|value| !is_missing(value));
    row(mapping, families, line, get)
}

/// What the row claims; `get` gives the value of a place.
fn row<'a>(
    mapping: &Mapping,
    families: &mut Families,
    line: u32,
    get: impl Fn(usize) -> Option<&'a [u8]>,
) -> Result<Row, RejectReason> {
    let meets = |(condition, at): (&crate::mapping::Condition, usize)| {
        let found = get(at).unwrap_or_default();
        condition.is.iter().any(|text| found.eq_ignore_ascii_case(text.as_bytes()))
    };
    if !mapping.only.iter().zip(CONDITIONS..).all(meets) {
        return Ok(Row::Skip(SkipReason::LeftOut));
    }
    let date = |place| get(place).and_then(|text| date::any(text, mapping.date_format.as_deref()));
    let facts = Facts {
        malware: get(MALWARE).map(|name| families.get(&String::from_utf8_lossy(name))),
        first_seen: date(FIRST_SEEN),
        last_seen: date(LAST_SEEN),
        confidence: get(CONFIDENCE).and_then(percentage),
        ..Facts::default()
    };
    let value = get(VALUE).ok_or(RejectReason::MissingColumn)?;
    let mut claim = match get(PREFIX) {
        Some(length) => {
            let (network, traffic) = endpoint(&[value, b"/", length].concat())?;
            Claim::Indicator(facts.on(network, traffic, line))
        }
        None => claim(value, facts, line)?,
    };
    if let Claim::Indicator(indicator) = &mut claim {
        if let Some(apart) = get(PORT).map(port).transpose()? {
            match indicator.traffic.port.replace(apart) {
                Some(inside) if inside != apart => return Err(RejectReason::BadPort),
                _ => {}
            }
        }
        match get(PROTOCOL).map(protocol) {
            Some(Some(protocol)) => indicator.traffic.protocol = Some(protocol),
            Some(None) => return Ok(Row::Skip(SkipReason::OtherType)),
            None => {}
        }
    }
    Ok(claim.into())
}

/// TCP or UDP, by name or number.
pub(super) fn protocol(text: &[u8]) -> Option<Protocol> {
    match text.to_ascii_lowercase().as_slice() {
        b"tcp" => Some(Protocol::Tcp),
        b"udp" => Some(Protocol::Udp),
        other => match number(other, 3) {
            Some(6) => Some(Protocol::Tcp),
            Some(17) => Some(Protocol::Udp),
            _ => None,
        },
    }
}
