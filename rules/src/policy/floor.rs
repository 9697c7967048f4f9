//! The prefix floor: how wide a network a feed may list.

use ipnet::IpNet;

use super::{Policy, SHORTEST_UNSET_V4, SHORTEST_UNSET_V6};
use crate::{feed::FeedSpec, refusal::Why};

/// Shortest prefixes that one feed may list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    v4: u8,
    v6: u8,
}

impl Floor {
    pub(super) fn new(spec: &FeedSpec, policy: &Policy) -> Self {
        let (v4, v6) = if spec.format.lists_networks() {
            (SHORTEST_UNSET_V4, SHORTEST_UNSET_V6)
        } else {
            (policy.min_prefix_v4, policy.min_prefix_v6)
        };
        Self { v4: spec.min_prefix_v4.unwrap_or(v4), v6: spec.min_prefix_v6.unwrap_or(v6) }
    }

    pub(super) const fn check(self, network: IpNet) -> Option<Why> {
        let (length, floor) = match network {
            IpNet::V4(net) => (net.prefix_len(), self.v4),
            IpNet::V6(net) => (net.prefix_len(), self.v6),
        };
        if length < floor { Some(Why::TooWide { floor }) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    fn shortest(format: &str, extra: &str) -> (u8, u8) {
        let text = format!("feeds: [{{name: a, source: x, format: {format}{extra}}}]");
        let catalogue = Catalogue::from_yaml(&text, "feeds.yaml").unwrap();
        let floor = Floor::new(&catalogue.feeds[0], &Policy::default());
        let fits = |text: &str, length: u8| {
            let network = IpNet::new(text.parse().unwrap(), length).unwrap();
            floor.check(network).is_none()
        };
        let v4 = (0..=32).find(|&length| fits("198.18.0.0", length)).unwrap();
        (v4, (0..=128).find(|&length| fits("2001:2::", length)).unwrap())
    }

    #[test]
    fn hosts_only_unless_the_feed_or_its_format_says_otherwise() {
        assert_eq!(shortest("plain", ""), (32, 128));
        assert_eq!(shortest("spamhaus-drop-json", ""), (24, 48));
        assert_eq!(shortest("spamhaus-drop-text", ", min_prefix_v4: 10"), (10, 48));
        assert_eq!(shortest("plain", ", min_prefix_v4: 8, min_prefix_v6: 16"), (8, 16));
    }
}
