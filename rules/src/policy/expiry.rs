//! Every claim ends: so long after the feed last saw it, or after its list was fetched if the feed
//! gives no date.

use crate::{moment::Moment, period::Period, refusal::Why};

/// When claims of one feed end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    pub(super) expire_after: Period,
    pub(super) fetched_at: Moment,
    pub(super) now: Moment,
}

impl Expiry {
    /// The end of a claim. A date in the future counts as now, or a feed could list for ever.
    pub(super) fn ends(self, last_seen: Option<Moment>) -> Moment {
        last_seen.unwrap_or(self.fetched_at).min(self.now).after(self.expire_after)
    }

    pub(super) fn check(self, last_seen: Option<Moment>) -> Result<Moment, Why> {
        let at = self.ends(last_seen);
        if at < self.now { Err(Why::Expired { at }) } else { Ok(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: i64 = 7 * 86_400;

    fn check(fetched_at: i64, last_seen: Option<i64>, now: i64) -> Result<i64, &'static str> {
        let expiry = Expiry {
            expire_after: Period::days(7),
            fetched_at: Moment::nearest(fetched_at),
            now: Moment::nearest(now),
        };
        let end = expiry.check(last_seen.map(Moment::nearest));
        end.map(Moment::as_second).map_err(|why| why.reason().as_str())
    }

    #[test]
    fn a_claim_stands_for_a_week_after_it_was_seen() {
        let seen = 1_700_000_000;
        assert_eq!(check(0, Some(seen), seen), Ok(seen + WEEK));
        assert_eq!(check(0, Some(seen), seen + WEEK), Ok(seen + WEEK));
        assert_eq!(check(0, Some(seen), seen + WEEK + 1), Err("expired"));
    }

    #[test]
    fn without_a_date_the_fetch_counts() {
        let now = 1_700_000_000;
        assert_eq!(check(now - 60, None, now), Ok(now - 60 + WEEK));
        assert_eq!(check(now - WEEK - 1, None, now), Err("expired"));
    }

    #[test]
    fn a_date_in_the_future_counts_as_now() {
        let now = 1_700_000_000;
        assert_eq!(check(now, Some(now + 400 * WEEK), now), Ok(now + WEEK));
        assert_eq!(check(now + WEEK, None, now), Ok(now + WEEK));
    }
}
