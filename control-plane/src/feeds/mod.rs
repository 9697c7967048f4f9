//! Lists from their sources to bytes, with a last good copy of each on disk.
//!
//! - [`fetch`]: one request over HTTP
//! - [`misp`]: a MISP feed, whose list is a manifest and many events
//! - [`unpack`](mod@unpack): compressed lists to plain ones
//! - [`last_good`]: the copy that stays in force while a source is broken
//! - `check`: whether a list that came may take the place of the one in force
//! - [`hold`]: lists that wait for somebody's word
//! - [`backoff`]: when to ask again
//! - [`feed`]: one feed through its life: asks, checks, keeps, tells

pub mod backoff;
mod check;
pub mod feed;
pub mod fetch;
pub mod hold;
pub mod last_good;
pub mod misp;
pub mod unpack;

pub use feed::{Feed, FeedConfig, FeedStatus, News, Trouble};
