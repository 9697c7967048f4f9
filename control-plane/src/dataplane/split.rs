//! Entries around the parts of them that are only observed.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks that wider entries only observe: disjoint, sorted by address.
pub(super) struct Observed {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

impl Observed {
    pub(super) fn of(parts: &[IpNet]) -> Self {
        let v4 = parts.iter().filter_map(|part| match part {
            IpNet::V4(part) => Some(*part),
            IpNet::V6(_) => None,
        });
        let v6 = parts.iter().filter_map(|part| match part {
            IpNet::V6(part) => Some(*part),
            IpNet::V4(_) => None,
        });
        let (mut v4, mut v6): (Vec<_>, Vec<_>) = (v4.collect(), v6.collect());
        v4.sort_unstable();
        v6.sort_unstable();
        Self { v4, v6 }
    }

    /// Hands over the network in pieces, each with whether it is one of the parts.
    pub(super) fn split_v4(&self, network: Ipv4Net, piece: &mut impl FnMut(Ipv4Net, bool)) {
        let inside = |part: &Ipv4Net| network.contains(part);
        let first = self.v4.partition_point(|part| part.network() < network.network());
        let parts = self.v4.get(first..).unwrap_or_default();
        let parts = &parts[..parts.iter().take_while(|part| inside(part)).count()];
        let halves = |whole: Ipv4Net| whole.subnets(whole.prefix_len() + 1).ok();
        split(network, parts, &|whole, part: &Ipv4Net| whole.contains(part), &halves, piece);
    }

    /// The same for IPv6.
    pub(super) fn split_v6(&self, network: Ipv6Net, piece: &mut impl FnMut(Ipv6Net, bool)) {
        let inside = |part: &Ipv6Net| network.contains(part);
        let first = self.v6.partition_point(|part| part.network() < network.network());
        let parts = self.v6.get(first..).unwrap_or_default();
        let parts = &parts[..parts.iter().take_while(|part| inside(part)).count()];
        let halves = |whole: Ipv6Net| whole.subnets(whole.prefix_len() + 1).ok();
        split(network, parts, &|whole, part: &Ipv6Net| whole.contains(part), &halves, piece);
    }
}

/// Halves a network until each piece is a part or has none in it. An entry that is a part itself has
/// been demoted as a whole.
fn split<N: Copy + PartialEq, H: Iterator<Item = N>>(
    whole: N,
    parts: &[N],
    covers: &impl Fn(N, &N) -> bool,
    halves: &impl Fn(N) -> Option<H>,
    piece: &mut impl FnMut(N, bool),
) {
    match parts {
        [] => piece(whole, false),
        [part] if *part == whole => piece(whole, true),
        _ => {
            for half in halves(whole).into_iter().flatten() {
                let first = parts.iter().take_while(|part| !covers(half, part)).count();
                let rest = parts.get(first..).unwrap_or_default();
                let own = rest.iter().take_while(|part| covers(half, part)).count();
                split(half, &rest[..own], covers, halves, piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(network: &str, parts: &[&str]) -> Vec<String> {
        let parts: Vec<IpNet> = parts.iter().map(|part| part.parse().unwrap()).collect();
        let observed = Observed::of(&parts);
        let mut told = Vec::new();
        let mut tell = |piece: IpNet, is_part| {
            told.push(format!("{piece}{}", if is_part { " observed" } else { "" }));
        };
        match network.parse().unwrap() {
            IpNet::V4(network) => observed.split_v4(network, &mut |p, o| tell(p.into(), o)),
            IpNet::V6(network) => observed.split_v6(network, &mut |p, o| tell(p.into(), o)),
        }
        told
    }

    #[test]
    fn a_network_is_handed_over_whole_or_around_its_parts() {
        let parts = ["198.18.4.7/32", "198.18.5.0/24", "2001:2::/34"];
        assert_eq!(pieces("198.18.6.0/24", &parts), ["198.18.6.0/24"]);
        assert_eq!(pieces("198.18.4.6/32", &parts), ["198.18.4.6/32"]);
        assert_eq!(
            pieces("198.18.4.4/30", &parts),
            ["198.18.4.4/31", "198.18.4.6/32", "198.18.4.7/32 observed"]
        );
        assert_eq!(
            pieces("2001:2::/32", &parts),
            ["2001:2::/34 observed", "2001:2:4000::/34", "2001:2:8000::/33"]
        );
        assert_eq!(pieces("198.18.4.0/23", &parts).len(), 8 + 1 + 1);
    }

    #[test]
    fn pieces_cover_the_network_once() {
        let parts = ["198.18.0.0/32", "198.18.0.77/32", "198.18.0.78/31", "198.18.0.255/32"];
        let pieces = pieces("198.18.0.0/24", &parts);
        let nets = pieces.iter().map(|piece| piece.trim_end_matches(" observed"));
        let nets: Vec<Ipv4Net> = nets.map(|net| net.parse().unwrap()).collect();
        assert_eq!(nets.iter().map(|net| 1_u64 << (32 - net.prefix_len())).sum::<u64>(), 256);
        assert_eq!(Ipv4Net::aggregate(&nets), ["198.18.0.0/24".parse().unwrap()]);
        assert_eq!(pieces.iter().filter(|piece| piece.ends_with("observed")).count(), 4);
    }
}
