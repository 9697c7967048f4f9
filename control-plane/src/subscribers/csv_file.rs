//! Assignments from a CSV file: `prefix,subscriber,tenant,from,to`.

use std::{
    collections::HashSet,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use csv::StringRecord;
use ipnet::IpNet;
use jiff::Timestamp;

use super::{Assignment, Subscriber};

/// The columns, in this order.
const HEADER: [&str; 5] = ["prefix", "subscriber", "tenant", "from", "to"];
/// Longest name of a subscriber or a tenant, in bytes.
const LONGEST_NAME: usize = 128;

/// Why assignments can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SubscribersError {
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A line says something else than expected.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: u64,
        /// What was found and what was expected.
        message: String,
    },
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<Assignment>, SubscribersError> {
    let bytes = fs::read(path)
        .map_err(|source| SubscribersError::Unreadable { path: path.to_owned(), source })?;
    parse(&bytes, path)
}

/// Reads a text; `path` only serves the error text.
pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Vec<Assignment>, SubscribersError> {
    let wrong = |line, message| SubscribersError::Wrong { path: path.to_owned(), line, message };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .flexible(true)
        .from_reader(bytes);
    let header = reader.headers().map_err(|error| wrong(1, error.to_string()))?;
    if header.iter().ne(HEADER) {
        return Err(wrong(
            header.position().map_or(1, csv::Position::line).max(1),
            format!("expected the header {}", HEADER.join(",")),
        ));
    }
    let mut names = Names::default();
    let mut assignments = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            wrong(line_of(bytes, error.position()), "expected UTF-8 text".to_owned())
        })?;
        let fault = |message| wrong(line_of(bytes, record.position()), message);
        assignments.push(names.assignment(&record).map_err(fault)?);
    }
    Ok(assignments)
}

/// The line of a record. The reader's position is where the record before ended: blank lines and
/// comments may follow.
pub(crate) fn line_of(bytes: &[u8], position: Option<&csv::Position>) -> u64 {
    let Some(position) = position else { return 0 };
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let rest = bytes.get(start..).unwrap_or_default();
    let skipped = rest
        .split(|byte| *byte == b'\n')
        .take_while(|line| line.trim_ascii().is_empty() || line.starts_with(b"#"))
        .count();
    position.line() + skipped as u64
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

pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let wrong = || format!("'{text}' is no prefix: expected 192.0.2.1, 192.0.2.0/24 or the like");
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network: IpNet = text.parse().map_err(|_| wrong())?;
    if network.trunc() != network {
        return Err(format!("'{text}' has host bits: expected {}", network.trunc()));
    }
    Ok(network)
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
