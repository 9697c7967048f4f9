//! Lists from their sources to bytes, with a last good copy of each on disk.
//!
//! - [`secret`]: keys and passwords
//! - [`fetch`]: what a request brings, or why it brings none
//! - [`http`]: requests over HTTP
//! - [`misp`]: a MISP feed, whose list is a manifest and many events
//! - [`taxii`]: a TAXII 2.1 client
//! - [`crowdsec`]: a bouncer of a CrowdSec LAPI
//! - `transport`: the protocol that a feed's source speaks
//! - [`unpack`](mod@unpack): compressed lists to plain ones
//! - [`last_good`]: the copy that stays in force while a source is broken
//! - `check`: whether a list that came may take the place of the one in force
//! - [`hold`]: lists that wait for somebody's word
//! - [`backoff`]: when to ask again
//! - [`feed`]: one feed through its life: asks, checks, keeps, tells

pub mod backoff;
mod check;
pub mod crowdsec;
pub mod feed;
pub mod fetch;
pub mod hold;
pub mod http;
pub mod last_good;
pub mod misp;
mod rows;
pub mod secret;
pub mod taxii;
pub(crate) mod transport;
pub mod unpack;
#[cfg(test)]
pub(crate) mod web;

pub use feed::{Feed, FeedConfig, FeedStatus, News, Trouble};
