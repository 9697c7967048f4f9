//! Accepted indicators to a table: sorted, capped, one entry a network, one claim a feed and port.
//!
//! A row is a key and a pointer to its indicator, so that a million of them sort in 16 MB.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    feed::Class,
    indicator::{Indicator, Protocol, Traffic},
    moment::Moment,
    policy::{
        Policy,
        coverage::{self, Covered},
    },
    refusal::Why,
    table::{Claim, Entry, FeedSlot, Table},
};

/// Where an indicator is: its feed, and its position in the feed's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) feed: FeedSlot,
    pub(crate) at: u32,
}

/// What the merge asks of its caller about an indicator.
pub(crate) trait Indicators {
    fn get(&self, place: Place) -> &Indicator;
    fn ends(&self, place: Place) -> Moment;
    fn class(&self, place: Place) -> Class;
    fn confidence(&self, place: Place) -> Option<u8>;
    fn refuse(&mut self, place: Place, why: Why);
    /// Has the policy judge all claims on one network together.
    fn settle(&mut self, network: IpNet, claims: &mut [Claim]);
}

/// Accepted indicators of both families.
#[derive(Default)]
pub(crate) struct Rows {
    v4: Vec<Row<u32>>,
    v6: Vec<Row<u128>>,
}

impl Rows {
    pub(crate) fn reserve(&mut self, v4: usize, v6: usize) {
        self.v4.reserve_exact(v4);
        self.v6.reserve_exact(v6);
    }

    pub(crate) fn push(&mut self, place: Place, network: IpNet, traffic: Traffic) {
        let Place { feed, at } = place;
        let (length, traffic) = (network.prefix_len(), pack(traffic));
        match network {
            IpNet::V4(net) => {
                self.v4.push(Row { address: net.network().into(), length, feed, traffic, at });
            }
            IpNet::V6(net) => {
                self.v6.push(Row { address: net.network().into(), length, feed, traffic, at });
            }
        }
    }

    /// Fills the entries and claims of the table.
    pub(crate) fn merge(self, policy: &Policy, source: &mut impl Indicators, table: &mut Table) {
        let Self { mut v4, mut v6 } = self;
        prepare(&mut v4, policy.max_ports_per_network, policy.max_addresses_v4, source);
        prepare(&mut v6, policy.max_ports_per_network, policy.max_sites_v6, source);
        table.claims.reserve_exact(count(&v4, Row::same_claim) + count(&v6, Row::same_claim));
        table.v4 = entries(&v4, source, &mut table.claims);
        drop(v4);
        table.v6 = entries(&v6, source, &mut table.claims);
    }
}

/// A key and where its indicator is.
#[derive(Clone, Copy)]
struct Row<A> {
    address: A,
    length: u8,
    feed: FeedSlot,
    traffic: u32,
    at: u32,
}

impl<A: Address> Row<A> {
    /// Everything that the order depends on after the address, in one number.
    fn rest(&self) -> u128 {
        u128::from(self.length) << 72
            | u128::from(self.feed) << 64
            | u128::from(self.traffic) << 32
            | u128::from(self.at)
    }

    const fn place(&self) -> Place {
        Place { feed: self.feed, at: self.at }
    }

    fn same_network(&self, other: &Self) -> bool {
        (self.address, self.length) == (other.address, other.length)
    }

    fn same_claim(&self, other: &Self) -> bool {
        self.same_network(other) && (self.feed, self.traffic) == (other.feed, other.traffic)
    }
}

trait Address: Copy + Ord {
    type Net: Copy + Into<IpNet>;
    type Key: Ord;
    const LONGEST: u8;
    /// What the cap on coverage counts.
    const UNIT: &'static str;

    fn net(self, length: u8) -> Self::Net;

    /// What rows are sorted by: address, length, feed, traffic, and place in the feed.
    fn key(row: &Row<Self>) -> Self::Key;

    /// The first and the last unit of the network.
    fn units(self, length: u8) -> (u64, u64);
}

impl Address for u32 {
    type Net = Ipv4Net;
    type Key = u128;
    const LONGEST: u8 = 32;
    const UNIT: &'static str = "IPv4 addresses";

    fn net(self, length: u8) -> Ipv4Net {
        Ipv4Net::new_assert(self.into(), length.min(Self::LONGEST))
    }

    fn key(row: &Row<Self>) -> u128 {
        u128::from(row.address) << 80 | row.rest()
    }

    fn units(self, length: u8) -> (u64, u64) {
        let hosts = Self::MAX.checked_shr(length.into()).unwrap_or(0);
        (self.into(), (self | hosts).into())
    }
}

impl Address for u128 {
    type Net = Ipv6Net;
    type Key = (u128, u128);
    const LONGEST: u8 = 128;
    const UNIT: &'static str = "IPv6 /48 networks";

    fn net(self, length: u8) -> Ipv6Net {
        Ipv6Net::new_assert(self.into(), length.min(Self::LONGEST))
    }

    fn key(row: &Row<Self>) -> (u128, u128) {
        (row.address, row.rest())
    }

    fn units(self, length: u8) -> (u64, u64) {
        let hosts = Self::MAX.checked_shr(length.into()).unwrap_or(0);
        ((self >> 80) as u64, ((self | hosts) >> 80) as u64)
    }
}

/// Port and protocol in one number of 24 bits; all traffic is 0 and so comes first.
pub(crate) fn pack(traffic: Traffic) -> u32 {
    let protocol = traffic.protocol.map_or(0, |protocol| protocol.number().into());
    u32::from(traffic.port.unwrap_or(0)) << 8 | protocol
}

fn unpack(packed: u32) -> Traffic {
    let protocol = match (packed & 0xff) as u8 {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        _ => None,
    };
    Traffic { protocol, port: u16::try_from(packed >> 8).ok().filter(|&port| port != 0) }
}

/// Sorts the rows, and refuses what goes beyond the policy's limits on the whole.
fn prepare<A: Address>(
    rows: &mut Vec<Row<A>>,
    most_ports: u32,
    most_units: u64,
    source: &mut impl Indicators,
) {
    rows.sort_unstable_by_key(A::key);
    let mut last: Option<Row<A>> = None;
    let mut ports = 0_u32;
    rows.retain(|row| {
        let is_same_feed = last.is_some_and(|l| l.same_network(row) && l.feed == row.feed);
        let is_repeat = last.is_some_and(|l| l.same_claim(row));
        ports = match (is_same_feed, is_repeat) {
            (false, _) => u32::from(row.traffic != 0),
            (true, false) => ports.saturating_add(1),
            (true, true) => ports,
        };
        last = Some(*row);
        let fits = ports <= most_ports;
        if !fits {
            source.refuse(row.place(), Why::TooManyPorts { most: most_ports });
        }
        fits
    });
    let units = rows.iter().map(|row| {
        let (first, last) = row.address.units(row.length);
        Covered { first, last, length: row.length, feed: row.feed.into() }
    });
    if let Some(floors) = coverage::floors(&units, most_units, A::LONGEST) {
        rows.retain(|row| {
            let floor = floors.get(usize::from(row.feed)).copied().unwrap_or(0);
            let fits = row.length >= floor;
            if !fits {
                let why = Why::Coverage { floor, most: most_units, unit: A::UNIT };
                source.refuse(row.place(), why);
            }
            fits
        });
    }
}

/// How many groups of neighbours there are.
fn count<A>(rows: &[Row<A>], same: impl Fn(&Row<A>, &Row<A>) -> bool) -> usize {
    rows.chunk_by(same).count()
}

/// One entry for each network; its claims go to the end of `claims`.
fn entries<A: Address>(
    rows: &[Row<A>],
    source: &mut impl Indicators,
    claims: &mut Vec<Claim>,
) -> Vec<Entry<A::Net>> {
    let mut entries = Vec::with_capacity(count(rows, Row::same_network));
    for group in rows.chunk_by(Row::same_network) {
        let Some(first) = group.first() else { continue };
        let claims_at = claims.len() as u32;
        for repeats in group.chunk_by(Row::same_claim) {
            claims.extend(claim(repeats, &*source));
        }
        let claims_len = claims.len() as u32 - claims_at;
        let network = first.address.net(first.length);
        source.settle(network.into(), &mut claims[claims_at as usize..]);
        entries.push(Entry { network, claims_at, claims_len });
    }
    entries
}

/// The claim of one feed: what it says of the one that it saw last, since the earliest time.
fn claim<A: Address>(repeats: &[Row<A>], source: &impl Indicators) -> Option<Claim> {
    let newest = repeats
        .iter()
        .map(|row| (source.get(row.place()).last_seen, row))
        .reduce(|a, b| if b.0 > a.0 { b } else { a });
    let (_, row) = newest?;
    let newest = source.get(row.place());
    let first_seen = repeats.iter().filter_map(|row| source.get(row.place()).first_seen).min();
    let expires = repeats.iter().map(|row| source.ends(row.place())).max()?;
    Some(Claim {
        malware: newest.malware.clone(),
        first_seen,
        last_seen: newest.last_seen,
        confidence: source.confidence(row.place()),
        class: source.class(row.place()),
        line: newest.line,
        ..Claim::new(row.feed, unpack(row.traffic), expires)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_survives_packing() {
        for protocol in [None, Some(Protocol::Tcp), Some(Protocol::Udp)] {
            for port in [None, Some(1), Some(443), Some(u16::MAX)] {
                let traffic = Traffic { protocol, port };
                assert_eq!(unpack(pack(traffic)), traffic);
            }
        }
        assert_eq!(pack(Traffic::ANY), 0);
    }

    #[test]
    fn units_span_the_network() {
        assert_eq!(0_u32.units(0), (0, u32::MAX.into()));
        assert_eq!(0xc612_0000_u32.units(24), (0xc612_0000, 0xc612_00ff));
        assert_eq!(5_u32.units(32), (5, 5));
        assert_eq!(0_u128.units(0), (0, (1 << 48) - 1));
        assert_eq!(((7_u128 << 80) | 9).units(128), (7, 7));
    }
}
