//! Parsers of every format, the builder of images, and the lookup on the host:
//! `cargo bench -p sekisho-bench --bench host -- parse/plain`. `make bench` runs the same.
#![allow(missing_docs, reason = "criterion's macros make functions without")]

use criterion::{Criterion, criterion_group, criterion_main};
use sekisho_bench::{
    area::host::{ProcessorTime, benches},
    lists::{Entries, Shape},
};

const SIZES: [usize; 5] = [1, 1_000, 10_000, 100_000, 1_000_000];
/// Room for the longest of them, in bytes.
const CAPACITY: usize = 64 << 20;

fn host(criterion: &mut Criterion<ProcessorTime>) {
    let entries = Entries::new(Shape::Uniform, 1_000_000);
    if let Err(error) = benches(criterion, &entries, &SIZES, CAPACITY) {
        eprintln!("{error:#}");
        std::process::exit(1);
    }
}

criterion_group! {
    name = all;
    config = Criterion::default().with_measurement(ProcessorTime).sample_size(10);
    targets = host
}
criterion_main!(all);
