//! The record of hits that a command reads, the daemon running or not.

use std::path::PathBuf;

use super::Failure;
use crate::config::Config;

/// Arguments that say where the record is.
#[derive(Debug, clap::Args)]
pub(super) struct RecordArgs {
    /// Configuration file of the daemon, running or not
    #[arg(short, long, value_name = "FILE", env = "SEKISHO_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of the record, in place of the configuration's
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    state_dir: Option<PathBuf>,
}

impl RecordArgs {
    /// The folder that it is in.
    pub(super) fn state_dir(&self) -> Result<PathBuf, Failure> {
        match (&self.state_dir, &self.config) {
            (Some(state_dir), _) => Ok(state_dir.clone()),
            (None, Some(path)) => Ok(Config::read(path).map_err(Failure::usage)?.state_dir),
            (None, None) => Err(Failure::usage("expected --config FILE or --state-dir DIR")),
        }
    }
}
