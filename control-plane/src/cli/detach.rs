//! `sekisho detach`: takes everything out of the kernel; traffic then flows unguarded.

use std::path::PathBuf;

use super::{Failure, print};
use crate::{config::DataplaneConfig, dataplane::kernel};

/// Arguments of `sekisho detach`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of the pinned programs and maps
    #[arg(long, value_name = "DIR", default_value_os_t = DataplaneConfig::default().pin_dir)]
    pin_dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let removed = kernel::detach(&args.pin_dir).map_err(Failure::failed)?;
    if removed.is_empty() {
        return print(&format!("nothing is loaded under {}\n", args.pin_dir.display()));
    }
    print(&removed.iter().map(|pin| format!("removed {pin}\n")).collect::<String>())
}
