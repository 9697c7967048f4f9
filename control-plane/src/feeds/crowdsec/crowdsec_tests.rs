use std::sync::{Arc, Mutex};

use sekisho_rules::{catalogue::Catalogue, parse::parse_feed};

use super::*;
use crate::{
    config::FetchConfig,
    feeds::{
        http::Fetcher,
        web::{Web, page},
    },
};

/// A LAPI that answers what it is told to, and a bouncer of it.
struct Bench {
    web: Web,
    answers: Arc<Mutex<Vec<String>>>,
    decisions: Decisions,
    _key: tempfile::NamedTempFile,
    spec: FeedSpec,
}

impl Bench {
    fn new(further: &str) -> Self {
        let answers = Arc::new(Mutex::new(Vec::<String>::new()));
        let next = Arc::clone(&answers);
        let web = Web::start(move |request| {
            let mut answers = next.lock().unwrap();
            if answers.is_empty() || !request.head.contains("x-api-key: hunter2") {
                return page("403 Forbidden", "", br#"{"message":"access forbidden"}"#);
            }
            page("200 OK", "", answers.remove(0).as_bytes())
        });
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), "hunter2").unwrap();
        let text = format!(
            "feeds:\n  - name: c\n    source: crowdsec+{}\n    format: crowdsec\n    auth: {{header: \
             {{name: X-Api-Key, value: {{file: '{}'}}}}}}\n{further}",
            web.url(""),
            key.path().display()
        );
        let spec = Catalogue::from_yaml(&text, "feeds.yaml").unwrap().feeds.remove(0);
        Self { web, answers, decisions: Decisions::default(), _key: key, spec }
    }

    async fn ask(
        &mut self,
        now: Timestamp,
        kept: &[u8],
        answers: &[&str],
    ) -> Result<Option<Vec<u8>>, FetchError> {
        *self.answers.lock().unwrap() = answers.iter().map(|text| (*text).to_owned()).collect();
        let session = Fetcher::new(&FetchConfig::default()).unwrap().session(&self.spec).unwrap();
        let url = self.spec.source.url().unwrap();
        let (limits, spec) = (crate::rulebook::limits(&self.spec), &self.spec);
        let fetched = self.decisions.fetch(&session, spec, url, kept, &limits, now).await?;
        assert!(self.answers.lock().unwrap().is_empty(), "every answer was asked for");
        Ok(match fetched {
            Fetched::List { bytes, withdrawn, .. } => {
                assert!(withdrawn, "an empty list is a list");
                Some(bytes)
            }
            Fetched::NotModified => None,
        })
    }

    /// Address and seconds from `now` on.
    async fn list(&mut self, now: Timestamp, answers: &[&str]) -> Vec<(String, i64)> {
        let bytes = self.ask(now, b"", answers).await.unwrap().unwrap();
        listed(&self.spec, &bytes, now)
    }

    fn asked(&self) -> Vec<String> {
        self.web.asked().into_iter().map(|request| request.target).collect()
    }
}

fn listed(spec: &FeedSpec, bytes: &[u8], now: Timestamp) -> Vec<(String, i64)> {
    let parsed = parse_feed(spec, bytes, &Limits::default()).unwrap();
    let row = |found: &sekisho_rules::indicator::Indicator| {
        let until = found.valid_until.unwrap().as_second();
        (found.network.to_string(), until - now.as_second())
    };
    parsed.indicators.iter().map(row).collect()
}

fn decision(id: i64, value: &str, duration: &str, more: &str) -> String {
    format!(
        r#"{{"id":{id},"origin":"cscli","type":"ban","scope":"Ip","value":"{value}","duration":"{duration}",
            "scenario":"manual"{more}}}"#
    )
}

fn stream(new: &[String], deleted: &[String]) -> String {
    let array = |rows: &[String]| match rows {
        [] => "null".to_owned(),
        rows => format!("[{}]", rows.join(",")),
    };
    format!(r#"{{"new":{},"deleted":{}}}"#, array(new), array(deleted))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + seconds).unwrap()
}

const ALL: &str = "/v1/decisions/stream?startup=true&scopes=ip%2Crange&dedup=false";
const SINCE: &str = "/v1/decisions/stream?startup=false&scopes=ip%2Crange&dedup=false";

#[tokio::test]
async fn all_come_first_and_then_what_came_and_went() {
    let mut bench = Bench::new("");
    let all = stream(
        &[
            decision(1, "198.18.0.1", "4h0m0s", ""),
            decision(2, "198.18.0.1", "1h30m0.5s", ""),
            decision(3, "198.18.0.3", "59m", ""),
        ],
        &[],
    );
    let expected = |rows: &[(&str, i64)]| -> Vec<(String, i64)> {
        rows.iter().map(|(value, seconds)| (format!("{value}/32"), *seconds)).collect()
    };
    assert_eq!(
        bench.list(at(0), &[&all]).await,
        expected(&[("198.18.0.1", 14_400), ("198.18.0.1", 5_400), ("198.18.0.3", 3_540)])
    );
    // The one that is deleted leaves the other for the same address.
    let delta = stream(
        &[decision(4, "198.18.0.4", "10m", "")],
        &[decision(1, "198.18.0.1", "-5s", ""), decision(99, "198.18.0.3", "-5s", "")],
    );
    assert_eq!(
        bench.list(at(30), &[&delta]).await,
        expected(&[("198.18.0.1", 5_370), ("198.18.0.3", 3_510), ("198.18.0.4", 600)])
    );
    assert_eq!(bench.ask(at(60), b"", &[&stream(&[], &[])]).await.unwrap(), None);
    // What is over goes without a word of the LAPI.
    assert_eq!(
        bench.list(at(640), &[&stream(&[], &[])]).await,
        expected(&[("198.18.0.1", 4_760), ("198.18.0.3", 2_900)])
    );
    let none = stream(&[], &[2, 3].map(|id| decision(id, "x", "-1s", "")));
    assert_eq!(bench.list(at(670), &[&none]).await, []);
    assert_eq!(bench.asked(), [ALL, SINCE, SINCE, SINCE, SINCE]);
}

#[tokio::test]
async fn only_bans_of_addresses_in_earnest_count() {
    let mut bench = Bench::new("    crowdsec: {origins: [cscli, CAPI]}\n    min_prefix_v4: 24\n");
    let rows = [
        decision(1, "198.18.0.1", "1h", r#","simulated":true"#),
        decision(2, "198.18.0.2", "1h", "").replace("ban", "captcha"),
        decision(3, "ZZ", "1h", "").replace("Ip", "Country"),
        decision(4, "198.18.4.0/24", "1h", "").replace("Ip", "Range"),
        decision(5, "2001:2::5", "1h", r#","simulated":false"#).replace("Ip", "ip"),
        decision(6, "198.18.0.6", "1h", "").replace("cscli", "lists"),
        decision(7, "198.18.0.7", "1h", "").replace("cscli", "capi"),
        decision(8, "198.18.0.8", "-3s", ""),
        decision(9, "198.18.0.9", "soon", ""),
    ];
    let found = bench.list(at(0), &[&stream(&rows, &[])]).await;
    let networks: Vec<_> = found.iter().map(|(network, _)| network.as_str()).collect();
    assert_eq!(networks, ["198.18.4.0/24", "2001:2::5/128", "198.18.0.7/32"]);
    assert_eq!(bench.asked(), [format!("{ALL}&origins=cscli%2CCAPI")]);
}

#[tokio::test]
async fn all_are_read_again_now_and_then_after_trouble_and_after_a_refusal() {
    let mut bench = Bench::new("    crowdsec: {resync: 1h}\n");
    let all = stream(&[decision(1, "198.18.0.1", "9h", "")], &[]);
    let later = stream(&[decision(1, "198.18.0.1", "8h0m3.2s", "")], &[]);
    let first = bench.ask(at(0), b"", &[&all]).await.unwrap();
    let again = bench.ask(at(3_600), b"", &[&later]).await.unwrap();
    assert_eq!(again, first, "a few seconds more or less are no change");
    let error = bench.ask(at(3_630), b"", &[]).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Denied);
    bench.ask(at(3_660), b"", &[&later]).await.unwrap();
    bench.decisions.distrust();
    bench.ask(at(3_690), b"", &[&later]).await.unwrap();
    bench.ask(at(3_720), b"", &[&stream(&[], &[])]).await.unwrap();
    assert_eq!(bench.asked(), [ALL, ALL, SINCE, ALL, ALL, SINCE]);
}

#[tokio::test]
async fn an_answer_that_lacks_most_is_believed_when_it_comes_twice() {
    let four: Vec<String> =
        (1..=4).map(|n| decision(n, &format!("198.18.0.{n}"), "9h", "")).collect();
    let (all, part, other) = (stream(&four, &[]), stream(&four[..1], &[]), stream(&four[3..], &[]));
    let mut bench = Bench::new("");
    let kept = bench.ask(at(0), b"", &[&all]).await.unwrap().unwrap();
    // A later daemon knows what this one kept.
    for (answers, expected) in [
        (vec![&*part, &*all], Ok(4)),
        (vec![&*part, &*part], Ok(1)),
        (vec![&*part, &*other], Err(FetchErrorKind::Interrupted)),
        (vec!["{\"new\":null,\"deleted\":null}"; 2], Ok(0)),
    ] {
        let mut next = Bench::new("");
        let outcome = next.ask(at(60), &kept, &answers).await;
        let count = outcome.map(|bytes| listed(&next.spec, &bytes.unwrap(), at(60)).len());
        assert_eq!(count.map_err(|error| error.kind), expected);
    }
    let mut next = Bench::new("");
    let most = stream(&four[1..], &[]);
    let list = next.ask(at(60), &kept, &[&most]).await.unwrap().unwrap();
    assert_eq!(listed(&next.spec, &list, at(60)).len(), 3, "a few may go");
}

#[tokio::test]
async fn decisions_that_make_too_long_a_list_are_refused() {
    let mut bench = Bench::new("    max_bytes: 500\n");
    let rows = |n| -> Vec<String> {
        (1..=n).map(|id| decision(id, "198.18.0.1", "9h", "").replace(' ', "")).collect()
    };
    assert!(bench.ask(at(0), b"", &[&stream(&rows(3), &[])]).await.is_ok());
    let more = stream(&rows(6)[3..], &[]);
    let error = bench.ask(at(30), b"", &[&more]).await.unwrap_err();
    assert_eq!(error.detail, "the decisions have more than 500 bytes");
}

#[tokio::test]
async fn what_is_no_stream_is_refused() {
    for text in [r#"{"message":"database error"}"#, "<html>", "[]", "null", r#"{"new":[{"id":1"#] {
        let mut bench = Bench::new("");
        let error = bench.ask(at(0), b"", &[text]).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Protocol, "{text}: {error}");
    }
}
