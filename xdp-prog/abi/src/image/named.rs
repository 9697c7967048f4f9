//! The lists that name an entry, and what they ask for.

use super::{
    build::{Action, List, ListSet},
    lookup::Lists,
};

/// The lists that name an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    /// Lists that ask for what they usually ask for.
    pub acting: ListSet,
    /// Lists that only observe this entry. One that is in `acting` as well acts.
    pub observing: ListSet,
}

impl Named {
    pub(super) const fn is_empty(self) -> bool {
        self.all() == 0
    }

    pub(super) const fn all(self) -> ListSet {
        self.acting | self.observing
    }

    /// What both say together, in the one form that it has.
    pub(super) const fn with(self, other: Self) -> Self {
        let acting = self.acting | other.acting;
        Self { acting, observing: (self.observing | other.observing) & !acting }
    }
}

/// Lists that all ask for what they usually ask for.
impl From<ListSet> for Named {
    fn from(acting: ListSet) -> Self {
        Self { acting, observing: 0 }
    }
}

/// Which lists ask for what.
pub(super) struct Asked {
    drop: ListSet,
    reject: ListSet,
    sinkhole: ListSet,
}

impl Asked {
    pub(super) fn of(lists: &[List]) -> Self {
        let asking = |action| {
            let slots = lists.iter().enumerate().filter(move |(_, list)| list.action == action);
            slots.fold(0, |set, (slot, _)| set | 1 << slot)
        };
        Self {
            drop: asking(Action::Drop),
            reject: asking(Action::Reject),
            sinkhole: asking(Action::Sinkhole),
        }
    }

    /// What lists that name an entry ask for.
    pub(super) const fn by(&self, named: Named) -> Lists {
        let Named { acting, observing } = named;
        let stopping = self.drop | self.reject | self.sinkhole;
        Lists {
            observe: observing | acting & !stopping,
            drop: acting & self.drop,
            reject: acting & self.reject,
            sinkhole: acting & self.sinkhole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_observes_an_entry_and_acts_on_another_acts_on_both() {
        let one = Named { acting: 0b01, observing: 0b110 };
        let both = one.with(0b10.into());
        assert_eq!(both, Named { acting: 0b11, observing: 0b100 });
        assert_eq!(both, Named::from(0b10).with(one));
    }

    #[test]
    fn a_list_that_only_observes_an_entry_asks_for_nothing_else() {
        let list = |action| List { name: String::new(), action };
        let lists = [Action::Observe, Action::Drop, Action::Reject, Action::Sinkhole].map(list);
        let asked = Asked::of(&lists);
        let all = Lists { observe: 0b0001, drop: 0b0010, reject: 0b0100, sinkhole: 0b1000 };
        assert_eq!(asked.by(0b1111.into()), all);
        let observed = asked.by(Named { acting: 0b0010, observing: 0b1101 });
        assert_eq!(observed, Lists { observe: 0b1101, drop: 0b0010, ..Lists::default() });
    }
}
