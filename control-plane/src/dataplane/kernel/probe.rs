//! Probes of the canary through the programs that are on interfaces.

use std::{
    os::fd::AsFd as _,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use sekisho_abi::{reason::Reason, record::Count};

use super::{KernelDataplane, anchors::LiveProgram};
use crate::dataplane::{
    DataplaneError,
    canary::{self, ADDRESSES, Answer, CanaryEvidence},
    evidence::Depth,
    objects,
    pins::system,
    sys,
};

/// How often a wrong answer is asked for again before it counts.
const TRIES: usize = 3;
/// More than the program's clock lags behind: a jiffy of a kernel that ticks a hundred times a
/// second.
const LAG: Duration = Duration::from_millis(20);
/// `XDP_DROP` of linux/bpf.h.
const XDP_DROP: u32 = 1;

/// What was answered last.
#[derive(Default)]
pub(super) struct Probes {
    answers: Vec<Probed>,
    /// Why a program could not be asked, as it was last told.
    failure: Option<String>,
}

/// An answer, and what it came from.
struct Probed {
    program: u32,
    image: u32,
    evidence: CanaryEvidence,
}

impl Probes {
    /// The last answer, if it was right and nothing that it came from changed.
    fn known(&self, program: &LiveProgram, image: u32, evidence: &CanaryEvidence) -> bool {
        self.answers.iter().any(|probed| {
            (probed.program, probed.image) == (program.program, image)
                && probed.evidence == *evidence
        })
    }
}

impl KernelDataplane {
    /// What the programs make of the canary while this map holds the live ruleset. One that was
    /// right is only asked again once something changed, or once a deep look is asked for: for each
    /// run the kernel may wait until all CPUs have seen the program.
    pub(super) fn probe(
        &self,
        programs: &[LiveProgram],
        image: u32,
        depth: Depth,
    ) -> Result<Vec<CanaryEvidence>, DataplaneError> {
        let mut probes = lock(&self.probes);
        let (mut probed, mut failure) = (Vec::new(), None);
        for program in programs {
            for address in ADDRESSES {
                let expected = self.expected(program.slot)?;
                let interface = program.interface.clone();
                let right = CanaryEvidence { interface, address, expected, answer: expected };
                let evidence = if depth == Depth::Shallow && probes.known(program, image, &right) {
                    right
                } else {
                    self.ask_live(program, right, &mut failure)?
                };
                probed.push(Probed { program: program.program, image, evidence });
            }
        }
        if let Some(told) = failure.as_ref().filter(|told| probes.failure.as_ref() != Some(told)) {
            tracing::error!("{told}");
        }
        *probes = Probes { answers: probed, failure };
        Ok(probes.answers.iter().map(|probed| probed.evidence.clone()).collect())
    }

    /// Asks until the answer is right: the switch may be turned, and the lease may end, between the
    /// question and the answer. A program that can't be asked must not keep what else differs from
    /// being put right.
    fn ask_live(
        &self,
        program: &LiveProgram,
        mut evidence: CanaryEvidence,
        failure: &mut Option<String>,
    ) -> Result<CanaryEvidence, DataplaneError> {
        for attempt in 0..TRIES {
            if attempt > 0 {
                thread::sleep(LAG);
            }
            evidence.expected = self.expected(program.slot)?;
            evidence.answer = self.answer(program, &evidence).unwrap_or_else(|error| {
                *failure = Some(error.to_string());
                Answer::Failed
            });
            if evidence.answer == evidence.expected {
                break;
            }
        }
        Ok(evidence)
    }

    fn expected(&self, slot: u8) -> Result<Answer, DataplaneError> {
        let maps = self.maps();
        let lease_holds = maps.lease()?.enforce_until_ns > sys::monotonic_ns();
        Ok(canary::expected(&maps.modes()?, slot, lease_holds))
    }

    /// The reason is read off the counters. Somebody may send to the canary, too; then their packets
    /// are counted like the probe.
    fn answer(
        &self,
        live: &LiveProgram,
        CanaryEvidence { address, expected, .. }: &CanaryEvidence,
    ) -> Result<Answer, DataplaneError> {
        if *expected == Answer::NotAsked {
            return Ok(Answer::NotAsked);
        }
        let failed = |error| system(format!("probe interface '{}'", live.interface), error);
        let program = objects::program(live.program).map_err(failed)?;
        let before = self.maps().counts(live.slot)?;
        let action = sys::test_run(program.as_fd(), &canary::probe(*address, live.role));
        let action = action.map_err(failed)?;
        let after = self.maps().counts(live.slot)?;
        let packets = |counts: &[Count; Reason::COUNT], reason: Reason| {
            counts.get(reason as usize).map_or(0, |count| count.packets)
        };
        let was_counted = |answer: &Answer| {
            let Some(reason) = answer.reason() else { return false };
            let is_done = *answer != Answer::Dropped || action == XDP_DROP;
            is_done && packets(&after, reason) > packets(&before, reason)
        };
        let answers = [*expected, Answer::Dropped, Answer::Passed];
        Ok(answers.into_iter().find(was_counted).unwrap_or(Answer::NotFound))
    }
}

fn lock(probes: &Mutex<Probes>) -> std::sync::MutexGuard<'_, Probes> {
    probes.lock().unwrap_or_else(PoisonError::into_inner)
}
