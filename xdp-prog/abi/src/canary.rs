//! The canary: an entry of every ruleset that no traffic means, asked for all the time to see whether
//! enforcement works.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::MAX_LISTS;

/// The list that every ruleset names its canary by. Feeds have the lists below it.
pub const LIST: usize = MAX_LISTS - 1;

/// What the image calls that list.
pub const NAME: &str = "canary";

/// The IPv4 address that is listed: of TEST-NET-1, which nobody has (RFC 5737).
pub const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 202);

/// The IPv6 address that is listed: of the documentation prefix, which nobody has (RFC 3849).
pub const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0xca, 0, 0, 0, 0x202);
