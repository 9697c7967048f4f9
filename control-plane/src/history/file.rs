//! A version in a file: a mark, the length of its head, the head in JSON, its table, a checksum.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use sekisho_rules::{snapshot, table::Table};

use super::Version;

const MARK: &[u8; 8] = b"SEKISHO1";
/// Largest head that is read.
const LARGEST_HEAD: u32 = 1 << 20;

pub(super) fn write(version: &Version, table: &Table) -> io::Result<Vec<u8>> {
    let head = serde_json::to_vec(version)?;
    let length = u32::try_from(head.len()).ok().filter(|length| *length <= LARGEST_HEAD);
    let length = length.ok_or_else(|| wrong("its head is too long"))?;
    let mut bytes = MARK.to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(head);
    bytes.extend(snapshot::encode(table));
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    Ok(bytes)
}

/// Reads what is said of the version, and not its table.
pub(super) fn read_head(path: &Path) -> io::Result<Version> {
    let mut file = File::open(path)?;
    let mut begin = [0; 12];
    file.read_exact(&mut begin)?;
    let length = head_length(&begin)?;
    let mut head = vec![0; length];
    file.read_exact(&mut head)?;
    Ok(serde_json::from_slice(&head)?)
}

pub(super) fn read(path: &Path) -> io::Result<(Version, Table)> {
    let bytes = fs::read(path)?;
    let (bytes, checksum) =
        bytes.split_last_chunk::<4>().ok_or_else(|| wrong("it is no version"))?;
    if crc32fast::hash(bytes) != u32::from_le_bytes(*checksum) {
        return Err(wrong("its bytes don't match their checksum"));
    }
    let (begin, rest) = bytes.split_first_chunk::<12>().ok_or_else(|| wrong("it is no version"))?;
    let length = head_length(begin)?;
    let (head, table) = rest.split_at_checked(length).ok_or_else(|| wrong("it is cut off"))?;
    let table = snapshot::decode(table).ok_or_else(|| wrong("its table can't be read"))?;
    Ok((serde_json::from_slice(head)?, table))
}

fn head_length(begin: &[u8; 12]) -> io::Result<usize> {
    let [.., a, b, c, d] = *begin;
    let length = u32::from_le_bytes([a, b, c, d]);
    let is_version = begin.starts_with(MARK) && length <= LARGEST_HEAD;
    let length = usize::try_from(length).ok().filter(|_| is_version);
    length.ok_or_else(|| wrong("it is no version"))
}

fn wrong(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
