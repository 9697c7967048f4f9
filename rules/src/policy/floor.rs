//! The prefix floor: how wide a network a feed may list.

use ipnet::IpNet;

use super::Policy;
use crate::{feed::FeedSpec, refusal::Why};

/// Shortest prefixes that one feed may list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    v4: u8,
    v6: u8,
}

impl Floor {
    pub(super) fn new(spec: &FeedSpec, policy: &Policy) -> Self {
        Self {
            v4: spec.min_prefix_v4.unwrap_or(policy.min_prefix_v4),
            v6: spec.min_prefix_v6.unwrap_or(policy.min_prefix_v6),
        }
    }

    pub(super) const fn check(self, network: IpNet) -> Option<Why> {
        let (length, floor) = match network {
            IpNet::V4(net) => (net.prefix_len(), self.v4),
            IpNet::V6(net) => (net.prefix_len(), self.v6),
        };
        if length < floor { Some(Why::TooWide { floor }) } else { None }
    }
}
