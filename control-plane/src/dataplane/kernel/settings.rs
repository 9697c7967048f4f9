//! What a dataplane is loaded with, and what it guards.

use std::path::PathBuf;

use sekisho_abi::{
    encapsulation::Encapsulation,
    prefix::Prefixes,
    record::{Forwarding, Mode, Role},
};

use super::SinkholeWay;

/// How to attach to interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// In the driver; if it can't, in the generic hook, and the log says so.
    Auto,
    /// In the driver or not at all.
    Native,
    /// In the generic hook.
    Generic,
}

/// An interface to guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// Name in this network namespace.
    pub interface: String,
    /// Which end of its packets is the subscriber's.
    pub role: Role,
    /// What becomes of packets that pass.
    pub forwarding: Forwarding,
    /// The guarded interface at the other end of the wire, where packets are forwarded by
    /// [`Forwarding::Wire`].
    pub peer: Option<String>,
}

impl Guarded {
    /// An interface whose packets the kernel forwards.
    pub fn routed(interface: impl Into<String>, role: Role) -> Self {
        Self { interface: interface.into(), role, forwarding: Forwarding::Kernel, peer: None }
    }
}

/// What a dataplane is loaded with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder on a bpffs.
    pub pin_dir: PathBuf,
    /// Bytes an image may have, at most 512 MiB.
    pub image_capacity: usize,
    /// Flows that are told apart between two drains, by all CPUs together.
    pub flow_table_entries: u32,
    /// How to attach.
    pub attach: Attach,
    /// The mode if nothing is pinned yet.
    pub initial_mode: Mode,
    /// What is unwrapped to find the addresses that count.
    pub unwrapped: Encapsulation,
    /// Prefixes of 32, 40, 48, 56, 64 or 96 bits in which IPv4 addresses are embedded (RFC 6052).
    pub embedding: Prefixes,
    /// The network's own infrastructure, whose service protocols are never stopped.
    pub infrastructure: Prefixes,
    /// Where what is to be sinkholed goes.
    pub sinkhole: Option<SinkholeWay>,
    /// Rows of sixteen ports each that the opted-out port blocks may take.
    pub opt_out_rows: u32,
}

impl Settings {
    /// What a dataplane needs at least; the rest is as the configuration's defaults are.
    pub fn new(pin_dir: PathBuf, image_capacity: usize) -> Self {
        Self {
            pin_dir,
            image_capacity,
            flow_table_entries: 1_048_576,
            attach: Attach::Auto,
            initial_mode: Mode::Enforce,
            unwrapped: Encapsulation::ALL,
            embedding: Prefixes::NONE,
            infrastructure: Prefixes::NONE,
            sinkhole: None,
            opt_out_rows: 65_536,
        }
    }
}
