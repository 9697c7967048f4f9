//! Keys of feeds: used for what they are for, and seen nowhere else.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    hostile_tests::{Log, feed_of},
    *,
};
use crate::{
    feeds::web::{CA, Web, page, redirect},
    metrics,
};

const KEY: &str = "hunter2-0123456789abcdef";

fn is_there(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return is_there(&path, text);
        }
        let name = path.display().to_string();
        name.contains(text) || String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(text)
    })
}

#[tokio::test]
async fn a_key_is_in_no_log_no_metric_no_status_no_error_and_no_file() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let web = Web::start(move |request| match failing.load(Ordering::Relaxed) {
        true => redirect(&format!("http://192.0.2.1{}", request.target)),
        false => page("200 OK", "ETag: \"x\"\r\n", b"198.18.0.1\n"),
    });
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("key");
    let auths = [
        "{url_key: FILE}",
        "{header: {name: Auth-Key, value: FILE}}",
        "{bearer: FILE}",
        "{basic: {user: noc, password: FILE}}",
    ];
    for auth in auths {
        fs::write(&file, format!("{KEY}\n")).unwrap();
        let (dir, log) = (tempfile::tempdir().unwrap(), Log::default());
        let path = if auth.contains("url_key") { "/exports/{key}/x.csv" } else { "/x.csv?a=b" };
        let row = format!(
            "  - name: one\n    source: '{}'\n    format: plain\n    auth: {}\n",
            web.url(path),
            auth.replace("FILE", &format!("{{file: '{}'}}", file.display()))
        );
        let guard = log.start();
        let mut feed = feed_of(&row, &dir);
        let mut told = String::new();
        let mut tell = |feed: &Feed| {
            let status = feed.news().status;
            told += &serde_json::to_string(&status).unwrap();
            told += &format!("{status:?} {feed:?}");
            told += &metrics::render(&metrics::tests::sample_of(vec![status]));
        };
        fails.store(false, Ordering::Relaxed);
        feed.poll().await;
        tell(&feed);
        assert_eq!(feed.news().status.successes, 1, "{:?}", feed.news().status.trouble);
        let asked = web.asked().pop().unwrap();
        let shown = asked.head.contains(KEY) || auth.contains("basic");
        assert!(shown, "the server sees it: {}", asked.head);
        fails.store(true, Ordering::Relaxed);
        feed.poll().await;
        tell(&feed);
        fs::write(&file, "").unwrap();
        feed.poll().await;
        tell(&feed);
        assert_eq!(feed.news().status.trouble.unwrap().reason, "secret");
        assert_eq!(feed.news().status.indicators, 1, "the last good list stays");
        drop(guard);
        told += &log.text();
        assert_eq!(log.text().matches("every user can read it").count(), 1, "{}", log.text());
        for hidden in [KEY, "bm9jOmh1bnRlcjI"] {
            assert!(!told.contains(hidden), "{auth}: {told}");
            assert!(!is_there(dir.path(), hidden), "{auth}: in a file");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_put_right_is_used_at_once() {
    let web = Web::start(|request| match request.head.contains("auth-key: new") {
        true => page("200 OK", "", b"198.18.0.1\n"),
        false => page("403 Forbidden", "", b""),
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let row = format!(
        "  - name: one\n    source: '{}'\n    format: plain\n    auth: {{header: {{name: Auth-Key, \
         value: {{file: '{}'}}}}}}\n",
        web.url("/x"),
        file.display()
    );
    let mut feed = feed_of(&row, &dir);
    let tick = Duration::from_millis(5);
    let hour = Duration::from_secs(3600);
    feed.poll().await;
    assert_eq!(feed.news().status.trouble.unwrap().reason, "secret");
    assert!(web.asked().is_empty(), "nobody is asked without the key");
    assert_eq!(feed.asked_at, None);
    fs::write(&file, "old").unwrap();
    feed.rest(Instant::now(), hour, tick).await;
    feed.poll().await;
    assert_eq!(feed.news().status.trouble.unwrap().reason, "denied");
    // The same key again, or a new one before the floor is over, wakes nobody.
    let asleep =
        tokio::time::timeout(Duration::from_millis(50), feed.rest(Instant::now(), hour, tick))
            .await;
    assert!(asleep.is_err());
    fs::write(&file, "new").unwrap();
    let asleep =
        tokio::time::timeout(Duration::from_millis(50), feed.rest(Instant::now(), hour, tick))
            .await;
    assert!(asleep.is_err());
    feed.config.floor = tick;
    feed.rest(Instant::now(), hour, tick).await;
    feed.poll().await;
    assert_eq!(feed.news().status.successes, 1);
}

#[tokio::test]
async fn a_source_that_was_asked_before_a_restart_is_not_asked_before_its_floor_is_over() {
    let web = Web::start(|_| page("404 Not Found", "", b""));
    let dir = tempfile::tempdir().unwrap();
    let row = format!("  - {{name: one, source: '{}', format: plain}}\n", web.url("/x"));
    let mut feed = feed_of(&row, &dir);
    assert_eq!(feed.first_wait(Timestamp::now()), Duration::ZERO);
    feed.poll().await;
    let mut again = feed_of(&row, &dir);
    let now = Timestamp::now();
    again.load(now);
    let wait = again.first_wait(now);
    assert!((299..=300).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test]
async fn a_server_that_repeats_the_key_does_not_make_it_known() {
    let web = Web::start(|_| {
        let body = format!(r#"{{"title":"bad key {KEY}","new":"{KEY}","http_status":"401"}}"#);
        page("200 OK", "", body.as_bytes())
    });
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("key");
    fs::write(&file, KEY).unwrap();
    let auth =
        format!("auth: {{header: {{name: X-Api-Key, value: {{file: '{}'}}}}}}", file.display());
    for (source, format, further) in [
        ("taxii", "stix", format!("    taxii: {{api_root: '{}'}}\n", web.url("/r/"))),
        ("crowdsec", "crowdsec", String::new()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let row = format!(
            "  - name: one\n    source: {source}+{}\n    format: {format}\n    {auth}\n{further}",
            web.url("/")
        );
        let mut feed = feed_of(&row, &dir);
        feed.poll().await;
        let trouble = feed.news().status.trouble.unwrap();
        assert_eq!(trouble.reason, "protocol");
        assert!(!trouble.text.contains(KEY), "{}", trouble.text);
    }
}

#[tokio::test]
async fn certificates_that_are_put_right_are_used_at_once() {
    let web = Web::start_tls(|_| page("200 OK", "", b"198.18.0.1\n"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let row = format!(
        "  - {{name: one, source: '{}', format: plain, ca_file: '{}'}}\n",
        web.url("/x"),
        file.display()
    );
    let mut feed = feed_of(&row, &dir);
    let (hour, tick) = (Duration::from_secs(3600), Duration::from_millis(5));
    feed.poll().await;
    assert_eq!(feed.news().status.trouble.unwrap().reason, "setup");
    let asleep =
        tokio::time::timeout(Duration::from_millis(50), feed.rest(Instant::now(), hour, tick))
            .await;
    assert!(asleep.is_err());
    fs::write(&file, CA).unwrap();
    feed.rest(Instant::now(), hour, tick).await;
    feed.poll().await;
    assert_eq!(feed.news().status.trouble, None);
}

#[test]
fn a_lapi_that_was_down_for_long_is_asked_within_minutes() {
    let dir = tempfile::tempdir().unwrap();
    let row = "  - name: one\n    source: crowdsec+http://127.0.0.1:1/\n    format: crowdsec\n    \
               refresh: 10s\n    auth: {header: {name: X-Api-Key, value: {env: X}}}\n";
    let mut feed = feed_of(row, &dir);
    let mut wait = |failures| {
        feed.status.failures = failures;
        feed.next_wait(None).as_secs()
    };
    assert!((10..=11).contains(&wait(0)));
    assert!((10..=11).contains(&wait(1)));
    assert!((320..=352).contains(&wait(10_000)));
}
