//! What was in force before, across restarts: the ground of the staged roll-out.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sekisho_rules::{
    compile::Compiled,
    feed::FeedSpec,
    policy::{Rollout, Staged, stage},
    seen::Seen,
};
use tracing::{error, warn};

use crate::{feeds::last_good::replace, rulebook::ReadList};

/// Name of the file below the state folder.
const FILE: &str = "seen.bin";

/// What is or was lately in force, in memory and in a file.
pub(super) struct Arrivals {
    folder: PathBuf,
    seen: Seen,
    is_saved: bool,
}

impl Arrivals {
    /// What the file says; blocks. Without a good one, every list is its feed's first.
    pub(super) fn load(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let seen = match fs::read(&path) {
            Ok(bytes) => Seen::from_bytes(&bytes).unwrap_or_else(|| {
                warn!(path = %path.display(), "damaged: since when entries are in force is not known");
                Seen::default()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    error!(path = %path.display(), "can't be read: {error}");
                }
                Seen::default()
            }
        };
        Self { folder: state_dir.to_owned(), seen, is_saved: true }
    }

    /// Demotes what is new.
    pub(super) fn stage(
        &self,
        compiled: &mut Compiled,
        lists: &[(&FeedSpec, &ReadList)],
        rollout: &Rollout,
        now: Timestamp,
    ) -> Staged {
        let has_list = |list: &ReadList| {
            list.parsed.as_ref().is_ok_and(|parsed| !parsed.indicators.is_empty())
        };
        let feeds: Vec<_> = lists.iter().map(|(spec, list)| (*spec, has_list(list))).collect();
        stage(compiled, &feeds, rollout, &self.seen, now.into())
    }

    /// Remembers what is live now, and writes it down if it differs; blocks.
    pub(super) fn keep(&mut self, seen: Seen) {
        if self.is_saved && self.seen == seen {
            return;
        }
        self.seen = seen;
        let written = replace(&self.folder, FILE, &self.seen.to_bytes());
        self.is_saved = written.is_ok();
        if let Err(failure) = written {
            error!("after a restart, what is new now is new again: {FILE}: {failure}");
        }
    }
}
