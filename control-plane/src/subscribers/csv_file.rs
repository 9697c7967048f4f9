//! Assignments from a CSV file: `prefix,subscriber,tenant,from,to`.

use std::{collections::HashSet, path::Path, sync::Arc};

use csv::StringRecord;
use jiff::Timestamp;

use super::{Assignment, Subscriber};
use crate::csv_file::{self, CsvFileError, network};

/// The columns, in this order.
const HEADER: [&str; 5] = ["prefix", "subscriber", "tenant", "from", "to"];
/// Longest name of a subscriber or a tenant, in bytes.
const LONGEST_NAME: usize = 128;

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<Assignment>, CsvFileError> {
    parse(&csv_file::read(path)?, path)
}

/// Reads a text; `path` only serves the error text.
pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Vec<Assignment>, CsvFileError> {
    let mut names = Names::default();
    let mut assignments = Vec::new();
    csv_file::rows(bytes, path, &HEADER, |record| {
        assignments.push(names.assignment(record)?);
        Ok(())
    })?;
    Ok(assignments)
}

/// Every name once, since few tenants have many subscribers and few subscribers many lines.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    fn assignment(&mut self, record: &StringRecord) -> Result<Assignment, String> {
        let fields: Vec<&str> = record.iter().collect();
        let [prefix, subscriber, tenant, from, to] = fields[..] else {
            return Err(format!("expected 5 fields, found {}", record.len()));
        };
        if subscriber.is_empty() {
            return Err("expected a subscriber, found an empty field".to_owned());
        }
        let (from, to) = (time("from", from)?, time("to", to)?);
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            return Err(format!("'to' ({to}) is not after 'from' ({from})"));
        }
        let subscriber = Subscriber { id: self.name(subscriber)?, tenant: self.name(tenant)? };
        Ok(Assignment { network: network(prefix)?, subscriber, from, to })
    }

    fn name(&mut self, text: &str) -> Result<Arc<str>, String> {
        if text.len() > LONGEST_NAME || text.contains(char::is_control) {
            return Err(format!(
                "expected a name of at most {LONGEST_NAME} bytes without control characters"
            ));
        }
        if let Some(known) = self.0.get(text) {
            return Ok(Arc::clone(known));
        }
        let name: Arc<str> = text.into();
        self.0.insert(Arc::clone(&name));
        Ok(name)
    }
}

fn time(column: &str, text: &str) -> Result<Option<Timestamp>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong =
        |_| format!("'{text}' is no time for '{column}': expected 2026-01-31T23:59:59Z or nothing");
    text.parse().map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &[u8]) -> String {
        parse(text, Path::new("s.csv")).unwrap_err().to_string()
    }

    fn row_error(row: &str) -> String {
        error(format!("prefix,subscriber,tenant,from,to\n# ours\n\n{row}\n").as_bytes())
    }

    #[test]
    fn a_file_with_everything_is_read() {
        let text = b"\xef\xbb\xbfprefix, subscriber,tenant,from,to\r\n\
                     100.64.0.0/29,\"a, b\",wholesale,2026-01-01T00:00:00+09:00,\r\n2001:db8::1,c,,,\r\n";
        let rows = parse(text, Path::new("s.csv")).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(&*rows[0].subscriber.id, "a, b");
        assert_eq!(rows[0].from, Some("2025-12-31T15:00:00Z".parse().unwrap()));
        assert_eq!(rows[1].network.to_string(), "2001:db8::1/128");
    }

    #[test]
    fn the_header_is_required() {
        assert_eq!(
            error(b"10.0.0.1,a,t,,\n"),
            "s.csv:1: expected the header prefix,subscriber,tenant,from,to"
        );
    }

    #[test]
    fn every_fault_names_its_line_and_what_is_expected() {
        let cases = [
            ("10.0.0.300,a,t,,", "s.csv:4: '10.0.0.300' is no prefix: expected"),
            ("10.0.0.1/24,a,t,,", "s.csv:4: '10.0.0.1/24' has host bits: expected 10.0.0.0/24"),
            ("10.0.0.1,,t,,", "s.csv:4: expected a subscriber"),
            ("10.0.0.1,a,t,", "s.csv:4: expected 5 fields, found 4"),
            ("10.0.0.1,a,t,yesterday,", "s.csv:4: 'yesterday' is no time for 'from': expected"),
            (
                "10.0.0.1,a,t,2026-01-02T00:00:00Z,2026-01-01T00:00:00Z",
                "s.csv:4: 'to' (2026-01-01T00:00:00Z) is not after",
            ),
        ];
        for (row, expected) in cases {
            let error = row_error(row);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn latin_1_is_refused_at_its_line() {
        let error = error(b"prefix,subscriber,tenant,from,to\n10.0.0.1,M\xfcller,t,,\n");
        assert_eq!(error, "s.csv:2: expected UTF-8 text");
    }
}
