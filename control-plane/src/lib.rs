//! The control plane of Sekisho, in the order of the data.
//!
//! - [`config`]: what the operator asks for
//! - [`rulebook`]: the catalogue, the policy and the never-block lists that decide over lists
//! - [`feeds`]: lists from their sources to bytes, with a last good copy of each
//! - [`dataplane`]: a compiled table into the kernel, hits and counters out of it
//! - [`preflight`]: whether a machine and its interfaces are fit for that, and what mends them
//! - [`subscribers`]: who used an address at a given time
//! - [`hits`]: rows of the kernel's flow table to hits with names
//! - [`breaker`]: entries that implausibly many subscribers meet
//! - [`store`]: the record of hits
//! - [`history`]: every ruleset that was live, and the way back to one
//! - [`preview`]: what lists did, and what a list would have done
//! - [`engine`]: the daemon, which moves the data along this line
//! - [`metrics`]: what the daemon counts, for Prometheus
//! - [`health`]: whether the daemon does its work, and if not, why
//! - [`tokens`]: who may change something
//! - [`api`]: what programs can ask the daemon
//! - [`cli`]: what people can ask it
//! - [`demo`]: all of it at work, on a stage of its own
//! - [`shutdown`]: how all of them are told to stop
#![deny(unsafe_code)]

pub mod api;
pub mod breaker;
pub mod cli;
pub mod config;
pub mod csv_file;
pub mod dataplane;
pub mod demo;
pub mod engine;
pub mod feeds;
pub mod health;
pub mod history;
pub mod hits;
pub mod metrics;
pub mod opt_out_file;
pub mod preflight;
pub mod preview;
pub mod rulebook;
pub mod settings;
pub mod shutdown;
pub mod store;
pub mod subscribers;
pub mod tokens;

#[cfg(test)]
mod testing;
