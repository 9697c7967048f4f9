use std::{fs, path::PathBuf};

use sekisho_rules::catalogue::Catalogue;

use super::*;

/// A feed that is a file, and the folder of both.
struct Bench {
    dir: tempfile::TempDir,
    feed: Feed,
}

fn feed(dir: &tempfile::TempDir, format: &str) -> Feed {
    let text = format!("feeds:\n  - {{name: one, source: list, format: {format}}}\n");
    let mut spec = Catalogue::from_yaml(&text, "feeds.yaml").unwrap().feeds.remove(0);
    spec.source = Source::File(dir.path().join("list"));
    let fetcher = Fetcher::new(&crate::config::FetchConfig::default()).unwrap();
    let config = FeedConfig { spec, floor: Duration::from_secs(300) };
    Feed::new(config, fetcher, LastGood::new(dir.path()), Arc::new(Semaphore::new(1)))
}

impl Bench {
    fn new(format: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let feed = feed(&dir, format);
        Self { dir, feed }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("list")
    }

    async fn poll(&mut self, list: &str) -> News {
        fs::write(self.path(), list).unwrap();
        self.feed.poll().await;
        self.feed.news()
    }
}

fn indicators(news: &News) -> Option<usize> {
    let parsed = news.list.as_ref()?.parsed.as_ref().ok()?;
    Some(parsed.indicators.len())
}

fn reason(news: &News) -> Option<&'static str> {
    news.status.trouble.as_ref().map(|trouble| trouble.reason)
}

#[tokio::test]
async fn a_list_is_taken_and_told() {
    let mut bench = Bench::new("plain");
    let news = bench.poll("198.18.0.1\n198.18.0.2\n").await;
    assert_eq!(indicators(&news), Some(2));
    assert_eq!((news.status.indicators, news.status.successes), (2, 1));
    assert_eq!(reason(&news), None);
}

#[tokio::test]
async fn a_broken_list_leaves_the_last_good_one_in_force() {
    let mut bench = Bench::new("plain");
    bench.poll("198.18.0.1\n").await;
    let news = bench.poll("<html>198.18.0.9</html>").await;
    assert_eq!(indicators(&news), Some(1));
    assert_eq!((reason(&news), news.status.failures), (Some("html"), 1));
    let news = bench.poll("").await;
    assert_eq!((reason(&news), news.status.failures), (Some("empty"), 2));
    fs::remove_file(bench.path()).unwrap();
    bench.feed.poll().await;
    let news = bench.feed.news();
    assert_eq!((reason(&news), indicators(&news)), (Some("unreadable"), Some(1)));
    assert_eq!(news.status.failures_by_reason.len(), 3);
    let news = bench.poll("198.18.0.1\n198.18.0.2\n").await;
    assert_eq!((reason(&news), news.status.failures), (None, 0));
    assert_eq!(indicators(&news), Some(2));
}

#[tokio::test]
async fn a_list_that_is_suddenly_empty_is_held_back() {
    let mut bench = Bench::new("plain");
    bench.poll("198.18.0.1\n").await;
    let news = bench.poll("# nothing today\n").await;
    assert_eq!((reason(&news), indicators(&news)), (Some("emptied"), Some(1)));
}

#[tokio::test]
async fn a_list_that_was_always_empty_is_a_list() {
    let mut bench = Bench::new("plain");
    let news = bench.poll("# nothing today\n").await;
    assert_eq!((reason(&news), indicators(&news)), (None, Some(0)));
}

#[tokio::test]
async fn an_older_list_is_held_back() {
    let drop = |stamp: u32| {
        format!(
            "{{\"cidr\":\"198.18.0.0/24\",\"sblid\":\"SBL1\",\"rir\":\"arin\"}}\n\
             {{\"type\":\"metadata\",\"timestamp\":{stamp},\"records\":1}}\n"
        )
    };
    let mut bench = Bench::new("spamhaus-drop-json");
    bench.poll(&drop(1_787_400_000)).await;
    let news = bench.poll(&drop(1_787_300_000)).await;
    assert_eq!(reason(&news), Some("older"));
    let news = bench.poll(&drop(1_787_500_000)).await;
    assert_eq!(reason(&news), None);
}

#[tokio::test]
async fn the_last_good_list_is_there_after_a_restart() {
    let mut bench = Bench::new("plain");
    let before = bench.poll("198.18.0.1\n").await;
    let mut again = feed(&bench.dir, "plain");
    again.load(Timestamp::now());
    let news = again.news();
    assert_eq!(indicators(&news), Some(1));
    assert_eq!(news.status.confirmed_at, before.status.confirmed_at);
    assert_eq!(news.status.successes, 0, "nobody was asked");
}

#[tokio::test]
async fn a_wrong_clock_of_the_past_vouches_for_nothing() {
    let mut bench = Bench::new("plain");
    bench.poll("198.18.0.1\n").await;
    let mut again = feed(&bench.dir, "plain");
    again.load(Timestamp::UNIX_EPOCH);
    assert_eq!(again.news().status.confirmed_at, Some(Timestamp::UNIX_EPOCH));
}

#[tokio::test]
async fn the_same_list_is_confirmed_and_not_read_again() {
    let mut bench = Bench::new("plain");
    let first = bench.poll("198.18.0.1\n").await;
    let second = bench.poll("198.18.0.1\n").await;
    assert_eq!(first.status.fetched_at, second.status.fetched_at);
    assert!(second.status.confirmed_at > first.status.confirmed_at);
    let parsed = |news: &News| news.list.clone().unwrap().parsed.unwrap();
    assert!(Arc::ptr_eq(&parsed(&first), &parsed(&second)));
}

#[tokio::test]
async fn a_compressed_list_is_read_and_a_bomb_leaves_it_in_force() {
    let packed = |plain: &[u8]| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        io::Write::write_all(&mut packer, plain).unwrap();
        packer.finish().unwrap()
    };
    let mut bench = Bench::new("plain");
    fs::write(bench.path(), packed(b"198.18.0.1\n198.18.0.2\n")).unwrap();
    bench.feed.poll().await;
    assert_eq!(indicators(&bench.feed.news()), Some(2));
    fs::write(bench.path(), packed(&vec![b'\n'; 16 << 20])).unwrap();
    bench.feed.poll().await;
    let news = bench.feed.news();
    assert_eq!((indicators(&news), reason(&news)), (Some(2), Some("bomb")));
    let mut again = feed(&bench.dir, "plain");
    again.load(Timestamp::now());
    assert_eq!(indicators(&again.news()), Some(2), "the last good copy is packed as it came");
}
