//! What the daemon counts, for Prometheus: every name and its help text.
//!
//! Each scrape is rendered from a fresh sample of the kernel's counters, so that a feed or an
//! interface that is gone leaves no series behind. No label names a subscriber or an address.

use std::time::Duration;

use jiff::Timestamp;
use metrics::{Label, counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use sekisho_abi::{
    canary,
    image::Lists,
    reason::{Reason, Verdict},
    record::{Count, Mode, Modes},
};
use sekisho_rules::change::HoldReason;

use crate::{
    breaker,
    config::Share,
    dataplane::{
        Installed, LedgerCounts, PortCounts, RuleTotals, evidence::DriftKind, tables::Slots,
    },
    engine::service::Ruleset,
    feeds::FeedStatus,
    subscribers::Certainty,
};

/// A sample of everything that is counted.
pub struct Sample {
    /// When it was taken.
    pub now: Timestamp,
    /// Whether the daemon does its work.
    pub healthy: bool,
    /// Whether somebody went back to an earlier version.
    pub is_pinned: bool,
    /// Share of the packets of the last minute that could not be read; `None` if there were few.
    pub unparsed_lately: Option<Share>,
    /// Interfaces that are there, and whether they have a carrier.
    pub carriers: Vec<(String, bool)>,
    /// The kill switch.
    pub modes: Modes,
    /// Counters by interface.
    pub counts: Vec<PortCounts>,
    /// Totals by rule.
    pub rule_totals: Vec<(Lists, RuleTotals)>,
    /// Counters of the ring of first packets.
    pub ledger: LedgerCounts,
    /// What is in the kernel.
    pub installed: Installed,
    /// Flows by feed: those that subscribers began, and the others.
    pub feed_flows: Vec<(String, [u64; 2])>,
    /// What the breaker has in hand.
    pub breaker: breaker::Counts,
    /// How the feeds are.
    pub feeds: Vec<FeedStatus>,
    /// The ruleset that is live.
    pub ruleset: Option<std::sync::Arc<Ruleset>>,
    /// Flow rows taken out of the kernel.
    pub rows_drained: u64,
    /// Failures of the store.
    pub store_errors: u64,
    /// Failures to take hits out of the kernel.
    pub drain_errors: u64,
    /// Failures to make a ruleset live.
    pub publish_errors: u64,
    /// Attributions by certainty.
    pub attributions: [(Certainty, u64); Certainty::ALL.len()],
    /// Differences between what was installed and what is, by kind.
    pub drifts: [(DriftKind, u64); DriftKind::ALL.len()],
    /// Those that could not be put right yet.
    pub standing: Vec<DriftKind>,
    /// When that was last compared.
    pub compared_at: Option<Timestamp>,
}

macro_rules! names {
    ($($name:ident: $kind:ident = $text:literal, $help:literal;)+) => {
        $(const $name: &str = $text;)+

        /// Every metric with its kind and help text.
        pub const ALL: &[(&str, Kind, &str)] = &[$(($text, Kind::$kind, $help),)+];
    };
}

/// Kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from when the dataplane was loaded or the daemon was started.
    Counter,
    /// Goes up and down.
    Gauge,
}

names! {
    PACKETS: Counter = "sekisho_packets_total", "Packets seen, by interface and by what became of them; each has one reason. Those of the canary are the daemon's own probes.";
    BYTES: Counter = "sekisho_bytes_total", "Bytes of these packets, without preamble and checksum.";
    RULE_PACKETS: Counter = "sekisho_rule_packets_total", "Packets that matched an entry, by the lists that name it and what these ask for.";
    RULE_BYTES: Counter = "sekisho_rule_bytes_total", "Bytes of the packets that matched an entry, by the lists that name it.";
    RULE_OVERFLOW: Counter = "sekisho_rule_overflow_packets_total", "Packets that matched while the flow table was full: counted here, without a hit of their own.";
    EVENTS_LOST: Counter = "sekisho_events_lost_total", "First packets that did not fit the ring for live views; hits don't depend on it.";
    EVENTS_SUPPRESSED: Counter = "sekisho_events_suppressed_total", "First packets that the rate limit kept from the ring for live views.";
    UNPARSED_RATIO: Gauge = "sekisho_unparsed_packets_ratio", "Share of packets that could not be read far enough to be judged, since the dataplane was loaded.";
    UNPARSED_LATELY: Gauge = "sekisho_unparsed_packets_recent_ratio", "The same over the last minute; absent when there were few packets.";
    INTERFACE_UP: Gauge = "sekisho_interface_attached", "1 if the program sits on the interface, 0 if the interface is gone.";
    CARRIER: Gauge = "sekisho_interface_carrier", "1 if the interface is up and something is at the other end of its cable, 0 if not; absent while it is gone.";
    INTERFACE_MODE: Gauge = "sekisho_interface_mode", "1 for the mode that applies on the interface, 0 for the others.";
    LEASE: Gauge = "sekisho_lease_seconds", "For how long the lists are still enforced; at 0 they only observe.";
    GENERATION: Gauge = "sekisho_ruleset_generation", "Number of the ruleset that is live, 0 before the first.";
    ENTRIES: Gauge = "sekisho_ruleset_entries", "Entries of the ruleset that is live, by address family.";
    PINNED: Gauge = "sekisho_ruleset_pinned", "1 while somebody went back to an earlier version, and new lists do not go live.";
    RULESET_AGE: Gauge = "sekisho_ruleset_age_seconds", "Time since the lists were last compiled.";
    IMAGE_BYTES: Gauge = "sekisho_ruleset_image_bytes", "Bytes of the ruleset that is live.";
    IMAGE_CAPACITY: Gauge = "sekisho_ruleset_image_capacity_bytes", "Bytes that a ruleset may have.";
    PUBLISH_ERRORS: Counter = "sekisho_publish_errors_total", "Rulesets that could not be compiled or made live.";
    REFUSED: Gauge = "sekisho_feed_refused_indicators", "Indicators of the feed that the policy keeps out, by reason.";
    FEED_NETWORKS: Gauge = "sekisho_feed_networks", "Networks that the feed lists, by whether another feed lists them as well.";
    FEED_SHARED: Gauge = "sekisho_feed_shared_networks", "Networks that both feeds list.";
    FEED_FLOWS: Counter = "sekisho_feed_flows_total", "Flows to and from what the feed lists, by whether the subscriber began (TCP) or not, since the daemon was started.";
    DEMOTED: Gauge = "sekisho_feed_demoted_claims", "Claims of the feed that stand and do less than it asks for, by the stage that demotes them.";
    FEED_WEIGHT: Gauge = "sekisho_feed_weight", "What the word of the feed counts in the score, 0 to 100: its weight, less by its false positives.";
    FEED_FALSE_POSITIVES: Gauge = "sekisho_feed_false_positives", "Networks that the feed listed while the operator allowed or suppressed them, or that the breaker demoted for good.";
    BREAKER: Gauge = "sekisho_breaker_entries", "Entries that too many subscribers met within a minute: tripped (nobody has decided), kept or released.";
    BREAKER_TRIPS: Counter = "sekisho_breaker_trips_total", "Entries that the breaker demoted.";
    BREAKER_FORGOTTEN: Counter = "sekisho_breaker_forgotten_pairs_total", "Pairs of entry and subscriber that the breaker had no room for.";
    DRIFTS: Counter = "sekisho_drift_total", "Differences found between what was put into the kernel and what is there, by kind.";
    DRIFT_STANDING: Gauge = "sekisho_drift_standing", "How many of these could not be put right yet.";
    PROOF_AGE: Gauge = "sekisho_proof_age_seconds", "Time since what is in the kernel was last compared with what was put there.";
    FEED_INDICATORS: Gauge = "sekisho_feed_indicators", "Indicators in the list of the feed that is in force.";
    FEED_REJECTED: Gauge = "sekisho_feed_rejected_lines", "Lines of that list that could not be read.";
    FEED_CONFIRMED_AGE: Gauge = "sekisho_feed_confirmed_age_seconds", "Time since the source last said that this is its list.";
    FEED_CONTENT_AGE: Gauge = "sekisho_feed_content_age_seconds", "Time since the claims of the feed last changed, by our clock or the publisher's, whichever is older.";
    FEED_STALE: Gauge = "sekisho_feed_stale", "1 while that time is longer than it may be, by the feed's max_content_age.";
    FEED_BROKEN: Gauge = "sekisho_feed_broken", "1 while the last request of the feed failed or its list was refused.";
    FEED_HELD: Gauge = "sekisho_feed_held", "1 while a list of the feed is held for this reason, and waits to be accepted or rejected; 0 for the other reasons.";
    FEED_SUCCESSES: Counter = "sekisho_feed_successes_total", "Requests of the feed that were answered well.";
    FEED_FAILURES: Counter = "sekisho_feed_failures_total", "Requests of the feed that failed and lists that were refused, by reason.";
    ROWS_DRAINED: Counter = "sekisho_flow_rows_drained_total", "Flows taken out of the kernel.";
    ATTRIBUTIONS: Counter = "sekisho_attributions_total", "Flows taken out of the kernel, by how sure it is whose they are.";
    DRAIN_ERRORS: Counter = "sekisho_drain_errors_total", "Failures to take flows out of the kernel.";
    STORE_ERRORS: Counter = "sekisho_store_errors_total", "Failures of the record of hits.";
    HEALTHY: Gauge = "sekisho_healthy", "1 if the daemon does its work; /healthz says why not.";
    BUILD: Gauge = "sekisho_build_info", "1, with the version of the program.";
}

/// A sample in Prometheus' text format.
pub fn render(sample: &Sample) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        for &(name, kind, help) in ALL {
            match kind {
                Kind::Counter => describe_counter!(name, help),
                Kind::Gauge => describe_gauge!(name, help),
            }
        }
        packets(sample);
        rules(sample);
        switch(sample);
        ruleset(sample);
        proof(sample);
        broken(sample.breaker);
        for (feed, flows) in &sample.feed_flows {
            for (began, flows) in [("subscriber", flows[0]), ("other", flows[1])] {
                let labels = [Label::new("feed", feed.clone()), Label::new("began", began)];
                counter!(FEED_FLOWS, labels.iter()).absolute(flows);
            }
        }
        for feed in &sample.feeds {
            one_feed(feed, sample.now);
        }
        daemon(sample);
    });
    recorder.handle().render()
}

fn packets(sample: &Sample) {
    let (mut seen, mut unparsed) = (0_u64, 0_u64);
    for PortCounts { slot, by_reason } in &sample.counts {
        let port = sample.installed.ports.iter().find(|port| port.slot == *slot);
        let Some(port) = port else { continue };
        for (reason, Count { packets, bytes }) in Reason::ALL.into_iter().zip(by_reason) {
            let verdict = match reason.verdict() {
                Verdict::Pass => "pass",
                Verdict::Drop => "drop",
                Verdict::Reject => "reject",
                Verdict::Sinkhole => "sinkhole",
            };
            let labels = [
                Label::new("interface", port.interface.clone()),
                Label::new("reason", reason.as_str()),
                Label::new("verdict", verdict),
            ];
            counter!(PACKETS, labels.iter()).absolute(*packets);
            counter!(BYTES, labels.iter()).absolute(*bytes);
            if reason.is_probe() {
                continue;
            }
            seen = seen.saturating_add(*packets);
            unparsed = unparsed.saturating_add(if reason.is_unparsed() { *packets } else { 0 });
        }
    }
    gauge!(UNPARSED_RATIO).set(unparsed as f64 / seen.max(1) as f64);
    if let Some(share) = sample.unparsed_lately {
        gauge!(UNPARSED_LATELY).set(share.ratio());
    }
    counter!(EVENTS_LOST).absolute(sample.ledger.events_lost);
    counter!(EVENTS_SUPPRESSED).absolute(sample.ledger.events_suppressed);
}

/// Rules that stand for the same lists and action are one series. The canary's is nobody's: what
/// meets it is counted by reason alone.
fn rules(sample: &Sample) {
    let slots = Slots::installed(sample.installed.lists.clone(), Vec::new());
    for (lists, totals) in &sample.rule_totals {
        if lists.all() == 0 || lists.all() == 1 << canary::LIST {
            continue;
        }
        let labels = [
            Label::new("lists", slots.names_in(lists.all()).join(",")),
            Label::new("action", action(*lists)),
        ];
        counter!(RULE_PACKETS, labels.iter()).increment(totals.hits.packets);
        counter!(RULE_BYTES, labels.iter()).increment(totals.hits.bytes);
        counter!(RULE_OVERFLOW, labels.iter()).increment(totals.overflow.packets);
    }
}

/// What the strictest of the lists asks for.
const fn action(lists: Lists) -> &'static str {
    match lists {
        Lists { drop: 1.., .. } => "drop",
        Lists { reject: 1.., .. } => "reject",
        Lists { sinkhole: 1.., .. } => "sinkhole",
        Lists { .. } => "observe",
    }
}

fn switch(sample: &Sample) {
    for port in &sample.installed.ports {
        let interface = || Label::new("interface", port.interface.clone());
        gauge!(INTERFACE_UP, [interface()].iter()).set(flag(port.attachment.is_some()));
        let applies = sample.modes.of_port(usize::from(port.slot));
        for mode in [Mode::Enforce, Mode::Observe, Mode::Bypass] {
            let labels = [interface(), Label::new("mode", mode.as_str())];
            gauge!(INTERFACE_MODE, labels.iter()).set(flag(mode == applies));
        }
    }
    for (interface, present) in &sample.carriers {
        gauge!(CARRIER, "interface" => interface.clone()).set(flag(*present));
    }
    gauge!(LEASE).set(sample.installed.lease.as_secs_f64());
}

fn ruleset(sample: &Sample) {
    let installed = &sample.installed;
    gauge!(GENERATION).set(installed.generation.unwrap_or(0));
    gauge!(ENTRIES, "family" => "ipv4").set(installed.entries_v4);
    gauge!(ENTRIES, "family" => "ipv6").set(installed.entries_v6);
    gauge!(IMAGE_BYTES).set(installed.image_bytes as f64);
    gauge!(IMAGE_CAPACITY).set(installed.image_capacity as f64);
    gauge!(PINNED).set(flag(sample.is_pinned));
    counter!(PUBLISH_ERRORS).absolute(sample.publish_errors);
    let Some(ruleset) = &sample.ruleset else { return };
    gauge!(RULESET_AGE).set(age(sample.now, ruleset.compiled_at));
    for report in &ruleset.compiled.feeds {
        for (reason, refused) in &report.refused_by_reason {
            let labels =
                [Label::new("feed", report.name.shared()), Label::new("reason", reason.as_str())];
            gauge!(REFUSED, labels.iter()).set(*refused as f64);
        }
        let feed = || Label::new("feed", report.name.shared());
        let shared = report.overlap.networks.saturating_sub(report.overlap.unique);
        for (kind, networks) in [("unique", report.overlap.unique), ("shared", shared)] {
            gauge!(FEED_NETWORKS, [feed(), Label::new("kind", kind)].iter()).set(networks as f64);
        }
        for (other, networks) in &report.overlap.shared {
            let labels = [feed(), Label::new("other", other.to_string())];
            gauge!(FEED_SHARED, labels.iter()).set(*networks as f64);
        }
        gauge!(FEED_WEIGHT, [feed()].iter()).set(f64::from(report.trust.weight));
        gauge!(FEED_FALSE_POSITIVES, [feed()].iter()).set(f64::from(report.trust.false_positives));
        for (reason, demoted) in &report.demoted_by_reason {
            let labels =
                [Label::new("feed", report.name.shared()), Label::new("reason", reason.as_str())];
            gauge!(DEMOTED, labels.iter()).set(*demoted as f64);
        }
    }
}

fn broken(counts: breaker::Counts) {
    let breaker::Counts { tripped, kept, released, trips, forgotten } = counts;
    for (state, entries) in [("tripped", tripped), ("kept", kept), ("released", released)] {
        gauge!(BREAKER, "state" => state).set(entries as f64);
    }
    counter!(BREAKER_TRIPS).absolute(trips);
    counter!(BREAKER_FORGOTTEN).absolute(forgotten);
}

fn proof(sample: &Sample) {
    for (kind, drifts) in sample.drifts {
        counter!(DRIFTS, "kind" => kind.as_str()).absolute(drifts);
        let standing = sample.standing.iter().filter(|standing| **standing == kind).count();
        gauge!(DRIFT_STANDING, "kind" => kind.as_str()).set(standing as f64);
    }
    if let Some(compared_at) = sample.compared_at {
        gauge!(PROOF_AGE).set(age(sample.now, compared_at));
    }
}

fn one_feed(feed: &FeedStatus, now: Timestamp) {
    let label = || [Label::new("feed", feed.name.shared())];
    gauge!(FEED_INDICATORS, label().iter()).set(feed.indicators as f64);
    gauge!(FEED_REJECTED, label().iter()).set(feed.rejected as f64);
    if let Some(confirmed_at) = feed.confirmed_at {
        gauge!(FEED_CONFIRMED_AGE, label().iter()).set(age(now, confirmed_at));
    }
    if let Some(from) = feed.content_from {
        gauge!(FEED_CONTENT_AGE, label().iter()).set(age(now, from));
    }
    gauge!(FEED_STALE, label().iter()).set(flag(feed.is_stale(now)));
    gauge!(FEED_BROKEN, label().iter()).set(flag(feed.trouble.is_some()));
    for reason in HoldReason::ALL {
        let is_held = feed.held.as_ref().is_some_and(|held| held.reason == reason);
        let labels =
            [Label::new("feed", feed.name.shared()), Label::new("reason", reason.as_str())];
        gauge!(FEED_HELD, labels.iter()).set(flag(is_held));
    }
    counter!(FEED_SUCCESSES, label().iter()).absolute(feed.successes);
    for (reason, failures) in &feed.failures_by_reason {
        let labels = [Label::new("feed", feed.name.shared()), Label::new("reason", *reason)];
        counter!(FEED_FAILURES, labels.iter()).absolute(*failures);
    }
}

fn daemon(sample: &Sample) {
    counter!(ROWS_DRAINED).absolute(sample.rows_drained);
    for (certainty, flows) in sample.attributions {
        counter!(ATTRIBUTIONS, "verdict" => certainty.as_str()).absolute(flows);
    }
    counter!(DRAIN_ERRORS).absolute(sample.drain_errors);
    counter!(STORE_ERRORS).absolute(sample.store_errors);
    gauge!(HEALTHY).set(flag(sample.healthy));
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

fn age(now: Timestamp, then: Timestamp) -> f64 {
    Duration::try_from(now.duration_since(then)).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
pub(crate) mod tests;
