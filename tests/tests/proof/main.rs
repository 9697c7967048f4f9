//! What becomes of a dataplane that is tampered with, on veth pairs in a namespace of its own.
//!
//! - [`stage`]: a dataplane, and what differs in it
//! - [`pins`], [`programs`], [`ruleset`], [`switch`], [`opt_outs`], [`devices`]: by what drifts
//! - [`daemon`]: the same with a daemon that runs
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod daemon;
mod devices;
mod opt_outs;
mod pins;
mod programs;
mod ruleset;
mod stage;
mod switch;
