//! From the addresses of a packet to the rule that lists one of them.

use sekisho_abi::{
    image::{self, Bytes, Selector},
    reason::Reason,
    record::{Direction, Role},
};

use crate::{
    embedded,
    parse::{Ends, Transport},
    site::{PrefixSet, Site},
};

/// One end of a packet, and what lists it. Flat, so that every part is defined whatever the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// The address as it is listed, halves in host byte order; IPv4 as `::ffff:a.b.c.d`.
    address: (u64, u64),
    /// What lists it for some packets at least.
    selector: Option<Selector>,
}

/// What lists the two ends of a packet, as far as the interface's role makes them remotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remotes {
    source: End,
    destination: End,
}

/// Which end of a packet is the remote, and by what it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where the packet is going.
    pub direction: Direction,
    /// The rule, never 0.
    pub rule: u16,
    /// The remote as it is listed.
    pub remote: (u64, u64),
}

/// The selector of an address, halves in host byte order; IPv4 as `::ffff:a.b.c.d`.
#[inline(always)]
pub fn find<I: Bytes + ?Sized>(image: &I, (high, low): (u64, u64)) -> Option<Selector> {
    if is_mapped(high, low) {
        image::find_v4(image, low as u32)
    } else {
        image::find_v6(image, high, low)
    }
}

#[inline(always)]
fn is_mapped(high: u64, low: u64) -> bool {
    high == 0 && low >> 32 == 0xffff
}

/// The remotes among the ends of a packet.
#[inline(always)]
pub fn remotes<I, S>(image: &I, site: &S, ends: &Ends) -> Remotes
where
    I: Bytes + ?Sized,
    S: Site,
{
    let role = site.role();
    let mut destination = End { address: ends.destination, selector: None };
    if role != Role::Uplink {
        destination = look_up(image, site, destination);
    }
    let mut source = End { address: ends.source, selector: None };
    // One end is enough: two lookups that may both succeed are more than the verifier follows.
    if role != Role::Subscriber && destination.selector.is_none() {
        source = look_up(image, site, source);
    }
    Remotes { source, destination }
}

#[inline(always)]
fn look_up<I, S>(image: &I, site: &S, end: End) -> End
where
    I: Bytes + ?Sized,
    S: Site,
{
    let (high, low) = end.address;
    let mut v4 = low as u32;
    if !is_mapped(high, low) {
        let selector = image::find_v6(image, high, low);
        if selector.is_some() {
            return End { selector, ..end };
        }
        match site.embedding().find(end.address) {
            Some(prefix) => v4 = embedded::behind(prefix, high, low),
            None => return end,
        }
    }
    match image::find_v4(image, v4) {
        None => end,
        selector => End { selector, address: (0, 0xffff_0000_0000 | u64::from(v4)) },
    }
}

impl Remotes {
    /// Whether any end is listed.
    #[inline(always)]
    pub fn any(&self) -> bool {
        self.source.selector.is_some() || self.destination.selector.is_some()
    }

    /// The rule for this packet, or why there is none.
    #[inline(always)]
    pub fn resolve<I: Bytes + ?Sized>(
        &self,
        image: &I,
        transport: &Transport,
    ) -> Result<Verdict, Reason> {
        let shown = |port: u16| transport.has_ports.then_some(port);
        let ends = [
            (Direction::Outbound, self.destination, transport.destination_port),
            (Direction::Inbound, self.source, transport.source_port),
        ];
        for (direction, End { address, selector }, port) in ends {
            let Some(selector) = selector else { continue };
            let rule = image::resolve(image, selector, transport.protocol, shown(port));
            if let rule @ 1.. = rule.ok_or(Reason::NoRuleset)? {
                return Ok(Verdict { direction, rule, remote: address });
            }
        }
        Err(transport.without_match)
    }
}
