//! A fuzz target for each parser.
//!
//! Each starts with the samples, changes them at random, and keeps what the parser answers in a new
//! way, so that later changes start from there. By default a target makes a fixed number of tries
//! with a fixed seed; `SEKISHO_FUZZ_SECONDS` makes it go on for so long with a seed of its own,
//! which it prints, and which `SEKISHO_FUZZ_SEED` repeats. An input that fails is kept in the
//! folder for temporary files, and its path is printed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

mod mutate;
#[path = "../samples/mod.rs"]
mod samples;

use std::{
    any::Any,
    collections::HashSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use mutate::Mutator;
use sekisho_rules::{
    catalogue::Catalogue,
    feed::Format,
    mapping::Mapping,
    parse::{Limits, parse_mapped},
    policy::NeverBlock,
    yaml::from_yaml,
};

/// Tries of a target that is given no time.
const TRIES: usize = 1_500;
/// Inputs that are kept to start from.
const MOST_KEPT: usize = 1_024;
/// No input grows beyond this.
const MOST_BYTES: usize = 64 << 10;
/// Longest that one input may take; it is a hundred times what is needed.
const LONGEST: Duration = Duration::from_secs(5);

/// Runs `target` over changed inputs; it gives the kind of its answer.
fn fuzz(name: &str, seeds: &[&[u8]], target: impl Fn(&[u8]) -> String) {
    let variable = |name| env::var(name).ok().map(|text: String| text.parse::<u64>().unwrap());
    let seconds = variable("SEKISHO_FUZZ_SECONDS");
    let seed = variable("SEKISHO_FUZZ_SEED")
        .unwrap_or_else(|| seconds.map_or(0x5e_c1_54_00, |_| fastrand::u64(..)));
    println!("{name}: seed {seed}");
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut kept: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    let mut answers: HashSet<String> = HashSet::new();
    for input in &kept {
        answers.insert(run(name, input, &target));
    }
    let mut mutator = Mutator::new(seed, MOST_BYTES);
    let mut tries = 0_usize;
    while end.map_or(tries < TRIES, |end| Instant::now() < end) {
        let input = mutator.change(&kept);
        let answer = run(name, &input, &target);
        if kept.len() < MOST_KEPT && answers.insert(answer) {
            kept.push(input);
        }
        tries += 1;
    }
    println!("{name}: {tries} tries, {} kinds of answer", answers.len());
    assert!(answers.len() > 3, "{name}: the changes reach nothing");
}

fn run(name: &str, input: &[u8], target: &impl Fn(&[u8]) -> String) -> String {
    let start = Instant::now();
    let answer = catch_unwind(AssertUnwindSafe(|| target(input)));
    let failed = |panic: Box<dyn Any + Send>| -> String {
        let path = env::temp_dir().join(format!("sekisho-fuzz-{name}-{}", std::process::id()));
        fs::write(&path, input).unwrap();
        println!("{name}: the input that failed is {}", path.display());
        resume_unwind(panic)
    };
    let answer = answer.unwrap_or_else(failed);
    if start.elapsed() > LONGEST {
        failed(Box::new(format!("{} bytes took {:?}", input.len(), start.elapsed())));
    }
    answer
}

/// Reads the input as a list; what holds of every list must hold of it.
fn list(format: Format, mapping: &str) {
    let limits = Limits { max_lines: 20_000, ..Limits::default() };
    let mapping: Mapping = from_yaml(mapping, "mapping").unwrap();
    let seeds = samples::SAMPLES.iter().filter(|(of, _)| *of == format).map(|(_, bytes)| *bytes);
    fuzz(format.as_str(), &seeds.collect::<Vec<_>>(), |input| {
        match parse_mapped(format, &mapping, input, &limits) {
            Ok(parsed) => {
                samples::assert_sound(format, input, &parsed, limits.max_lines);
                format!(
                    "{} {} {:?} {:?}",
                    parsed.indicators.len().ilog2_or_zero(),
                    parsed.named.len().ilog2_or_zero(),
                    parsed.rejects.by_reason.keys(),
                    parsed.skipped.keys()
                )
            }
            Err(failure) => failure.as_str().to_owned(),
        }
    });
}

trait Magnitude {
    fn ilog2_or_zero(self) -> u32;
}

impl Magnitude for usize {
    fn ilog2_or_zero(self) -> u32 {
        self.checked_ilog2().map_or(0, |log| log + 1)
    }
}

macro_rules! lists {
    ($($name:ident: $format:ident $mapping:literal;)+) => {
        $(
            #[test]
            fn $name() {
                list(Format::$format, $mapping);
            }
        )+

        #[test]
        fn every_format_has_a_target() {
            let formats = [$(Format::$format,)+];
            assert!(Format::ALL.iter().all(|format| formats.contains(format)));
        }
    };
}

lists! {
    plain: Plain "{value: ip}";
    hosts: Hosts "{value: ip}";
    feodo_csv: FeodoCsv "{value: ip}";
    feodo_json: FeodoJson "{value: ip}";
    threatfox_csv: ThreatfoxCsv "{value: ip}";
    threatfox_json: ThreatfoxJson "{value: ip}";
    sslbl_csv: SslblCsv "{value: ip}";
    spamhaus_drop_json: SpamhausDropJson "{value: ip}";
    spamhaus_drop_text: SpamhausDropText "{value: ip}";
    urlhaus_csv: UrlhausCsv "{value: ip}";
    firehol_netset: FireholNetset "{value: ip}";
    suricata_rules: SuricataRules "{value: ip}";
    c2intel_csv: C2intelCsv "{value: ip}";
    shadowserver_csv: ShadowserverCsv "{value: ip}";
    misp: Misp "{value: ip}";
    stix: Stix "{value: ip}";
    crowdsec: Crowdsec "{value: ip}";
    csv_by_name: Csv "{value: ip, port: port, only: [{field: port, is: ['23', '443', '']}]}";
    csv_by_number: Csv "{value: 1, prefix: 2, protocol: 3, first_seen: 4, delimiter: ';', date_format: '%d.%m.%Y %H:%M'}";
    json: Json "{rows: '*', value: ip, port: x.y, malware: x, confidence: x}";
    json_lines: JsonLines "{value: ip, port: port, last_seen: port}";
}

#[test]
fn misp_warninglist() {
    let sample = br#"{"name":"x","version":20260822,"description":"y","type":"cidr",
        "matching_attributes":["ip-dst"],"list":["198.18.4.0/24","2001:2::1"]}"#;
    fuzz("misp-warninglist", &[sample], |input| {
        match NeverBlock::from_warninglist(&String::from_utf8_lossy(input), "list.json") {
            Ok(list) => {
                assert!(list.networks.iter().all(|row| row.network == row.network.trunc()));
                format!("{} networks", list.networks.len().ilog2_or_zero())
            }
            Err(error) => error.message.split('\'').next().unwrap_or_default().to_owned(),
        }
    });
}

#[test]
fn catalogue() {
    let sample: &[u8] =
        b"feeds:\n  - name: a\n    source: https://a.example/x\n    format: csv\n    \
        mapping: {value: 1, port: 2, only: [{field: 3, is: [x]}], delimiter: ';'}\n    \
        min_prefix_v4: 24\n    expire_after: 36h\n    ports: ignore\n    class: dedicated\n";
    fuzz("catalogue", &[sample], |input| {
        match Catalogue::from_yaml(&String::from_utf8_lossy(input), "feeds.yaml") {
            Ok(catalogue) => format!("{} feeds", catalogue.feeds.len()),
            Err(error) => error.message.chars().take(24).collect(),
        }
    });
}
