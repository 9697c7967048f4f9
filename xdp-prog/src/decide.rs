//! From addresses to what becomes of the packet.

use sekisho_abi::{
    image::{self, Bytes, Lists, Selector},
    reason::Reason,
    record::{Address, Direction, FlowKey, Mode, Modes, Role},
};

use crate::{
    frame::Frame,
    parse::{self, Transport},
};

/// What, beside the flow key, is known of a packet whose remote is listed for its protocol and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The subscriber's port in network byte order, 0 where there is none.
    pub subscriber_port: [u8; 2],
    /// Flag byte of a TCP header, else 0.
    pub tcp_flags: u8,
    /// The lists that name the remote.
    pub lists: Lists,
}

/// Looks a packet up: the match, or the reason why there is none.
///
/// A match fills `key` in, but for `generation`, `reason`, `port` and `reserved`. The caller lends
/// the key's memory because the kernel gives a program 512 bytes of stack.
#[inline(always)]
pub fn find<F, I>(frame: &F, image: &I, role: Role, key: &mut FlowKey) -> Result<Match, Reason>
where
    F: Frame + ?Sized,
    I: Bytes + ?Sized,
{
    let link = parse::link(frame)?;
    key.vlans = link.vlans;
    key.vlan_tags = link.tags;
    if link.is_ipv6 {
        find_v6(frame, image, role, link.offset, key)
    } else {
        find_v4(frame, image, role, link.offset, key)
    }
}

#[inline(always)]
fn find_v4<F, I>(
    frame: &F,
    image: &I,
    role: Role,
    offset: usize,
    key: &mut FlowKey,
) -> Result<Match, Reason>
where
    F: Frame + ?Sized,
    I: Bytes + ?Sized,
{
    let ip = parse::ipv4(frame, offset)?;
    let (direction, selector) = remote(
        role,
        || image::find_v4(image, ip.destination),
        || image::find_v4(image, ip.source),
    )?;
    let transport = parse::transport_v4(frame, &ip);
    let found = resolve(image, selector, direction, &transport, key)?;
    (key.subscriber, key.remote) =
        by_role(direction, Address::v4(ip.source), Address::v4(ip.destination));
    Ok(found)
}

#[inline(always)]
fn find_v6<F, I>(
    frame: &F,
    image: &I,
    role: Role,
    offset: usize,
    key: &mut FlowKey,
) -> Result<Match, Reason>
where
    F: Frame + ?Sized,
    I: Bytes + ?Sized,
{
    let ip = parse::ipv6(frame, offset)?;
    let (direction, selector) = remote(
        role,
        || image::find_v6(image, ip.destination.0, ip.destination.1),
        || image::find_v6(image, ip.source.0, ip.source.1),
    )?;
    let transport = parse::transport_v6(frame, &ip);
    let found = resolve(image, selector, direction, &transport, key)?;
    (key.subscriber, key.remote) = by_role(
        direction,
        Address::v6(ip.source.0, ip.source.1),
        Address::v6(ip.destination.0, ip.destination.1),
    );
    Ok(found)
}

/// The subscriber's and the remote's of what belongs to a source and a destination.
#[inline(always)]
fn by_role<T>(direction: Direction, source: T, destination: T) -> (T, T) {
    match direction {
        Direction::Outbound => (source, destination),
        Direction::Inbound => (destination, source),
    }
}

/// Which end is the remote, by the role of the interface, and what lists it.
#[inline(always)]
fn remote(
    role: Role,
    destination: impl Fn() -> Option<Selector>,
    source: impl Fn() -> Option<Selector>,
) -> Result<(Direction, Selector), Reason> {
    if role != Role::Uplink
        && let Some(selector) = destination()
    {
        return Ok((Direction::Outbound, selector));
    }
    if role != Role::Subscriber
        && let Some(selector) = source()
    {
        return Ok((Direction::Inbound, selector));
    }
    Err(Reason::NotListed)
}

#[inline(always)]
fn resolve<I: Bytes + ?Sized>(
    image: &I,
    selector: Selector,
    direction: Direction,
    transport: &Transport,
    key: &mut FlowKey,
) -> Result<Match, Reason> {
    let ports = transport.ports.ok().flatten();
    let ports = ports.map(|(source, destination)| by_role(direction, source, destination));
    let remote_port = ports.map(|(_, remote)| remote);
    let rule = image::resolve(image, selector, transport.protocol, remote_port)
        .ok_or(Reason::NoRuleset)?;
    if rule == 0 {
        return Err(transport.ports.err().unwrap_or(Reason::PortNotListed));
    }
    let lists = image::lists_of(image, rule).ok_or(Reason::NoRuleset)?;
    key.rule = rule;
    key.remote_port = remote_port.unwrap_or(0).to_be_bytes();
    key.protocol = transport.protocol;
    key.class = transport.class() as u8;
    key.direction = direction as u8;
    Ok(Match {
        subscriber_port: ports.map_or(0, |(subscriber, _)| subscriber).to_be_bytes(),
        tcp_flags: transport.tcp_flags,
        lists,
    })
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
