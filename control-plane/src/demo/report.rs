//! What the demo found, for people and for programs.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use sekisho_rules::{compile::Compiled, explain::Verdict};
use serde::Serialize;

use super::{
    daemon::{Counter, HitRow, RefusedRow, RulesetRow},
    lab::Subscriber,
    plan::{Plan, verdict},
    sniffer::{Conversation, Seen},
    traffic::{Outcome, Session},
};
use crate::cli::columns::Columns;

/// Everything the demo found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether every clean packet passed, every listed one was blocked, and all counts agree.
    pub passed: bool,
    /// What went wrong, in sentences.
    pub problems: Vec<String>,
    /// Counted at the outer ends of the cables, without the dataplane's help.
    pub packets: Packets,
    /// Sessions that came to their proper end, and how many there were.
    pub sessions: Sessions,
    /// The ruleset that was live.
    pub ruleset: Ruleset,
    /// Who called which C&C, as the daemon tells it.
    pub hits: Vec<HitRow>,
    /// Packets that came in at the edge during the demo, by interface and by what became of them,
    /// as the dataplane counted.
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Packets as counted outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Packets {
    /// Set out from or to clean remotes.
    pub clean_sent: u64,
    /// Of these, arrived at the other side.
    pub clean_passed: u64,
    /// Set out from or to listed remotes.
    pub listed_sent: u64,
    /// Of these, did not arrive.
    pub listed_blocked: u64,
}

/// Sessions by what was to become of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sessions {
    /// Tried with clean remotes.
    pub clean: usize,
    /// Of these, came to their proper end.
    pub clean_completed: usize,
    /// Tried with listed remotes.
    pub listed: usize,
    /// Of these, came to nothing.
    pub listed_blocked: usize,
}

/// The ruleset that was live.
#[derive(Clone, Debug, Serialize)]
pub struct Ruleset {
    /// IPv4 entries.
    pub entries_v4: usize,
    /// IPv6 entries.
    pub entries_v6: usize,
    /// Indicators that the policy kept out.
    pub refused: u64,
    /// The first of them.
    pub refusals: Vec<RefusedRow>,
}

/// All that was observed.
#[derive(Debug)]
pub struct Findings<'a> {
    /// What the lists say.
    pub compiled: &'a Compiled,
    /// Who was to talk to whom.
    pub plan: &'a Plan,
    /// The subscribers.
    pub lines: &'a [Subscriber],
    /// What became of the sessions.
    pub outcomes: &'a [(Session, Outcome)],
    /// The count at the subscribers' end.
    pub line: &'a Seen,
    /// The count at the Internet's end.
    pub core: &'a Seen,
    /// The daemon's account.
    pub hits: Vec<HitRow>,
    /// The daemon's ruleset.
    pub ruleset: RulesetRow,
    /// The dataplane's counters since the traffic began.
    pub counters: &'a [Counter],
    /// Faults that were found on the way.
    pub problems: Vec<String>,
}

impl Findings<'_> {
    /// Judges.
    pub fn report(self) -> Report {
        let crossings = crossings(self.compiled, self.plan, self.line, self.core);
        let packets = packets(&crossings);
        let sessions = sessions(self.plan, self.outcomes);
        let mut problems = self.problems;
        problems.extend(packet_problems(&packets));
        problems.extend(session_problems(self.outcomes));
        problems.extend(hit_problems(&crossings, &self.hits, self.lines));
        problems.extend(counter_problems(&packets, self.counters));
        let mut counters: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for counter in self.counters.iter().filter(|counter| counter.packets > 0) {
            let by_reason = counters.entry(counter.interface.clone()).or_default();
            *by_reason.entry(counter.reason.clone()).or_default() += counter.packets;
        }
        let refused = self.ruleset.refused_total();
        let RulesetRow { entries_v4, entries_v6, refused: refusals, .. } = self.ruleset;
        Report {
            passed: problems.is_empty(),
            problems,
            packets,
            sessions,
            ruleset: Ruleset { entries_v4, entries_v6, refused, refusals },
            hits: self.hits,
            counters,
        }
    }
}

/// One conversation's way through the edge.
#[derive(Debug)]
struct Crossing {
    conversation: Conversation,
    listed: bool,
    sent: u64,
    arrived: u64,
}

/// What set out and what arrived, for every conversation with a remote of the plan.
fn crossings(compiled: &Compiled, plan: &Plan, line: &Seen, core: &Seen) -> Vec<Crossing> {
    let addresses = plan.addresses();
    let ways = [(&line.sent, &core.arrived), (&core.sent, &line.arrived)];
    let mut crossings = Vec::new();
    for (sent, arrived) in ways {
        for (conversation, packets) in sent {
            if addresses.contains(&conversation.remote.ip()) {
                let word = verdict(compiled, conversation.remote, conversation.protocol);
                crossings.push(Crossing {
                    conversation: *conversation,
                    listed: word == Verdict::Drop,
                    sent: *packets,
                    arrived: arrived.get(conversation).copied().unwrap_or(0),
                });
            }
        }
    }
    crossings
}

/// How many listed packets set out and did not arrive.
pub fn blocked(compiled: &Compiled, plan: &Plan, line: &Seen, core: &Seen) -> u64 {
    packets(&crossings(compiled, plan, line, core)).listed_blocked
}

fn packets(crossings: &[Crossing]) -> Packets {
    let mut packets = Packets::default();
    for Crossing { listed, sent, arrived, .. } in crossings {
        if *listed {
            packets.listed_sent += sent;
            packets.listed_blocked += sent.saturating_sub(*arrived);
        } else {
            packets.clean_sent += sent;
            packets.clean_passed += arrived;
        }
    }
    packets
}

fn sessions(plan: &Plan, outcomes: &[(Session, Outcome)]) -> Sessions {
    let count = |clean, wanted| {
        outcomes.iter().filter(|(s, outcome)| s.clean == clean && *outcome == wanted).count()
    };
    Sessions {
        clean: plan.clean_sessions.len(),
        clean_completed: count(true, Outcome::Completed),
        listed: plan.blocked_sessions.len(),
        listed_blocked: count(false, Outcome::Nothing),
    }
}

fn packet_problems(packets: &Packets) -> Vec<String> {
    let Packets { clean_sent, clean_passed, listed_sent, listed_blocked } = *packets;
    let mut problems = Vec::new();
    if clean_sent == 0 {
        problems.push("no clean packet was sent".to_owned());
    }
    if clean_passed != clean_sent {
        problems.push(format!("{clean_passed} of {clean_sent} clean packets passed"));
    }
    if listed_sent == 0 {
        problems.push("no packet was sent to or from a listed address".to_owned());
    }
    if listed_blocked != listed_sent {
        problems.push(format!("{listed_blocked} of {listed_sent} listed packets were blocked"));
    }
    problems
}

fn session_problems(outcomes: &[(Session, Outcome)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (session, outcome) in outcomes {
        match (session.clean, outcome) {
            (true, Outcome::Completed) | (false, Outcome::Nothing) => {}
            (true, _) => problems.push(format!("the clean session {session} failed")),
            (false, _) => problems.push(format!("the session {session} was not blocked")),
        }
    }
    problems
}

/// The daemon's account has to be that of the independent count, conversation by conversation.
fn hit_problems(crossings: &[Crossing], hits: &[HitRow], lines: &[Subscriber]) -> Vec<String> {
    let key = |hit: &HitRow| {
        let remote = SocketAddr::new(hit.remote, hit.remote_port);
        (hit.subscriber_address, remote, hit.protocol.clone(), hit.direction == "inbound")
    };
    let mut told: BTreeMap<_, u64> = BTreeMap::new();
    for hit in hits.iter().filter(|hit| hit.reason == "dropped") {
        *told.entry(key(hit)).or_default() += hit.packets;
    }
    let mut counted: BTreeMap<_, u64> = BTreeMap::new();
    for crossing in crossings.iter().filter(|crossing| crossing.listed) {
        let Conversation { subscriber, remote, protocol, inbound } = crossing.conversation;
        let protocol = protocol_name(protocol);
        *counted.entry((subscriber, remote, protocol, inbound)).or_default() += crossing.sent;
    }
    let mut problems = Vec::new();
    for (conversation, packets) in &counted {
        let hits = told.remove(conversation).unwrap_or(0);
        if hits != *packets {
            let (subscriber, remote, protocol, _) = conversation;
            problems.push(format!(
                "{packets} packets between {subscriber} and {remote}/{protocol} were sent and the \
                 hits tell of {hits}"
            ));
        }
    }
    problems.extend(told.iter().map(|((subscriber, remote, protocol, _), packets)| {
        format!(
            "the hits tell of {packets} packets between {subscriber} and {remote}/{protocol} that \
             nobody sent"
        )
    }));
    problems.extend(hits.iter().filter_map(|hit| wrong_name(hit, lines)));
    problems
}

fn wrong_name(hit: &HitRow, lines: &[Subscriber]) -> Option<String> {
    let has = |line: &&Subscriber| {
        [IpAddr::V4(line.v4), line.v6.into()].contains(&hit.subscriber_address)
    };
    let right = lines.iter().find(has).map_or("", |line| line.name.as_str());
    (hit.subscriber != right).then(|| {
        format!("{} is '{right}' and a hit says '{}'", hit.subscriber_address, hit.subscriber)
    })
}

fn counter_problems(packets: &Packets, counters: &[Counter]) -> Vec<String> {
    let dropped: u64 = counters
        .iter()
        .filter(|counter| counter.reason == "dropped")
        .map(|counter| counter.packets)
        .sum();
    if dropped == packets.listed_blocked {
        return Vec::new();
    }
    vec![format!(
        "the dataplane counted {dropped} dropped packets and {} did not arrive",
        packets.listed_blocked
    )]
}

fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

impl Report {
    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let Packets { clean_sent, clean_passed, listed_sent, listed_blocked } = self.packets;
        let _ = writeln!(text, "\nWho called which C&C server:\n\n{}", self.hit_table());
        let _ = writeln!(
            text,
            "Kept out of the ruleset, although a list names it ({} in all):\n\n{}",
            self.ruleset.refused,
            self.refusal_table()
        );
        let _ = writeln!(text, "What the dataplane counted:\n\n{}", self.counter_table());
        let _ = writeln!(
            text,
            "Ruleset: {} IPv4 and {} IPv6 entries.\n\
             Clean packets: {clean_passed} of {clean_sent} passed, in {} of {} sessions.\n\
             Listed packets: {listed_blocked} of {listed_sent} blocked, in {} of {} sessions.",
            self.ruleset.entries_v4,
            self.ruleset.entries_v6,
            self.sessions.clean_completed,
            self.sessions.clean,
            self.sessions.listed_blocked,
            self.sessions.listed,
        );
        for problem in &self.problems {
            let _ = writeln!(text, "PROBLEM: {problem}.");
        }
        text
    }

    fn hit_table(&self) -> String {
        let mut table = Columns::new(&[
            "subscriber",
            "",
            "remote",
            "proto",
            "feed",
            "malware",
            "packets>",
            "first seen",
            "last seen",
        ]);
        let mut hits: Vec<&HitRow> = self.hits.iter().collect();
        hits.sort_by_key(|hit| (&hit.subscriber, hit.first_seen, hit.remote, hit.remote_port));
        for hit in hits {
            let remote = match hit.remote_port {
                0 => hit.remote.to_string(),
                port => SocketAddr::new(hit.remote, port).to_string(),
            };
            let arrow = if hit.direction == "inbound" { "<-" } else { "->" };
            let time = |at: &jiff::Timestamp| at.strftime("%H:%M:%S%.3f").to_string();
            table.row([
                hit.subscriber.clone(),
                arrow.to_owned(),
                remote,
                hit.protocol.clone(),
                hit.feed.clone(),
                hit.malware.clone(),
                hit.packets.to_string(),
                time(&hit.first_seen),
                time(&hit.last_seen),
            ]);
        }
        table.render(INDENT)
    }

    fn refusal_table(&self) -> String {
        let mut table = Columns::new(&["indicator", "feed", "reason"]);
        for refused in self.ruleset.refusals.iter().take(MOST_REFUSALS) {
            let RefusedRow { indicator, feed, reason, .. } = refused.clone();
            table.row([indicator, feed, reason]);
        }
        table.render(INDENT)
    }

    fn counter_table(&self) -> String {
        let mut table = Columns::new(&["interface", "reason", "packets>"]);
        for (interface, by_reason) in &self.counters {
            for (reason, packets) in by_reason {
                table.row([interface.clone(), reason.clone(), packets.to_string()]);
            }
        }
        table.render(INDENT)
    }
}

/// Refusals in the report for people; `--json` gives all that the daemon gives.
const MOST_REFUSALS: usize = 20;
/// Blanks in front of tables.
const INDENT: usize = 2;
