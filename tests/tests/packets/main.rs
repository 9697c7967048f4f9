//! Packets through the program in the kernel (`BPF_PROG_TEST_RUN`), each a sentence, and the same
//! packets through the same code on the host.
//!
//! - [`world`]: who is listed, who opted out, what is set
//! - [`lab`]: a dataplane, and what a case is
//! - [`layers`], [`extensions`], [`truncation`], [`tunnels`]: what packets are wrapped in
//! - [`direction`], [`opt_out`], [`protected`], [`modes`]: who is judged, and what passes
//! - [`jumbo`]: frames of several buffers
//! - [`reject`], [`sinkhole`], [`forwarding`], [`switches`]: what is done, as it is set
//! - [`record`], [`ledger`]: what is kept of it
//! - [`fuzz`]: everything at once, mutated
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod corpus;
mod direction;
mod expected;
mod extensions;
mod forwarding;
mod fuzz;
mod jumbo;
mod lab;
mod layers;
mod ledger;
mod modes;
mod opt_out;
mod protected;
mod record;
mod reject;
mod sinkhole;
mod switches;
mod truncation;
mod tunnels;
mod world;
