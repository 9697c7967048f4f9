//! From the bytes of threat lists to a table that is safe to block.
//!
//! Pure: no I/O, no clock (the time is an argument), no threads. In the order of the data:
//!
//! - [`feed`]: what the catalogue says of a feed: format, action, floor, expiry
//! - [`indicator`]: what a feed claims
//! - [`table`]: the claims that stand, merged by network, ready for the dataplane
#![forbid(unsafe_code)]

pub mod feed;
pub mod indicator;
pub mod table;
