//! The benchmarks, area by area.
//!
//! - [`lists`], [`texts`], [`trace`], [`records`]: what is loaded, read, sent, and recorded
//! - [`tracer`]: the BPF programs that put a trace through a program, or onto a cable
//! - [`lab`]: the network namespace, the cable and the dataplane on it
//! - [`area`]: what is measured
//! - [`sampling`], [`report`], [`requirements`], [`machine`]: from samples to figures
//! - [`markdown`], [`chart`]: from figures to tables and pictures

pub mod area;
pub mod chart;
pub mod lab;
pub mod lists;
pub mod machine;
pub mod markdown;
pub mod records;
pub mod report;
pub mod requirements;
pub mod sampling;
pub mod texts;
pub mod trace;
pub mod tracer;
