use proptest::prelude::*;

use super::*;

const DAY: i64 = 86_400;

fn weight(given: u8, ages: &[i64]) -> u8 {
    TrustLimits::default().trust(given, ages.iter().copied()).weight
}

#[test]
fn ten_fresh_findings_halve_the_weight_and_age_gives_it_back() {
    assert_eq!(weight(100, &[]), 100);
    assert_eq!(weight(100, &[0]), 91);
    assert_eq!(weight(100, &[0; 10]), 50);
    assert_eq!(weight(60, &[0; 10]), 30);
    assert_eq!(weight(100, &[90 * DAY; 10]), 67, "after 90 days they count as five");
    assert_eq!(weight(100, &[3_650 * DAY; 10]), 98);
    assert_eq!(weight(100, &[0; 10_000]), 25, "never below a quarter");
}

#[test]
fn a_date_in_the_future_counts_as_now_and_zero_turns_it_off() {
    assert_eq!(weight(100, &[-DAY; 10]), 50);
    let off = TrustLimits { halved_by: 0, ..TrustLimits::default() };
    let trust = off.trust(80, [0; 50].into_iter());
    assert_eq!(trust, Trust { given: 80, weight: 80, false_positives: 50 });
}

#[test]
fn a_network_counts_once_a_feed_by_its_latest_date_and_the_operators_lists_are_above_that() {
    let feed = |name: &str| name.parse::<FeedName>().unwrap();
    let at = |second| Moment::nearest(1_700_000_000 + second);
    let network: IpNet = "198.18.0.1/32".parse().unwrap();
    let past =
        [0, 90 * DAY].map(|second| FalsePositive { feed: feed("a"), network, at: at(second) });
    let mut findings = Findings::known(&past);
    let now = at(90 * DAY);
    findings.note(&feed("a"), network, now);
    findings.note(&feed("b"), network, now);
    findings.note(&feed("b"), network, now);
    findings.note(&FeedName::reserved("operator"), network, now);
    let catalogue = "feeds: [{name: a, source: x, format: plain, weight: 90}]";
    let spec = crate::catalogue::Catalogue::from_yaml(catalogue, "f").unwrap().feeds.remove(0);
    let trust = findings.trust(&spec, &TrustLimits::default(), now);
    assert_eq!(trust, Trust { given: 90, weight: 82, false_positives: 1 });
    assert_eq!(findings.into_new(), [FalsePositive { feed: feed("b"), network, at: now }]);
}

proptest! {
    #[test]
    fn more_findings_never_raise_a_weight_older_ones_never_lower_it_and_it_keeps_its_bounds(
        given in 0..=100_u8,
        ages in proptest::collection::vec(0..4_000 * DAY, 0..40),
        older in 0..400 * DAY,
        halved_by in 0..2_000_u16,
        least_percent in 0..=100_u8,
    ) {
        let limits = TrustLimits { halved_by, least_percent, ..TrustLimits::default() };
        let weight = |ages: &[i64]| limits.trust(given, ages.iter().copied()).weight;
        let all = weight(&ages);
        prop_assert!(all <= given);
        prop_assert!(u32::from(all) + 1 >= u32::from(given) * u32::from(least_percent) / 100);
        prop_assert!(ages.is_empty() || weight(&ages[1..]) >= all);
        let aged: Vec<_> = ages.iter().map(|age| age + older).collect();
        prop_assert!(weight(&aged) >= all);
    }
}
