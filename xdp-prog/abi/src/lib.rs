//! What the XDP program and the control plane agree on.
//!
//! Everything that both sides of the kernel boundary touch is written here once: the fate of a
//! packet ([`reason`]), the records that travel through maps ([`record`]), the table of
//! hits ([`flow`]), what the maps are called
//! and where they are pinned ([`names`]), who opted out ([`opt_out`]), and the ruleset [`image`] with
//! its one lookup function.
//!
//! Addresses in records are in network byte order; ports, counters, identifiers and times are in the
//! byte order of the machine, unless they say otherwise. No record has padding: [`zerocopy`] refuses to compile one.
#![cfg_attr(not(any(feature = "build", test)), no_std)]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod canary;
pub mod encapsulation;
pub mod flow;
pub mod image;
pub mod names;
pub mod opt_out;
pub mod prefix;
pub mod reason;
pub mod record;

/// Raised whenever a record, a map or the image changes its layout.
///
/// It is part of the pin path, so a daemon never adopts maps of another layout.
pub const ABI_VERSION: u32 = 5;

/// How many lists one ruleset can tell apart, the [`canary`]'s included: list sets travel as 64-bit
/// masks.
pub const MAX_LISTS: usize = 64;

/// How many interfaces one set of maps can serve.
pub const MAX_PORTS: usize = 64;
