//! Whether the daemon does its work, and what somebody should look at although it does.

use std::time::Duration;

use jiff::Timestamp;
use sekisho_abi::{reason::Reason, record::Modes};

use super::{
    super::status::{PutRight, degraded, pinned, troubled},
    Service,
    cables::Cable,
};
use crate::{
    config::Share,
    dataplane::{DataplaneError, Installed, PortCounts, evidence::Drift},
    health::Health,
};

/// Fewer packets in an interval than this tell nothing about their share.
const FEWEST_JUDGED: u64 = 100;
/// How long health tells of a difference that was put right.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// How many packets could not be read lately.
#[derive(Clone, Copy, Default)]
pub(super) struct Parsing {
    /// Packets since the dataplane was loaded, and those of them that could not be read.
    sums: Option<(u64, u64)>,
    pub(super) share: Option<Share>,
    limit: Share,
}

impl Service {
    /// Whether the daemon does its work; blocks.
    pub fn check_health(&self) -> Health {
        let read =
            || Ok::<_, DataplaneError>((self.dataplane.installed()?, self.dataplane.modes()?));
        match read() {
            Ok((installed, modes)) => self.health(&installed, &modes),
            Err(error) => Health::of(vec![error.to_string()]),
        }
    }

    pub(super) fn health(&self, installed: &Installed, modes: &Modes) -> Health {
        let state = self.state();
        let mut reasons = Vec::new();
        reasons.extend(
            installed
                .ports
                .iter()
                .filter(|port| port.attachment.is_none())
                .map(|port| format!("interface '{}' is gone", port.interface)),
        );
        let told = |drift: &&Drift| **drift != Drift::Checksum;
        reasons.extend(state.standing.iter().filter(told).map(Drift::to_string));
        reasons.extend(
            state
                .proof
                .failure
                .iter()
                .map(|failure| format!("what is installed is unknown: {failure}")),
        );
        reasons.extend(state.publish_error.clone());
        reasons.extend(state.drain_error.clone());
        reasons.extend(state.opt_out_error.as_ref().map(|fault| format!("opt-outs: {fault}")));
        reasons.extend(state.store_error.clone());
        if installed.generation.is_none() {
            reasons.push("no ruleset is live yet".to_owned());
        } else if !installed.intact {
            reasons.push("the ruleset in the kernel does not match its checksum".to_owned());
        } else if installed.lease.is_zero() {
            let limit = state.list_lifetime.as_secs() / 60;
            reasons.push(format!(
                "no list was confirmed for {limit} minutes: the ruleset only observes"
            ));
        }
        let Parsing { share, limit, .. } = state.parsing;
        if let Some(share) = share.filter(|share| *share > limit) {
            reasons.push(format!(
                "{share} of the packets of the last minute could not be read, more than {limit}"
            ));
        }
        let now = Timestamp::now();
        let mut degraded = degraded(installed, modes, &state.silent);
        degraded.extend(state.cables.iter().filter_map(Cable::trouble));
        let unread = state.cable_error.iter();
        degraded.extend(unread.map(|error| format!("carriers can't be read: {error}")));
        degraded.extend(state.pin.as_ref().map(pinned));
        let unkept = state.history_error.iter();
        degraded.extend(unkept.map(|error| format!("versions can't be kept: {error}")));
        degraded.extend(state.feeds.values().flat_map(|feed| troubled(feed, now)));
        degraded.extend(self.breaker_alarm());
        let lately = now.saturating_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
        let put_right = state.proof.put_right.iter().filter(|put_right| put_right.at >= lately);
        degraded
            .extend(put_right.map(|PutRight { at, what }| format!("put right at {at:.0}: {what}")));
        Health::of(reasons).but(degraded)
    }

    /// Compares the counters with those of the last time.
    pub(in crate::engine) fn watch_parsing(&self, counts: &[PortCounts]) {
        let sums = sums(counts);
        let mut state = self.state();
        let before = state.parsing.sums.replace(sums).unwrap_or(sums);
        let (packets, unparsed) =
            (sums.0.saturating_sub(before.0), sums.1.saturating_sub(before.1));
        state.parsing.share = (packets >= FEWEST_JUDGED).then(|| Share::of(unparsed, packets));
    }

    pub(in crate::engine) fn set_unparsed_limit(&self, limit: Share) {
        self.state().parsing.limit = limit;
    }
}

/// All packets but probes, and those that could not be read.
fn sums(counts: &[PortCounts]) -> (u64, u64) {
    let each = counts.iter().flat_map(|port| Reason::ALL.into_iter().zip(&port.by_reason));
    let traffic = each.filter(|(reason, _)| !reason.is_probe());
    traffic.fold((0, 0), |(packets, unparsed), (reason, count)| {
        let of_it = if reason.is_unparsed() { count.packets } else { 0 };
        (packets.saturating_add(count.packets), unparsed.saturating_add(of_it))
    })
}
