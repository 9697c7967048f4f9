use std::{fs, io, path::PathBuf};

use sekisho_rules::catalogue::Catalogue;

use super::*;

/// A feed that is a file, and the folder of both.
struct Bench {
    dir: tempfile::TempDir,
    feed: Feed,
}

/// One with a format, and perhaps further keys of the catalogue behind it.
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

/// So many hosts.
fn hosts(count: u32) -> String {
    (0..count).map(|n| format!("{}\n", std::net::Ipv4Addr::from(0xc612_0000 + n))).collect()
}

fn held(news: &News) -> Option<(&'static str, u64, u64)> {
    let held = news.status.held.as_ref()?;
    Some((held.reason.as_str(), held.figures.before, held.figures.after))
}

async fn say(bench: &mut Bench, accepts: bool, list: Option<&str>) -> Result<(), String> {
    let list = list.map(str::to_owned);
    let word = bench.feed.obey(Word { accepts, list, by: "alice".to_owned() }).await;
    assert_eq!(word.by, "alice");
    word.outcome.map_err(|error| error.to_string())
}

const STRICT: &str = "plain, limits: {grow_percent: 50, shrink_percent: 30, slack: 10}";

#[tokio::test]
async fn a_list_beyond_the_limits_is_held_through_restarts_until_it_is_accepted() {
    let mut bench = Bench::new(STRICT);
    bench.poll(&hosts(1_000)).await;
    let before = bench.feed.news().status.confirmed_at;
    let news = bench.poll(&hosts(500)).await;
    assert_eq!((indicators(&news), held(&news)), (Some(1_000), Some(("shrinkage", 1_000, 500))));
    assert_eq!((reason(&news), news.status.failures), (None, 0), "it is no failure");
    assert_eq!(news.status.confirmed_at, before, "nobody vouches for the list in force");
    assert_eq!(news.status.failures_by_reason.get("shrinkage"), Some(&1));
    let since = news.status.held.unwrap().since;
    let news = bench.poll(&hosts(500)).await;
    assert_eq!(news.status.failures_by_reason.get("shrinkage"), Some(&1), "it is counted once");

    bench.feed = feed(&bench.dir, STRICT);
    bench.feed.load(Timestamp::now());
    let news = bench.feed.news();
    assert_eq!((indicators(&news), held(&news)), (Some(1_000), Some(("shrinkage", 1_000, 500))));
    let news = bench.poll(&hosts(400)).await;
    assert_eq!(held(&news), Some(("shrinkage", 1_000, 400)), "a newer one takes its place");
    let now_held = news.status.held.unwrap();
    assert_eq!(now_held.since, since, "held since the first");
    let other = say(&mut bench, true, Some("00000000")).await.unwrap_err();
    assert!(other.contains(&now_held.list), "{other}");
    say(&mut bench, true, Some(&now_held.list)).await.unwrap();
    let news = bench.feed.news();
    assert_eq!((indicators(&news), held(&news)), (Some(400), None));
    bench.feed = feed(&bench.dir, STRICT);
    bench.feed.load(Timestamp::now());
    assert_eq!((indicators(&bench.feed.news()), held(&bench.feed.news())), (Some(400), None));
    let again = say(&mut bench, true, None).await.unwrap_err();
    assert_eq!(again, "no list of feed 'one' is held");
    let news = bench.poll(&hosts(400)).await;
    assert_eq!((held(&news), reason(&news)), (None, None), "what was accepted is confirmed");
}

#[tokio::test]
async fn a_list_within_the_limits_drops_the_one_that_is_held() {
    let mut bench = Bench::new(STRICT);
    bench.poll(&hosts(100)).await;
    assert!(held(&bench.poll(&hosts(5_000)).await).is_some());
    let news = bench.poll(&hosts(101)).await;
    assert_eq!((indicators(&news), held(&news)), (Some(101), None));
    assert!(held(&bench.poll(&hosts(5_000)).await).is_some());
    let news = bench.poll(&hosts(101)).await;
    assert_eq!((indicators(&news), held(&news)), (Some(101), None), "back to what is in force");
    let left = fs::read_dir(bench.dir.path().join("feeds/one")).unwrap().count();
    assert_eq!(left, 2, "nothing of a held list is left");
}

#[tokio::test]
async fn a_rejected_list_stays_out_until_another_one_comes() {
    let mut bench = Bench::new(STRICT);
    bench.poll(&hosts(100)).await;
    bench.poll(&hosts(5_000)).await;
    say(&mut bench, false, None).await.unwrap();
    assert_eq!(held(&bench.feed.news()), None);
    let news = bench.poll(&hosts(5_000)).await;
    assert_eq!((held(&news), reason(&news)), (None, Some("rejected")));
    bench.feed = feed(&bench.dir, STRICT);
    bench.feed.load(Timestamp::now());
    assert_eq!(reason(&bench.poll(&hosts(5_000)).await), Some("rejected"), "after a restart, too");
    assert!(held(&bench.poll(&hosts(5_001)).await).is_some());
    assert_eq!(indicators(&bench.feed.news()), Some(100));
}

#[tokio::test]
async fn where_changes_need_approval_each_waits_for_it_and_the_list_in_force_stays_confirmed() {
    let mut bench = Bench::new("plain, approval: required");
    let news = bench.poll("198.18.0.1\n").await;
    assert_eq!((indicators(&news), held(&news)), (None, Some(("approval", 0, 1))));
    say(&mut bench, true, None).await.unwrap();
    assert_eq!(indicators(&bench.feed.news()), Some(1));
    let before = bench.feed.news().status.confirmed_at;
    let news = bench.poll("198.18.0.2\n").await;
    assert_eq!((indicators(&news), held(&news)), (Some(1), Some(("approval", 1, 1))));
    assert!(news.status.confirmed_at > before, "it is what was approved");
    let news = bench.poll("# another comment\n198.18.0.1\n").await;
    assert_eq!(held(&news), None, "which names the same");
}

#[tokio::test]
async fn a_list_may_become_empty_where_that_may_be_and_ages_all_the_same() {
    const FORMAT: &str = "plain, may_be_empty: true, max_content_age: 1d";
    let mut bench = Bench::new(FORMAT);
    let hours = |n: i64| Timestamp::from_second(1_800_000_000 + n * 3_600).unwrap();
    let poll = async |bench: &mut Bench, list: &str, at: Timestamp| {
        fs::write(bench.path(), list).unwrap();
        bench.feed.poll_at(at).await;
        bench.feed.news()
    };
    poll(&mut bench, &hosts(500), hours(0)).await;
    let news = poll(&mut bench, "# 10:00\n", hours(10)).await;
    assert_eq!((indicators(&news), reason(&news), held(&news)), (Some(0), None, None));
    let news = poll(&mut bench, "# 20:00\n", hours(20)).await;
    assert_eq!(news.status.content_from, Some(hours(10)), "a new comment changes no claim");
    assert!(!news.status.is_stale(hours(34)) && news.status.is_stale(hours(35)));
    bench.feed = feed(&bench.dir, FORMAT);
    bench.feed.load(hours(21));
    assert_eq!(bench.feed.news().status.content_from, Some(hours(10)), "after a restart, too");
    let news = poll(&mut bench, &hosts(50), hours(30)).await;
    assert!(!news.status.is_stale(hours(53)));
}

#[test]
fn content_over_http_may_be_30_days_old_unless_the_catalogue_says_and_a_file_for_ever() {
    let lifetime = |source: &str, further: &str| {
        let row = format!("feeds: [{{name: one, source: '{source}', format: plain{further}}}]\n");
        let spec = Catalogue::from_yaml(&row, "feeds.yaml").unwrap().feeds.remove(0);
        spec.content_lifetime().map(|age| age.to_string())
    };
    let (web, file) = ("https://lists.example.net/c2.txt", "c2.txt");
    assert_eq!(lifetime(web, "").as_deref(), Some("30d"));
    assert_eq!(lifetime(web, ", max_content_age: 2d").as_deref(), Some("2d"));
    assert_eq!(lifetime(file, ""), None);
    assert_eq!(lifetime(file, ", max_content_age: 2d").as_deref(), Some("2d"));
}

#[tokio::test]
async fn an_older_list_is_taken_once_no_other_came_for_as_long_as_the_catalogue_says() {
    let drop = |stamp: i64, network: u8| {
        format!(
            "{{\"cidr\":\"198.18.{network}.0/24\",\"sblid\":\"SBL1\"}}\n\
             {{\"type\":\"metadata\",\"timestamp\":{stamp},\"records\":1}}\n"
        )
    };
    let mut bench = Bench::new("spamhaus-drop-json, older_after: 3h");
    let hours = |n: i64| Timestamp::from_second(1_800_000_000 + n * 3_600).unwrap();
    let mut told = Vec::new();
    // Hour and date of what comes; the list in force is four days old when the first older one comes.
    for (hour, stamp) in [(0, 9), (96, 8), (97, 9), (98, 8), (100, 7), (101, 8)] {
        fs::write(bench.path(), drop(stamp, stamp as u8)).unwrap();
        bench.feed.poll_at(hours(hour)).await;
        told.push(reason(&bench.feed.news()));
        if hour == 98 {
            bench.feed = feed(&bench.dir, "spamhaus-drop-json, older_after: 3h");
            bench.feed.load(hours(99));
        }
    }
    assert_eq!(told, [None, Some("older"), None, Some("older"), Some("older"), None]);
}

#[test]
fn a_list_that_its_source_emptied_claim_by_claim_is_taken_and_one_that_got_lost_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let bench = feed(&dir, "plain");
    let (spec, last_good) = (&bench.config.spec, &bench.last_good);
    let check = |list: &str, withdrawn, have: Option<&(ReadList, Meta)>| {
        let fetched = crate::feeds::fetch::Fetched::List {
            bytes: list.as_bytes().to_vec(),
            validators: crate::feeds::fetch::Validators::default(),
            withdrawn,
        };
        check::check(spec, fetched, have, None, last_good, Timestamp::now())
    };
    let Ok(Checked::Good(full)) = check(&hosts(500), false, None) else { panic!("it is good") };
    let have = (full.list, full.meta);
    let lost = check("# nothing\n", false, Some(&have));
    assert!(matches!(lost, Err(Refused::Emptied)));
    let taken = check("# nothing\n", true, Some(&have));
    assert!(
        matches!(taken, Ok(Checked::Good(good)) if good.list.parsed.as_ref().unwrap().is_empty())
    );
}
