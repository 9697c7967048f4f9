//! Why a claim does less than its feed asks for.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::feed::Action;

/// A stage of the policy that lets a claim stand, but not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Demotion {
    /// The host is run by defenders: it is observed.
    Sinkhole,
    /// Its score is below what blocks: it is observed.
    LowScore,
    /// Its score is below what counts at all: it does nothing.
    TooLowScore,
    /// It is new: it is observed until it has been in force for long enough.
    New,
    /// Implausibly many subscribers met it: it is observed until somebody decides.
    Breaker,
}

impl Demotion {
    /// All of them, in the order of the stages.
    pub const ALL: [Self; 5] =
        [Self::Sinkhole, Self::LowScore, Self::TooLowScore, Self::New, Self::Breaker];

    /// Whether it ends by itself or by somebody's decision, the list being the same.
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::New | Self::Breaker)
    }

    /// The name in reports and as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sinkhole => "sinkhole",
            Self::LowScore => "low_score",
            Self::TooLowScore => "too_low_score",
            Self::New => "new",
            Self::Breaker => "breaker",
        }
    }
}

impl fmt::Display for Demotion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The stages that demote one claim.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Demotions(u8);

impl Demotions {
    /// Nothing demotes the claim.
    pub const NONE: Self = Self(0);

    /// Adds one.
    pub const fn insert(&mut self, demotion: Demotion) {
        self.0 |= 1 << demotion as u8;
    }

    /// Whether this one is there.
    pub const fn has(self, demotion: Demotion) -> bool {
        self.0 >> demotion as u8 & 1 == 1
    }

    /// Whether nothing demotes the claim.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One bit for each, the first stage lowest.
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits, if there is a stage for each.
    pub(crate) const fn from_bits(bits: u8) -> Option<Self> {
        if bits >> Demotion::ALL.len() == 0 { Some(Self(bits)) } else { None }
    }

    /// Those that are there, in the order of the stages.
    pub fn iter(self) -> impl Iterator<Item = Demotion> {
        Demotion::ALL.into_iter().filter(move |demotion| self.has(*demotion))
    }

    /// What is left of what the feed asks for; `None` is nothing at all.
    pub const fn leave(self, asked: Action) -> Option<Action> {
        if self.has(Demotion::TooLowScore) {
            None
        } else if self.is_empty() {
            Some(asked)
        } else {
            Some(Action::Observe)
        }
    }
}

impl fmt::Debug for Demotions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Demotions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_stage_leaves_observation_and_a_score_too_low_leaves_nothing() {
        let of = |demotions: &[Demotion]| {
            let mut set = Demotions::default();
            demotions.iter().for_each(|demotion| set.insert(*demotion));
            set.leave(Action::Reject)
        };
        assert_eq!(of(&[]), Some(Action::Reject));
        for demotion in Demotion::ALL {
            let left = Some(Action::Observe).filter(|_| demotion != Demotion::TooLowScore);
            assert_eq!(of(&[demotion]), left);
        }
        assert_eq!(of(&[Demotion::New, Demotion::TooLowScore]), None);
    }
}
