//! host/: what runs in user space: parsers, the builder of images, and the lookup on a slice.

use std::{hint::black_box, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sekisho_abi::image::find_v4;
use sekisho_rules::{
    feed::Format,
    parse::{Limits, parse},
};

use super::Run;
use crate::{
    lists::{Entries, label},
    report::{Results, Row},
    sampling::{Samples, thread_time},
};

/// Lines of the lists that are parsed.
const LINES: usize = 200_000;
/// Lookups of one sample.
const LOOKUPS: usize = 1 << 20;

/// Measures them in turn, by the processor time of this thread.
pub fn measure(run: &Run, entries: &Entries, capacity: usize, results: &mut Results) -> Result<()> {
    let listed = &entries.v4[..LINES.min(entries.v4.len())];
    let lists = [
        (Format::Plain, list(listed, ToString::to_string)),
        (
            Format::SslblCsv,
            "# Firstseen,DstIP,DstPort
"
            .to_owned()
                + &list(listed, |address| format!("2026-01-02 03:04:05,{address},443")),
        ),
        (
            Format::SpamhausDropJson,
            list(listed, |address| {
                format!(r#"{{"cidr":"{address}/32","sblid":"SBL1","rir":"x"}}"#)
            }) + &format!(
                r#"{{"type":"metadata","timestamp":1767225600,"size":1,"records":{}}}"#,
                listed.len()
            ),
        ),
    ];
    let clean = Entries::clean_v4(&[entries], LOOKUPS);
    let mut parsed = lists.each_ref().map(|_| Samples::default());
    let mut built = vec![Samples::default(); run.sizes.len()];
    let mut found = vec![[Samples::default(), Samples::default()]; run.sizes.len()];
    for _ in 0..run.rounds {
        for ((format, text), samples) in lists.iter().zip(&mut parsed) {
            let (read, time) = timed(|| parse(*format, text.as_bytes(), &Limits::default()));
            let count =
                read.with_context(|| format!("a {format} list is refused"))?.indicators.len();
            ensure!(count == listed.len(), "{count} of {} {format} lines were read", listed.len());
            samples.push(count as f64 / time.as_secs_f64() / 1e6);
        }
        for ((&count, built), [of_clean, of_listed]) in
            run.sizes.iter().zip(&mut built).zip(&mut found)
        {
            let (image, time) = timed(|| entries.image(count, 1, capacity));
            let image = image?;
            built.push(time.as_secs_f64() * 1e3);
            let ask = |addresses: &[Ipv4Addr], expected: usize| {
                let addresses = addresses.iter().cycle().take(LOOKUPS);
                let (hits, time) = timed(|| {
                    addresses
                        .filter(|address| {
                            find_v4(black_box(image.bytes()), u32::from(**address)).is_some()
                        })
                        .count()
                });
                ensure!(hits == expected, "{hits} of {LOOKUPS} addresses were found");
                Ok(time.as_secs_f64() * 1e9 / LOOKUPS as f64)
            };
            of_clean.push(ask(&clean, 0)?);
            of_listed.push(ask(&entries.v4[..count], LOOKUPS)?);
        }
    }
    for ((format, _), samples) in lists.iter().zip(&parsed) {
        results.push(Row::new(format!("host/parse/{format}"), "million lines/s", samples));
    }
    for ((&count, built), found) in run.sizes.iter().zip(&built).zip(&found) {
        let count = label(count);
        results.push(Row::new(format!("host/build/both-families/{count}"), "ms", built));
        for (kind, samples) in ["clean", "hit"].iter().zip(found) {
            results.push(Row::new(format!("host/lookup/{kind}/v4/{count}"), "ns", samples));
        }
    }
    Ok(())
}

fn list(addresses: &[Ipv4Addr], line: impl Fn(&Ipv4Addr) -> String) -> String {
    addresses.iter().map(|address| line(address) + "\n").collect()
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = thread_time();
    let result = black_box(work());
    (result, thread_time().saturating_sub(before))
}
