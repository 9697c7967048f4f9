//! Proof of enforcement: what was compiled, what was installed and what is installed are compared
//! all the time, and what differs is told and put right.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sekisho_abi::image::Header;
use tracing::{error, info, warn};

use super::service::Service;
use crate::dataplane::{
    DataplaneError,
    canary::CanaryEvidence,
    evidence::{Depth, Drift, DriftKind, Evidence, ImageLabel, PortState},
};

/// How often numbers and headers are compared; an interface that comes or goes is looked at at once.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// How often every byte of the ruleset is read, which takes some milliseconds of one CPU, and every
/// program is probed. What is new is probed at once.
pub(super) const DEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How long a repair that failed waits for the next try.
const RETRY: Duration = Duration::from_secs(5);

/// The comparison, with what could not be put right.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// When each was last tried in vain.
    failed: HashMap<Drift, Instant>,
    read_deeply: Option<Instant>,
}

/// What is left to do after a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing.
    None,
    /// The ruleset is to be built and made live anew.
    Rebuild,
}

/// What came of a comparison.
struct Outcome {
    /// What still differs in the end.
    standing: Vec<Drift>,
    canaries: Vec<CanaryEvidence>,
    remedy: Remedy,
}

impl Proof {
    /// Compares, tells, and puts right; blocks.
    pub(super) fn run(&mut self, service: &Service, now: Instant) -> Remedy {
        let is_due = |last: Instant| now.saturating_duration_since(last) >= DEEP_INTERVAL;
        let depth = if self.read_deeply.is_none_or(is_due) { Depth::Deep } else { Depth::Shallow };
        match self.compare_and_mend(service, depth, now) {
            Ok(Outcome { standing, canaries, remedy }) => {
                if depth == Depth::Deep {
                    self.read_deeply = Some(now);
                }
                service.proven(Timestamp::now(), standing, canaries);
                remedy
            }
            Err(error) => {
                service.not_proven(&error.to_string());
                Remedy::None
            }
        }
    }

    fn compare_and_mend(
        &mut self,
        service: &Service,
        depth: Depth,
        now: Instant,
    ) -> Result<Outcome, DataplaneError> {
        let dataplane = service.dataplane();
        let compiled = service.ruleset().map(|ruleset| label(&ruleset.header));
        let evidence = dataplane.evidence(depth)?;
        let drifts = compare(compiled, &evidence);
        for (drift, _) in self.failed.extract_if(|drift, _| !drifts.contains(drift)) {
            put_right(service, &drift);
        }
        let mut tried = Vec::new();
        for drift in &drifts {
            let last = self.failed.get(drift);
            if last.is_some_and(|last| now.saturating_duration_since(*last) < RETRY) {
                continue;
            }
            if last.is_none() {
                tell(drift);
                service.drifted(drift.kind());
            }
            if let Err(failure) = dataplane.repair(drift) {
                error!(kind = drift.kind().as_str(), "{drift}, and stays so for now: {failure}");
            }
            self.failed.insert(drift.clone(), now);
            tried.push(drift);
        }
        if tried.is_empty() {
            let canaries = evidence.canaries;
            return Ok(Outcome { standing: drifts, canaries, remedy: Remedy::None });
        }
        let evidence = dataplane.evidence(depth)?;
        let standing = compare(compiled, &evidence);
        let mut remedy = Remedy::None;
        for drift in tried {
            if !standing.contains(drift) {
                self.failed.remove(drift);
                put_right(service, drift);
            } else if drift.needs_rebuild() {
                remedy = Remedy::Rebuild;
            }
        }
        Ok(Outcome { standing, canaries: evidence.canaries, remedy })
    }
}

fn tell(drift: &Drift) {
    let kind = drift.kind();
    match kind {
        // Links come and go without anybody's ill will.
        DriftKind::Interface => warn!(kind = kind.as_str(), "{drift}"),
        _ => error!(kind = kind.as_str(), "{drift}"),
    }
}

fn put_right(service: &Service, drift: &Drift) {
    info!(kind = drift.kind().as_str(), "put right: {drift}");
    service.put_right(Timestamp::now(), drift);
}

fn label(header: &Header) -> ImageLabel {
    ImageLabel {
        generation: header.generation,
        entries_v4: header.prefixes_v4,
        entries_v6: header.prefixes_v6,
        checksum: header.checksum,
    }
}

/// What differs, in the order in which it is to be put right.
fn compare(compiled: Option<ImageLabel>, evidence: &Evidence) -> Vec<Drift> {
    let pins = evidence.lost_pins.iter().map(|path| Drift::Pin { path: path.clone() });
    let mut drifts: Vec<Drift> = pins.collect();
    for port in &evidence.ports {
        let interface = port.interface.clone();
        drifts.extend(match port.state {
            // One that is gone is no drift: there is nothing to put the program on.
            PortState::Guarded | PortState::Absent => None,
            PortState::Returned => Some(Drift::Interface { interface }),
            PortState::Detached => Some(Drift::Link { interface }),
            PortState::Replaced { expected, found } => {
                Some(Drift::Program { interface, expected, found })
            }
        });
    }
    // Guarding it again names it again.
    let returned = |interface: &String| {
        let mut ports = evidence.ports.iter();
        ports.any(|port| port.interface == *interface && port.state == PortState::Returned)
    };
    let lost = evidence.lost_devices.iter().filter(|interface| !returned(interface));
    drifts.extend(lost.map(|interface| Drift::Device { interface: interface.clone() }));
    let (expected, found) = (&evidence.expected, &evidence.found);
    let installed = found.as_ref().and_then(|found| found.label);
    if found != expected {
        drifts.push(Drift::Image { expected: expected.clone(), found: found.clone() });
    } else if found.is_some() && !evidence.intact {
        drifts.push(Drift::Checksum);
    } else if let Some(compiled) = compiled.filter(|compiled| installed != Some(*compiled)) {
        drifts.push(Drift::Ruleset { compiled, installed });
    }
    for (holds, drift) in [
        (evidence.switch_holds, Drift::Switch),
        (evidence.opt_outs_hold, Drift::OptOuts),
        (evidence.sinkhole_holds, Drift::Sinkhole),
    ] {
        if !holds {
            drifts.push(drift);
        }
    }
    let wrong = evidence.canaries.iter().filter(|canary| canary.answer != canary.expected);
    drifts.extend(wrong.cloned().map(|CanaryEvidence { interface, address, expected, answer }| {
        Drift::Canary { interface, address, expected, answer }
    }));
    drifts
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
