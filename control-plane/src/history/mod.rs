//! Every ruleset that was made live: what it was made of, when, why and by whom.
//!
//! A version is one file, written whole under another name, renamed and synchronised with the disk
//! before its ruleset goes live. So whatever is live is in the history, and a version that a crash
//! kept from going live is known by its number, which is above that of the ruleset in the kernel.

mod file;
mod pin;
mod version;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sekisho_rules::table::Table;
use tracing::{info, warn};

pub use pin::Pin;
pub use version::{Cause, FeedCount, Version, What};

use crate::{config::HistoryConfig, feeds::last_good::replace};

const EXTENSION: &str = "version";

/// The versions below a state folder.
#[derive(Clone, Debug)]
pub struct History {
    folder: PathBuf,
    keep: usize,
    most_bytes: u64,
}

impl History {
    /// Those below this state folder.
    pub fn new(state_dir: &Path, config: &HistoryConfig) -> Self {
        Self {
            folder: state_dir.join("history"),
            keep: usize::try_from(config.versions).unwrap_or(usize::MAX),
            most_bytes: u64::from(config.max_mib) << 20,
        }
    }

    /// The versions, the latest first; one that can't be read is left out.
    pub fn versions(&self) -> io::Result<Vec<Version>> {
        let mut versions = Vec::new();
        for (number, path) in self.files()?.into_iter().rev() {
            match file::read_head(&path) {
                Ok(version) if version.number == number => versions.push(version),
                Ok(_) => warn!("{}: its name is not its number", path.display()),
                Err(error) => warn!("{}: {error}", path.display()),
            }
        }
        Ok(versions)
    }

    /// A version with its table; `None` if it is not kept.
    pub fn load(&self, number: u32) -> io::Result<Option<(Version, Table)>> {
        match file::read(&self.path(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// The highest number that is kept.
    pub fn newest(&self) -> u32 {
        self.files().ok().and_then(|files| files.last().map(|(number, _)| *number)).unwrap_or(0)
    }

    /// Keeps a version; it is on disk when this returns.
    pub fn record(&self, version: &Version, table: &Table) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let bytes = file::write(version, table)?;
        replace(&self.folder, &name(version.number), &bytes)
    }

    /// Forgets a version that did not go live.
    pub fn forget(&self, number: u32) {
        if let Err(error) = fs::remove_file(self.path(number))
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(number, "a version that did not go live can't be removed: {error}");
        }
    }

    /// Forgets the versions that a crash kept from going live: those above what is live.
    pub fn reconcile(&self, live: u32) {
        for (number, _) in self.files().unwrap_or_default() {
            if number > live {
                info!(number, "this version never went live");
                self.forget(number);
            }
        }
        if let Err(error) = self.sweep() {
            warn!("what a crash left in {} can't be removed: {error}", self.folder.display());
        }
    }

    /// Forgets the oldest versions beyond what is to be kept, but none of these.
    pub fn prune(&self, spare: &[u32]) -> io::Result<()> {
        let mut files = self.files()?;
        files.reverse();
        let (mut kept, mut bytes) = (0, 0_u64);
        for (number, path) in files {
            let size = fs::metadata(&path)?.len();
            let fits =
                kept == 0 || kept < self.keep && bytes.saturating_add(size) <= self.most_bytes;
            if fits || spare.contains(&number) {
                kept += 1;
                bytes = bytes.saturating_add(size);
            } else {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// What new lists are kept from going live for.
    pub fn pin(&self) -> io::Result<Option<Pin>> {
        pin::read(&self.folder)
    }

    /// Pins, or ends that; it is on disk when this returns.
    pub fn set_pin(&self, pin: Option<&Pin>) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        pin::write(&self.folder, pin)
    }

    /// The files by number.
    fn files(&self) -> io::Result<Vec<(u32, PathBuf)>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let is_version = path.extension().is_some_and(|extension| extension == EXTENSION);
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            files.extend(number.filter(|_| is_version).map(|number| (number, path)));
        }
        files.sort_unstable();
        Ok(files)
    }

    /// Removes files that were not finished.
    fn sweep(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(".tmp") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn path(&self, number: u32) -> PathBuf {
        self.folder.join(name(number))
    }
}

fn name(number: u32) -> String {
    format!("{number:010}.{EXTENSION}")
}

#[cfg(test)]
mod tests;
