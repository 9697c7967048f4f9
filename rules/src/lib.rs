//! From the bytes of threat lists to a table that is safe to block.
//!
//! Pure: no I/O, no clock (the time is an argument). Long lists are gone through by several threads within
//! one call, and nothing depends on how many there are. In the order of the data:
//!
//! - [`yaml`]: configuration text to values, with errors that point at the place
//! - [`period`]: lengths of time in configuration
//! - [`moment`]: a time in four bytes
//! - [`source`]: where a list is, and by which protocol it comes
//! - [`access`]: credentials, proxy, certificates: where each is, never what it is
//! - [`feed`]: what the catalogue says of a feed: format, action, floor, expiry
//! - [`mapping`]: where a generic CSV or JSON list has what
//! - [`catalogue`]: the feeds of a file
//! - [`parse`]: the bytes of a list to indicators, one format a file
//! - [`indicator`]: what a feed claims
//! - [`change`]: whether a list may take the place of the one in force
//! - [`operator`]: what the operator decides besides: blocks, allows, suppressions
//! - [`policy`]: what no feed may make us block
//! - [`refusal`]: the indicators that the policy kept out, and why
//! - [`demotion`]: why a claim that stands does less than its feed asks for
//! - [`compile`](mod@compile): many feeds to one table
//! - [`seen`]: since when networks are in force
//! - [`overlap`]: how much of a feed other feeds say as well
//! - [`table`]: the claims that stand, merged by network, ready for the dataplane
//! - [`snapshot`]: a table in few bytes, to be kept and read back
//! - [`diff`](mod@diff): what changed from one table to another
//! - [`explain`](mod@explain): what happens to traffic of an address, and why
//! - [`story`](mod@story): all that is known of an address, stage by stage
//! - [`public`]: what may be told of an address to anybody
//! - [`shipped`]: the catalogue, policy and never-block lists that come with the program
#![forbid(unsafe_code)]

mod accept;
pub mod access;
pub mod catalogue;
pub mod change;
pub mod compile;
pub mod demotion;
pub mod diff;
pub mod explain;
pub mod feed;
pub mod indicator;
pub mod mapping;
mod merge;
pub mod moment;
pub mod operator;
pub mod overlap;
pub mod parse;
pub mod period;
pub mod policy;
pub mod public;
pub mod refusal;
pub mod seen;
pub mod shipped;
pub mod snapshot;
pub mod source;
pub mod story;
pub mod table;
pub mod yaml;
