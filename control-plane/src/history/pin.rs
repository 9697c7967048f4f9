//! The version that is pinned: new lists don't go live.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::feeds::last_good::replace;

const FILE: &str = "pin.json";

/// Somebody went back to a version, and new lists wait until that is ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The version.
    pub version: u32,
    /// Since when.
    pub since: Timestamp,
    /// Who did it.
    pub by: String,
    /// The last of the operator's own entries that was made before.
    #[serde(default)]
    pub last_entry: u32,
    /// Entries that are in force again, although they had been ended.
    #[serde(default)]
    pub revived: Vec<u32>,
}

pub(super) fn read(folder: &Path) -> io::Result<Option<Pin>> {
    match fs::read(folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => Ok(Some(serde_json::from_slice(&other?)?)),
    }
}

pub(super) fn write(folder: &Path, pin: Option<&Pin>) -> io::Result<()> {
    if let Some(pin) = pin {
        return replace(folder, FILE, &serde_json::to_vec_pretty(pin)?);
    }
    match fs::remove_file(folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.and_then(|()| File::open(folder)?.sync_all()),
    }
}
