//! A table in few bytes, to be kept and read back: what a ruleset was made of.
//!
//! Networks go as the distance to the one before; ends, arrivals and lines of claims as the difference
//! to the feed's last one. Reading is total: any bytes give a table or nothing.

use std::{collections::HashMap, sync::Arc};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    demotion::Demotions,
    feed::{Action, Class},
    indicator::{Indicator, Protocol, Traffic},
    moment::Moment,
    parse::Parsed,
    table::{Claim, Entry, FeedSlot, Table, TableFeed},
};

const ACTIONS: [Action; 4] = [Action::Observe, Action::Sinkhole, Action::Reject, Action::Drop];
const CLASSES: [Class; 5] =
    [Class::Unknown, Class::Dedicated, Class::Compromised, Class::Sinkhole, Class::Scanner];

/// Which fields of a claim follow.
mod has {
    pub(super) const PORT: u8 = 1;
    pub(super) const TCP: u8 = 2;
    pub(super) const UDP: u8 = 4;
    pub(super) const MALWARE: u8 = 8;
    pub(super) const FIRST_SEEN: u8 = 16;
    pub(super) const LAST_SEEN: u8 = 32;
    pub(super) const CONFIDENCE: u8 = 64;
    pub(super) const SINCE: u8 = 128;
}

/// A table in bytes.
pub fn encode(table: &Table) -> Vec<u8> {
    let bytes = Vec::with_capacity(table.claims.len() * 18);
    let mut writer = Writer { bytes, last: [Last::default(); 256] };
    writer.number(table.feeds.len() as u128);
    for feed in &table.feeds {
        writer.text(&feed.name);
        writer.bytes.push(index_of(&ACTIONS, &feed.action));
    }
    let mut families: HashMap<&str, u32> = HashMap::new();
    let mut names = Vec::new();
    for name in table.claims.iter().filter_map(|claim| claim.malware.as_deref()) {
        families.entry(name).or_insert_with(|| {
            names.push(name);
            names.len() as u32 - 1
        });
    }
    writer.number(names.len() as u128);
    for name in &names {
        writer.text(name);
    }
    let mut before = 0;
    writer.number(table.v4.len() as u128);
    for entry in &table.v4 {
        let address = u128::from(u32::from(entry.network.network()));
        writer.entry(
            address - before,
            entry.network.prefix_len(),
            table.claims_of(entry),
            &families,
        );
        before = address;
    }
    before = 0;
    writer.number(table.v6.len() as u128);
    for entry in &table.v6 {
        let address = u128::from(entry.network.network());
        writer.entry(
            address - before,
            entry.network.prefix_len(),
            table.claims_of(entry),
            &families,
        );
        before = address;
    }
    writer.parts(&table.never_block);
    writer.parts(&table.observed);
    writer.bytes
}

/// The table that these bytes are of.
pub fn decode(bytes: &[u8]) -> Option<Table> {
    let mut reader = Reader { bytes, last: [Last::default(); 256] };
    let mut table = Table::default();
    for _ in 0..reader.number()? {
        let name = reader.text()?;
        let action = *ACTIONS.get(usize::from(reader.byte()?))?;
        table.feeds.push(TableFeed { name, action });
    }
    let mut families = Vec::new();
    for _ in 0..reader.number()? {
        families.push(reader.text()?);
    }
    let mut before = 0_u128;
    for _ in 0..reader.number()? {
        before = before.checked_add(reader.number()?)?;
        let (length, claims_at, claims_len) = reader.entry(&families, &mut table)?;
        let network = Ipv4Net::new(u32::try_from(before).ok()?.into(), length).ok()?;
        table.v4.push(Entry { network, claims_at, claims_len });
    }
    before = 0;
    for _ in 0..reader.number()? {
        before = before.checked_add(reader.number()?)?;
        let (length, claims_at, claims_len) = reader.entry(&families, &mut table)?;
        let network = Ipv6Net::new(before.into(), length).ok()?;
        table.v6.push(Entry { network, claims_at, claims_len });
    }
    table.never_block = reader.parts()?;
    table.observed = reader.parts()?;
    reader.bytes.is_empty().then_some(table)
}

/// The claims of each feed of a table as a list that says the same, each claim with the end that it
/// had.
pub fn lists(table: &Table) -> Vec<(TableFeed, Parsed)> {
    let mut lists: Vec<_> =
        table.feeds.iter().map(|feed| (feed.clone(), Parsed::default())).collect();
    let v4 = table.v4.iter().map(|entry| (IpNet::V4(entry.network), table.claims_of(entry)));
    let v6 = table.v6.iter().map(|entry| (IpNet::V6(entry.network), table.claims_of(entry)));
    for (network, claims) in v4.chain(v6) {
        for claim in claims {
            let Some((_, list)) = lists.get_mut(usize::from(claim.feed)) else { continue };
            list.indicators.push(Indicator {
                network,
                traffic: claim.traffic,
                malware: claim.malware.clone(),
                first_seen: claim.first_seen,
                last_seen: claim.last_seen,
                confidence: claim.confidence,
                valid_until: Some(claim.expires),
                compromised: claim.class == Class::Compromised,
                line: claim.line,
            });
        }
    }
    lists
}

fn index_of<T: PartialEq>(all: &[T], one: &T) -> u8 {
    all.iter().position(|other| other == one).unwrap_or(0) as u8
}

/// What the last claim of a feed said.
#[derive(Clone, Copy, Default)]
struct Last {
    end: i64,
    since: i64,
    line: i64,
}

struct Writer {
    bytes: Vec<u8>,
    last: [Last; 256],
}

impl Writer {
    /// Seven bits a byte, the lowest first; the high bit says that more follow.
    fn number(&mut self, mut number: u128) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// A difference, small ones of either sign in few bytes.
    fn change(&mut self, from: i64, to: i64) {
        let change = to.wrapping_sub(from);
        self.number(u128::from(((change << 1) ^ (change >> 63)).cast_unsigned()));
    }

    /// Parts of wider entries.
    fn parts(&mut self, parts: &[IpNet]) {
        self.number(parts.len() as u128);
        for part in parts {
            let (is_v6, address) = match part {
                IpNet::V4(part) => (0, u128::from(u32::from(part.addr()))),
                IpNet::V6(part) => (1, u128::from(part.addr())),
            };
            self.bytes.extend([is_v6, part.prefix_len()]);
            self.number(address);
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u128);
        self.bytes.extend(text.as_bytes());
    }

    fn entry(
        &mut self,
        distance: u128,
        length: u8,
        claims: &[Claim],
        families: &HashMap<&str, u32>,
    ) {
        self.number(distance);
        self.bytes.push(length);
        self.number(claims.len() as u128);
        for claim in claims {
            self.claim(claim, families);
        }
    }

    fn claim(&mut self, claim: &Claim, families: &HashMap<&str, u32>) {
        let family = claim.malware.as_deref().and_then(|name| families.get(name));
        let protocol = match claim.traffic.protocol {
            None => 0,
            Some(Protocol::Tcp) => has::TCP,
            Some(Protocol::Udp) => has::UDP,
        };
        let flag = |is_there: bool, bit| if is_there { bit } else { 0 };
        let flags = protocol
            | flag(claim.traffic.port.is_some(), has::PORT)
            | flag(family.is_some(), has::MALWARE)
            | flag(claim.first_seen.is_some(), has::FIRST_SEEN)
            | flag(claim.last_seen.is_some(), has::LAST_SEEN)
            | flag(claim.confidence.is_some(), has::CONFIDENCE)
            | flag(claim.since.is_some(), has::SINCE);
        let class = index_of(&CLASSES, &claim.class);
        self.bytes.extend([claim.feed, flags, class, claim.score, claim.demotions.bits()]);
        let numbers = [
            claim.traffic.port.map(u128::from),
            family.map(|&family| u128::from(family)),
            claim.first_seen.map(|time| time.as_second().unsigned_abs().into()),
            claim.last_seen.map(|time| time.as_second().unsigned_abs().into()),
            claim.confidence.map(u128::from),
        ];
        for number in numbers.into_iter().flatten() {
            self.number(number);
        }
        let before = self.last[usize::from(claim.feed)];
        let now = Last {
            end: claim.expires.as_second(),
            since: claim.since.map_or(before.since, Moment::as_second),
            line: claim.line.into(),
        };
        self.change(before.end, now.end);
        self.change(before.line, now.line);
        if claim.since.is_some() {
            self.change(before.since, now.since);
        }
        self.last[usize::from(claim.feed)] = now;
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    last: [Last; 256],
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    fn number(&mut self) -> Option<u128> {
        let mut number = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn change(&mut self, from: i64) -> Option<i64> {
        let change = self.small::<u64>()?;
        from.checked_add((change >> 1).cast_signed() ^ -(change & 1).cast_signed())
    }

    fn parts(&mut self) -> Option<Vec<IpNet>> {
        let mut parts = Vec::new();
        for _ in 0..self.number()? {
            let [is_v6, length] = [self.byte()?, self.byte()?];
            let address = self.number()?;
            parts.push(match is_v6 {
                0 => Ipv4Net::new(u32::try_from(address).ok()?.into(), length).ok()?.into(),
                1 => Ipv6Net::new(address.into(), length).ok()?.into(),
                _ => return None,
            });
        }
        Some(parts)
    }

    fn small<T: TryFrom<u128>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let length = self.small::<usize>()?;
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(std::str::from_utf8(text).ok()?.into())
    }

    fn moment(&mut self) -> Option<Moment> {
        Moment::from_second(self.small::<u32>()?.into())
    }

    /// Length of the network, and where its claims are.
    fn entry(&mut self, families: &[Arc<str>], table: &mut Table) -> Option<(u8, u32, u32)> {
        let length = self.byte()?;
        let claims_at = u32::try_from(table.claims.len()).ok()?;
        let claims_len = self.small::<u32>()?;
        for _ in 0..claims_len {
            let claim = self.claim(families)?;
            table.feeds.get(usize::from(claim.feed))?;
            table.claims.push(claim);
        }
        Some((length, claims_at, claims_len))
    }

    fn claim(&mut self, families: &[Arc<str>]) -> Option<Claim> {
        let [feed, flags, class] = [self.byte()?, self.byte()?, self.byte()?];
        let [score, demotions] = [self.byte()?, self.byte()?];
        let has = |bit| flags & bit != 0;
        let port = if has(has::PORT) { Some(self.small::<u16>()?) } else { None };
        let malware = if has(has::MALWARE) {
            Some(Arc::clone(families.get(self.small::<usize>()?)?))
        } else {
            None
        };
        let first_seen = if has(has::FIRST_SEEN) { Some(self.moment()?) } else { None };
        let last_seen = if has(has::LAST_SEEN) { Some(self.moment()?) } else { None };
        let confidence = if has(has::CONFIDENCE) { Some(self.small::<u8>()?) } else { None };
        let protocol = match (has(has::TCP), has(has::UDP)) {
            (true, _) => Some(Protocol::Tcp),
            (false, true) => Some(Protocol::Udp),
            (false, false) => None,
        };
        let before = self.last[usize::from(feed)];
        let (end, line) = (self.change(before.end)?, self.change(before.line)?);
        let since = if has(has::SINCE) { Some(self.change(before.since)?) } else { None };
        self.last[usize::from(feed)] = Last { end, line, since: since.unwrap_or(before.since) };
        Some(Claim {
            feed: FeedSlot::from(feed),
            traffic: Traffic { protocol, port },
            malware,
            first_seen,
            last_seen,
            confidence,
            class: *CLASSES.get(usize::from(class))?,
            expires: Moment::from_second(end)?,
            line: line.try_into().ok()?,
            score,
            demotions: Demotions::from_bits(demotions)?,
            since: match since {
                Some(since) => Some(Moment::from_second(since)?),
                None => None,
            },
        })
    }
}
