use proptest::prelude::*;

use super::*;
use crate::{feed::Format, moment::Moment, parse};

/// A list of so many hosts, from a number on.
fn list(from: u32, count: u32) -> Parsed {
    let text: String = (from..from + count)
        .map(|n| format!("{}\n", std::net::Ipv4Addr::from(0xc612_0000 + n)))
        .chain(["# a comment\n".to_owned()])
        .collect();
    parse::parse(Format::Plain, text.as_bytes(), &parse::Limits::default()).unwrap()
}

fn reason(before: u32, after: u32, limits: Limits) -> Option<&'static str> {
    match by_size(Some(&list(0, before)), &list(0, after), &limits, Approval::None) {
        Verdict::Take => None,
        Verdict::Hold(reason, figures) => {
            assert_eq!((figures.before, figures.after), (before.into(), after.into()));
            assert_eq!(u32::try_from(figures.added).unwrap(), after.saturating_sub(before));
            assert_eq!(u32::try_from(figures.removed).unwrap(), before.saturating_sub(after));
            Some(reason.as_str())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_beyond_a_share_is_held_unless_it_is_small() {
    let limits = Limits::default();
    assert_eq!(reason(1_000, 1_500, limits), None, "exactly half");
    assert_eq!(reason(1_000, 1_501, limits), Some("growth"));
    assert_eq!(reason(1_000, 700, limits), None, "exactly three tenths");
    assert_eq!(reason(1_000, 699, limits), Some("shrinkage"));
    assert_eq!(reason(5, 105, limits), None, "a hundred entries are little");
    assert_eq!(reason(5, 106, limits), Some("growth"));
    assert_eq!(reason(101, 1, limits), None);
    assert_eq!(reason(0, 101, limits), Some("growth"), "an empty list in force counts as one");
}

#[test]
fn a_change_beyond_a_count_is_held_however_small_its_share() {
    let limits = Limits { grow_entries: 10, shrink_entries: 5, ..Limits::default() };
    assert_eq!(reason(1_000, 1_010, limits), None);
    assert_eq!(reason(1_000, 1_011, limits), Some("growth"));
    assert_eq!(reason(1_000, 995, limits), None);
    assert_eq!(reason(1_000, 994, limits), Some("shrinkage"));
}

#[test]
fn the_first_list_of_a_feed_is_taken_unless_somebody_has_to_approve_it() {
    let limits = Limits { grow_entries: 1, ..Limits::default() };
    assert_eq!(by_size(None, &list(0, 5_000), &limits, Approval::None), Verdict::Take);
    let first = by_size(None, &list(0, 5), &limits, Approval::Required);
    let figures = Figures { before: 0, after: 5, added: 5, removed: 0 };
    assert_eq!(first, Verdict::Hold(HoldReason::Approval, figures));
}

#[test]
fn what_waits_for_approval_is_a_change_and_no_new_date() {
    let (old, mut same) = (list(0, 5), list(0, 5));
    same.indicators.reverse();
    for row in &mut same.indicators {
        row.last_seen = Some(Moment::MAX);
    }
    let judged = |list: &Parsed| by_size(Some(&old), list, &Limits::default(), Approval::Required);
    assert_eq!(judged(&same), Verdict::Take);
    let figures = Figures { before: 5, after: 5, added: 1, removed: 1 };
    assert_eq!(judged(&list(1, 5)), Verdict::Hold(HoldReason::Approval, figures));
    same.indicators[0].compromised = true;
    assert!(matches!(judged(&same), Verdict::Hold(HoldReason::Approval, _)));
}

/// A DROP list of so many networks, made at a time.
fn dated(count: u32, stamp: i64) -> Parsed {
    Parsed { stamp: Some(Moment::nearest(stamp)), ..list(0, count) }
}

fn spec(extra: &str) -> FeedSpec {
    let text = format!("feeds:\n  - {{name: a, source: x, format: plain, {extra}}}\n");
    crate::catalogue::Catalogue::from_yaml(&text, "feeds.yaml").unwrap().feeds.remove(0)
}

#[test]
fn an_older_list_is_taken_once_no_other_has_come_for_long_enough() {
    const HOUR: i64 = 3_600;
    let judged = |stamp, older_since: Option<i64>, now, extra: &str| {
        let since = older_since.map(Moment::nearest);
        let (old, new) = (dated(5, 1_000), dated(5, stamp));
        judge(Some(&old), &new, &spec(extra), since, Moment::nearest(now))
    };
    let older = Verdict::Older(Moment::nearest(999));
    assert_eq!(judged(999, None, 900 * HOUR, ""), older, "the first one, however old ours is");
    assert_eq!(judged(999, Some(HOUR), 73 * HOUR - 1, ""), older);
    assert_eq!(judged(999, Some(HOUR), 73 * HOUR, ""), Verdict::Take);
    assert_eq!(judged(999, Some(HOUR), 3 * HOUR, "older_after: 2h"), Verdict::Take);
    assert_eq!(judged(1_000, None, HOUR, ""), Verdict::Take, "the same date");
    assert_eq!(judged(1_001, Some(HOUR), HOUR, ""), Verdict::Take);
}

#[test]
fn an_empty_list_is_taken_only_where_that_may_be_or_nothing_was_there() {
    let judged = |before, extra: &str| {
        judge(Some(&list(0, before)), &list(0, 0), &spec(extra), None, Moment::MIN)
    };
    assert_eq!(judged(5_000, ""), Verdict::Emptied);
    assert_eq!(judged(5_000, "may_be_empty: true"), Verdict::Take);
    assert_eq!(judged(0, ""), Verdict::Take);
    assert_eq!(judge(None, &list(0, 0), &spec(""), None, Moment::MIN), Verdict::Take);
    let held = judged(5, "{may_be_empty: true, approval: required}".trim_matches(['{', '}']));
    assert!(matches!(held, Verdict::Hold(HoldReason::Approval, _)), "{held:?}");
}

#[test]
fn figures_are_told() {
    let figures = Figures { before: 5, after: 17, added: 13, removed: 1 };
    assert_eq!(figures.to_string(), "it grew from 5 to 17 entries (13 new, 1 gone)");
}

proptest! {
    #[test]
    fn the_verdict_is_what_the_limits_say(
        before in 0_u32..400,
        after in 0_u32..400,
        grow_percent in 0_u32..200,
        shrink_percent in 0_u32..120,
        grow_entries in 0_u64..300,
        shrink_entries in 0_u64..300,
        slack in 0_u64..50,
    ) {
        let limits = Limits { grow_percent, grow_entries, shrink_percent, shrink_entries, slack };
        let (change, percent, entries, expected) = if after >= before {
            (u64::from(after - before), grow_percent, grow_entries, "growth")
        } else {
            (u64::from(before - after), shrink_percent, shrink_entries, "shrinkage")
        };
        let share = change as f64 / f64::from(before) * 100.0;
        let is_beyond = change > entries || change > slack && share > f64::from(percent);
        prop_assert_eq!(reason(before, after, limits), is_beyond.then_some(expected));
    }

    #[test]
    fn a_stricter_limit_never_takes_what_a_laxer_one_holds(
        before in 0_u32..300,
        after in 0_u32..300,
        percent in 0_u32..100,
        slack in 0_u64..50,
    ) {
        let of = |percent, slack| Limits {
            grow_percent: percent,
            shrink_percent: percent,
            slack,
            ..Limits::default()
        };
        let lax = reason(before, after, of(percent + 10, slack + 10));
        let strict = reason(before, after, of(percent, slack));
        prop_assert!(lax.is_none() || strict.is_some());
    }

    #[test]
    fn an_unchanged_list_is_taken_whatever_the_limits(count in 0_u32..300, approval in any::<bool>()) {
        let none = Limits {
            grow_percent: 0, grow_entries: 0, shrink_percent: 0, shrink_entries: 0, slack: 0,
        };
        let approval = if approval { Approval::Required } else { Approval::None };
        let verdict = by_size(Some(&list(0, count)), &list(0, count), &none, approval);
        prop_assert_eq!(verdict, Verdict::Take);
    }
}
