use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use sekisho_rules::{catalogue::Catalogue, parse::parse_feed};

use super::*;
use crate::{
    config::FetchConfig,
    feeds::{
        Feed, FeedConfig,
        hold::Word,
        http::Fetcher,
        last_good::LastGood,
        web::{Answer, Request, Web, page},
    },
};

const DISCOVERY: &str = r#"{"title":"x","default":"/r/","api_roots":["/r/"]}"#;
const COLLECTIONS: &str = r#"{"collections":[
    {"id":"one","title":"First","can_read":true,"can_write":false},
    {"id":"two","title":"Second","can_read":false,"can_write":true}]}"#;

fn indicator(nth: u32, modified: &str, more: &str) -> String {
    format!(
        r#"{{"type":"indicator","id":"indicator--{nth}","modified":"{modified}","pattern_type":"stix",
            "pattern":"[ipv4-addr:value = '198.18.0.{nth}']"{more}}}"#
    )
}

fn envelope(objects: &[String], further: &str, added_last: &str) -> Answer {
    let body = match objects {
        [] => "{}".to_owned(),
        some => format!(r#"{{"objects":[{}]{further}}}"#, some.join(",")),
    };
    let added = match added_last {
        "" => String::new(),
        last => format!("X-TAXII-Date-Added-Last: {last}\r\n"),
    };
    page("200 OK", &format!("Content-Type: application/taxii+json\r\n{added}"), body.as_bytes())
}

/// A server with one collection, whose pages are a function of the query.
fn server(objects: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Web {
    Web::start(move |request| match request.target.split('?').next() {
        Some("/taxii2/") => page("200 OK", "", DISCOVERY.as_bytes()),
        Some("/r/collections/") => page("200 OK", "", COLLECTIONS.as_bytes()),
        Some("/r/collections/one/objects/") => objects(request),
        _ => page("404 Not Found", "", b"{}"),
    })
}

fn spec(web: &Web, further: &str) -> FeedSpec {
    let text = format!(
        "feeds:\n  - name: t\n    source: taxii+{}\n    format: stix\n{further}",
        web.url("/taxii2/")
    );
    Catalogue::from_yaml(&text, "feeds.yaml").unwrap().feeds.remove(0)
}

type List = (Vec<u8>, Validators, bool);

async fn ask(
    web: &Web,
    further: &str,
    have: Option<&List>,
    now: Timestamp,
) -> Result<List, FetchError> {
    let spec = spec(web, further);
    let session = Fetcher::new(&FetchConfig::default()).unwrap().session(&spec).unwrap();
    let unknown = Validators::default();
    let have = have.map_or((&unknown, &b""[..]), |(bytes, known, _)| (known, bytes));
    let url = spec.source.url().unwrap();
    match fetch(&session, &spec, url, have, &Limits::default(), now).await? {
        Fetched::List { bytes, validators, withdrawn } => Ok((bytes, validators, withdrawn)),
        Fetched::NotModified => panic!("a bundle is always given"),
    }
}

fn addresses((bytes, ..): &List) -> Vec<String> {
    let spec = Catalogue::from_yaml("feeds: [{name: t, source: x, format: stix}]", "feeds.yaml");
    let parsed = parse_feed(&spec.unwrap().feeds[0], bytes, &Limits::default()).unwrap();
    parsed.indicators.iter().map(|found| found.network.addr().to_string()).collect()
}

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + hour * 3_600).unwrap()
}

fn queries(web: &Web) -> Vec<String> {
    let targets = web.asked().into_iter().map(|request| request.target);
    targets.filter_map(|target| Some(target.split_once("objects/?")?.1.to_owned())).collect()
}

const FIRST: &str = "2026-01-01T00:00:00.000001Z";
const SECOND: &str = "2026-01-02T00:00:00.000001Z";

#[tokio::test]
async fn pages_with_a_cursor_are_the_same_query_and_the_cursor() {
    let web = server(|request| match request.target.contains("next=") {
        false => envelope(&[indicator(1, FIRST, "")], r#","more":true,"next":"a&b""#, FIRST),
        true if request.target.contains("next=a%26b") => {
            envelope(&[indicator(2, FIRST, "")], r#","more":true,"next":7"#, SECOND)
        }
        true => envelope(&[indicator(3, FIRST, "")], "", ""),
    });
    let list = ask(&web, "    taxii: {page_size: 1}\n", None, at(0)).await.unwrap();
    assert_eq!(addresses(&list), ["198.18.0.1", "198.18.0.2", "198.18.0.3"]);
    let base = "match%5Btype%5D=indicator&limit=1";
    assert_eq!(
        queries(&web),
        [base.to_owned(), format!("{base}&next=a%26b"), format!("{base}&next=7")]
    );
    let head = &web.asked()[0].head;
    assert!(head.contains("\r\naccept: application/taxii+json;version=2.1\r\n"), "{head}");
    assert_eq!(list.1.taxii.as_ref().unwrap().added["one"].as_deref(), Some(SECOND));
    assert!(!list.2, "a full list takes nothing back by name");
}

#[tokio::test]
async fn pages_without_a_cursor_go_on_after_what_was_added_last() {
    let web = server(|request| match request.target.contains("added_after=2026-01-01") {
        false => envelope(&[indicator(1, FIRST, "")], r#","more":true"#, FIRST),
        true => envelope(&[indicator(2, FIRST, "")], r#","more":false"#, SECOND),
    });
    let list = ask(&web, "", None, at(0)).await.unwrap();
    assert_eq!(addresses(&list), ["198.18.0.1", "198.18.0.2"]);
    let base = "match%5Btype%5D=indicator&limit=1000";
    let after = "added_after=2026-01-01T00%3A00%3A00.000001Z";
    assert_eq!(queries(&web), [base.to_owned(), format!("{base}&{after}")]);
}

#[tokio::test]
async fn what_was_added_goes_over_what_is_there_and_what_was_revoked_goes() {
    let round = Arc::new(AtomicU32::new(0));
    let nth = Arc::clone(&round);
    let web = server(move |_| match nth.load(Ordering::Relaxed) {
        0 => envelope(&[1, 2].map(|n| indicator(n, FIRST, "")), "", FIRST),
        1 => {
            let new = [indicator(1, SECOND, r#","revoked":true"#), indicator(3, SECOND, "")];
            envelope(&new, "", SECOND)
        }
        2 => envelope(&[], "", ""),
        _ => envelope(&[indicator(9, FIRST, "")], "", FIRST),
    });
    let next = |n| round.store(n, Ordering::Relaxed);
    let first = ask(&web, "", None, at(0)).await.unwrap();
    assert_eq!(addresses(&first), ["198.18.0.1", "198.18.0.2"]);
    next(1);
    // As after a restart: nothing is known but what was kept.
    let kept = serde_json::to_string(&first.1).unwrap();
    let first = (first.0, serde_json::from_str(&kept).unwrap(), false);
    let second = ask(&web, "", Some(&first), at(1)).await.unwrap();
    assert_eq!(addresses(&second), ["198.18.0.2", "198.18.0.3"]);
    assert!(second.2, "a delta takes back by name");
    next(2);
    let third = ask(&web, "", Some(&second), at(2)).await.unwrap();
    assert_eq!(third, second, "an empty answer changes nothing");
    let asked = queries(&web);
    assert!(!asked[0].contains("added_after"), "{asked:?}");
    assert!(asked[1].ends_with("added_after=2026-01-01T00%3A00%3A00.000001Z"), "{asked:?}");
    assert!(asked[2].ends_with("added_after=2026-01-02T00%3A00%3A00.000001Z"), "{asked:?}");
    next(3);
    let full = ask(&web, "", Some(&third), at(24)).await.unwrap();
    assert_eq!(addresses(&full), ["198.18.0.9"], "everything is read again after a day");
    assert!(!queries(&web)[3].contains("added_after"));
}

#[tokio::test]
async fn a_server_that_goes_in_circles_is_left() {
    type Circle = (&'static str, fn(&Request) -> Answer);
    let circles: [Circle; 4] = [
        ("nothing new", |_| {
            envelope(&[indicator(1, FIRST, "")], r#","more":true,"next":"again""#, FIRST)
        }),
        ("nothing new", |_| page("200 OK", "", br#"{"more":true,"next":"x","objects":[]}"#)),
        ("not where", |_| envelope(&[indicator(1, FIRST, "")], r#","more":true"#, "")),
        ("nothing new", |_| envelope(&[indicator(1, FIRST, "")], r#","more":true"#, FIRST)),
    ];
    for (words, answer) in circles {
        let web = server(answer);
        let error = ask(&web, "", None, at(0)).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Protocol);
        assert!(error.detail.contains(words), "{error}");
        assert!(queries(&web).len() <= 2, "{:?}", queries(&web));
    }
}

#[tokio::test]
async fn what_is_no_envelope_is_refused() {
    for (body, words) in [
        (r#"{"title":"Unauthorized","http_status":"401"}"#, "'Unauthorized'"),
        ("<html>", "no page of objects"),
        (r#"{"objects":[{"#, "no page of objects"),
        ("", "no page of objects"),
    ] {
        let web = server(move |_| page("200 OK", "", body.as_bytes()));
        let error = ask(&web, "", None, at(0)).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Protocol, "{body}");
        assert!(error.detail.contains(words), "{error}");
    }
}

#[tokio::test]
async fn collections_are_found_by_id_alias_and_title_and_must_be_readable() {
    let web = server(|_| envelope(&[], "", ""));
    for wanted in ["one", "First"] {
        let further = format!("    taxii: {{collections: [{wanted}]}}\n");
        assert!(ask(&web, &further, None, at(0)).await.is_ok());
    }
    for (wanted, words) in [("three", "no collection 'three'"), ("Second", "'two' may not be read")]
    {
        let further = format!("    taxii: {{collections: [{wanted}]}}\n");
        let error = ask(&web, &further, None, at(0)).await.unwrap_err();
        assert!(error.detail.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_root_on_another_host_is_only_asked_if_the_operator_names_it() {
    let server = server(|_| envelope(&[indicator(1, FIRST, "")], "", ""));
    let told = r#"{"title":"x","api_roots":["https://taxii.example:5000/trustgroup1/"]}"#;
    let discovery = Web::start(move |_| page("200 OK", "", told.as_bytes()));
    let error = ask(&discovery, "", None, at(0)).await.unwrap_err();
    assert!(error.detail.contains("https://taxii.example:5000/trustgroup1/"), "{error}");
    assert!(error.detail.contains("taxii.api_root"), "{error}");
    let further = format!("    taxii: {{api_root: '{}'}}\n", server.url("/r"));
    let list = ask(&discovery, &further, None, at(0)).await.unwrap();
    assert_eq!(addresses(&list), ["198.18.0.1"]);
}

#[tokio::test]
async fn a_new_collection_makes_everything_be_read_again() {
    let two = Arc::new(Mutex::new(false));
    let both = Arc::clone(&two);
    let web = Web::start(move |request| {
        let path = request.target.split('?').next().unwrap_or_default();
        match path {
            "/taxii2/" => page("200 OK", "", DISCOVERY.as_bytes()),
            "/r/collections/" => {
                let read = COLLECTIONS.replace("\"can_read\":false", "\"can_read\":true");
                let text = if *both.lock().unwrap() { read } else { COLLECTIONS.to_owned() };
                page("200 OK", "", text.as_bytes())
            }
            "/r/collections/one/objects/" => envelope(&[indicator(1, FIRST, "")], "", FIRST),
            _ => envelope(&[indicator(2, FIRST, "")], "", FIRST),
        }
    });
    let first = ask(&web, "", None, at(0)).await.unwrap();
    *two.lock().unwrap() = true;
    let second = ask(&web, "", Some(&first), at(1)).await.unwrap();
    assert_eq!(addresses(&second), ["198.18.0.1", "198.18.0.2"]);
    assert!(queries(&web).iter().all(|query| !query.contains("added_after")));
}

#[tokio::test]
async fn another_root_makes_everything_be_read_again() {
    let web = server(|_| envelope(&[indicator(1, FIRST, "")], "", FIRST));
    let first = ask(&web, "", None, at(0)).await.unwrap();
    let other = server(|_| envelope(&[indicator(2, FIRST, "")], "", FIRST));
    let further = format!("    taxii: {{api_root: '{}'}}\n", other.url("/r/"));
    let second = ask(&web, &further, Some(&first), at(1)).await.unwrap();
    assert_eq!(addresses(&second), ["198.18.0.2"]);
    assert!(!queries(&other)[0].contains("added_after"));
}

#[tokio::test]
async fn what_is_new_while_a_list_is_held_is_neither_lost_nor_taken() {
    let web = server(|request| match request.target.contains("added_after=2026-01-02") {
        true => envelope(&[], "", ""),
        false if request.target.contains("added_after") => {
            envelope(&[indicator(2, SECOND, "")], "", SECOND)
        }
        false => envelope(&[indicator(1, FIRST, "")], "", FIRST),
    });
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(&web, "    approval: required\n");
    let config = FeedConfig { spec, floor: Duration::from_secs(300) };
    let fetcher = Fetcher::new(&FetchConfig::default()).unwrap();
    let permits = Arc::new(tokio::sync::Semaphore::new(1));
    let mut feed = Feed::new(config, fetcher, LastGood::new(dir.path()), permits);
    let word = |accepts| Word { accepts, list: None, by: "alice".to_owned() };
    feed.poll().await;
    feed.obey(word(true)).await.outcome.unwrap();
    assert_eq!(feed.news().status.indicators, 1);
    for _ in 0..3 {
        feed.poll().await;
        let status = feed.news().status;
        assert_eq!(status.trouble, None);
        let held = status.held.map(|held| (held.figures.before, held.figures.after));
        assert_eq!((status.indicators, held), (1, Some((1, 2))));
    }
    feed.obey(word(true)).await.outcome.unwrap();
    feed.poll().await;
    let status = feed.news().status;
    assert_eq!((status.indicators, status.held), (2, None));
}
