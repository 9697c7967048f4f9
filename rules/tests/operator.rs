//! The operator's own entries beside feeds: blocks, allows, suppressions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use sekisho_rules::{
    catalogue::Catalogue,
    compile::{Compiled, Decided, FeedInput, compile, compile_decided},
    explain::{Verdict, explain},
    feed::{Action, FeedSpec},
    indicator::Protocol,
    moment::Moment,
    operator::{Decision, EntryError, OperatorEntry, check},
    parse::{Limits, Parsed, parse},
    policy::{FirstList, Guards, NeverBlock, OwnPrefix, Policy, Rollout, ScoreLimits, stage},
    public::public_answer,
    seen::Seen,
    story::story,
};

const NOW: i64 = 1_795_000_000;
const HOUR: i64 = 3_600;

fn now() -> Moment {
    Moment::nearest(NOW)
}

fn entry(id: u32, decision: Decision, network: &str, ports: &[u16]) -> OperatorEntry {
    OperatorEntry {
        id,
        decision,
        action: Action::Drop,
        network: network.parse().unwrap(),
        protocol: (!ports.is_empty()).then_some(Protocol::Tcp),
        ports: ports.to_vec(),
        feed: None,
        reason: "ticket 4711".to_owned(),
        owner: "alice".to_owned(),
        since: now(),
        until: Some(Moment::nearest(NOW + HOUR)),
    }
}

fn policy() -> Policy {
    let own = OwnPrefix { network: "198.19.0.0/20".parse().unwrap(), name: "core".to_owned() };
    Policy { own_prefixes: vec![own], ..Policy::default() }
}

fn never_block() -> NeverBlock {
    let text = "name: resolvers\nversion: '1'\nsource: a test\n\
                networks: [{network: 8.8.8.8, reason: a public resolver}]\n";
    NeverBlock::from_yaml(text, "never.yaml").unwrap()
}

/// Two feeds with the same list, and the operator's entries, at a time.
fn compiled(list: &str, entries: &[OperatorEntry], at: i64) -> Compiled {
    compiled_by(&policy(), list, entries, at)
}

fn two_feeds() -> Vec<FeedSpec> {
    let row = |name| format!("  - {{name: {name}, source: x, format: plain, min_prefix_v4: 16}}\n");
    let text = format!("feeds:\n{}{}", row("a"), row("b"));
    Catalogue::from_yaml(&text, "feeds.yaml").unwrap().feeds
}

fn compiled_by(policy: &Policy, list: &str, entries: &[OperatorEntry], at: i64) -> Compiled {
    let specs = two_feeds();
    let parsed = parse(specs[0].format, list.as_bytes(), &Limits::default()).unwrap();
    let input = |spec| FeedInput { spec, parsed: Ok(&parsed), fetched_at: Moment::nearest(at) };
    let inputs: Vec<_> = specs.iter().map(input).collect();
    let decided = Decided { entries, ..Decided::default() };
    compile_decided(&inputs, policy, &[never_block()], decided, Moment::nearest(at)).unwrap()
}

fn verdict(compiled: &Compiled, query: &str) -> Verdict {
    explain(compiled, query.parse().unwrap()).verdict
}

fn texts(compiled: &Compiled, query: &str) -> String {
    serde_json::to_string(&explain(compiled, query.parse().unwrap())).unwrap()
}

#[test]
fn a_block_is_a_list_of_its_own_with_its_action_and_ends_by_itself() {
    let mut observed = entry(2, Decision::Block, "198.18.0.2/32", &[23, 2323]);
    observed.action = Action::Observe;
    let entries = [entry(1, Decision::Block, "198.18.0.0/30", &[]), observed];
    let found = compiled("198.18.9.9\n", &entries, NOW);
    let lists: Vec<_> = found.table.feeds.iter().map(|feed| &*feed.name).collect();
    assert_eq!(lists, ["a", "b", "operator", "operator-observe"]);
    assert_eq!(verdict(&found, "198.18.0.1:80/tcp"), Verdict::Drop);
    let text = texts(&found, "198.18.0.2:23/tcp");
    assert!(text.contains("Entry 1 of alice blocks 198.18.0.0/30 until"), "{text}");
    assert!(text.contains("Entry 2 of alice blocks 198.18.0.2:23/tcp and port 2323"), "{text}");
    assert!(text.contains("ticket 4711"), "{text}");
    let later = compiled("198.18.9.9\n", &entries, NOW + HOUR);
    assert_eq!(verdict(&later, "198.18.0.1:80/tcp"), Verdict::Pass);
    assert_eq!(later.table.feeds.len(), 2, "an empty list takes no place");
    assert!(later.operator.is_empty());
}

#[test]
fn an_allow_beats_every_block_and_a_wider_entry_loses_the_allowed_part() {
    let list = "198.18.0.7\n198.18.0.0/16\n198.18.4.4:443\n";
    let entries = [
        entry(1, Decision::Block, "198.18.0.0/24", &[]),
        entry(2, Decision::Allow, "198.18.0.7/32", &[]),
    ];
    let found = compiled(list, &entries, NOW);
    assert_eq!(verdict(&found, "198.18.0.7"), Verdict::Pass);
    assert_eq!(verdict(&found, "198.18.0.8"), Verdict::Drop);
    assert_eq!(found.table.never_block, ["198.18.0.7/32".parse().unwrap()]);
    let refused: Vec<_> = found.refusals.kept.iter().map(ToString::to_string).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].contains("entry 2 of alice lets 198.18.0.7/32 pass: ticket 4711"));
    let text = texts(&found, "198.18.0.7");
    assert!(text.contains("Entry 2 of alice lets 198.18.0.7 pass until"), "{text}");
    let later = compiled(list, &entries, NOW + HOUR);
    assert_eq!(verdict(&later, "198.18.0.7"), Verdict::Drop, "the allow ended by itself");
}

#[test]
fn an_allow_of_a_port_leaves_claims_on_other_ports() {
    let entries = [entry(1, Decision::Allow, "198.18.4.0/24", &[443])];
    let found = compiled("198.18.4.4:443\n198.18.4.4:23\n198.18.4.5\n", &entries, NOW);
    assert_eq!(verdict(&found, "198.18.4.4:443/tcp"), Verdict::Pass);
    assert_eq!(verdict(&found, "198.18.4.4:23/tcp"), Verdict::Drop);
    assert_eq!(verdict(&found, "198.18.4.5:443/tcp"), Verdict::Pass);
}

#[test]
fn a_suppression_is_about_claims_of_feeds_and_of_one_feed_if_it_names_it() {
    let list = "198.18.4.4\n198.18.5.0/24\n";
    let mut one = entry(1, Decision::Suppress, "198.18.4.4/32", &[]);
    one.until = None;
    let every = compiled(list, &[one.clone()], NOW);
    assert_eq!(verdict(&every, "198.18.4.4"), Verdict::Pass);
    assert!(texts(&every, "198.18.4.4").contains("suppresses what feeds say of 198.18.4.4"));
    one.feed = Some("a".parse().unwrap());
    let of_a = compiled(list, &[one.clone()], NOW);
    assert_eq!(verdict(&of_a, "198.18.4.4"), Verdict::Drop, "feed b still lists it");
    assert_eq!(of_a.feeds[0].refused, 1);
    one.feed = None;
    let block = entry(2, Decision::Block, "198.18.4.4/32", &[]);
    let both = compiled(list, &[one, block], NOW);
    assert_eq!(verdict(&both, "198.18.4.4"), Verdict::Drop, "the operator's own block stands");
    let inside = entry(3, Decision::Suppress, "198.18.5.7/32", &[]);
    let wider = compiled(list, &[inside], NOW);
    assert_eq!(verdict(&wider, "198.18.5.7"), Verdict::Drop, "the claim on the /24 is another one");
}

#[test]
fn a_block_passes_the_guards_of_a_feed() {
    let guards = Guards::new(&policy(), &[never_block()])
        .with_entries(&[entry(9, Decision::Allow, "198.18.6.0/24", &[])], now());
    let refusal = |network| {
        let block = entry(1, Decision::Block, network, &[]);
        match check(&block, &guards, &policy(), now()) {
            Err(EntryError::Refused { why, .. }) => Some(why.reason().as_str()),
            Err(EntryError::Wrong(text)) => panic!("{text}"),
            Ok(()) => None,
        }
    };
    assert_eq!(refusal("198.18.0.1/32"), None);
    assert_eq!(refusal("198.18.0.0/24"), None);
    assert_eq!(refusal("198.18.0.0/23"), Some("too_wide"));
    assert_eq!(refusal("10.1.2.3/32"), Some("reserved"));
    assert_eq!(refusal("100.64.0.1/32"), Some("reserved"));
    assert_eq!(refusal("198.19.4.4/32"), Some("own_prefix"));
    assert_eq!(refusal("8.8.8.8/32"), Some("never_block"));
    assert_eq!(refusal("198.18.6.1/32"), Some("allowed"));
    // The same holds when the table is made, should a guard have come later.
    let found = compiled("# none\n", &[entry(1, Decision::Block, "198.19.4.4/32", &[])], NOW);
    assert!(found.table.is_empty());
    assert_eq!(found.refusals.kept[0].line, 1, "an entry's number stands for the line");
}

#[test]
fn an_entry_needs_reason_owner_and_an_end_within_the_limit() {
    let wrong = |change: &dyn Fn(&mut OperatorEntry)| {
        let mut changed = entry(1, Decision::Allow, "198.18.0.0/24", &[]);
        change(&mut changed);
        match check(&changed, &Guards::default(), &policy(), now()) {
            Err(EntryError::Wrong(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    assert!(wrong(&|entry| entry.reason.clear()).starts_with("reason:"));
    assert!(wrong(&|entry| entry.owner = "a\nb".to_owned()).starts_with("owner:"));
    assert!(wrong(&|entry| entry.until = None).contains("needs an end, at most 90d"));
    assert!(wrong(&|entry| entry.until = Some(now())).contains("is over"));
    assert!(wrong(&|entry| entry.until = Some(Moment::MAX)).contains("at most 90d"));
    assert!(wrong(&|entry| entry.ports = vec![0]).starts_with("ports:"));
    assert!(wrong(&|entry| entry.feed = Some("a".parse().unwrap())).starts_with("feed:"));
    assert!(wrong(&|entry| entry.network = "198.18.0.1/24".parse().unwrap()).contains("host bits"));
    assert!(wrong(&|entry| entry.network = "0.0.0.0/1".parse().unwrap()).contains("too wide"));
    let mut endless = entry(1, Decision::Suppress, "198.18.0.0/24", &[]);
    endless.until = None;
    assert_eq!(check(&endless, &Guards::default(), &policy(), now()), Ok(()));
}

#[test]
fn a_block_is_demoted_by_no_score_never_staged_and_no_part_of_the_overlap_of_feeds() {
    let score = ScoreLimits { block: 100, observe: 100, ..ScoreLimits::default() };
    let policy = Policy { score, ..policy() };
    let blocks = [
        entry(1, Decision::Block, "198.18.0.1/32", &[]),
        entry(2, Decision::Block, "198.18.0.2/32", &[]),
    ];
    let mut found = compiled_by(&policy, "198.18.0.1\n198.18.0.3\n", &blocks, NOW);
    let specs = two_feeds();
    let feeds: Vec<_> = specs.iter().map(|spec| (spec, true)).collect();
    let rollout = Rollout { first_list: FirstList::Observe, ..Rollout::default() };
    let staged = stage(&mut found, &feeds, &rollout, &Seen::default(), now());
    assert_eq!(verdict(&found, "198.18.0.1"), Verdict::Drop);
    assert_eq!(verdict(&found, "198.18.0.2"), Verdict::Drop);
    assert_eq!(verdict(&found, "198.18.0.3"), Verdict::Pass, "too low a score");
    assert!(staged.next.is_some(), "the feeds' claims are staged");
    let overlap = &found.feeds[0].overlap;
    assert_eq!((overlap.networks, overlap.unique), (2, 0));
    assert_eq!(
        overlap.shared.iter().map(|(name, n)| (&**name, *n)).collect::<Vec<_>>(),
        [("b", 2)]
    );
    assert_eq!(found.feeds[2].overlap.networks, 0);
}

#[test]
fn the_story_and_the_answer_for_everybody_know_blocks_too() {
    let found = compiled("198.18.0.9\n", &[entry(7, Decision::Block, "198.18.0.1/32", &[])], NOW);
    let specs = two_feeds();
    let parsed = Parsed::default();
    let input = |spec| FeedInput { spec, parsed: Ok(&parsed), fetched_at: now() };
    let inputs: Vec<_> = specs.iter().map(input).collect();
    let story = story(&inputs, &policy(), &found, "198.18.0.1".parse().unwrap(), now());
    let [told] = &story.indicators[..] else { panic!("{story:?}") };
    assert_eq!((&*told.feed, told.line, told.left), ("operator", 7, Some(Action::Drop)));
    let query = "198.18.0.1".parse().unwrap();
    let answer = public_answer(&explain(&found, query), query, &[]);
    assert_eq!(
        answer.text,
        ["Traffic to and from 198.18.0.1 is blocked.", "The operator of the network lists it."]
    );
    assert_eq!(answer.sources.len(), 0);
}

#[test]
fn the_story_of_what_is_left_out_of_a_wider_entry_says_so() {
    let specs = two_feeds();
    let parsed = parse(specs[0].format, b"8.8.0.0/16\n", &Limits::default()).unwrap();
    let input = FeedInput { spec: &specs[0], parsed: Ok(&parsed), fetched_at: now() };
    let inputs = [input];
    let found = compile(&inputs, &policy(), &[never_block()], now()).unwrap();
    let left = |address: &str| {
        let story = story(&inputs, &policy(), &found, address.parse().unwrap(), now());
        let told = story.indicators.into_iter().next().unwrap();
        (told.left, told.stages[2].text.clone())
    };
    assert_eq!(left("8.8.8.9").0, Some(Action::Drop));
    let (nothing, text) = left("8.8.8.8");
    assert_eq!(nothing, None);
    assert!(
        text.starts_with("8.8.8.8 is left out of it: 8.8.8.8/32 is on the never-block list"),
        "{text}"
    );
}
