//! The tiers of never-block lists, and how sure claims are.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use sekisho_rules::{
    catalogue::Catalogue,
    compile::{Compiled, FeedInput, compile},
    explain::{Verdict, explain},
    moment::Moment,
    parse::{Limits, parse},
    policy::{NeverBlock, Policy},
};

const NOW: i64 = 1_795_000_000;
const SHARED: &str = "
name: cdn
version: '1'
source: a test
tier: port-exact
reason: 'a CDN: many innocent services share each address'
networks: [{network: 198.18.4.0/24}, {network: '2001:2:4::/48', reason: its own}]
";
const RENTED: &str = "
name: cloud
version: '1'
source: a test
tier: warn
reason: anybody can rent an address there
networks: [{network: 198.18.8.0/21}]
";

fn compiled(extra: &str, list: &str) -> Compiled {
    let yaml = format!("feeds:\n  - {{name: a, source: x, format: plain, {extra}}}\n");
    let spec = Catalogue::from_yaml(&yaml, "feeds.yaml").unwrap().feeds.remove(0);
    let parsed = parse(spec.format, list.as_bytes(), &Limits::default());
    let now = Moment::nearest(NOW);
    let input = FeedInput { spec: &spec, parsed: parsed.as_ref(), fetched_at: now };
    let lists = [SHARED, RENTED].map(|text| NeverBlock::from_yaml(text, "list.yaml").unwrap());
    compile(&[input], &Policy::default(), &lists, now).unwrap()
}

fn refused(compiled: &Compiled) -> Vec<String> {
    let kept = compiled.refusals.kept.iter();
    kept.map(|refusal| format!("{} {}", refusal.indicator(), refusal.why.reason())).collect()
}

fn verdict(compiled: &Compiled, query: &str) -> Verdict {
    explain(compiled, query.parse().unwrap()).verdict
}

#[test]
fn a_shared_address_is_blocked_on_a_port_of_its_own_only() {
    let list = "198.18.4.1\n198.18.4.2:443\n198.18.4.3:80/tcp\n198.18.4.4:8443\n\
                [2001:2:4::1]:23\n2001:2:4::2\n";
    let compiled = compiled("", list);
    assert_eq!(
        refused(&compiled),
        [
            "198.18.4.1 shared_address",
            "198.18.4.2:443 shared_address",
            "198.18.4.3:80/tcp shared_address",
            "2001:2:4::2 shared_address",
        ]
    );
    assert_eq!(verdict(&compiled, "198.18.4.4:8443"), Verdict::Drop);
    assert_eq!(verdict(&compiled, "198.18.4.4:443"), Verdict::Pass);
    assert_eq!(verdict(&compiled, "[2001:2:4::1]:23"), Verdict::Drop);
    let text = compiled.refusals.kept[0].to_string();
    assert!(text.contains("only ports other than 80 and 443 are blocked: a CDN"), "{text}");
}

#[test]
fn ports_that_the_catalogue_ignores_are_no_exact_ports() {
    let compiled = compiled("ports: ignore", "198.18.4.4:8443\n");
    assert_eq!(refused(&compiled), ["198.18.4.4:8443 shared_address"]);
}

#[test]
fn shared_addresses_are_taken_out_of_wider_entries() {
    let compiled = compiled("min_prefix_v4: 16", "198.18.0.0/21\n");
    assert_eq!(refused(&compiled), [""; 0]);
    assert_eq!(verdict(&compiled, "198.18.3.255"), Verdict::Drop);
    assert_eq!(verdict(&compiled, "198.18.4.1"), Verdict::Pass);
    assert_eq!(verdict(&compiled, "198.18.4.1:8443"), Verdict::Pass);
}

#[test]
fn a_warning_refuses_nothing_and_is_counted_and_told() {
    let compiled = compiled("", "198.18.9.1\n198.19.9.1\n");
    assert_eq!((compiled.feeds[0].warned, compiled.feeds[0].accepted), (1, 2));
    let explanation = explain(&compiled, "198.18.9.1".parse().unwrap());
    assert_eq!(explanation.verdict, Verdict::Drop);
    let because = serde_json::to_value(&explanation.because).unwrap();
    assert_eq!(because[1]["kind"], "warning");
    assert_eq!(
        because[1]["text"],
        "198.18.9.1 is on the list 'cloud': anybody can rent an address there."
    );
    let elsewhere = explain(&compiled, "198.19.9.1".parse().unwrap());
    assert_eq!(elsewhere.because.len(), 1);
    let unlisted = explain(&compiled, "198.18.9.2".parse().unwrap());
    assert_eq!(unlisted.because.len(), 1, "a warning alone is no news");
}

#[test]
fn a_warning_refuses_what_is_wider_than_a_host() {
    let list = "198.18.9.0/24\n198.18.0.0/16\n198.18.9.1:443\n198.18.16.0/24\n";
    let compiled = compiled("min_prefix_v4: 16", list);
    assert_eq!(
        refused(&compiled),
        ["198.18.9.0/24 rented_network", "198.18.0.0/16 rented_network"]
    );
    assert_eq!(verdict(&compiled, "198.18.9.1:443"), Verdict::Drop);
    assert_eq!(verdict(&compiled, "198.18.9.2"), Verdict::Pass);
    assert_eq!(verdict(&compiled, "198.18.16.2"), Verdict::Drop);
    let text = compiled.refusals.kept[0].to_string();
    assert!(text.contains("'cloud', where only hosts are blocked: anybody can rent"), "{text}");
}

#[test]
fn the_confidence_of_a_feed_counts_where_a_claim_has_none() {
    let refused_by = |extra: &str| refused(&compiled(extra, "198.19.9.1\n"));
    assert_eq!(refused_by("min_confidence: 75"), [""; 0]);
    assert_eq!(refused_by("confidence: 75, min_confidence: 75"), [""; 0]);
    assert_eq!(refused_by("confidence: 74, min_confidence: 75"), ["198.19.9.1 low_confidence"]);
    let compiled = compiled("confidence: 75", "198.19.9.1\n");
    assert_eq!(compiled.table.claims[0].confidence, Some(75));
}
