//! From addresses to what becomes of the packet.

use sekisho_abi::{
    image::{self, Bytes, Lists, Selector},
    reason::Reason,
    record::{Address, Direction, Mode, Modes, Role},
};

use crate::{
    frame::Frame,
    parse::{self, Transport},
};

/// A packet whose remote is listed for its protocol and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The subscriber's address.
    pub subscriber: Address,
    /// The listed address.
    pub remote: Address,
    /// Where the packet was going.
    pub direction: Direction,
    /// The rule that matched.
    pub rule: u16,
    /// The lists behind the rule.
    pub lists: Lists,
    /// The subscriber's port, 0 where there is none.
    pub subscriber_port: u16,
    /// The remote's port, 0 where there is none.
    pub remote_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Flag byte of a TCP header, else 0.
    pub tcp_flags: u8,
    /// VLAN identifiers, outermost in the upper half, second in the lower.
    pub vlans: u32,
    /// How many VLAN tags there are.
    pub vlan_tags: u8,
}

/// What lists the two ends of a packet, as far as the interface's role makes them remotes.
struct Ends {
    source: Option<Selector>,
    destination: Option<Selector>,
}

impl Ends {
    #[inline(always)]
    fn look_up(
        role: Role,
        source: impl Fn() -> Option<Selector>,
        destination: impl Fn() -> Option<Selector>,
    ) -> Result<Self, Reason> {
        let destination = if role == Role::Uplink { None } else { destination() };
        // One end is enough: two lookups that may both succeed are more than the verifier follows.
        let is_done = role == Role::Subscriber || destination.is_some();
        let ends = Self { source: if is_done { None } else { source() }, destination };
        if ends.source.is_none() && ends.destination.is_none() {
            return Err(Reason::NotListed);
        }
        Ok(ends)
    }
}

/// Looks a packet up: what `matched` makes of the match, or the reason why there is none.
///
/// A callback, as a match handed back would be merged with the reason into one value, half of which
/// is undefined at any time; the verifier does not let a program touch that half.
#[inline(always)]
pub fn judge<F, I>(
    frame: &F,
    image: &I,
    role: Role,
    matched: impl FnOnce(&Match) -> Reason,
) -> Reason
where
    F: Frame + ?Sized,
    I: Bytes + ?Sized,
{
    find(frame, image, role, matched).unwrap_or_else(|reason| reason)
}

#[inline(always)]
fn find<F, I>(
    frame: &F,
    image: &I,
    role: Role,
    matched: impl FnOnce(&Match) -> Reason,
) -> Result<Reason, Reason>
where
    F: Frame + ?Sized,
    I: Bytes + ?Sized,
{
    let link = parse::link(frame)?;
    let (ends, source, destination, transport) = if link.is_ipv6 {
        let ip = parse::ipv6(frame, link.offset)?;
        let ends = Ends::look_up(
            role,
            || image::find_v6(image, ip.source.0, ip.source.1),
            || image::find_v6(image, ip.destination.0, ip.destination.1),
        )?;
        let source = Address::v6(ip.source.0, ip.source.1);
        let destination = Address::v6(ip.destination.0, ip.destination.1);
        (ends, source, destination, parse::transport_v6(frame, &ip))
    } else {
        let ip = parse::ipv4(frame, link.offset)?;
        let ends = Ends::look_up(
            role,
            || image::find_v4(image, ip.source),
            || image::find_v4(image, ip.destination),
        )?;
        let (source, destination) = (Address::v4(ip.source), Address::v4(ip.destination));
        (ends, source, destination, parse::transport_v4(frame, &ip))
    };
    let (direction, rule) = resolve(image, &ends, &transport)?;
    let (subscriber, remote) = by_role(direction, source, destination);
    let (subscriber_port, remote_port) =
        by_role(direction, transport.source_port, transport.destination_port);
    Ok(matched(&Match {
        subscriber,
        remote,
        direction,
        rule,
        lists: image::lists_of(image, rule).ok_or(Reason::NoRuleset)?,
        subscriber_port,
        remote_port,
        protocol: transport.protocol,
        tcp_flags: transport.tcp_flags,
        vlans: link.vlans,
        vlan_tags: link.tags,
    }))
}

/// Which end is the remote, and its rule.
#[inline(always)]
fn resolve<I: Bytes + ?Sized>(
    image: &I,
    ends: &Ends,
    transport: &Transport,
) -> Result<(Direction, u16), Reason> {
    let shown = |port: u16| transport.has_ports.then_some(port);
    if let Some(selector) = ends.destination {
        let port = shown(transport.destination_port);
        let rule = image::resolve(image, selector, transport.protocol, port);
        if let rule @ 1.. = rule.ok_or(Reason::NoRuleset)? {
            return Ok((Direction::Outbound, rule));
        }
    }
    if let Some(selector) = ends.source {
        let port = shown(transport.source_port);
        let rule = image::resolve(image, selector, transport.protocol, port);
        if let rule @ 1.. = rule.ok_or(Reason::NoRuleset)? {
            return Ok((Direction::Inbound, rule));
        }
    }
    Err(transport.without_match)
}

/// The subscriber's and the remote's of what belongs to a source and a destination.
#[inline(always)]
fn by_role<T>(direction: Direction, source: T, destination: T) -> (T, T) {
    match direction {
        Direction::Outbound => (source, destination),
        Direction::Inbound => (destination, source),
    }
}

/// What becomes of a packet that these lists name. `lease_holds` is asked only if it matters.
#[inline(always)]
pub fn decide(
    lists: Lists,
    modes: &Modes,
    mode: Mode,
    lease_holds: impl FnOnce() -> bool,
) -> Reason {
    let in_force = !modes.bypassed_lists;
    if lists.all() & in_force == 0 {
        return Reason::ListBypassed;
    }
    if lists.drop & in_force & !modes.observed_lists == 0 {
        return Reason::ListObserved;
    }
    match mode {
        Mode::Bypass => Reason::ModeBypass,
        Mode::Observe => Reason::ModeObserved,
        Mode::Enforce if lease_holds() => Reason::Dropped,
        Mode::Enforce => Reason::LifetimeOver,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROPPED: Lists = Lists { observe: 0b01, drop: 0b10 };

    fn enforced(lists: Lists, modes: &Modes) -> Reason {
        decide(lists, modes, Mode::Enforce, || true)
    }

    #[test]
    fn a_list_that_observes_never_drops() {
        let lists = Lists { observe: 1, drop: 0 };
        assert_eq!(enforced(lists, &Modes::all(Mode::Enforce)), Reason::ListObserved);
    }

    #[test]
    fn the_strictest_list_in_force_decides() {
        let mut modes = Modes::all(Mode::Enforce);
        assert_eq!(enforced(DROPPED, &modes), Reason::Dropped);
        modes.observed_lists = 0b10;
        assert_eq!(enforced(DROPPED, &modes), Reason::ListObserved);
        modes.bypassed_lists = 0b11;
        assert_eq!(enforced(DROPPED, &modes), Reason::ListBypassed);
    }

    #[test]
    fn observe_mode_and_a_lapsed_lease_let_pass_what_would_be_dropped() {
        let modes = Modes::all(Mode::Enforce);
        assert_eq!(decide(DROPPED, &modes, Mode::Observe, || true), Reason::ModeObserved);
        assert_eq!(decide(DROPPED, &modes, Mode::Enforce, || false), Reason::LifetimeOver);
    }
}
