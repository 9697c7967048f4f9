//! The networks that no feed can ever make us block, and the operator's own.

use std::sync::Arc;

use ipnet::IpNet;

use super::{
    OwnPrefix,
    ranges::{Blocks, Ranges, Touch},
};
use crate::refusal::Why;

/// A range that is refused in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// In CIDR notation.
    pub network: &'static str,
    /// What it is.
    pub name: &'static str,
    /// The document that reserves it.
    pub reference: &'static str,
}

const fn reserved(network: &'static str, name: &'static str, reference: &'static str) -> Reserved {
    Reserved { network, name, reference }
}

/// The built-in list (IANA special-purpose registries and multicast); of nested ranges the narrower
/// one comes first. The benchmark ranges of RFC 2544 and RFC 5180 are left out: they serve tests and
/// reach nobody.
pub const RESERVED: &[Reserved] = &[
    reserved("0.0.0.0/8", "this network", "RFC 791"),
    reserved("10.0.0.0/8", "private use", "RFC 1918"),
    reserved("100.64.0.0/10", "shared address space of carrier-grade NAT", "RFC 6598"),
    reserved("127.0.0.0/8", "loopback", "RFC 1122"),
    reserved("169.254.0.0/16", "link local", "RFC 3927"),
    reserved("172.16.0.0/12", "private use", "RFC 1918"),
    reserved("192.0.0.0/24", "IETF protocol assignments", "RFC 6890"),
    reserved("192.0.2.0/24", "documentation", "RFC 5737"),
    reserved("192.168.0.0/16", "private use", "RFC 1918"),
    reserved("198.51.100.0/24", "documentation", "RFC 5737"),
    reserved("203.0.113.0/24", "documentation", "RFC 5737"),
    reserved("224.0.0.0/4", "multicast", "RFC 5771"),
    reserved("255.255.255.255/32", "limited broadcast", "RFC 919"),
    reserved("240.0.0.0/4", "reserved for future use", "RFC 1112"),
    reserved("::/128", "the unspecified address", "RFC 4291"),
    reserved("::1/128", "loopback", "RFC 4291"),
    reserved("::ffff:0:0/96", "IPv4-mapped addresses", "RFC 4291"),
    reserved("64:ff9b::/96", "IPv4/IPv6 translation", "RFC 6052"),
    reserved("64:ff9b:1::/48", "local IPv4/IPv6 translation", "RFC 8215"),
    reserved("100::/64", "discard only", "RFC 6666"),
    reserved("2001:db8::/32", "documentation", "RFC 3849"),
    reserved("3fff::/20", "documentation", "RFC 9637"),
    reserved("fc00::/7", "unique local addresses", "RFC 4193"),
    reserved("fe80::/10", "link local", "RFC 4291"),
    reserved("ff00::/8", "multicast", "RFC 4291"),
    reserved("::/3", "outside the global unicast space 2000::/3", "RFC 4291"),
    reserved("4000::/2", "outside the global unicast space 2000::/3", "RFC 4291"),
    reserved("8000::/1", "outside the global unicast space 2000::/3", "RFC 4291"),
];

/// The built-in list and the operator's own networks, ready to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    reserved: Ranges<()>,
    named: Vec<(IpNet, &'static Reserved)>,
    own: Ranges<Arc<str>>,
}

impl Refused {
    pub(super) fn new(own: &[OwnPrefix]) -> Self {
        let parse = |row: &'static Reserved| Some((row.network.parse::<IpNet>().ok()?, row));
        let named: Vec<_> = RESERVED.iter().filter_map(parse).collect();
        Self {
            reserved: Ranges::new(named.iter().map(|&(network, _)| (network, ()))),
            named,
            own: Ranges::new(own.iter().map(|own| (own.network, own.name.as_str().into()))),
        }
    }

    /// The IPv4 blocks that any of the networks touches.
    pub(super) const fn blocks(&self) -> [&Blocks; 2] {
        [self.reserved.blocks(), self.own.blocks()]
    }

    /// What refuses the network, and whether the network lies wholly inside it.
    pub(super) fn check(&self, network: IpNet) -> Option<(Why, bool)> {
        if let Some(Touch { is_inside, .. }) = self.reserved.touching(network) {
            return Some((self.name(network)?, is_inside));
        }
        let Touch { range, value, is_inside } = self.own.touching(network)?;
        Some((Why::OwnPrefix { range, name: Arc::clone(value) }, is_inside))
    }

    fn name(&self, network: IpNet) -> Option<Why> {
        let touches =
            |(range, _): &&(IpNet, _)| range.contains(&network) || network.contains(range);
        let &(range, &Reserved { name, reference, .. }) = self.named.iter().find(touches)?;
        Some(Why::Reserved { range, name, reference })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(network: &str) -> Option<(String, bool)> {
        let own = [OwnPrefix { network: "198.19.0.0/20".parse().unwrap(), name: "core".into() }];
        let (why, is_inside) = Refused::new(&own).check(network.parse().unwrap())?;
        match why {
            Why::Reserved { range, .. } | Why::OwnPrefix { range, .. } => {
                Some((range.to_string(), is_inside))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_range_is_refused_whole_in_part_and_from_around() {
        let refused = Refused::new(&[]);
        for row in RESERVED {
            let range: IpNet = row.network.parse().unwrap();
            assert_eq!(range, range.trunc(), "{}", row.network);
            let first = IpNet::from(range.network());
            let last = IpNet::from(range.broadcast());
            for network in [Some(range), Some(first), Some(last), range.supernet()] {
                let Some(network) = network else { continue };
                assert!(refused.check(network).is_some(), "{network} overlaps {}", row.network);
            }
        }
    }

    #[test]
    fn the_narrowest_range_gives_the_name() {
        assert_eq!(check("fe80::1/128"), Some(("fe80::/10".into(), true)));
        assert_eq!(check("255.255.255.255/32"), Some(("255.255.255.255/32".into(), true)));
        assert_eq!(check("5000::/32"), Some(("4000::/2".into(), true)));
        assert_eq!(check("0.0.0.0/0"), Some(("0.0.0.0/8".into(), false)));
    }

    #[test]
    fn own_networks_are_refused_and_neighbours_pass() {
        assert_eq!(check("198.19.15.255/32"), Some(("198.19.0.0/20".into(), true)));
        assert_eq!(check("198.18.0.0/15"), Some(("198.19.0.0/20".into(), false)));
        for network in ["198.19.16.0/32", "9.255.255.255/32", "11.0.0.0/32", "100.128.0.0/32"] {
            assert_eq!(check(network), None, "{network}");
        }
        for network in ["2000::/128", "2001:2::1/128", "3ffe::/32", "223.255.255.255/32"] {
            assert_eq!(check(network), None, "{network}");
        }
    }
}
