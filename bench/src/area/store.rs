//! store/: what the record of hits answers, after a month of them.

use std::time::Instant;

use anyhow::{Result, ensure};
use jiff::SignedDuration;
use sekisho::store::{Filter, LARGEST_PAGE};

use crate::{
    lists::label,
    records::{DAYS, Record},
    report::{Results, Row},
    sampling::Samples,
};

/// Rows on a page of a request that names no limit, as the API has it.
const PAGE: u32 = 100;
/// Subscribers and addresses that are asked for.
const ASKED: usize = 40;
/// How often the overview is asked for.
const OVERVIEWS: usize = 10;

/// Measures the questions that a help desk and an overview ask.
pub fn measure(record: &Record, results: &mut Results) -> Result<()> {
    let rows = label(record.rows);
    let mut written = Samples::default();
    written.push(record.rows as f64 / record.written_in.as_secs_f64());
    results.push(Row::new(format!("store/record/{rows}"), "rows/s", &written));
    results.push(overview(record, &rows)?);

    let since = Some(record.now - SignedDuration::from_hours(24 * DAYS));
    let subscribers = record.subscribers();
    let middle = subscribers.len() / 2;
    let of_subscriber = |name: &str, limit| Filter {
        subscriber: Some(name.to_owned()),
        since,
        limit,
        ..Filter::default()
    };
    let (busiest, usual) = (&subscribers[..ASKED / 4], &subscribers[middle..][..ASKED]);
    for (what, asked, limit) in [
        ("subscriber-30-days/usual", usual, LARGEST_PAGE),
        ("subscriber-30-days/busiest-page", busiest, PAGE),
        ("subscriber-30-days/busiest", busiest, LARGEST_PAGE),
    ] {
        let mut samples = Samples::default();
        let mut most = 0;
        for (name, rows) in asked {
            let expected = (*rows).min(limit as usize);
            most = most.max(expected);
            ask(record, &of_subscriber(name, limit), expected, &mut samples)?;
        }
        let row = Row::new(format!("store/{what}/{rows}"), "ms", &samples);
        results.push(row.by_worst().with("rows_at_most", most));
    }

    let mut samples = Samples::default();
    for (remote, rows) in record.by_remote.iter().take(ASKED) {
        let filter = Filter { remote: Some(*remote), since, limit: PAGE, ..Filter::default() };
        ask(record, &filter, (*rows).min(PAGE as usize), &mut samples)?;
    }
    results.push(Row::new(format!("store/remote-page/{rows}"), "ms", &samples).by_worst());

    let mut samples = Samples::default();
    for _ in 0..ASKED {
        let filter = Filter { limit: PAGE, ..Filter::default() };
        ask(record, &filter, PAGE as usize, &mut samples)?;
    }
    results.push(Row::new(format!("store/latest-page/{rows}"), "ms", &samples).by_worst());
    Ok(())
}

/// The overview of all days of the record, the one that has begun included.
fn overview(record: &Record, rows: &str) -> Result<Row> {
    let days = u32::try_from(DAYS)? + 1;
    let mut samples = Samples::default();
    for _ in 0..OVERVIEWS {
        let begin = Instant::now();
        let overview = record.store.overview(record.now, days)?;
        samples.push(begin.elapsed().as_secs_f64() * 1e3);
        let (flows, subscribers) = (overview.total.flows, overview.total.subscribers);
        ensure!(flows == record.rows as u64, "{flows} flows, {} rows", record.rows);
        let known = record.by_subscriber.len() as u64;
        ensure!(subscribers == known, "{subscribers} subscribers, {known} known");
    }
    let row = Row::new(format!("store/overview-30-days/{rows}"), "ms", &samples);
    Ok(row.by_worst().with("subscribers", record.by_subscriber.len()))
}

fn ask(record: &Record, filter: &Filter, expected: usize, samples: &mut Samples) -> Result<()> {
    samples.push(record.page(filter, expected)?.as_secs_f64() * 1e3);
    Ok(())
}
