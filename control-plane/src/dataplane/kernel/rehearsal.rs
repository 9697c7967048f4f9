//! Whether a kernel takes the program, found out by loading it as a start does, with maps of its own,
//! attached to nothing.

use std::{io, path::Path, thread};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use sekisho_abi::{
    encapsulation::Encapsulation,
    prefix::{MAX_PREFIXES, Prefix, Prefixes},
    record::{Forwarding, Role},
};

use super::{
    Guarded, Settings,
    attach::{self, Place},
    opt_out, rejected, ruleset, values,
};
use crate::{
    config::SMALLEST_IMAGE_MIB,
    dataplane::{
        DataplaneError,
        pins::{Pins, system},
    },
};

const BPFFS: &str = "/sys/fs/bpf";

/// Loads the program for each role with everything switched on, and lets go of it. Gives how many
/// instructions the verifier followed at most, where the kernel tells.
pub(super) fn try_load() -> Result<Option<u32>, DataplaneError> {
    // On a thread of its own, which sees a bpffs of its own: whatever becomes of it, no pin stays.
    let thread = thread::Builder::new().name("rehearsal".to_owned()).spawn(|| {
        hide_bpffs().map_err(|error| system("mount a bpffs for the trial", error))?;
        load_each_role()
    });
    let thread = thread.map_err(|error| system("start a thread", error))?;
    let died = || system("try the program", io::Error::other("its thread died"));
    thread.join().unwrap_or_else(|_| Err(died()))
}

fn hide_bpffs() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    Ok(mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none)?)
}

fn load_each_role() -> Result<Option<u32>, DataplaneError> {
    let pins = Pins::new(&Path::new(BPFFS).join("rehearsal"));
    pins.create()?;
    let settings = everything_on();
    let _slot = ruleset::adopt(&pins, settings.image_capacity)?;
    opt_out::adopt(&pins, settings.opt_out_rows)?;
    values::adopt(&pins)?;
    let mut most = None;
    for role in [Role::Subscriber, Role::Uplink, Role::Both] {
        let guarded = Guarded { forwarding: Forwarding::Wire, ..Guarded::routed("", role) };
        let place = Place { slot: 0, peer: 1, is_bond: true, flow_buckets: 1 };
        let mut program = attach::load(&pins, &settings, &guarded, place)?;
        let info = attach::xdp(&mut program)?.info().map_err(|error| rejected(&error))?;
        most = most.max(info.verified_instruction_count());
    }
    Ok(most)
}

/// As much to do as there can be, in as little memory.
fn everything_on() -> Settings {
    let prefix = |at: usize| Prefix { high: at as u64, low: 0, length: 96 };
    let all = Prefixes { count: MAX_PREFIXES as u64, each: std::array::from_fn(prefix) };
    Settings {
        unwrapped: Encapsulation::ALL,
        embedding: all,
        infrastructure: all,
        flow_table_entries: 1,
        opt_out_rows: 1,
        ..Settings::new(BPFFS.into(), (SMALLEST_IMAGE_MIB as usize) << 20)
    }
}
