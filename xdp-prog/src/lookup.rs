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

/// An address that is listed for some packets at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    selector: Selector,
    /// The address as it is listed, halves in host byte order; IPv4 as `::ffff:a.b.c.d`.
    address: (u64, u64),
}

/// What lists the two ends of a packet, as far as the interface's role makes them remotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remotes {
    source: Option<Listed>,
    destination: Option<Listed>,
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

/// The remotes among the ends of a packet, or `None` if no end is listed.
#[inline(always)]
pub fn remotes<I, S>(image: &I, site: &S, ends: &Ends) -> Option<Remotes>
where
    I: Bytes + ?Sized,
    S: Site,
{
    let role = site.role();
    let destination =
        if role == Role::Uplink { None } else { listed(image, site, ends.destination) };
    // One end is enough: two lookups that may both succeed are more than the verifier follows.
    let is_done = role == Role::Subscriber || destination.is_some();
    let source = if is_done { None } else { listed(image, site, ends.source) };
    (source.is_some() || destination.is_some()).then_some(Remotes { source, destination })
}

#[inline(always)]
fn listed<I, S>(image: &I, site: &S, address: (u64, u64)) -> Option<Listed>
where
    I: Bytes + ?Sized,
    S: Site,
{
    let (high, low) = address;
    let mut v4 = low as u32;
    if !is_mapped(high, low) {
        if let Some(selector) = image::find_v6(image, high, low) {
            return Some(Listed { selector, address });
        }
        v4 = embedded::behind(site.embedding().find(address)?, high, low);
    }
    let selector = image::find_v4(image, v4)?;
    Some(Listed { selector, address: (0, 0xffff_0000_0000 | u64::from(v4)) })
}

impl Remotes {
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
        for (direction, listed, port) in ends {
            let Some(Listed { selector, address }) = listed else { continue };
            let rule = image::resolve(image, selector, transport.protocol, shown(port));
            if let rule @ 1.. = rule.ok_or(Reason::NoRuleset)? {
                return Ok(Verdict { direction, rule, remote: address });
            }
        }
        Err(transport.without_match)
    }
}
