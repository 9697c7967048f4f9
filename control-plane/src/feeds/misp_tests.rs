use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use sekisho_rules::{catalogue::Catalogue, parse::parse_feed};

use super::*;
use crate::{config::FetchConfig, feeds::http::Fetcher};

const ONE: &str = "11111111-1111-4111-8111-111111111111";
const TWO: &str = "22222222-2222-4222-8222-222222222222";
const NOW: &str = "2026-11-20T00:00:00Z";
/// A day before [`NOW`], and a year.
const FRESH: i64 = 1_795_046_400;
const STALE: i64 = 1_763_600_000;

/// A server on the loopback interface with these files, and what it was asked for.
struct Site {
    url: String,
    files: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url =
            format!("http://{}/feed/manifest.json?key=secret", listener.local_addr().unwrap());
        let files = Arc::new(Mutex::new(HashMap::<String, String>::new()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (served, log) = (Arc::clone(&files), Arc::clone(&asked));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let answer = match served.lock().unwrap().get(&path) {
                    Some(body) => format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    ),
                    None => {
                        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                            .to_owned()
                    }
                };
                log.lock().unwrap().push(path);
                let _ = connection.write_all(answer.as_bytes());
            }
        });
        Self { url, files, asked }
    }

    fn put(&self, name: &str, body: &str) {
        let path = format!("/feed/{name}?key=secret");
        self.files.lock().unwrap().insert(path, body.to_owned());
    }

    /// How often the file was asked for.
    fn asked_for(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| path.contains(name)).count()
    }

    async fn fetch(&self, spec: &FeedSpec, known: &[u8]) -> Result<Vec<u8>, MispError> {
        let session = Fetcher::new(&FetchConfig::default()).unwrap().session(spec).unwrap();
        let have = (&Validators::default(), known);
        let now = NOW.parse().unwrap();
        match fetch(&session, spec, &self.url, have, &Limits::default(), now).await? {
            Fetched::List { bytes, .. } => Ok(bytes),
            Fetched::NotModified => panic!("nothing was known"),
        }
    }
}

fn spec(extra: &str) -> FeedSpec {
    let text = format!(
        "feeds: [{{name: m, source: 'https://m.example/feed/manifest.json', format: misp{extra}}}]"
    );
    Catalogue::from_yaml(&text, "feeds.yaml").unwrap().feeds.remove(0)
}

fn manifest(events: &[(&str, i64)]) -> String {
    let row =
        |(uuid, time): &(&str, i64)| format!(r#""{uuid}":{{"info":"x","timestamp":"{time}"}}"#);
    format!("{{{}}}", events.iter().map(row).collect::<Vec<_>>().join(","))
}

fn event(uuid: &str, time: i64, address: &str) -> String {
    format!(
        r#"{{"Event":{{"uuid":"{uuid}","timestamp":"{time}","Attribute":[
            {{"type":"ip-dst","to_ids":true,"value":"{address}"}}]}}}}"#
    )
}

fn addresses(list: &[u8]) -> Vec<String> {
    let parsed = parse_feed(&spec(""), list, &Limits::default()).unwrap();
    parsed.indicators.iter().map(|found| found.network.addr().to_string()).collect()
}

#[tokio::test]
async fn only_events_that_changed_are_asked_for_again() {
    let site = Site::start();
    site.put("manifest.json", &manifest(&[(ONE, STALE), (TWO, FRESH)]));
    site.put(&format!("{ONE}.json"), &event(ONE, STALE, "198.18.0.1"));
    site.put(&format!("{TWO}.json"), &event(TWO, FRESH, "198.18.0.2"));
    let first = site.fetch(&spec(""), b"").await.unwrap();
    assert_eq!(addresses(&first), ["198.18.0.2", "198.18.0.1"]);
    site.put("manifest.json", &manifest(&[(ONE, STALE), (TWO, FRESH + 60)]));
    site.put(&format!("{TWO}.json"), &event(TWO, FRESH + 60, "198.18.0.3"));
    let second = site.fetch(&spec(""), &first).await.unwrap();
    assert_eq!(addresses(&second), ["198.18.0.3", "198.18.0.1"]);
    assert_eq!((site.asked_for(ONE), site.asked_for(TWO)), (1, 2));
}

#[tokio::test]
async fn an_event_that_the_manifest_drops_is_withdrawn() {
    let site = Site::start();
    site.put("manifest.json", &manifest(&[(ONE, FRESH)]));
    let known =
        format!("{}\n{}\n", event(ONE, FRESH, "198.18.0.1"), event(TWO, FRESH, "198.18.0.2"));
    let list = site.fetch(&spec(""), known.as_bytes()).await.unwrap();
    assert_eq!(addresses(&list), ["198.18.0.1"]);
    site.put("manifest.json", "[]");
    let none = site.fetch(&spec(""), known.as_bytes()).await.unwrap();
    assert_eq!(addresses(&none), [""; 0]);
}

#[tokio::test]
async fn an_event_that_is_not_there_is_left_out_and_none_is_an_error() {
    let site = Site::start();
    site.put("manifest.json", &manifest(&[(ONE, FRESH), (TWO, FRESH)]));
    let error = site.fetch(&spec(""), b"").await.unwrap_err().to_string();
    assert_eq!(error, "none of the 2 events of the manifest is there");
    site.put(&format!("{ONE}.json"), &event(ONE, FRESH, "198.18.0.1"));
    assert_eq!(addresses(&site.fetch(&spec(""), b"").await.unwrap()), ["198.18.0.1"]);
    let known = event(TWO, STALE, "198.18.0.2");
    let list = site.fetch(&spec(""), known.as_bytes()).await.unwrap();
    assert_eq!(
        addresses(&list),
        ["198.18.0.1", "198.18.0.2"],
        "an old version is better than none"
    );
}

#[tokio::test]
async fn events_beyond_the_greatest_age_are_not_asked_for() {
    let site = Site::start();
    site.put("manifest.json", &manifest(&[(ONE, STALE), (TWO, FRESH)]));
    site.put(&format!("{TWO}.json"), &event(TWO, FRESH, "198.18.0.2"));
    let list = site.fetch(&spec(", max_age: 30d"), b"").await.unwrap();
    assert_eq!(addresses(&list), ["198.18.0.2"]);
    assert_eq!(site.asked_for(ONE), 0);
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let site = Site::start();
    assert!(matches!(site.fetch(&spec(""), b"").await, Err(MispError::Fetch(_))));
    site.put("manifest.json", r#"{"saved":false,"name":"Not Found"}"#);
    assert!(matches!(site.fetch(&spec(""), b"").await, Err(MispError::Parse(_))));
}

#[test]
fn a_folder_is_read_as_a_feed() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    put("manifest.json", &manifest(&[(ONE, FRESH), (TWO, FRESH)]));
    put(&format!("{ONE}.json"), &event(ONE, FRESH, "198.18.0.1"));
    let mut spec = spec("");
    spec.source = Source::File(dir.path().join("manifest.json"));
    assert!(is_feed(&spec));
    let path = dir.path().join("manifest.json");
    let list = crate::rulebook::read_list_file(&spec, &path).unwrap();
    assert_eq!(addresses(&list), ["198.18.0.1"]);
    put(&format!("{TWO}.json"), &event(TWO, FRESH, "198.18.0.2"));
    spec.max_bytes = Some(250);
    let error = crate::rulebook::read_list_file(&spec, &path).unwrap_err().to_string();
    assert!(error.contains("more than 250 bytes"), "{error}");
}
