//! All cases that hold while everything is switched on.

use std::collections::{BTreeSet, HashMap, HashSet};

use sekisho_abi::record::Role;

use crate::{
    direction, extensions,
    lab::{Case, Lab, report},
    layers, modes,
    opt_out::{self, is_opted_out},
    protected, reject, sinkhole, truncation, tunnels,
};

/// Tries each so many-th case only, in place of all: emulated processors are slow.
const STEP_VARIABLE: &str = "SEKISHO_CORPUS_STEP";

/// Those of the cases that are to be tried, spread over all subjects.
pub(crate) fn tried(cases: Vec<Case>) -> Vec<Case> {
    let step = setting(STEP_VARIABLE).and_then(|step| usize::try_from(step).ok()).unwrap_or(1);
    assert!(step > 0, "{STEP_VARIABLE}=0 would try nothing");
    cases.into_iter().step_by(step).collect()
}

/// What an environment variable says.
pub(crate) fn setting(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Every subject but the truncations, which are parts of other cases' frames.
pub(crate) fn cases() -> Vec<Case> {
    [
        layers::cases(),
        direction::cases(),
        extensions::cases(),
        tunnels::cases(),
        opt_out::cases(),
        protected::cases(),
        modes::cases(),
        reject::cases(),
        sinkhole::cases(),
    ]
    .concat()
}

#[test]
fn every_frame_is_judged_as_its_sentence_says() {
    let lab = Lab::new("corpus");
    let cases = tried(cases());
    let cut_short = tried(truncation::cases());
    report("corpus cases", cases.len() + cut_short.len());
    lab.check_all(&cases);
    let rows = lab.drained();
    assert!(!rows.is_empty(), "hits are kept");
    for row in rows {
        let subscriber = row.key.subscriber.ip().to_string();
        assert!(!is_opted_out(&subscriber), "nothing is kept of those who opted out: {row:?}");
    }
    lab.check_all(&cut_short);
}

#[test]
fn no_two_cases_are_alike() {
    let cases = cases();
    let frames: HashSet<(u32, &[u8])> =
        cases.iter().map(|case| (case.role as u32, &case.frame[..])).collect();
    for role in [Role::Subscriber, Role::Uplink, Role::Both] {
        let of_role = frames.iter().filter(|(of, _)| *of == role as u32).count();
        assert!(of_role >= 150, "{of_role} different frames for {role:?}");
    }
    let mut told = HashMap::new();
    let mut twice = BTreeSet::new();
    for case in &cases {
        let before = told.insert((case.role as u32, case.sentence.as_str()), &case.frame);
        if before.is_some_and(|frame| *frame != case.frame) {
            twice.insert(case.sentence.as_str());
        }
    }
    assert!(twice.is_empty(), "told of several frames: {twice:#?}");
}
