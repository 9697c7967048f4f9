//! Every claim ends: so long after its feed last listed it. A feed may also refuse what it lists
//! but has not itself seen for long.

use crate::{moment::Moment, period::Period, refusal::Why};

/// When claims of one feed end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    pub(super) expire_after: Period,
    pub(super) max_age: Option<Period>,
    pub(super) fetched_at: Moment,
    pub(super) now: Moment,
}

impl Expiry {
    /// When a claim ends. `last_seen` is the feed's own date, which most feeds give, if any, once and
    /// never again; `valid_until` is the end that it names itself.
    pub(super) fn ends(self, last_seen: Option<Moment>, valid_until: Option<Moment>) -> Moment {
        let end = self.fetched_at.min(self.now).after(self.expire_after);
        let end = valid_until.map_or(end, |until| end.min(until));
        match (self.max_age, last_seen) {
            (Some(max_age), Some(last_seen)) => end.min(last_seen.min(self.now).after(max_age)),
            _ => end,
        }
    }

    /// When a claim ends, if it has not yet.
    pub(super) fn check(
        self,
        last_seen: Option<Moment>,
        valid_until: Option<Moment>,
    ) -> Result<Moment, Why> {
        let at = self.ends(last_seen, valid_until);
        if at < self.now { Err(Why::Expired { at }) } else { Ok(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: i64 = 7 * 86_400;
    const NOW: i64 = 1_700_000_000;

    fn check(
        fetched_at: i64,
        max_age: Option<Period>,
        last_seen: Option<i64>,
    ) -> Result<i64, &'static str> {
        let expiry = Expiry {
            expire_after: Period::days(7),
            max_age,
            fetched_at: Moment::nearest(fetched_at),
            now: Moment::nearest(NOW),
        };
        let end = expiry.check(last_seen.map(Moment::nearest), None);
        end.map(Moment::as_second).map_err(|why| why.reason().as_str())
    }

    #[test]
    fn a_claim_stands_for_a_week_after_the_feed_last_listed_it() {
        assert_eq!(check(NOW - 60, None, None), Ok(NOW - 60 + WEEK));
        assert_eq!(check(NOW - WEEK, None, None), Ok(NOW));
        assert_eq!(check(NOW - WEEK - 1, None, None), Err("expired"));
    }

    #[test]
    fn what_a_feed_still_lists_stands_however_old_its_date_unless_the_catalogue_limits_that() {
        let old = Some(NOW - 400 * WEEK);
        assert_eq!(check(NOW, None, old), Ok(NOW + WEEK));
        assert_eq!(check(NOW, Some(Period::days(30)), old), Err("expired"));
        assert_eq!(check(NOW, Some(Period::days(30)), Some(NOW - WEEK)), Ok(NOW + WEEK));
    }

    #[test]
    fn a_claim_ends_at_its_greatest_age_if_that_comes_first() {
        let seen = NOW - 3 * 86_400;
        assert_eq!(check(NOW, Some(Period::days(5)), Some(seen)), Ok(NOW + 2 * 86_400));
        assert_eq!(check(NOW, Some(Period::days(3)), Some(seen)), Ok(NOW));
    }

    #[test]
    fn the_end_that_the_feed_names_counts_if_it_comes_first() {
        let expiry = Expiry {
            expire_after: Period::days(7),
            max_age: None,
            fetched_at: Moment::nearest(NOW),
            now: Moment::nearest(NOW),
        };
        let ends = |until: i64| expiry.ends(None, Some(Moment::nearest(until))).as_second();
        assert_eq!(ends(NOW + 60), NOW + 60);
        assert_eq!(ends(NOW + 2 * WEEK), NOW + WEEK);
        assert!(expiry.check(None, Some(Moment::nearest(NOW - 1))).is_err());
    }

    #[test]
    fn a_date_in_the_future_counts_as_now() {
        let future = NOW + 400 * WEEK;
        assert_eq!(check(future, Some(Period::days(1)), Some(future)), Ok(NOW + 86_400));
    }
}
