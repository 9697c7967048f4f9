//! Recorded histories of real lists, fetch by fetch, through a feed: which are taken, ignored, held.
//!
//! `SEKISHO_FEEDS_DIR` names their folder; without it, `shared/feeds` beside the checkout is looked
//! for.

use std::{collections::BTreeSet, fs, io::Read as _, path::PathBuf};

use sekisho_rules::catalogue::Catalogue;

use super::*;

/// The folder of real lists, if there is one.
fn folder() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/feeds");
    let folder =
        PathBuf::from(std::env::var("SEKISHO_FEEDS_DIR").unwrap_or_else(|_| beside.into()));
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("NOT RUN: the folder of real lists, {}, is absent", folder.display());
    None
}

/// What came of every fetch so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Account {
    taken: u32,
    unchanged: u32,
    older: u32,
    held: u32,
    other: u32,
}

/// A feed with the defaults of the catalogue, and what came of its fetches.
struct Replay {
    dir: tempfile::TempDir,
    feed: Feed,
    account: Account,
}

impl Replay {
    fn new(format: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("feeds:\n  - {{name: one, source: list, format: {format}}}\n");
        let mut spec = Catalogue::from_yaml(&text, "feeds.yaml").unwrap().feeds.remove(0);
        spec.source = Source::File(dir.path().join("list"));
        let fetcher = Fetcher::new(&crate::config::FetchConfig::default()).unwrap();
        let config = FeedConfig { spec, floor: Duration::from_secs(300) };
        let permits = Arc::new(Semaphore::new(1));
        let feed = Feed::new(config, fetcher, LastGood::new(dir.path()), permits);
        Self { dir, feed, account: Account::default() }
    }

    /// The source has this list at this time; gives how many entries are in force then.
    async fn fetch(&mut self, list: &str, at: i64) -> usize {
        fs::write(self.dir.path().join("list"), list).unwrap();
        let before = self.feed.status.fetched_at;
        self.feed.poll_at(Timestamp::from_second(at).unwrap()).await;
        let status = &self.feed.status;
        let trouble = status.trouble.as_ref().map(|trouble| trouble.reason);
        let counter = match trouble {
            None if status.held.is_some() => &mut self.account.held,
            None if status.fetched_at != before => &mut self.account.taken,
            None => &mut self.account.unchanged,
            Some("older") => &mut self.account.older,
            Some(_) => &mut self.account.other,
        };
        *counter += 1;
        self.in_force()
    }

    fn in_force(&self) -> usize {
        let parsed = self.feed.list.as_ref().unwrap().parsed.as_ref().unwrap();
        parsed.indicators.len()
    }
}

/// One stored fetch: its time, the list's own date, and what came and went.
struct Step {
    at: i64,
    stamp: i64,
    changes: Vec<(bool, String)>,
}

/// The steps of a file whose lines begin with the time of their step, and end with the sign and the
/// entry.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let at = fields[0].parse().unwrap();
        if steps.last().is_none_or(|step| step.at != at) {
            let stamp = fields[1].parse().unwrap_or(at);
            steps.push(Step { at, stamp, changes: Vec::new() });
        }
        let [.., sign, entry] = fields[..] else { panic!("{line}") };
        if sign != "=" {
            steps.last_mut().unwrap().changes.push((sign == "+", entry.to_owned()));
        }
    }
    steps
}

fn apply(list: &mut BTreeSet<String>, step: &Step) {
    for (is_added, entry) in &step.changes {
        let is_change = if *is_added { list.insert(entry.clone()) } else { list.remove(entry) };
        assert!(is_change, "{entry} at {}", step.at);
    }
}

#[tokio::test]
async fn spamhaus_drop_is_followed_for_500_days_but_for_its_26_steps_back_in_time() {
    let Some(folder) = folder().map(|folder| folder.join("spamhaus")) else { return };
    let base = fs::read_to_string(folder.join("drop_v4-history-base-2025-03-03.json")).unwrap();
    let rows = base.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut list: BTreeSet<String> =
        rows.filter_map(|row| Some(row["cidr"].as_str()?.to_owned())).collect();
    let drop = |list: &BTreeSet<String>, stamp: i64| {
        let rows = list.iter().map(|cidr| format!("{{\"cidr\":\"{cidr}\",\"sblid\":\"SBL1\"}}\n"));
        let rows: String = rows.collect();
        format!(
            "{rows}{{\"type\":\"metadata\",\"timestamp\":{stamp},\"records\":{}}}\n",
            list.len()
        )
    };
    let mut replay = Replay::new("spamhaus-drop-json");
    let text = fs::read_to_string(folder.join("drop_v4-history-deltas.tsv")).unwrap();
    replay.fetch(&drop(&list, 1_741_021_674), 1_741_021_700).await;
    let (mut newest, mut expected) = (1_741_021_674, list.clone());
    for step in steps(&text) {
        apply(&mut list, &step);
        if step.stamp >= newest {
            newest = step.stamp;
            expected.clone_from(&list);
        }
        let in_force = replay.fetch(&drop(&list, step.stamp), step.at).await;
        assert_eq!(in_force, expected.len(), "at {}", step.at);
    }
    let Account { taken, unchanged, older, held, other } = replay.account;
    assert_eq!((older, held, other), (26, 0, 0));
    assert_eq!(taken + unchanged + older, 448, "every stored fetch");
    assert_eq!(replay.feed.status.failures_by_reason.get("older"), Some(&26));
}

#[tokio::test]
async fn threatfox_is_followed_for_a_month_and_never_held() {
    let Some(folder) = folder().map(|folder| folder.join("abusech/threatfox")) else { return };
    let base = fs::read_to_string(folder.join("ips-history-base-2025-10-01.txt")).unwrap();
    let mut list: BTreeSet<String> = base.lines().map(str::to_owned).collect();
    let plain =
        |list: &BTreeSet<String>| list.iter().map(|ip| format!("{ip}\n")).collect::<String>();
    let mut replay = Replay::new("plain");
    assert_eq!(replay.fetch(&plain(&list), 1_759_280_000).await, 29_163);
    let text = fs::read_to_string(folder.join("ips-history-deltas-2025-10.tsv")).unwrap();
    // Every sixth hour: what is not held in six hours at once is not held in one.
    let steps = steps(&text);
    assert_eq!(steps.len(), 498);
    for six in steps.chunks(6) {
        for step in six {
            apply(&mut list, step);
        }
        let at = six.last().unwrap().at;
        assert_eq!(replay.fetch(&plain(&list), at).await, list.len(), "at {at}");
    }
    assert_eq!(replay.account, Account { taken: 84, ..Account::default() });
}

#[tokio::test]
async fn the_mass_expiry_of_threatfox_is_held_once_until_it_is_accepted() {
    let Some(folder) = folder().map(|folder| folder.join("abusech/threatfox")) else { return };
    let packed = fs::File::open(folder.join("ips-2025-05-01-before-expiry.txt.gz")).unwrap();
    let mut before = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut before).unwrap();
    let after = fs::read_to_string(folder.join("ips-2025-05-01-after-expiry.txt")).unwrap();
    let mut replay = Replay::new("plain");
    let hour = |n: i64| 1_746_057_600 + n * 3_600;
    assert_eq!(replay.fetch(&before, hour(0)).await, 136_103);
    for n in 1..4 {
        assert_eq!(replay.fetch(&after, hour(n)).await, 136_103, "the last good list stays");
    }
    let status = &replay.feed.status;
    let held = status.held.as_ref().unwrap();
    assert_eq!((held.figures.before, held.figures.after), (136_103, 27_167));
    assert_eq!(held.since.as_second(), hour(1));
    assert_eq!(status.failures_by_reason.get("shrinkage"), Some(&1), "one alarm");
    assert_eq!(
        status.confirmed_at.unwrap().as_second(),
        hour(0),
        "it ages out, were nobody to act"
    );
    let word = Word { accepts: true, list: None, by: "alice".to_owned() };
    replay.feed.obey(word).await.outcome.unwrap();
    assert_eq!(replay.in_force(), 27_167);
    let small = after.lines().skip(200).map(|ip| format!("{ip}\n")).collect::<String>();
    assert_eq!(replay.fetch(&small, hour(5)).await, 26_967, "and it goes on as before");
    assert_eq!(replay.feed.status.failures_by_reason.get("shrinkage"), Some(&1));
}
