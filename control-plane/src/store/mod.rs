//! The record of hits, in SQLite.
//!
//! One thread writes; readers open the file for themselves. There is a row only for packets that
//! matched a listed indicator, no payload, and no way to ask for other traffic.

mod broken;
mod entries;
mod false_positives;
mod overview;
mod query;
mod rollup;
mod schema;
pub mod walk;
mod writer;

use std::{
    fs::DirBuilder,
    net::IpAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use sekisho_rules::{operator::OperatorEntry, policy::FalsePositive};

pub use self::entries::StoredEntry;
use self::walk::MetOften;
use crate::{
    breaker::{Broken, Decision, Trip},
    dataplane::DrainId,
    hits::Hit,
};
pub use overview::{Busy, Counts, Day, MOST_NAMED, OftenMet, Outcome, Overview, Share};
pub use query::{Cursor, Filter, LARGEST_PAGE, Page, StoredHit};

/// Name of the file below the state folder.
pub const FILE: &str = "hits.sqlite";
/// Batches that may wait for the writer before the drain waits with them.
const QUEUE: usize = 16;

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite's word.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rusqlite::Error,
    },
    /// The folder or the thread can't be made.
    #[error("{}: {source}", path.display())]
    System {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// The file was written by a newer program.
    #[error("{}: version {found}, and this program knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: i64,
        /// The newest known one.
        known: i64,
    },
    /// The file was written by an older program that kept no sums of days.
    #[error(
        "{}: version {found} has no sums of days: the daemon makes them when it starts next",
        path.display()
    )]
    WithoutDays {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: i64,
    },
    /// The writer is gone.
    #[error("the writer of hits has stopped")]
    Stopped,
}

/// The record of hits.
#[derive(Clone, Debug)]
pub struct Store {
    path: Arc<PathBuf>,
    jobs: mpsc::Sender<Job>,
}

/// Work for the writer on the file, which answers for itself.
type Work = Box<dyn FnOnce(&mut Connection) + Send>;

enum Job {
    Do(Work),
    Record(Arc<Vec<Hit>>, DrainId, oneshot::Sender<Result<(), StoreError>>),
    Forget(Timestamp, oneshot::Sender<Result<usize, StoreError>>),
}

impl Store {
    /// Opens or creates the file in a state folder and brings it up to date; blocks.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let system = |source| StoreError::System { path: state_dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(system)?;
        let path = Arc::new(state_dir.join(FILE));
        let mut connection = schema::open(&path)?;
        let (jobs, mut queue) = mpsc::channel(QUEUE);
        let file = Arc::clone(&path);
        let work = move || {
            while let Some(job) = queue.blocking_recv() {
                // Whoever asked may have stopped waiting.
                let _ = match job {
                    Job::Do(work) => {
                        work(&mut connection);
                        true
                    }
                    Job::Record(hits, drain, done) => {
                        done.send(writer::record(&mut connection, &hits, drain, &file)).is_ok()
                    }
                    Job::Forget(before, done) => {
                        done.send(writer::forget(&mut connection, before, &file)).is_ok()
                    }
                };
            }
        };
        thread::Builder::new().name("store".to_owned()).spawn(work).map_err(system)?;
        Ok(Self { path, jobs })
    }

    /// Adds the hits of a drain to the record, if they are not there yet; waits until they are.
    pub async fn record(&self, hits: Arc<Vec<Hit>>, drain: DrainId) -> Result<(), StoreError> {
        let (done, outcome) = oneshot::channel();
        let job = Job::Record(hits, drain, done);
        self.jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        outcome.await.map_err(|_| StoreError::Stopped)?
    }

    /// Deletes hits whose last packet came before this time; says how many rows that were.
    pub async fn forget(&self, before: Timestamp) -> Result<usize, StoreError> {
        let (done, outcome) = oneshot::channel();
        self.jobs.send(Job::Forget(before, done)).await.map_err(|_| StoreError::Stopped)?;
        outcome.await.map_err(|_| StoreError::Stopped)?
    }

    /// Keeps a new entry of the operator's own and gives its number; blocks.
    pub fn add_entry(&self, entry: OperatorEntry, made_by: String) -> Result<u32, StoreError> {
        self.write(move |connection| entries::add(connection, &entry, &made_by))
    }

    /// Ends an entry; gives it, unless there is none of that number that has not ended. Blocks.
    pub fn end_entry(
        &self,
        id: u32,
        by: String,
        now: Timestamp,
    ) -> Result<Option<StoredEntry>, StoreError> {
        self.write(move |connection| entries::end(connection, id, &by, now))
    }

    /// Reads the operator's own entries, those that ended as well; blocks.
    pub fn entries(&self) -> Result<Vec<StoredEntry>, StoreError> {
        entries_of(&self.path)
    }

    /// Keeps false positives that were found; blocks.
    pub fn add_false_positives(&self, found: Vec<FalsePositive>) -> Result<(), StoreError> {
        self.write(move |connection| false_positives::add(connection, &found))
    }

    /// All false positives that are known; blocks.
    pub fn false_positives(&self) -> Result<Vec<FalsePositive>, StoreError> {
        reading(&self.path, false_positives::all)
    }

    /// Records an entry that the breaker demotes; blocks.
    pub fn add_broken(&self, trip: &Trip) -> Result<Broken, StoreError> {
        let trip = trip.clone();
        self.write(move |connection| broken::add(connection, &trip))
    }

    /// Everything that the breaker has in hand; blocks.
    pub fn broken(&self) -> Result<Vec<Broken>, StoreError> {
        self.write(|connection| broken::all(connection))
    }

    /// Records what somebody decided about an entry that the breaker demoted; `None` if there is no
    /// such row. Blocks.
    pub fn decide_broken(
        &self,
        id: i64,
        decision: Decision,
        at: Timestamp,
    ) -> Result<Option<Broken>, StoreError> {
        self.write(move |connection| broken::decide(connection, id, decision, at))
    }

    /// Forgets an entry that the breaker demoted, and gives it as it was; blocks.
    pub fn forget_broken(&self, id: i64) -> Result<Option<Broken>, StoreError> {
        self.write(move |connection| broken::forget(connection, id))
    }

    /// Has the writer do something, and waits for it; blocks.
    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, outcome) = std::sync::mpsc::sync_channel(1);
        let work: Work = Box::new(move |connection| {
            // Whoever asked may have stopped waiting.
            let _ = done.send(work(connection));
        });
        self.jobs.blocking_send(Job::Do(work)).map_err(|_| StoreError::Stopped)?;
        let outcome = outcome.recv().map_err(|_| StoreError::Stopped)?;
        outcome.map_err(|source| StoreError::Sqlite { path: self.path.to_path_buf(), source })
    }

    /// Where the record is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How often an address was met at this time or later; blocks.
    pub fn often(&self, remote: IpAddr, since: Timestamp) -> Result<MetOften, StoreError> {
        walk::often(&self.path, remote, since)
    }

    /// What the hits of the last so many days come to, the day of `now` included; blocks.
    pub fn overview(&self, now: Timestamp, days: u32) -> Result<Overview, StoreError> {
        overview_of(&self.path, now, days)
    }

    /// Reads hits; blocks.
    pub fn hits(&self, filter: &Filter) -> Result<Page, StoreError> {
        hits(&self.path, filter)
    }
}

/// Reads hits from the store of a daemon that may or may not run; blocks.
pub fn read_hits(state_dir: &Path, filter: &Filter) -> Result<Page, StoreError> {
    hits(&state_dir.join(FILE), filter)
}

/// What the hits of the last so many days come to, from the store of a daemon that may or may not run;
/// blocks.
pub fn read_overview(state_dir: &Path, now: Timestamp, days: u32) -> Result<Overview, StoreError> {
    overview_of(&state_dir.join(FILE), now, days)
}

/// Reads the operator's own entries from the store of a daemon that may or may not run; none if
/// there is no store. Blocks.
pub fn read_entries(state_dir: &Path) -> Result<Vec<StoredEntry>, StoreError> {
    let path = state_dir.join(FILE);
    if path.exists() { entries_of(&path) } else { Ok(Vec::new()) }
}

/// Reads the false positives from the store of a daemon that may or may not run; none if there is no
/// store. Blocks.
pub fn read_false_positives(state_dir: &Path) -> Result<Vec<FalsePositive>, StoreError> {
    let path = state_dir.join(FILE);
    if path.exists() { reading(&path, false_positives::all) } else { Ok(Vec::new()) }
}

fn hits(path: &Path, filter: &Filter) -> Result<Page, StoreError> {
    reading(path, |connection| query::page(connection, filter))
}

fn overview_of(path: &Path, now: Timestamp, days: u32) -> Result<Overview, StoreError> {
    match reading(path, schema::without_days)? {
        Some(found) => Err(StoreError::WithoutDays { path: path.to_owned(), found }),
        None => reading(path, |connection| overview::overview(connection, now, days)),
    }
}

fn entries_of(path: &Path) -> Result<Vec<StoredEntry>, StoreError> {
    reading(path, entries::all)
}

fn reading<T>(
    path: &Path,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, StoreError> {
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    connection.busy_timeout(schema::BUSY_TIMEOUT).map_err(sqlite)?;
    read(&connection).map_err(sqlite)
}

#[cfg(test)]
#[path = "false_positive_tests.rs"]
mod false_positive_tests;
#[cfg(test)]
#[path = "overview_tests.rs"]
mod overview_tests;
#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
