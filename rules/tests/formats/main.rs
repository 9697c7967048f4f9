//! Every format, read from a file in its documented shape.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

mod classic;
mod exchange;
mod generic;
mod hostile;
mod later;
#[path = "../samples/mod.rs"]
mod samples;
mod whole;

use sekisho_rules::{
    feed::Format,
    indicator::{Indicator, Named},
    mapping::Mapping,
    parse::{Limits, Parsed, parse, parse_mapped},
    refusal::indicator_text,
};

fn read(format: Format, bytes: &[u8]) -> Parsed {
    parse(format, bytes, &Limits::default()).unwrap_or_else(|failure| panic!("{format}: {failure}"))
}

/// Reads a generic list by a mapping, given as YAML.
fn read_mapped(format: Format, mapping: &str, bytes: &[u8]) -> Parsed {
    let mapping: Mapping = sekisho_rules::yaml::from_yaml(mapping, "mapping").unwrap();
    parse_mapped(format, &mapping, bytes, &Limits::default())
        .unwrap_or_else(|failure| panic!("{format}: {failure}"))
}

fn failure(format: Format, text: &[u8]) -> &'static str {
    match parse(format, text, &Limits::default()) {
        Ok(parsed) => panic!("{format}: read {} indicators", parsed.indicators.len()),
        Err(failure) => failure.as_str(),
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

fn day(time: sekisho_rules::moment::Moment) -> String {
    time.to_string()[..10].to_owned()
}

/// Line, network and traffic, malware, first and last seen, confidence.
fn shown(indicator: &Indicator) -> String {
    format!(
        "{} {} {} {} {} {}{}{}",
        indicator.line,
        indicator_text(indicator.network, indicator.traffic),
        or_dash(indicator.malware.as_deref().map(str::to_owned)),
        or_dash(indicator.first_seen.map(day)),
        or_dash(indicator.last_seen.map(day)),
        or_dash(indicator.confidence.map(|n| n.to_string())),
        indicator.valid_until.map_or(String::new(), |until| format!(" until {}", day(until))),
        if indicator.compromised { " compromised" } else { "" },
    )
}

/// Line, what it is about, malware.
fn shown_name(named: &Named) -> String {
    let malware = or_dash(named.malware.as_deref().map(str::to_owned));
    format!("{} {} {malware}", named.line, named.subject)
}

fn assert_holds(parsed: &Parsed, indicators: &[&str], rejects: &[&str]) {
    let found: Vec<_> = parsed.indicators.iter().map(shown).collect();
    assert_eq!(found, indicators);
    let found: Vec<_> =
        parsed.rejects.samples.iter().map(|r| format!("{} {}", r.line, r.reason)).collect();
    assert_eq!(found, rejects);
    assert_eq!(parsed.rejects.total() as usize, rejects.len());
}

fn assert_names(parsed: &Parsed, names: &[&str]) {
    let found: Vec<_> = parsed.named.iter().map(shown_name).collect();
    assert_eq!(found, names);
}

fn assert_skips(parsed: &Parsed, skipped: &[(&str, u64)]) {
    let found: Vec<_> = parsed.skipped.iter().map(|(why, n)| (why.as_str(), *n)).collect();
    assert_eq!(found, skipped);
}

fn stamp(parsed: &Parsed) -> String {
    parsed.stamp.map_or("-".into(), |time| time.to_string())
}
