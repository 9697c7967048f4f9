use proptest::prelude::*;

use super::*;
use crate::{catalogue::Catalogue, indicator::Protocol};

const NOW: i64 = 1_800_000_000;
const CLASSES: [Class; 5] =
    [Class::Sinkhole, Class::Scanner, Class::Compromised, Class::Unknown, Class::Dedicated];

fn scorer(feeds: &[(&str, u8, Option<&str>)]) -> Scorer {
    let row = |(name, weight, origin): &(&str, u8, Option<&str>)| {
        let origin = origin.map_or(String::new(), |origin| format!(", origin: {origin}"));
        format!("  - {{name: {name}, source: x, format: plain, weight: {weight}{origin}}}\n")
    };
    let rows: String = feeds.iter().map(row).collect();
    let catalogue = Catalogue::from_yaml(&format!("feeds:\n{rows}"), "feeds.yaml").unwrap();
    let limits = ScoreLimits::default();
    let weights = catalogue.feeds.iter().map(|feed| feed.weight);
    Scorer::new(catalogue.feeds.iter(), weights, limits, Moment::nearest(NOW))
}

fn claim(feed: FeedSlot, class: Class, confidence: Option<u8>, age: i64) -> Claim {
    Claim {
        class,
        confidence,
        last_seen: Some(Moment::nearest(NOW - age)),
        ..Claim::new(feed, Traffic::ANY, Moment::MAX)
    }
}

fn score(scorer: &Scorer, claims: &[Claim]) -> u8 {
    let mut claims = claims.to_vec();
    scorer.settle(&mut claims);
    claims[0].score
}

#[test]
fn one_fresh_word_is_worth_what_the_catalogue_says() {
    let scorer = scorer(&[("a", 100, None), ("b", 50, None)]);
    assert_eq!(score(&scorer, &[claim(0, Class::Dedicated, Some(100), 0)]), 100);
    assert_eq!(score(&scorer, &[claim(0, Class::Unknown, None, 0)]), 60);
    assert_eq!(score(&scorer, &[claim(1, Class::Unknown, None, 0)]), 30);
    assert_eq!(score(&scorer, &[claim(0, Class::Unknown, None, 30 * 86_400)]), 30);
}

#[test]
fn independent_words_share_the_doubt_and_lists_of_one_origin_speak_once() {
    let independent = scorer(&[("a", 100, None), ("b", 100, None)]);
    let both = [claim(0, Class::Unknown, None, 0), claim(1, Class::Unknown, None, 0)];
    assert_eq!(score(&independent, &both), 84);
    let same = scorer(&[("a", 100, Some("abuse.ch")), ("b", 100, Some("abuse.ch"))]);
    assert_eq!(score(&same, &both), 60);
    assert_eq!(same.words(&both[0], &both).len(), 1);
    assert_eq!(independent.words(&both[0], &both).len(), 2);
}

#[test]
fn a_claim_on_all_traffic_speaks_for_a_port_and_not_the_other_way_round() {
    let scorer = scorer(&[("a", 100, None), ("b", 100, None)]);
    let any = claim(0, Class::Unknown, None, 0);
    let traffic = Traffic { protocol: Some(Protocol::Tcp), port: Some(443) };
    let port = Claim { traffic, ..claim(1, Class::Unknown, None, 0) };
    let mut claims = vec![any, port];
    scorer.settle(&mut claims);
    assert_eq!(claims.iter().map(|claim| claim.score).collect::<Vec<_>>(), [60, 84]);
}

#[test]
fn thresholds_observe_and_ignore() {
    let limits = ScoreLimits { block: 70, observe: 30, ..ScoreLimits::default() };
    assert_eq!(limits.check(70), None);
    assert_eq!(limits.check(69), Some(Demotion::LowScore));
    assert_eq!(limits.check(29), Some(Demotion::TooLowScore));
    let all = (0..=FULL).all(|score| ScoreLimits::default().check(score).is_none());
    assert!(all, "the default changes nothing");
}

/// Feed, place of its class among all from the least on, confidence, age in hours.
type Said = (FeedSlot, usize, u8, i64);

fn said() -> impl Strategy<Value = Said> {
    (0_u8..5, 0..CLASSES.len(), 0_u8..=100, 0_i64..5_000)
}

fn of(said: &[Said]) -> Vec<Claim> {
    let of = |&(feed, class, confidence, hours): &Said| {
        claim(feed, CLASSES[class], Some(confidence), hours * 3_600)
    };
    said.iter().map(of).collect()
}

const FEEDS: [(&str, u8, Option<&str>); 5] = [
    ("e", 90, None),
    ("d", 10, Some("same")),
    ("c", 75, None),
    ("b", 60, Some("same")),
    ("a", 33, None),
];

proptest! {
    #[test]
    fn more_of_anything_never_lowers_the_score(
        words in proptest::collection::vec(said(), 1..8),
        at in any::<prop::sample::Index>(),
        raised in (0_usize..5, 0_u8..=100, 0_i64..5_000, 0_u8..=100),
        more in said(),
    ) {
        let scorer = scorer(&FEEDS);
        let before = score(&scorer, &of(&words));
        let at = at.index(words.len());
        let (class, confidence, hours, weight) = raised;
        let with = |change: &dyn Fn(&mut Said)| {
            let mut words = words.clone();
            change(&mut words[at]);
            score(&scorer, &of(&words))
        };
        prop_assert!(with(&|word| word.1 = word.1.max(class)) >= before);
        prop_assert!(with(&|word| word.2 = word.2.max(confidence)) >= before);
        prop_assert!(with(&|word| word.3 = word.3.min(hours)) >= before);
        let mut feeds = FEEDS;
        let heavier = &mut feeds[usize::from(words[at].0)];
        heavier.1 = heavier.1.max(weight);
        prop_assert!(score(&self::scorer(&feeds), &of(&words)) >= before);
        let mut joined = words.clone();
        joined.push(more);
        prop_assert!(score(&scorer, &of(&joined)) >= before);
    }

    #[test]
    fn the_order_of_the_feeds_makes_no_difference(
        words in proptest::collection::vec(said(), 1..8),
        turn in 0_usize..5,
    ) {
        let mut feeds = FEEDS;
        feeds.rotate_left(turn);
        let slot = |feed: FeedSlot| (usize::from(feed) + 5 - turn) as u8 % 5;
        let mut turned: Vec<Said> =
            words.iter().map(|&(feed, a, b, c)| (slot(feed), a, b, c)).collect();
        turned.reverse();
        prop_assert_eq!(
            score(&scorer(&FEEDS), &of(&words)),
            score(&scorer(&feeds), &of(&turned))
        );
    }

    #[test]
    fn the_words_told_are_those_that_made_the_score(
        words in proptest::collection::vec(said(), 1..8),
    ) {
        let scorer = scorer(&FEEDS);
        let mut claims = of(&words);
        scorer.settle(&mut claims);
        let told = scorer.words(&claims[0], &claims);
        let doubt: f64 = told.iter().map(|word| 1.0 - word.exact as f64 / WHOLE as f64).product();
        prop_assert!((100.0 * (1.0 - doubt) - f64::from(claims[0].score)).abs() < 1.01);
    }
}
