//! A folder of lists, compiled without a kernel or a network.

use jiff::Timestamp;
use sekisho_rules::{
    compile::{Compiled, Decided},
    feed::{FeedName, FeedSpec, Source},
};

use super::Failure;
use crate::{
    config::Config,
    dataplane::tables::{self, Built, Slots, Unfit},
    feeds::last_good::LastGood,
    rulebook::{ReadList, Rulebook, read_list_file},
    store,
};

/// What a folder of lists comes to.
pub(super) struct Folder {
    pub(super) specs: Vec<FeedSpec>,
    pub(super) lists: Vec<ReadList>,
    pub(super) compiled: Compiled,
    pub(super) built: Built,
    /// Feeds that could not be read at all.
    pub(super) missing: Vec<Missing>,
}

/// A feed whose list could not be read.
#[derive(Debug, serde::Serialize)]
pub(super) struct Missing {
    pub(super) feed: FeedName,
    pub(super) error: String,
}

/// Reads and compiles the lists of a lists folder's rulebook.
pub(super) fn compile(
    rulebook: &Rulebook,
    capacity: usize,
    now: Timestamp,
) -> Result<Folder, Failure> {
    compile_read(rulebook, Decided::default(), capacity, now, |spec| read(spec, now))
}

/// Compiles the last good lists of a daemon, and what people decided.
pub(super) fn compile_last_good(
    rulebook: &Rulebook,
    config: &Config,
    now: Timestamp,
) -> Result<Folder, Failure> {
    let kept = LastGood::new(&config.state_dir);
    let capacity = config.dataplane.image_capacity_bytes();
    let entries = store::read_entries(&config.state_dir).map_err(Failure::failed)?;
    let entries = entries.into_iter().filter(|row| row.ended_at.is_none()).map(|row| row.entry);
    let entries: Vec<_> = entries.collect();
    let false_positives =
        store::read_false_positives(&config.state_dir).map_err(Failure::failed)?;
    let decided = Decided { entries: &entries, false_positives: &false_positives };
    compile_read(rulebook, decided, capacity, now, |spec| match kept.load(&spec.name) {
        Ok(Some((bytes, meta))) => Ok(ReadList::new(spec, &bytes, meta.confirmed_at)),
        Ok(None) => Err(format!("no copy is kept in {}", config.state_dir.display())),
        Err(error) => Err(error.to_string()),
    })
}

fn compile_read(
    rulebook: &Rulebook,
    decided: Decided<'_>,
    capacity: usize,
    now: Timestamp,
    read: impl Fn(&FeedSpec) -> Result<ReadList, String>,
) -> Result<Folder, Failure> {
    let mut missing = Vec::new();
    let (mut specs, mut lists) = (Vec::new(), Vec::new());
    for spec in rulebook.catalogue.enabled() {
        match read(spec) {
            Ok(list) => {
                specs.push(spec.clone());
                lists.push(list);
            }
            Err(error) => missing.push(Missing { feed: spec.name.clone(), error }),
        }
    }
    let pairs: Vec<_> = specs.iter().zip(&lists).collect();
    let compiled = rulebook.compile_decided(&pairs, decided, now).map_err(Failure::failed)?;
    drop(pairs);
    let built = tables::build(&compiled.table, &Slots::default(), 1, capacity)
        .map_err(|fault| Failure::failed(Unfit::new(fault, &compiled.feeds)))?;
    Ok(Folder { specs, lists, compiled, built, missing })
}

pub(super) fn read(spec: &FeedSpec, now: Timestamp) -> Result<ReadList, String> {
    match &spec.source {
        Source::File(path) => {
            let bytes = read_list_file(spec, path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(ReadList::new(spec, &bytes, now))
        }
        Source::Url(_) | Source::Taxii(_) | Source::Crowdsec(_) => {
            Err("it comes over the network, which only the daemon reads".to_owned())
        }
    }
}

/// A folder with these files, by name and content.
#[cfg(test)]
pub(super) fn holding(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}
