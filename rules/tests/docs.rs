//! The examples of docs/feeds.md are read as the text beside them says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use sekisho_rules::{
    catalogue::Catalogue,
    feed::Format,
    parse::{Limits, Parsed, parse},
    policy::NeverBlock,
};

const DOCS: &str = include_str!("../../docs/feeds.md");

/// The examples: runs of lines that are set in by four blanks, blank lines between them included.
fn examples() -> Vec<String> {
    let mut examples = vec![String::new()];
    for line in DOCS.lines() {
        let last = examples.last_mut().unwrap();
        match line.strip_prefix("    ") {
            Some(code) => last.push_str(&format!("{code}\n")),
            None if line.is_empty() && !last.is_empty() => last.push('\n'),
            None if !last.is_empty() => examples.push(String::new()),
            None => {}
        }
    }
    examples.retain(|example| !example.trim().is_empty());
    examples
}

fn of(begin: &str) -> Vec<String> {
    let found: Vec<_> = examples().into_iter().filter(|text| text.starts_with(begin)).collect();
    assert!(!found.is_empty(), "no example begins with '{begin}'");
    found
}

fn read(format: Format, text: &str) -> Parsed {
    parse(format, text.as_bytes(), &Limits::default()).unwrap()
}

#[test]
fn feeds_are_rows_of_a_catalogue() {
    for text in of("feeds:") {
        Catalogue::from_yaml(&text, "docs").unwrap();
    }
    for text in of("- name:") {
        let catalogue = Catalogue::from_yaml(&format!("feeds:\n{text}"), "docs").unwrap();
        assert!(!catalogue.feeds.is_empty());
    }
}

#[test]
fn never_block_lists_are_read() {
    for text in of("name:") {
        assert_eq!(NeverBlock::from_yaml(&text, "docs").unwrap().networks.len(), 2);
    }
}

#[test]
fn the_rule_and_the_patterns_are_usable() {
    let [rule] = &of("alert")[..] else { panic!("one rule") };
    assert_eq!(read(Format::SuricataRules, rule).indicators.len(), 2 * 12);
    let [patterns] = &of("[ipv4-addr")[..] else { panic!("one block of patterns") };
    for line in patterns.lines().filter(|line| !line.is_empty()) {
        let (pattern, _) = line.split_at(line.rfind(']').unwrap() + 1);
        let bundle = serde_json::json!({"objects": [
            {"type": "indicator", "pattern": pattern, "pattern_type": "stix"}
        ]});
        assert!(!read(Format::Stix, &bundle.to_string()).indicators.is_empty(), "{pattern}");
    }
}

#[test]
fn every_format_is_in_the_table() {
    for format in Format::ALL {
        assert!(DOCS.contains(&format!("`{format}`")), "{format}");
    }
}
