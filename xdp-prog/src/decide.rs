//! From a frame to what becomes of it.

use sekisho_abi::{
    canary,
    encapsulation::Encapsulation,
    flow::ConversationKey,
    image::{self, Bytes, Lists},
    reason::{Reason, Verdict},
    record::{Address, Direction, FlagClass, Mode, Modes},
};

use crate::{
    flow::{self, Words},
    frame::Frame,
    lookup::{self, Remote},
    opted_out::is_opted_out,
    parse::{self, Ip, Link, Transport},
    protected::{is_protected, may_be_service},
    site::{PrefixSet as _, Site},
};

/// A packet from or to a listed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The subscriber's address; in a tunnel the outer one.
    pub subscriber: Address,
    /// The listed address.
    pub remote: Address,
    /// Where the packet was going.
    pub direction: Direction,
    /// What is in front of the outer IP header.
    pub link: Link,
    /// Everything that the packet is wrapped in.
    pub encapsulation: Encapsulation,
    /// The packet itself: the inner one of a tunnel.
    pub ip: Ip,
    /// Its transport layer.
    pub transport: Transport,
}

/// A packet whose remote is listed for its protocol and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The packet.
    pub packet: Sighting,
    /// In a tunnel the inner address at the subscriber's end, else zero.
    pub inner_subscriber: Address,
    /// In a tunnel, or around an embedded address, the outer address at the remote end, else zero.
    pub outer_remote: Address,
    /// The rule that matched.
    pub rule: u16,
    /// The lists behind the rule.
    pub lists: Lists,
}

/// The flows of an interface.
pub trait Flows {
    /// Port slot of the interface.
    fn port(&self) -> u8;
    /// Whether the last packet was listed, as far as its address goes.
    fn are_expected(&self) -> bool;
    /// Remembers that for the next time.
    fn expect(&mut self, are_expected: bool);
    /// What became of earlier packets of the same flow.
    fn known(&mut self, flow: Words) -> Known;
    /// Begins the flow that was asked for last, if its first packet is dropped.
    fn begin(&mut self, first: &First) -> Option<Reason>;
}

/// What is known of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: this may be its first packet.
    Not,
    /// What became of earlier packets holds for this one too.
    As(Reason),
    /// The whole way has to be gone.
    Elsewhere,
}

/// A flow's first packet, between IPv4 addresses and in no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// The subscriber's port.
    pub subscriber_port: u16,
    /// Flag byte of a TCP header, else 0.
    pub tcp_flags: u8,
    /// The rule that matched.
    pub rule: u16,
    /// The lists behind the rule that ask for a drop.
    pub dropping: u64,
}

/// Where packets go that matched.
///
/// A trait, as a match handed back would be merged with the reason into one value, half of which is
/// undefined at any time; the verifier does not let a program touch that half.
pub trait Matches {
    /// Takes one.
    fn take(&mut self, found: &Match);
}

impl Sighting {
    /// The subscriber's and the remote's port, 0 where there is none.
    #[inline(always)]
    pub fn ports(&self) -> (u16, u16) {
        by_end(self.direction, self.transport.source_port, self.transport.destination_port)
    }

    /// Flag byte of a TCP header, else 0.
    #[inline(always)]
    pub fn tcp_flags(&self) -> u8 {
        if self.transport.protocol == parse::protocol::TCP {
            self.transport.flags_or_type
        } else {
            0
        }
    }
}

impl Match {
    /// Whether only the canary entry names the remote.
    #[inline(always)]
    pub fn is_canary(&self) -> bool {
        self.lists.all() == 1 << canary::LIST
    }
}

/// The reason of most packets, by a way that is half as long: TCP and UDP, in two VLAN tags and a PPPoE
/// session at most, if they are not listed, or are of an IPv4 flow that is known or begins with a drop.
/// `None` for others, and for all who have somebody in their neighbourhood that opted out.
///
/// The direction is that of every packet on the interface: where either end may be the remote, the
/// verifier would follow all that comes after twice.
#[inline(always)]
pub fn shortcut<F, I, S, L>(
    frame: &F,
    image: &I,
    site: &S,
    direction: Direction,
    flows: &mut L,
) -> Option<Reason>
where
    F: Frame + ?Sized,
    I: Bytes + ?Sized,
    S: Site,
    L: Flows,
{
    let (is_ipv6, offset, link) = match parse::bare_link(frame) {
        Some((is_ipv6, offset)) => (is_ipv6, offset, 0),
        None => {
            let link = parse::usual_link(frame, || site.unwrapped())?;
            (link.is_ipv6, link.offset, flow::link(&link).word())
        }
    };
    let (offset, link) = (frame.forget_offset(offset), frame.forget(link));
    if is_ipv6 {
        let ends = parse::usual_ipv6(frame, offset)?;
        let (subscriber, remote) = by_end(direction, ends.source, ends.destination);
        let is_clean = !may_have_opted_out(site, subscriber)
            && !image::may_hold_v6(image, remote.0, remote.1)
            && !lookup::is_mapped(remote)
            && site.embedding().find(remote).is_none();
        return is_clean.then_some(Reason::NotListed);
    }
    let ip = parse::usual_ipv4(frame, offset)?;
    let (subscriber, remote) = by_end(direction, ip.source, ip.destination);
    if may_have_opted_out(site, (0, 0xffff_0000_0000 | u64::from(u32::from_be(subscriber)))) {
        return None;
    }
    let address = u32::from_be(remote);
    // A flow that is known takes no look into the ruleset, and what is not listed none for its flow. Each
    // of both is a wait for memory, so what it was last time is asked first.
    if !flows.are_expected() {
        if !image::may_be_v4(image, address) {
            return Some(Reason::NotListed);
        }
        flows.expect(true);
    }
    let tcp_flags = ip.tcp_flags(frame)?;
    let (subscriber_port, remote_port) = by_end(direction, ip.source_port, ip.destination_port);
    let conversation = ConversationKey {
        remote_port,
        protocol: ip.protocol,
        class: FlagClass::number_of_tcp(tcp_flags),
        direction: direction as u8,
        port: flows.port(),
    }
    .word();
    let known = if may_be_service(frame, ip.source_port, ip.destination_port) {
        Known::Elsewhere
    } else {
        flows.known(Words::of_v4(subscriber, remote, link, conversation))
    };
    if let Known::As(reason) = known {
        return Some(reason);
    }
    let Some(selector) = image::find_v4(image, address) else {
        flows.expect(false);
        return Some(Reason::NotListed);
    };
    if known == Known::Elsewhere {
        return None;
    }
    let rule = image::rule_of_all(image, selector)?;
    let dropping = image::dropping(image, rule)?;
    flows.begin(&First { subscriber_port, tcp_flags, rule, dropping })
}

/// Whether somebody opted out near this address, halves in host byte order; IPv4 as `::ffff:a.b.c.d`.
#[inline(always)]
fn may_have_opted_out<S: Site>(site: &S, subscriber: (u64, u64)) -> bool {
    let Some(opt_outs) = site.opt_outs() else { return false };
    lookup::may_hold(&opt_outs, subscriber)
}

/// The reason of any packet but those that `matches` takes.
#[inline(always)]
pub fn whole_way<F, I, S, M>(frame: &F, image: &I, site: &S, matches: &mut M) -> Option<Reason>
where
    F: Frame + ?Sized,
    I: Bytes + ?Sized,
    S: Site,
    M: Matches,
{
    find(frame, image, site, matches).err()
}

#[inline(always)]
fn find<F, I, S, M>(frame: &F, image: &I, site: &S, matches: &mut M) -> Result<(), Reason>
where
    F: Frame + ?Sized,
    I: Bytes + ?Sized,
    S: Site,
    M: Matches,
{
    let link = parse::link(frame, site.unwrapped())?;
    let outer = parse::network(frame, link.offset, link.is_ipv6)?;
    let mut ip = outer;
    let mut encapsulation = link.encapsulation;
    let mut remote = look_up(frame, image, site, &outer)?;
    // A tunnel has no ports: one whose end is listed for ports alone is looked into.
    let is_tunnel = site.unwrapped().0 & parse::kind(&outer).0 != 0;
    let is_inner = !remote.is_listed() || is_tunnel && !remote.is_listed_for(image, outer.protocol);
    let is_inner = frame.forget(is_inner.into()) & 1 != 0;
    if is_inner {
        let inner = parse::tunnel(frame, &outer, site.unwrapped())?;
        let kind = Encapsulation(frame.forget(inner.encapsulation.0.into()) as u8);
        encapsulation = encapsulation.with(kind);
        ip = parse::network(frame, inner.offset, inner.is_ipv6)?;
        remote = look_up(frame, image, site, &ip)?;
    }
    if !remote.is_listed() {
        let is_nested = site.unwrapped().0 & parse::kind(&ip).0 != 0;
        return Err(if is_nested { Reason::NestedTunnel } else { Reason::NotListed });
    }
    let mut transport = parse::transport(frame, &ip);
    transport.forget(frame);
    let direction = remote.direction;
    let (subscriber, far_end) = by_end(direction, outer.ends.source, outer.ends.destination);
    let (inner_subscriber, _) = by_end(direction, ip.ends.source, ip.ends.destination);
    let ends = [inner_subscriber, remote.address];
    let is_protected = is_protected(frame, &transport, ends, &site.infrastructure());
    // A listed IPv4 address has an upper half of zero, which no listed IPv6 address has.
    let is_embedded = ip.is_ipv6 && remote.address.0 == 0;
    if is_embedded {
        encapsulation = encapsulation.with(Encapsulation::EMBEDDED);
    }
    let shown = |shows: bool, address: (u64, u64)| {
        let (high, low) = if shows { address } else { (0, 0) };
        Address::v6(frame.forget(high), frame.forget(low))
    };
    let packet = Sighting {
        subscriber: shown(true, subscriber),
        remote: shown(true, remote.address),
        direction,
        link,
        encapsulation,
        ip,
        transport,
    };
    let rule = frame.forget(remote.rule(image, &transport)?.into()) as u16;
    if is_protected {
        return Err(Reason::Protected);
    }
    matches.take(&Match {
        packet,
        inner_subscriber: shown(is_inner, inner_subscriber),
        outer_remote: shown(is_inner || is_embedded, far_end),
        rule,
        lists: image::lists_of(image, rule).ok_or(Reason::NoRuleset)?,
    });
    Ok(())
}

/// The remote of one of the packets in a frame, unless its subscriber opted out.
#[inline(always)]
fn look_up<F, I, S>(frame: &F, image: &I, site: &S, ip: &Ip) -> Result<Remote, Reason>
where
    F: Frame + ?Sized,
    I: Bytes + ?Sized,
    S: Site,
{
    if is_opted_out(frame, site, ip) {
        return Err(Reason::OptedOut);
    }
    Ok(lookup::remote(image, site, &ip.ends))
}

/// The subscriber's and the remote's of what belongs to a source and a destination.
#[inline(always)]
fn by_end<T>(direction: Direction, source: T, destination: T) -> (T, T) {
    match direction {
        Direction::Outbound => (source, destination),
        Direction::Inbound => (destination, source),
    }
}

/// What becomes of a packet that these lists name. `lease_holds` is asked only if it matters.
///
/// Of several lists the strictest decides: drop, then reject, then sinkhole, then observe.
#[inline(always)]
pub fn decide(
    lists: Lists,
    modes: &Modes,
    mode: Mode,
    lease_holds: impl FnOnce() -> bool,
) -> Reason {
    let in_force = !modes.bypassed_lists;
    let stopping = in_force & !modes.observed_lists;
    if lists.all() & in_force == 0 {
        return Reason::ListBypassed;
    }
    let reason = if lists.drop & stopping != 0 {
        Reason::Dropped
    } else if lists.reject & stopping != 0 {
        Reason::Rejected
    } else if lists.sinkhole & stopping != 0 {
        Reason::Sinkholed
    } else {
        return Reason::ListObserved;
    };
    match mode {
        Mode::Bypass => Reason::ModeBypass,
        Mode::Observe => Reason::ModeObserved,
        Mode::Enforce if lease_holds() => reason,
        Mode::Enforce => Reason::LifetimeOver,
    }
}

/// Whether a packet is dropped that lists name which ask for that, while the lease holds. The canary is
/// none of them.
#[inline(always)]
pub fn is_dropped(dropping: u64, modes: &Modes, mode: Mode) -> bool {
    let stopping = !(modes.bypassed_lists | modes.observed_lists | 1 << canary::LIST);
    dropping & stopping != 0 && mode == Mode::Enforce
}

/// The reason of a probe of the canary entry that has this reason as a packet.
#[inline(always)]
pub fn of_canary(reason: Reason) -> Reason {
    match reason.verdict() {
        Verdict::Pass => Reason::CanaryPassed,
        Verdict::Drop | Verdict::Reject | Verdict::Sinkhole => Reason::CanaryDropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTS: Lists = Lists { observe: 0b0001, drop: 0b0010, reject: 0b0100, sinkhole: 0b1000 };

    fn enforced(lists: Lists, modes: &Modes) -> Reason {
        decide(lists, modes, Mode::Enforce, || true)
    }

    #[test]
    fn a_list_that_observes_never_stops_a_packet() {
        let lists = Lists { observe: 1, ..Lists::default() };
        assert_eq!(enforced(lists, &Modes::all(Mode::Enforce)), Reason::ListObserved);
    }

    #[test]
    fn the_strictest_list_in_force_decides() {
        let mut modes = Modes::all(Mode::Enforce);
        for (observed, reason) in [
            (0b0000, Reason::Dropped),
            (0b0010, Reason::Rejected),
            (0b0110, Reason::Sinkholed),
            (0b1110, Reason::ListObserved),
        ] {
            modes.observed_lists = observed;
            assert_eq!(enforced(LISTS, &modes), reason);
        }
        modes.bypassed_lists = 0b1111;
        assert_eq!(enforced(LISTS, &modes), Reason::ListBypassed);
    }

    #[test]
    fn what_is_dropped_at_once_is_what_would_be_dropped() {
        for bits in 0..1_u64 << 8 {
            let lists = Lists { drop: bits & 3 | (bits & 4) << 61, ..LISTS };
            let mut modes = Modes::all(Mode::Enforce);
            modes.observed_lists = bits >> 3 & 3;
            modes.bypassed_lists = bits >> 5 & 3;
            let mode = Mode::from_u8((bits >> 7) as u8 + 1);
            let reason =
                decide(Lists { drop: lists.drop & !(1 << 63), ..lists }, &modes, mode, || true);
            assert_eq!(
                is_dropped(lists.drop, &modes, mode),
                reason == Reason::Dropped,
                "{bits:#b}"
            );
        }
    }

    #[test]
    fn observe_mode_and_a_lapsed_lease_let_pass_what_would_be_stopped() {
        let modes = Modes::all(Mode::Enforce);
        assert_eq!(decide(LISTS, &modes, Mode::Observe, || true), Reason::ModeObserved);
        assert_eq!(decide(LISTS, &modes, Mode::Enforce, || false), Reason::LifetimeOver);
    }
}
