//! Since when networks are in force. What is new is told by what was there before.

use std::{cmp::Ordering, collections::BTreeMap, mem, sync::Arc};

use crate::{
    merge::pack,
    moment::Moment,
    period::Period,
    table::{Claim, Entry, Table},
};

/// Most rows of networks that are listed no more; those that went first are forgotten first.
pub const MOST_GONE: usize = 1 << 20;
/// What a file of it begins with.
const MAGIC: &[u8; 8] = b"SKSEEN\x00\x01";
/// In a file, the bit beside the traffic of a row that was never staged.
const AT_ONCE: u32 = 1 << 31;

/// Every network and traffic that is or was lately in force, and every feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    v4: Vec<Row<u32>>,
    v6: Vec<Row<u128>>,
    /// Since when there is no list of a feed; `None` while there is.
    feeds: BTreeMap<Arc<str>, Option<Moment>>,
}

/// When a network and traffic came, and when it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row<A> {
    address: A,
    traffic: u32,
    since: Moment,
    /// `None` while it is in force.
    gone: Option<Moment>,
    length: u8,
    /// It came with the first list of a feed, and such lists are not staged.
    at_once: bool,
}

impl<A: Ord> Row<A> {
    const fn key(&self) -> (&A, u8, u32) {
        (&self.address, self.length, self.traffic)
    }
}

/// What the record asks about a claim that is in force.
pub(crate) trait Arrivals {
    /// Whether the claim comes with a list that need not be staged.
    fn is_at_once(&self, claim: &Claim) -> bool;
    /// Takes note of since when the claim is in force, and whether it need not be staged.
    fn arrived(&mut self, claim: &mut Claim, since: Moment, at_once: bool);
}

impl Seen {
    /// Whether a list of this feed was in force lately.
    pub fn knows(&self, feed: &str) -> bool {
        self.feeds.contains_key(feed)
    }

    /// How many networks and traffics it holds, those that are gone included.
    pub const fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The feeds alone, without those of which there has been no list for too long.
    pub(crate) fn feeds_alone(&self, clock: Clock) -> Self {
        let mut feeds = self.feeds.clone();
        for gone in feeds.values_mut() {
            *gone = Some(gone.unwrap_or(clock.now));
        }
        feeds.retain(|_, gone| gone.is_none_or(|at| clock.now <= at.after(clock.forget_after)));
        Self { v4: Vec::new(), v6: Vec::new(), feeds }
    }

    /// Takes note that there is a list of this feed.
    pub(crate) fn note(&mut self, feed: Arc<str>) {
        self.feeds.insert(feed, None);
    }

    /// Goes through the table and what was there before side by side; both are sorted alike.
    pub(crate) fn advance(
        &mut self,
        before: &Self,
        table: &mut Table,
        arrivals: &mut impl Arrivals,
        clock: Clock,
    ) {
        let Table { v4, v6, claims, .. } = table;
        let keyed = |entry: &Entry<ipnet::Ipv4Net>| {
            (u32::from(entry.network.network()), entry.network.prefix_len())
        };
        self.v4 = advance(&before.v4, v4, keyed, claims, arrivals, clock);
        let keyed = |entry: &Entry<ipnet::Ipv6Net>| {
            (u128::from(entry.network.network()), entry.network.prefix_len())
        };
        self.v6 = advance(&before.v6, v6, keyed, claims, arrivals, clock);
        forget(&mut self.v4, MOST_GONE);
        forget(&mut self.v6, MOST_GONE);
    }

    /// As the bytes of a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.v4.len() * 17 + self.v6.len() * 29);
        out.extend_from_slice(MAGIC);
        for count in [self.feeds.len(), self.v4.len(), self.v6.len()] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for (name, at) in &self.feeds {
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&seconds(*at).to_le_bytes());
        }
        for row in &self.v4 {
            out.extend_from_slice(&row.address.to_le_bytes());
            row.put(&mut out);
        }
        for row in &self.v6 {
            out.extend_from_slice(&row.address.to_le_bytes());
            row.put(&mut out);
        }
        let checksum = crc32fast::hash(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// From the bytes of a file; `None` if they are not what [`Seen::to_bytes`] made.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (bytes, checksum) = bytes.split_last_chunk()?;
        if crc32fast::hash(bytes) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let [feeds, v4, v6] = [number(&mut rest)?, number(&mut rest)?, number(&mut rest)?];
        let feed = |rest: &mut &[u8]| {
            let length = usize::from(u8::from_le_bytes(take(rest)?));
            let (name, after) = rest.split_at_checked(length)?;
            *rest = after;
            Some((std::str::from_utf8(name).ok()?.into(), moment(number(rest)?)))
        };
        let feeds = (0..feeds).map(|_| feed(&mut rest)).collect::<Option<_>>()?;
        let read = |rest: &mut &[u8]| Row::get(u32::from_le_bytes(take(rest)?), rest);
        let v4 = (0..v4).map(|_| read(&mut rest)).collect::<Option<_>>()?;
        let read = |rest: &mut &[u8]| Row::get(u128::from_le_bytes(take(rest)?), rest);
        let v6 = (0..v6).map(|_| read(&mut rest)).collect::<Option<_>>()?;
        rest.is_empty().then_some(Self { v4, v6, feeds })
    }
}

/// The time, and how long what is gone is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) now: Moment,
    pub(crate) forget_after: Period,
}

fn advance<A: Copy + Ord, N>(
    before: &[Row<A>],
    entries: &[Entry<N>],
    keyed: impl Fn(&Entry<N>) -> (A, u8),
    claims: &mut [Claim],
    arrivals: &mut impl Arrivals,
    clock: Clock,
) -> Vec<Row<A>> {
    let mut rows = Vec::with_capacity(before.len().max(entries.len()));
    let mut before = before.iter().copied().peekable();
    let mut traffics = Vec::new();
    for entry in entries {
        let (address, length) = keyed(entry);
        let claims = &mut claims[entry.claims_at as usize..][..entry.claims_len as usize];
        traffics.clear();
        traffics.extend(claims.iter().map(|claim| pack(claim.traffic)));
        traffics.sort_unstable();
        traffics.dedup();
        for &traffic in &traffics {
            let fresh =
                Row { address, traffic, since: clock.now, gone: None, length, at_once: false };
            let known = loop {
                let Some(row) = before.peek().copied() else { break None };
                match row.key().cmp(&fresh.key()) {
                    Ordering::Less => rows.extend(gone(row, clock)),
                    Ordering::Equal => break gone(row, clock),
                    Ordering::Greater => break None,
                }
                before.next();
            };
            rows.push(known.map_or(fresh, |known| Row {
                since: known.since.min(clock.now),
                at_once: known.at_once,
                ..fresh
            }));
            if known.is_some() {
                before.next();
            }
        }
        let is_other = |row: &Row<A>| (row.address, row.length) != (address, length);
        let first = rows.iter().rposition(is_other).map_or(0, |last| last + 1);
        settle(rows.get_mut(first..).unwrap_or_default(), claims, arrivals);
    }
    rows.extend(before.filter_map(|row| gone(row, clock)));
    rows
}

/// The row of what is not in force now, unless it went too long ago.
fn gone<A>(row: Row<A>, clock: Clock) -> Option<Row<A>> {
    let at = row.gone.unwrap_or(clock.now);
    (clock.now <= at.after(clock.forget_after)).then_some(Row { gone: Some(at), ..row })
}

/// Tells each claim of an entry what the entry's rows know.
fn settle<A: Ord>(rows: &mut [Row<A>], claims: &mut [Claim], arrivals: &mut impl Arrivals) {
    for claim in &*claims {
        if let Some(row) = row_of(rows, claim) {
            row.at_once |= arrivals.is_at_once(claim);
        }
    }
    for claim in claims {
        if let Some(row) = row_of(rows, claim) {
            let (since, at_once) = (row.since, row.at_once);
            arrivals.arrived(claim, since, at_once);
        }
    }
}

fn row_of<'a, A>(rows: &'a mut [Row<A>], claim: &Claim) -> Option<&'a mut Row<A>> {
    let at = match rows {
        [_] => 0,
        _ => rows.binary_search_by_key(&pack(claim.traffic), |row| row.traffic).ok()?,
    };
    rows.get_mut(at)
}

/// Forgets what went first, until no more than this many are left of what is gone.
fn forget<A>(rows: &mut Vec<Row<A>>, most: usize) {
    let mut times: Vec<Moment> = rows.iter().filter_map(|row| row.gone).collect();
    let Some(excess) = times.len().checked_sub(most).filter(|excess| *excess > 0) else { return };
    let (_, last, _) = times.select_nth_unstable(excess - 1);
    let (last, mut left) = (*last, excess);
    rows.retain(|row| {
        let goes = left > 0 && row.gone.is_some_and(|at| at <= last);
        left -= usize::from(goes);
        !goes
    });
}

impl<A> Row<A> {
    /// Everything but the address, at the end of the bytes.
    fn put(&self, out: &mut Vec<u8>) {
        let flag = if self.at_once { AT_ONCE } else { 0 };
        for number in [self.traffic | flag, seconds(Some(self.since)), seconds(self.gone)] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(self.length);
    }

    fn get(address: A, rest: &mut &[u8]) -> Option<Self> {
        let traffic = number(rest)?;
        let (since, gone) = (moment(number(rest)?)?, moment(number(rest)?));
        let [length] = take(rest)?;
        let at_once = traffic & AT_ONCE != 0;
        Some(Self { address, traffic: traffic & !AT_ONCE, since, gone, length, at_once })
    }
}

/// Zero stands for no moment.
fn seconds(moment: Option<Moment>) -> u32 {
    moment.map_or(0, |moment| u32::try_from(moment.as_second()).unwrap_or(u32::MAX))
}

fn moment(seconds: u32) -> Option<Moment> {
    Moment::from_second(seconds.into())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = mem::take(rest).split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_le_bytes)
}
