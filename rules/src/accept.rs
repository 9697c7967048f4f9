//! Every indicator before the stages that look at it alone. Long lists are judged in pieces at the same
//! time; the pieces are put together in the order of the lists, so that nothing depends on who was first.

use std::collections::{BTreeMap, HashSet};

use ipnet::IpNet;
use rayon::prelude::*;

use crate::{
    compile::{FeedInput, meant},
    indicator::Indicator,
    merge::{Place, Rows},
    policy::{Guards, Judge},
    refusal::{MAX_KEPT_PER_FEED, RefusalReason, Why},
    table::FeedSlot,
};

/// Indicators of a piece: enough that its beginning and end cost nothing beside it.
const PIECE: usize = 1 << 14;

/// What came of one piece of one feed's list.
pub(crate) struct Accepted {
    /// The feed.
    pub(crate) feed: FeedSlot,
    /// What passes.
    pub(crate) rows: Rows,
    /// Indicators that touch a network of a list of the tier `warn`.
    pub(crate) warned: u64,
    /// The networks of the operator's decisions that a claim met, each once.
    pub(crate) met: Vec<IpNet>,
    is_met: HashSet<IpNet>,
    /// The first refusals, no more than are kept of a whole feed.
    pub(crate) refused: Vec<(Place, Why)>,
    /// How many there are beyond these, by reason.
    pub(crate) refused_besides: BTreeMap<RefusalReason, u64>,
}

/// Judges all lists, in the order of the feeds and their lines.
pub(crate) fn accept(
    inputs: &[FeedInput<'_>],
    judges: &[Judge<'_>],
    guards: &Guards,
) -> Vec<Accepted> {
    accept_in(PIECE, inputs, judges, guards)
}

fn accept_in(
    size: usize,
    inputs: &[FeedInput<'_>],
    judges: &[Judge<'_>],
    guards: &Guards,
) -> Vec<Accepted> {
    let mut pieces = Vec::new();
    for ((input, judge), feed) in inputs.iter().zip(judges).zip(0..) {
        let firsts = (0..).step_by(size);
        for (indicators, first) in input.indicators().chunks(size).zip(firsts) {
            pieces.push(Piece {
                input,
                judge,
                guards,
                indicators,
                first: Place { feed, at: first },
            });
        }
    }
    pieces.par_iter().map(Piece::judge).collect()
}

struct Piece<'a> {
    input: &'a FeedInput<'a>,
    judge: &'a Judge<'a>,
    guards: &'a Guards,
    indicators: &'a [Indicator],
    first: Place,
}

impl Piece<'_> {
    fn judge(&self) -> Accepted {
        let mut accepted = Accepted {
            feed: self.first.feed,
            rows: Rows::default(),
            warned: 0,
            met: Vec::new(),
            is_met: HashSet::new(),
            refused: Vec::new(),
            refused_besides: BTreeMap::new(),
        };
        for (indicator, at) in self.indicators.iter().zip(self.first.at..) {
            let meant = meant(indicator, self.input.spec);
            accepted.warned += u64::from(self.guards.warning(indicator.network).is_some());
            let place = Place { at, ..self.first };
            match self.judge.check(indicator, meant) {
                Ok(()) => {
                    accepted.rows.push(place, indicator, meant);
                    for allowed in self.guards.allowed_inside(indicator.network, meant) {
                        accepted.meet(allowed);
                    }
                }
                Err(why) => accepted.refuse(place, why),
            }
        }
        accepted
    }
}

impl Accepted {
    fn meet(&mut self, network: IpNet) {
        if self.is_met.insert(network) {
            self.met.push(network);
        }
    }

    fn refuse(&mut self, place: Place, why: Why) {
        if let Why::Operator { range, .. } = why {
            self.meet(range);
        }
        if (self.refused.len() as u64) < MAX_KEPT_PER_FEED {
            self.refused.push((place, why));
        } else {
            *self.refused_besides.entry(why.reason()).or_default() += 1;
        }
    }
}
