//! Comma-separated tables whose columns are found by name.
//!
//! Written here because the publishers' files have blanks between a comma and a quote, headers
//! inside comments, and one row a line in every case.

use super::{
    Limits, ParseFailure, Parsed, RejectReason,
    lines::Lines,
    reader::{Ending, Reader, Row, is_missing},
};

/// Columns beyond this are not looked at.
const MAX_COLUMNS: usize = 64;

/// A column that a format knows.
pub(super) struct Column {
    /// Its names over the years, in lower case; the first is used in messages.
    pub(super) names: &'static [&'static str],
    /// Whether a list without it is refused.
    pub(super) required: bool,
}

/// The known columns of one row.
pub(super) struct Fields<'r, 'a> {
    fields: &'r [&'a [u8]],
    places: &'r [Option<usize>],
}

impl<'a> Fields<'_, 'a> {
    /// The value of the format's nth column, if there is one.
    pub(super) fn get(&self, column: usize) -> Option<&'a [u8]> {
        let place = self.places.get(column).copied().flatten()?;
        self.fields.get(place).copied().filter(|field| !is_missing(field))
    }

    /// The value of the format's nth column; without one the row is rejected.
    pub(super) fn need(&self, column: usize) -> Result<&'a [u8], RejectReason> {
        self.get(column).ok_or(RejectReason::MissingColumn)
    }
}

/// Reads every row of a table. The header is the first row or a comment before it.
pub(super) fn read<'a>(
    text: &'a [u8],
    limits: &Limits,
    columns: &'static [Column],
    ending: Ending,
    mut read_row: impl FnMut(&Fields<'_, 'a>, u32) -> Result<Row, RejectReason>,
) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    let mut header: Option<Vec<Option<usize>>> = None;
    let mut is_first_row = true;
    let mut fields = Vec::with_capacity(MAX_COLUMNS);
    for line in Lines::new(text) {
        if let Some(comment) = line.comment() {
            reader.note(line, comment)?;
            if is_first_row && let Some(found) = find_header(comment, columns) {
                header = Some(found);
            }
            continue;
        }
        if is_first_row {
            is_first_row = false;
            if let Some(found) = find_header(line.text, columns) {
                header = Some(found);
                continue;
            }
        }
        let Some(places) = &header else { break };
        reader.row(line, || {
            split(line.text, &mut fields)?;
            read_row(&Fields { fields: &fields, places }, line.number)
        })?;
    }
    let places = header.unwrap_or_default();
    let lacks = |(at, column): &(usize, &Column)| {
        column.required && places.get(*at).copied().flatten().is_none()
    };
    if let Some((_, column)) = columns.iter().enumerate().find(lacks) {
        return Err(ParseFailure::MissingColumn { column: column.names[0] });
    }
    reader.finish(ending)
}

/// Where the format's columns are, if the line names at least two of them.
fn find_header(line: &[u8], columns: &[Column]) -> Option<Vec<Option<usize>>> {
    let mut fields = Vec::new();
    split(line, &mut fields).ok()?;
    let names: Vec<_> = fields.iter().map(|field| field.to_ascii_lowercase()).collect();
    let place = |column: &Column| {
        column.names.iter().find_map(|name| names.iter().position(|n| n == name.as_bytes()))
    };
    let places: Vec<_> = columns.iter().map(place).collect();
    (places.iter().flatten().count() >= 2).then_some(places)
}

/// Splits a row at its commas; a quoted field may hold commas and doubled quotes.
fn split<'a>(row: &'a [u8], fields: &mut Vec<&'a [u8]>) -> Result<(), RejectReason> {
    fields.clear();
    let mut rest = row.trim_ascii();
    loop {
        let (field, after) = match rest {
            [b'"', inner @ ..] => {
                let end = closing_quote(inner).ok_or(RejectReason::BadQuoting)?;
                (&inner[..end], inner[end + 1..].trim_ascii_start())
            }
            _ => {
                let end = rest.iter().position(|&b| b == b',').unwrap_or(rest.len());
                (rest[..end].trim_ascii_end(), &rest[end..])
            }
        };
        if fields.len() < MAX_COLUMNS {
            fields.push(field);
        }
        match after {
            [] => return Ok(()),
            [b',', next @ ..] => rest = next.trim_ascii_start(),
            _ => return Err(RejectReason::BadQuoting),
        }
    }
}

/// Where the quoted text ends; two quotes in a row stand for one.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += text.get(at..)?.iter().position(|&b| b == b'"')?;
        if text.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(row: &str) -> Result<Vec<String>, RejectReason> {
        let mut fields = Vec::new();
        split(row.as_bytes(), &mut fields)?;
        Ok(fields.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect())
    }

    #[test]
    fn rows_are_split_at_commas_outside_quotes() {
        for (row, expected) in [
            ("a,b , c", vec!["a", "b", "c"]),
            (r#""a", "b,c" ,"d""#, vec!["a", "b,c", "d"]),
            (r#""a ""b"" c","""#, vec![r#"a ""b"" c"#, ""]),
            ("a,,", vec!["a", "", ""]),
            ("", vec![""]),
        ] {
            assert_eq!(fields(row).unwrap(), expected, "{row}");
        }
    }

    #[test]
    fn unbalanced_quotes_are_rejected() {
        for row in [r#""a","b"#, r#""a"b,c"#, r#"""a"#] {
            assert_eq!(fields(row), Err(RejectReason::BadQuoting), "{row}");
        }
    }
}
