//! Sets of networks that answer "what of it does this network touch" in a few steps.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks of both families with a value each. Of nested ones the widest is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges<T> {
    v4: Vec<(u32, u32, Ipv4Net, T)>,
    v6: Vec<(u128, u128, Ipv6Net, T)>,
    blocks: Blocks,
}

/// Which of the 65,536 IPv4 /16 networks any network of a set touches, as bits: most addresses that
/// are asked about are in none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Blocks(Vec<u64>);

/// How a network touches one of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Touch<'a, T> {
    /// The network of the set, the first one if several.
    pub(super) range: IpNet,
    /// What the set says of it.
    pub(super) value: &'a T,
    /// Whether the network asked about lies wholly inside.
    pub(super) is_inside: bool,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self { v4: Vec::new(), v6: Vec::new(), blocks: Blocks::default() }
    }
}

impl<T> Ranges<T> {
    pub(super) fn new(networks: impl IntoIterator<Item = (IpNet, T)>) -> Self {
        let mut ranges = Self::default();
        for (network, value) in networks {
            match network {
                IpNet::V4(net) => {
                    let net = net.trunc();
                    ranges.v4.push((net.network().into(), net.broadcast().into(), net, value));
                }
                IpNet::V6(net) => {
                    let net = net.trunc();
                    ranges.v6.push((net.network().into(), net.broadcast().into(), net, value));
                }
            }
        }
        keep_widest(&mut ranges.v4);
        keep_widest(&mut ranges.v6);
        ranges.blocks = Blocks::of(ranges.v4.iter().map(|row| (row.0, row.1)));
        ranges
    }

    pub(super) const fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    pub(super) fn touching(&self, network: IpNet) -> Option<Touch<'_, T>> {
        match network {
            IpNet::V4(net) if self.blocks.are_far_from(net) => None,
            IpNet::V4(net) => touching(&self.v4, net.network().into(), net.broadcast().into())
                .map(|(net, value, is_inside)| Touch { range: net.into(), value, is_inside }),
            IpNet::V6(net) => touching(&self.v6, net.network().into(), net.broadcast().into())
                .map(|(net, value, is_inside)| Touch { range: net.into(), value, is_inside }),
        }
    }

    /// The networks of the set inside the network.
    pub(super) fn inside(&self, network: IpNet) -> Vec<IpNet> {
        match network {
            IpNet::V4(net) => inside(&self.v4, net.network().into(), net.broadcast().into())
                .map(IpNet::V4)
                .collect(),
            IpNet::V6(net) => inside(&self.v6, net.network().into(), net.broadcast().into())
                .map(IpNet::V6)
                .collect(),
        }
    }
}

/// A block is a /16: so many bits of an address stay within one.
const BLOCK_SHIFT: u8 = 16;
const BLOCK_WORDS: usize = 1 << (32 - BLOCK_SHIFT - 6);

impl Blocks {
    fn of(ranges: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut bits = Vec::new();
        for (first, last) in ranges {
            bits.resize(BLOCK_WORDS, 0_u64);
            for block in first >> BLOCK_SHIFT..=last >> BLOCK_SHIFT {
                if let Some(word) = bits.get_mut(block as usize / 64) {
                    *word |= 1 << (block % 64);
                }
            }
        }
        Self(bits)
    }

    /// Those that any of the sets touches.
    pub(super) fn union<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut bits = Vec::new();
        for Self(other) in all {
            bits.resize(bits.len().max(other.len()), 0_u64);
            bits.iter_mut().zip(other).for_each(|(sum, word)| *sum |= word);
        }
        Self(bits)
    }

    /// Whether the /16 networks that this one touches are all without any of the set.
    pub(super) fn are_far_from(&self, network: Ipv4Net) -> bool {
        let block = u32::from(network.addr()) >> BLOCK_SHIFT;
        let word = self.0.get(block as usize / 64);
        let is_touched = word.is_some_and(|word| word >> (block % 64) & 1 == 1);
        network.prefix_len() >= BLOCK_SHIFT && !is_touched
    }
}

type Row<A, N, T> = (A, A, N, T);

/// Sorts, and drops whatever lies in the row before it.
fn keep_widest<A: Ord + Copy, N, T>(rows: &mut Vec<Row<A, N, T>>) {
    rows.sort_by_key(|row| (row.0, std::cmp::Reverse(row.1)));
    rows.dedup_by(|later, earlier| later.1 <= earlier.1);
}

fn touching<A: Ord + Copy, N: Copy, T>(
    rows: &[Row<A, N, T>],
    first: A,
    last: A,
) -> Option<(N, &T, bool)> {
    // The rows are disjoint, so their ends are sorted as well.
    let at = rows.partition_point(|row| row.1 < first);
    let (from, to, network, value) = rows.get(at).filter(|row| row.0 <= last)?;
    Some((*network, value, *from <= first && last <= *to))
}

fn inside<A: Ord + Copy, N: Copy, T>(
    rows: &[Row<A, N, T>],
    first: A,
    last: A,
) -> impl Iterator<Item = N> {
    let at = rows.partition_point(|row| row.0 < first);
    rows[at..].iter().take_while(move |row| row.1 <= last).map(|row| row.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(networks: &[&str]) -> Ranges<()> {
        Ranges::new(networks.iter().map(|net| (net.parse().unwrap(), ())))
    }

    fn touch(set: &Ranges<()>, network: &str) -> Option<(String, bool)> {
        set.touching(network.parse().unwrap()).map(|t| (t.range.to_string(), t.is_inside))
    }

    #[test]
    fn inside_around_and_beside_are_told_apart() {
        let set = set(&["198.18.4.0/24", "198.18.4.7/32", "198.18.8.0/24", "2001:2::/48"]);
        let found = |range: &str, is_inside| Some((range.to_owned(), is_inside));
        assert_eq!(touch(&set, "198.18.4.7/32"), found("198.18.4.0/24", true));
        assert_eq!(touch(&set, "198.18.4.0/24"), found("198.18.4.0/24", true));
        assert_eq!(touch(&set, "198.18.0.0/16"), found("198.18.4.0/24", false));
        assert_eq!(touch(&set, "198.18.5.0/24"), None);
        assert_eq!(touch(&set, "198.18.8.0/23"), found("198.18.8.0/24", false));
        assert_eq!(touch(&set, "198.18.255.1/32"), None);
        assert_eq!(touch(&set, "2001:2::/32"), found("2001:2::/48", false));
        assert_eq!(touch(&set, "::/0"), found("2001:2::/48", false));
        assert_eq!(touch(&set, "198.19.0.0/16"), None);
        assert_eq!(touch(&set, "198.0.0.0/8"), found("198.18.4.0/24", false));
        assert_eq!(touch(&set, "0.0.0.0/0"), found("198.18.4.0/24", false));
        assert_eq!(touch(&Ranges::default(), "198.18.4.0/24"), None);
        assert_eq!(set.inside("198.18.0.0/16".parse().unwrap()).len(), 2);
        assert_eq!(set.inside("198.18.4.128/25".parse().unwrap()), vec![]);
    }
}
