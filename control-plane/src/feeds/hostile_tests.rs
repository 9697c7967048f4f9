//! What a server may do to a feed: for each, the last good list stays, the reason is a metric label
//! and a log line says it.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use flate2::write::GzEncoder;
use sekisho_rules::catalogue::Catalogue;

use jiff::SignedDuration;

use super::*;
use crate::{
    config::FetchConfig,
    feeds::web::{Answer, Web, page, redirect},
    metrics,
};

const GOOD: &[u8] = b"198.18.0.1\n198.18.0.2\n";

/// A feed of this row, with a state folder.
pub(super) fn feed_of(row: &str, dir: &tempfile::TempDir) -> Feed {
    let spec = Catalogue::from_yaml(&format!("feeds:\n{row}"), "feeds.yaml").unwrap();
    let spec = spec.feeds.into_iter().next().unwrap();
    let fetch = FetchConfig { timeout: "1s".parse().unwrap(), ..FetchConfig::default() };
    let fetcher = Fetcher::new(&fetch).unwrap();
    let config = FeedConfig { spec, floor: Duration::from_secs(300) };
    Feed::new(config, fetcher, LastGood::new(dir.path()), Arc::new(Semaphore::new(1)))
}

/// What is logged by this thread while it lives.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn start(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || log.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serves the good list first, and this from then on.
fn turns_bad(then: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Web {
    let asked = AtomicU32::new(0);
    Web::start(move |request| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => page("200 OK", "", GOOD),
        _ => then(&request.target),
    })
}

fn packed(plain: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), flate2::Compression::best());
    io::Write::write_all(&mut packer, plain).unwrap();
    packer.finish().unwrap()
}

async fn assert_held(web: Web, reason: &'static str, further: &str) {
    let dir = tempfile::tempdir().unwrap();
    let row = format!(
        "  - name: one\n    source: {}\n    format: plain\n    max_bytes: 100000\n{further}",
        web.url("/list")
    );
    let mut feed = feed_of(&row, &dir);
    feed.poll().await;
    let good = feed.news();
    let log = Log::default();
    let guard = log.start();
    feed.poll().await;
    drop(guard);
    let news = feed.news();
    assert_eq!(news.status.trouble.as_ref().map(|trouble| trouble.reason), Some(reason));
    assert_eq!(news.list, good.list, "{reason}: the last good list stays");
    assert_eq!(news.status.indicators, 2);
    let told = format!("the last good list stays: {}", news.status.trouble.unwrap().text);
    let line = log.text();
    assert!(line.contains(&told) && line.contains("WARN"), "{reason}: {line}");
    assert!(line.contains(&format!("reason=\"{reason}\"")), "{line}");
    let shown = metrics::render(&metrics::tests::sample_of(vec![feed.news().status]));
    let series = format!("sekisho_feed_failures_total{{feed=\"one\",reason=\"{reason}\"}} 1\n");
    assert!(shown.contains(&series), "{reason}: {shown}");
    let mut again = feed_of(&row, &dir);
    again.load(Timestamp::now());
    assert_eq!(again.news().status.indicators, 2, "{reason}: after a restart, too");
}

macro_rules! held {
    ($($name:ident: $reason:literal, $then:expr;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                assert_held(turns_bad($then), $reason, "").await;
            }
        )+
    };
}

held! {
    a_slow_server: "timeout", |_| Answer::Trickle("HTTP/1.1 200 OK\r\n\r\n");
    a_silent_server: "timeout", |_| Answer::Silence;
    an_endless_list: "too_large", |_| Answer::Endless("HTTP/1.1 200 OK\r\n\r\n");
    a_list_that_ends_early: "interrupted", |_| Answer::Bytes(
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n198.18.0.9\n".to_vec());
    a_chunked_list_without_its_end: "interrupted", |_| Answer::Bytes(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n198.18.0.9\n\r\n".to_vec());
    a_gzip_that_ends_early: "truncated", |_| {
        let list: String = (1..250).map(|n| format!("198.18.7.{n}\n")).collect();
        let whole = packed(list.as_bytes());
        page("200 OK", "", &whole[..whole.len() - 20])
    };
    a_list_that_is_gone: "not_found", |_| page("404 Not Found", "", b"gone");
    a_server_that_is_overloaded: "throttled", |_| page("503 Service Unavailable", "", b"");
    a_server_that_fails: "status", |_| page("500 Internal Server Error", "", b"");
    a_server_that_wants_a_key: "denied", |_| page("401 Unauthorized", "", b"");
    a_redirect_without_end: "redirect", |_| redirect("/list");
    a_redirect_to_no_web_server: "redirect", |_| redirect("file:///etc/passwd");
    a_redirect_to_nowhere: "connect", |_| redirect("http://127.0.0.1:1/");
    a_gzip_bomb_larger_than_allowed: "too_large", |_| page("200 OK", "", &packed(&vec![b'\n'; 8 << 20]));
    a_gzip_bomb_in_transit: "too_large", |_| {
        page("200 OK", "Content-Encoding: gzip\r\n", &packed(&vec![b'\n'; 8 << 20]))
    };
    a_web_page: "html", |_| {
        page("200 OK", "", b"<!DOCTYPE html><html>198.18.0.9 is blocked</html>")
    };
    another_charset: "utf16", |_| {
        let text: Vec<u8> = "\u{feff}198.18.0.9\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        page("200 OK", "Content-Type: text/plain; charset=utf-16\r\n", &text)
    };
    nothing_at_all: "empty", |_| page("200 OK", "", b"");
    a_list_that_is_suddenly_empty: "emptied", |_| page("200 OK", "", b"# nothing today\n");
    another_list: "too_many_rejects", |_| page("200 OK", "", b"no\naddress\nin\nhere\n");
}

#[tokio::test]
async fn a_gzip_bomb_within_the_limit() {
    // Those above unpack to more than their feed may have; this one is found by its ratio.
    let web = turns_bad(|_| page("200 OK", "", &packed(&vec![b'\n'; 16 << 20])));
    let dir = tempfile::tempdir().unwrap();
    let row = format!("  - {{name: one, source: '{}', format: plain}}\n", web.url("/list"));
    let mut feed = feed_of(&row, &dir);
    feed.poll().await;
    feed.poll().await;
    assert_eq!(feed.news().status.trouble.unwrap().reason, "bomb");
    assert_eq!(feed.news().status.indicators, 2);
}

#[tokio::test]
async fn a_feed_that_answers_304_for_ever_has_a_content_that_ages() {
    let web = Web::start(|request| match request.head.contains("if-none-match") {
        true => page("304 Not Modified", "", b""),
        false => {
            let dated = "ETag: \"x\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
            page("200 OK", dated, GOOD)
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let row = format!(
        "  - {{name: one, source: '{}', format: plain, max_content_age: 30d}}\n",
        web.url("/list")
    );
    let log = Log::default();
    let guard = log.start();
    let mut feed = feed_of(&row, &dir);
    feed.poll().await;
    feed.poll().await;
    drop(guard);
    let news = feed.news();
    assert_eq!((news.status.failures, news.status.successes), (0, 2));
    assert!(news.status.confirmed_at > news.status.fetched_at, "it was confirmed");
    let from: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(news.status.content_from, Some(from), "and is as old as its publisher says");
    assert!(news.status.is_stale(from + SignedDuration::from_hours(31 * 24)));
    assert!(!news.status.is_stale(from + SignedDuration::from_hours(29 * 24)));
    assert_eq!(log.text().matches("have not changed for long").count(), 1, "{}", log.text());
    let shown = metrics::render(&metrics::tests::sample_of(vec![news.status]));
    assert!(shown.contains("sekisho_feed_stale{feed=\"one\"} 1\n"), "{shown}");
}

#[tokio::test]
async fn a_new_date_on_the_same_claims_is_no_new_content() {
    let asked = AtomicU32::new(0);
    let web = Web::start(move |_| {
        let nth = asked.fetch_add(1, Ordering::Relaxed);
        let more = if nth == 2 { "198.18.0.9\n" } else { "" };
        page("200 OK", "", format!("# edition {nth}\n198.18.0.1\n{more}").as_bytes())
    });
    let dir = tempfile::tempdir().unwrap();
    let row = format!("  - {{name: one, source: '{}', format: plain}}\n", web.url("/list"));
    let mut feed = feed_of(&row, &dir);
    let mut content = Vec::new();
    for _ in 0..3 {
        feed.poll().await;
        content.push((feed.news().status.fetched_at, feed.news().status.content_from));
    }
    assert!(content[1].0 > content[0].0, "it came anew");
    assert_eq!(content[1].1, content[0].1, "and says the same");
    assert!(content[2].1 > content[1].1);
}
