//! Accepted indicators to a table: sorted, capped, one entry a network, one claim a feed and port.
//!
//! A row is a key and a pointer to its indicator, so that a million of them sort in 20 MB. The sorted rows'
//! indicators lie anywhere in memory, and each is waited for; of a list of addresses alone the rows say it all.

use std::mem;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rayon::prelude::*;

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

/// Entries of a piece whose claims are settled in one go.
const PIECE: usize = 1 << 14;

/// What the merge asks of its caller about an indicator; several pieces of the table ask at once.
pub(crate) trait Indicators: Sync {
    /// What is counted of the networks of one piece.
    type Tally: Send;

    fn get(&self, place: Place) -> &Indicator;
    fn ends(&self, feed: FeedSlot, indicator: &Indicator) -> Moment;
    fn class(&self, feed: FeedSlot, indicator: &Indicator) -> Class;
    fn confidence(&self, feed: FeedSlot, indicator: &Indicator) -> Option<u8>;
    fn refuse(&mut self, place: Place, why: Why);
    /// One in which nothing is counted yet.
    fn tally(&self) -> Self::Tally;
    /// Has the policy judge all claims on one network together.
    fn settle(&self, network: IpNet, claims: &mut [Claim], tally: &mut Self::Tally);
    /// Takes what was counted of a piece.
    fn add(&mut self, tally: Self::Tally);
}

/// Accepted indicators of both families.
#[derive(Default)]
pub(crate) struct Rows {
    v4: Vec<Row<u32>>,
    v6: Vec<Row<u128>>,
}

impl Rows {
    /// None yet, with room for all of these.
    pub(crate) fn with_room_for<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let v4 = all.clone().map(|rows| rows.v4.len()).sum();
        let v6 = all.map(|rows| rows.v6.len()).sum();
        Self { v4: Vec::with_capacity(v4), v6: Vec::with_capacity(v6) }
    }

    pub(crate) fn append(&mut self, mut next: Self) {
        self.v4.append(&mut next.v4);
        self.v6.append(&mut next.v6);
    }

    pub(crate) fn push(&mut self, place: Place, indicator: &Indicator, traffic: Traffic) {
        let traffic = pack(traffic);
        match indicator.network {
            IpNet::V4(net) => {
                let address = net.network().into();
                self.v4.push(Row::new(address, net.prefix_len(), place, traffic, indicator));
            }
            IpNet::V6(net) => {
                let address = net.network().into();
                self.v6.push(Row::new(address, net.prefix_len(), place, traffic, indicator));
            }
        }
    }

    /// Fills the entries and claims of the table.
    pub(crate) fn merge(self, policy: &Policy, source: &mut impl Indicators, table: &mut Table) {
        let Self { mut v4, mut v6 } = self;
        prepare(&mut v4, policy.max_ports_per_network, policy.max_addresses_v4, source);
        prepare(&mut v6, policy.max_ports_per_network, policy.max_sites_v6, source);
        let (groups_v4, groups_v6) = (Groups::of(&v4), Groups::of(&v6));
        table.claims.reserve_exact(groups_v4.claims.len() + groups_v6.claims.len());
        table.v4 = entries(&v4, &groups_v4, source, &mut table.claims);
        drop((v4, groups_v4));
        table.v6 = entries(&v6, &groups_v6, source, &mut table.claims);
    }
}

/// A key and where its indicator is.
#[derive(Clone, Copy)]
struct Row<A> {
    address: A,
    length: u8,
    feed: FeedSlot,
    /// Whether the indicator says no more than the row does.
    is_bare: bool,
    traffic: u32,
    at: u32,
    line: u32,
}

impl<A: Address> Row<A> {
    const fn new(
        address: A,
        length: u8,
        place: Place,
        traffic: u32,
        indicator: &Indicator,
    ) -> Self {
        let Place { feed, at } = place;
        let (is_bare, line) = (indicator.is_bare(), indicator.line);
        Self { address, length, feed, is_bare, traffic, at, line }
    }

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

trait Address: Copy + Ord + Send + Sync {
    type Net: Copy + Into<IpNet> + Send + Sync;
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
    rows.par_sort_unstable_by_key(A::key);
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

/// Where neighbours that belong together begin, in order.
struct Groups {
    /// The rows that begin a claim.
    claims: Vec<u32>,
    /// Of these, the ones that begin a network.
    networks: Vec<u32>,
}

impl Groups {
    fn of<A: Address>(rows: &[Row<A>]) -> Self {
        let mut groups = Self {
            claims: Vec::with_capacity(rows.len()),
            networks: Vec::with_capacity(rows.len()),
        };
        let mut last: Option<&Row<A>> = None;
        for (row, at) in rows.iter().zip(0..) {
            if !last.is_some_and(|last| last.same_claim(row)) {
                if !last.is_some_and(|last| last.same_network(row)) {
                    groups.networks.push(groups.claims.len() as u32);
                }
                groups.claims.push(at);
            }
            last = Some(row);
        }
        groups
    }
}

/// The nth group, given where each begins and where all end.
fn group(begins: &[u32], at: usize, end: usize) -> std::ops::Range<usize> {
    begins[at] as usize..begins.get(at + 1).map_or(end, |next| *next as usize)
}

/// One entry for each network; its claims go to the end of `claims`.
fn entries<A: Address, I: Indicators>(
    rows: &[Row<A>],
    groups: &Groups,
    source: &mut I,
    claims: &mut Vec<Claim>,
) -> Vec<Entry<A::Net>> {
    let before = claims.len();
    let reader = &*source;
    let of_rows = |at| claim(&rows[group(&groups.claims, at, rows.len())], reader);
    claims.par_extend((0..groups.claims.len()).into_par_iter().map(of_rows));
    let entry = |at| {
        let of_network = group(&groups.networks, at, groups.claims.len());
        let first = &rows[groups.claims[of_network.start] as usize];
        Entry {
            network: first.address.net(first.length),
            claims_at: (before + of_network.start) as u32,
            claims_len: of_network.len() as u32,
        }
    };
    let entries: Vec<_> = (0..groups.networks.len()).into_par_iter().map(entry).collect();
    settle(&entries, source, &mut claims[before..]);
    entries
}

/// Has the claims of each entry judged together.
fn settle<N, I>(entries: &[Entry<N>], source: &mut I, mut claims: &mut [Claim])
where
    N: Copy + Into<IpNet> + Sync,
    I: Indicators,
{
    let pieces: Vec<_> = entries
        .chunks(PIECE)
        .map(|entries| {
            let count = entries.iter().map(|entry| entry.claims_len as usize).sum();
            let (own, rest) = mem::take(&mut claims).split_at_mut(count);
            claims = rest;
            (entries, own)
        })
        .collect();
    let reader = &*source;
    let settled = |(entries, mut claims): (&[Entry<N>], &mut [Claim])| {
        let mut tally = reader.tally();
        for entry in entries {
            let (own, rest) = mem::take(&mut claims).split_at_mut(entry.claims_len as usize);
            reader.settle(entry.network.into(), own, &mut tally);
            claims = rest;
        }
        tally
    };
    let tallies: Vec<_> = pieces.into_par_iter().map(settled).collect();
    tallies.into_iter().for_each(|tally| source.add(tally));
}

/// The claim of one feed: what it says of the one that it saw last, since the earliest time.
fn claim<A: Address>(repeats: &[Row<A>], source: &impl Indicators) -> Claim {
    let Row { feed, traffic, .. } = repeats[0];
    let claim = |first: &Indicator, others: &[Row<A>]| {
        let mut newest = first;
        let mut first_seen = first.first_seen;
        let mut expires = source.ends(feed, first);
        for repeat in others {
            let repeat = source.get(repeat.place());
            first_seen = first_seen.into_iter().chain(repeat.first_seen).min();
            expires = expires.max(source.ends(feed, repeat));
            if repeat.last_seen > newest.last_seen {
                newest = repeat;
            }
        }
        Claim {
            malware: newest.malware.clone(),
            first_seen,
            last_seen: newest.last_seen,
            confidence: source.confidence(feed, newest),
            class: source.class(feed, newest),
            line: newest.line,
            ..Claim::new(feed, unpack(traffic), expires)
        }
    };
    match repeats {
        [alone] if alone.is_bare => {
            let network = alone.address.net(alone.length).into();
            claim(&Indicator::bare(network, unpack(traffic), alone.line), &[])
        }
        _ => claim(source.get(repeats[0].place()), &repeats[1..]),
    }
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
