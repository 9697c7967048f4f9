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

/// The remote of a packet, and what lists it. Flat, so that every part is defined whatever the
/// packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where the packet is going.
    pub direction: Direction,
    /// The address as it is listed, halves in host byte order; IPv4 as `::ffff:a.b.c.d`.
    pub address: (u64, u64),
    /// What lists it for some packets at least.
    selector: Option<Selector>,
}

/// The selector of an address, halves in host byte order; IPv4 as `::ffff:a.b.c.d`.
#[inline(always)]
pub fn find<I: Bytes + ?Sized>(image: &I, (high, low): (u64, u64)) -> Option<Selector> {
    if is_mapped((high, low)) {
        image::find_v4(image, low as u32)
    } else {
        image::find_v6(image, high, low)
    }
}

/// Whether an address may be listed, halves in host byte order; IPv4 as `::ffff:a.b.c.d`. What this says
/// of most addresses that are not takes one memory access.
#[inline(always)]
pub(crate) fn may_hold<I: Bytes + ?Sized>(image: &I, (high, low): (u64, u64)) -> bool {
    if is_mapped((high, low)) {
        image::may_hold_v4(image, low as u32)
    } else {
        image::may_hold_v6(image, high, low)
    }
}

/// Whether an address, halves in host byte order, is `::ffff:a.b.c.d`.
#[inline(always)]
pub(crate) fn is_mapped((high, low): (u64, u64)) -> bool {
    high == 0 && low >> 32 == 0xffff
}

/// The end of a packet that the interface's role makes its remote; where that may be either, the one
/// that is listed, and the destination if both are.
#[inline(always)]
pub fn remote<I, S>(image: &I, site: &S, ends: &Ends) -> Remote
where
    I: Bytes + ?Sized,
    S: Site,
{
    let role = site.role();
    let outbound =
        Remote { direction: Direction::Outbound, address: ends.destination, selector: None };
    let inbound = Remote { direction: Direction::Inbound, address: ends.source, selector: None };
    if role != Role::Uplink {
        let found = look_up(image, site, outbound);
        if role == Role::Subscriber || found.is_listed() {
            return found;
        }
    }
    look_up(image, site, inbound)
}

#[inline(always)]
fn look_up<I, S>(image: &I, site: &S, remote: Remote) -> Remote
where
    I: Bytes + ?Sized,
    S: Site,
{
    let (high, low) = remote.address;
    let mut v4 = low as u32;
    if !is_mapped(remote.address) {
        let selector = image::find_v6(image, high, low);
        if selector.is_some() {
            return Remote { selector, ..remote };
        }
        match site.embedding().find(remote.address) {
            Some(prefix) => v4 = embedded::behind(prefix, high, low),
            None => return remote,
        }
    }
    match image::find_v4(image, v4) {
        None => remote,
        selector => Remote { selector, address: (0, 0xffff_0000_0000 | u64::from(v4)), ..remote },
    }
}

impl Remote {
    /// Whether it is listed for some packets at least.
    #[inline(always)]
    pub fn is_listed(&self) -> bool {
        self.selector.is_some()
    }

    /// Whether it is listed for every packet of a protocol.
    #[inline(always)]
    pub fn is_listed_for<I: Bytes + ?Sized>(&self, image: &I, protocol: u8) -> bool {
        let Some(selector) = self.selector else { return false };
        image::resolve(image, selector, protocol, None) != Some(0)
    }

    /// The rule for this packet, never 0, or why there is none.
    #[inline(always)]
    pub fn rule<I: Bytes + ?Sized>(&self, image: &I, transport: &Transport) -> Result<u16, Reason> {
        let Some(selector) = self.selector else { return Err(Reason::NotListed) };
        let port = match self.direction {
            Direction::Outbound => transport.destination_port,
            Direction::Inbound => transport.source_port,
        };
        let shown = transport.has_ports.then_some(port);
        match image::resolve(image, selector, transport.protocol, shown) {
            Some(0) => Err(transport.without_match),
            Some(rule) => Ok(rule),
            None => Err(Reason::NoRuleset),
        }
    }
}
