//! Tables of text: a row a line, with columns that are found by name or by number.
//!
//! Written here because the publishers' files have blanks between a comma and a quote, headers
//! inside comments, and one row a line in every case.

use super::{
    Limits, ParseFailure, Parsed, RejectReason,
    lines::{Line, Lines},
    reader::{Ending, Reader, Row, is_missing},
};

/// Columns beyond this are not looked at.
const MAX_COLUMNS: usize = 64;

/// A column that a format knows.
pub(super) struct Column<'c> {
    /// Its names over the years, in lower case; the first is used in messages.
    pub(super) names: &'c [&'c str],
    /// Whether a list without it is refused.
    pub(super) required: bool,
}

/// How columns are found.
#[derive(Clone, Copy)]
pub(super) enum Layout<'c> {
    /// By the names in the first row or in a comment before it.
    Named(&'c [Column<'c>]),
    /// By their place, after some rows that are no data.
    Numbered {
        /// 0-based; what the list doesn't have is `None`.
        places: &'c [Option<usize>],
        skip_rows: u8,
    },
}

/// A kind of table.
#[derive(Clone, Copy)]
pub(super) struct Table<'c> {
    pub(super) layout: Layout<'c>,
    pub(super) delimiter: u8,
    pub(super) ending: Ending,
}

impl<'c> Table<'c> {
    /// Values with commas between them, under named columns.
    pub(super) const fn with_commas(columns: &'c [Column<'c>], ending: Ending) -> Self {
        Self { layout: Layout::Named(columns), delimiter: b',', ending }
    }

    /// What the comment says, if the line is one; a line may begin with the delimiter.
    fn comment<'a>(&self, line: &Line<'a>) -> Option<&'a [u8]> {
        line.comment().filter(|_| line.text.first() != Some(&self.delimiter))
    }
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

    /// Whether the list has the format's nth column.
    pub(super) fn has(&self, column: usize) -> bool {
        self.places.get(column).copied().flatten().is_some()
    }
}

/// Reads every row of a table.
pub(super) fn read<'a>(
    text: &'a [u8],
    limits: &Limits,
    table: &Table<'_>,
    mut read_row: impl FnMut(&Fields<'_, 'a>, u32) -> Result<Row, RejectReason>,
) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    let (columns, mut places, mut rows_to_skip) = match table.layout {
        Layout::Named(columns) => (columns, None, 0),
        Layout::Numbered { places, skip_rows } => (&[][..], Some(places.to_vec()), skip_rows),
    };
    let mut is_first_row = true;
    let mut fields = Vec::with_capacity(MAX_COLUMNS);
    for line in Lines::new(text) {
        if let Some(comment) = table.comment(&line) {
            reader.note(line, comment)?;
            if is_first_row && let Some(found) = find_header(comment, columns, table.delimiter) {
                places = Some(found);
            }
            continue;
        }
        if rows_to_skip > 0 {
            rows_to_skip -= 1;
            continue;
        }
        if is_first_row {
            is_first_row = false;
            if let Some(found) = find_header(line.text, columns, table.delimiter) {
                places = Some(found);
                continue;
            }
        }
        let Some(places) = &places else { break };
        reader.row(line, || {
            split(line.text, table.delimiter, &mut fields)?;
            read_row(&Fields { fields: &fields, places }, line.number)
        })?;
    }
    let places = places.unwrap_or_default();
    let lacks = |(at, column): &(usize, &Column<'_>)| {
        column.required && places.get(*at).copied().flatten().is_none()
    };
    if let Some((_, column)) = columns.iter().enumerate().find(lacks) {
        let name = column.names.first().copied().unwrap_or_default();
        return Err(ParseFailure::MissingColumn { column: name.to_owned().into() });
    }
    reader.finish(table.ending)
}

/// Where the format's columns are, if the line names at least two of them, or the only one that is needed.
fn find_header(line: &[u8], columns: &[Column<'_>], delimiter: u8) -> Option<Vec<Option<usize>>> {
    let mut fields = Vec::new();
    split(line, delimiter, &mut fields).ok()?;
    let names: Vec<_> = fields.iter().map(|field| field.to_ascii_lowercase()).collect();
    let place = |column: &Column<'_>| {
        column.names.iter().find_map(|name| names.iter().position(|n| n == name.as_bytes()))
    };
    let places: Vec<_> = columns.iter().map(place).collect();
    let least = columns.iter().filter(|column| column.required).count().clamp(1, 2);
    (places.iter().flatten().count() >= least).then_some(places)
}

/// Splits a row at its delimiters; a quoted field may hold delimiters and doubled quotes.
fn split<'a>(row: &'a [u8], delimiter: u8, fields: &mut Vec<&'a [u8]>) -> Result<(), RejectReason> {
    fields.clear();
    // A blank that is the delimiter is no blank.
    let is_blank = |b: &u8| b.is_ascii_whitespace() && *b != delimiter;
    let skip_blanks = |text: &'a [u8]| {
        let blanks = text.iter().take_while(|b| is_blank(b)).count();
        text.get(blanks..).unwrap_or_default()
    };
    let mut rest = skip_blanks(row);
    loop {
        let (field, after) = match rest {
            [b'"', inner @ ..] => {
                let end = closing_quote(inner).ok_or(RejectReason::BadQuoting)?;
                (&inner[..end], skip_blanks(&inner[end + 1..]))
            }
            _ => {
                let end = rest.iter().position(|&b| b == delimiter).unwrap_or(rest.len());
                (rest[..end].trim_ascii_end(), &rest[end..])
            }
        };
        if fields.len() < MAX_COLUMNS {
            fields.push(field);
        }
        match after {
            [] => return Ok(()),
            [byte, next @ ..] if *byte == delimiter => rest = skip_blanks(next),
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

    fn fields(row: &str, delimiter: u8) -> Result<Vec<String>, RejectReason> {
        let mut fields = Vec::new();
        split(row.as_bytes(), delimiter, &mut fields)?;
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
            assert_eq!(fields(row, b',').unwrap(), expected, "{row}");
        }
    }

    #[test]
    fn a_tab_between_columns_is_no_blank() {
        assert_eq!(fields("a\t\t b \t\"c\td\"", b'\t').unwrap(), ["a", "", "b", "c\td"]);
        assert_eq!(fields(";a,b; c", b';').unwrap(), ["", "a,b", "c"]);
    }

    #[test]
    fn unbalanced_quotes_are_rejected() {
        for row in [r#""a","b"#, r#""a"b,c"#, r#"""a"#] {
            assert_eq!(fields(row, b','), Err(RejectReason::BadQuoting), "{row}");
        }
    }
}
