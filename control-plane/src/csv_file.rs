//! CSV files that operators keep: a header, then rows; blank lines and `#` comments between.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use csv::StringRecord;
use ipnet::IpNet;

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CsvFileError {
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

/// The bytes of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CsvFileError> {
    fs::read(path).map_err(|source| CsvFileError::Unreadable { path: path.to_owned(), source })
}

/// Gives `row` every row of a text with this header; what it finds wrong is told with the line.
/// `path` only serves the error text.
pub(crate) fn rows(
    bytes: &[u8],
    path: &Path,
    expected: &[&str],
    mut row: impl FnMut(&StringRecord) -> Result<(), String>,
) -> Result<(), CsvFileError> {
    let wrong = |line, message| CsvFileError::Wrong { path: path.to_owned(), line, message };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .flexible(true)
        .from_reader(bytes);
    let header = reader.headers().map_err(|error| wrong(1, error.to_string()))?;
    if header.iter().ne(expected.iter().copied()) {
        return Err(wrong(
            header.position().map_or(1, csv::Position::line).max(1),
            format!("expected the header {}", expected.join(",")),
        ));
    }
    for record in reader.records() {
        let record = record.map_err(|error| {
            wrong(line_of(bytes, error.position()), "expected UTF-8 text".to_owned())
        })?;
        row(&record).map_err(|message| wrong(line_of(bytes, record.position()), message))?;
    }
    Ok(())
}

/// The line of a record. The reader's position is where the record before ended: blank lines and
/// comments may follow.
fn line_of(bytes: &[u8], position: Option<&csv::Position>) -> u64 {
    let Some(position) = position else { return 0 };
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let rest = bytes.get(start..).unwrap_or_default();
    let skipped = rest
        .split(|byte| *byte == b'\n')
        .take_while(|line| line.trim_ascii().is_empty() || line.starts_with(b"#"))
        .count();
    position.line() + skipped as u64
}

/// The network of a cell: an address, or a prefix without host bits.
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
