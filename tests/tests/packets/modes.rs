//! The kill switch, the lease, and the canary that tells whether enforcement works.

use std::time::Duration;

use sekisho::dataplane::Dataplane;
use sekisho_abi::{
    canary,
    reason::Reason,
    record::{Mode, Modes, Role},
};
use sekisho_tests::packet::{Carrier, TCP, Tunnel, UDP, flag, ip, tcp, udp};

use crate::{
    direction::ROLES,
    lab::{Case, Lab, XDP_DROP, XDP_PASS, action_of},
    world::{
        BY_TWO_LISTS, CANARY, CANARY_AND_LISTED, CANARY_V6, CONCENTRATOR_V6, DROPS, LINE_V6,
        LISTED, OBSERVED, OBSERVES, OPTED_OUT, REJECTED, REJECTED_AND_SINKHOLED, REJECTS,
        SINKHOLED, SINKHOLES, SUBSCRIBER, SUBSCRIBER_V6, Setup,
    },
};

/// The canary in enforcement.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (subscriber, canary) in [(SUBSCRIBER, CANARY), (SUBSCRIBER_V6, CANARY_V6)] {
        for role in ROLES {
            let seen = |is_seen| if is_seen { Reason::CanaryDropped } else { Reason::NotListed };
            let out = Carrier::Plain.frame(&[], &ip(subscriber, canary, UDP, &udp(9, 9)));
            let reason = seen(role != Role::Uplink);
            cases.push(Case::new(role, format!("a probe of {canary}"), out, reason));
            let back = Carrier::Plain.frame(&[], &ip(canary, subscriber, UDP, &udp(9, 9)));
            let reason = seen(role != Role::Subscriber);
            cases.push(Case::new(role, format!("a probe from {canary}"), back, reason));
        }
    }
    let mut add = |sentence: &str, packet: &[u8], reason| {
        cases.push(Case::outbound(sentence, Carrier::Pppoe(1).frame(&[], packet), reason));
    };
    let probe = ip(SUBSCRIBER, CANARY, UDP, &udp(9, 9));
    let tunnelled = Tunnel::Ip.packet(LINE_V6, CONCENTRATOR_V6, &probe);
    add("a probe in a tunnel", &tunnelled, Reason::CanaryDropped);
    let other = ip(SUBSCRIBER, CANARY_AND_LISTED, UDP, &udp(9, 9));
    add("an address that a feed lists too is no canary", &other, Reason::Dropped);
    let opted_out = ip(OPTED_OUT, CANARY, UDP, &udp(9, 9));
    add("a probe of one who opted out", &opted_out, Reason::OptedOut);
    cases
}

/// Packets to each remote, with the reason of each in a state of the switch.
struct Switch<'a> {
    lab: &'a Lab,
}

impl Switch<'_> {
    fn set(&self, change: impl FnOnce(&mut Modes)) {
        let mut change = Some(change);
        let set = &mut |modes: &mut Modes| {
            let opt_outs = modes.opt_outs;
            *modes = Modes::all(Mode::Enforce);
            modes.opt_outs = opt_outs;
            if let Some(change) = change.take() {
                change(modes);
            }
        };
        self.lab.dataplane.change_modes(set).expect("the mode can be set");
    }

    fn expect(&self, state: &str, expected: &[(&str, Reason)]) {
        for (remote, reason) in expected {
            let packet = ip(SUBSCRIBER, remote, TCP, &tcp(40_000, 23, flag::SYN));
            let frame = Carrier::Plain.frame(&[], &packet);
            let (action, left, found) = self.lab.judge(Role::Subscriber, &frame);
            assert_eq!(found, *reason, "{state}: to {remote}");
            let (_, port) = self.lab.port(Role::Subscriber);
            assert_eq!(action, action_of(*reason, port.site.forwarding), "{state}: to {remote}");
            if action == XDP_PASS || action == XDP_DROP {
                assert_eq!(left, frame, "{state}: to {remote}");
            }
        }
    }
}

const REMOTES: [&str; 7] =
    [LISTED, REJECTED, SINKHOLED, OBSERVED, BY_TWO_LISTS, REJECTED_AND_SINKHOLED, CANARY];

fn each(reasons: [Reason; 7]) -> Vec<(&'static str, Reason)> {
    REMOTES.into_iter().zip(reasons).collect()
}

#[test]
fn modes_and_the_lease_turn_stops_into_passes() {
    use Reason::{
        CanaryDropped, CanaryPassed, Dropped, LifetimeOver, ListBypassed, ListObserved, ModeBypass,
        ModeObserved, Rejected, Sinkholed,
    };
    let lab = Lab::of("modes", &Setup::everything());
    lab.newly_counted();
    let switch = Switch { lab: &lab };
    let enforced =
        each([Dropped, Rejected, Sinkholed, ListObserved, Dropped, Rejected, CanaryDropped]);
    let observed =
        |passed| each([passed, passed, passed, ListObserved, passed, passed, CanaryPassed]);
    switch.expect("enforce", &enforced);
    switch.set(|modes| modes.global = Mode::Observe as u8);
    switch.expect("observe", &observed(ModeObserved));
    switch.set(|modes| modes.global = Mode::Bypass as u8);
    switch.expect("bypass", &each([ModeBypass; 7]));
    switch.set(|modes| modes.ports[0] = Mode::Observe as u8);
    switch.expect("this interface observes", &observed(ModeObserved));
    switch.set(|modes| modes.ports[0] = Mode::Bypass as u8);
    switch.expect("this interface is bypassed", &each([ModeBypass; 7]));
    switch.set(|modes| modes.ports[1] = Mode::Bypass as u8);
    switch.expect("another interface is bypassed", &enforced);

    switch.set(|modes| modes.observed_lists = DROPS);
    let dropping = [(LISTED, ListObserved), (BY_TWO_LISTS, ListObserved), (REJECTED, Rejected)];
    switch.expect("the list that drops observes", &dropping);
    switch.set(|modes| modes.observed_lists = REJECTS);
    let rejecting = [(REJECTED, ListObserved), (REJECTED_AND_SINKHOLED, Sinkholed)];
    switch.expect("the list that rejects observes", &rejecting);
    switch.set(|modes| modes.bypassed_lists = SINKHOLES);
    let sinkholing = [(SINKHOLED, ListBypassed), (REJECTED_AND_SINKHOLED, Rejected)];
    switch.expect("the list that sinkholes is bypassed", &sinkholing);
    switch.set(|modes| modes.bypassed_lists = OBSERVES);
    let observing = [(OBSERVED, ListBypassed), (BY_TWO_LISTS, Dropped)];
    switch.expect("the list that observes is bypassed", &observing);
    switch.set(|modes| modes.bypassed_lists = DROPS | OBSERVES);
    switch.expect("both are", &[(BY_TWO_LISTS, ListBypassed), (LISTED, ListBypassed)]);
    for bypassed in [false, true] {
        switch.set(|modes| {
            let lists =
                if bypassed { &mut modes.bypassed_lists } else { &mut modes.observed_lists };
            *lists = 1 << canary::LIST;
        });
        switch
            .expect("the canary's list is switched", &[(CANARY, CanaryPassed), (LISTED, Dropped)]);
    }

    switch.set(|_| {});
    switch.expect("enforce again", &enforced);
    lab.dataplane.renew_lease(Duration::ZERO).expect("the lease can be ended");
    switch.expect("the lease is over", &observed(LifetimeOver));
    lab.dataplane.renew_lease(Duration::from_secs(60)).expect("the lease can be renewed");
    switch.expect("the lease is renewed", &enforced);
}

#[test]
fn the_canary_leaves_no_trace_but_its_own_count() {
    let lab = Lab::of("canary", &Setup::everything());
    for canary in [CANARY, CANARY_V6] {
        let subscriber = if canary == CANARY { SUBSCRIBER } else { SUBSCRIBER_V6 };
        let packet = ip(subscriber, canary, UDP, &udp(9, 9));
        let frame = Carrier::Plain.frame(&[], &packet);
        lab.dataplane.test_run("lo", &frame, 5).expect("the program runs");
    }
    let counted = lab.newly_counted().remove(0);
    assert_eq!(counted[Reason::CanaryDropped as usize], 10);
    assert_eq!(counted.iter().sum::<u64>(), 10);
    assert!(lab.drained().is_empty(), "no row");
    assert!(lab.dataplane.events().expect("the ring can be read").is_empty(), "no event");
    let totals = lab.dataplane.rule_totals().expect("totals can be read");
    assert!(!totals.is_empty());
    assert!(totals.iter().all(|(_, totals)| totals.hits.packets == 0), "no total: {totals:?}");
}
