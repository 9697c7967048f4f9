use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::{
    dataplane::fake::FakeDataplane,
    engine::{Engine, Inputs},
    store::Store,
    testing,
};

/// Every request that changes something.
const CHANGES: [(&str, &str); 8] = [
    ("POST", "breaker/7"),
    ("DELETE", "breaker/7"),
    ("POST", "entries"),
    ("DELETE", "entries/1"),
    ("POST", "feeds/one/accept"),
    ("POST", "feeds/one/reject"),
    ("POST", "history/1/rollback"),
    ("POST", "history/resume"),
];

/// The API of an engine that runs on a fake kernel.
struct Bench {
    base: String,
    stop: watch::Sender<bool>,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        Self::start_with("").await
    }

    /// One with a file of tokens, unless that is empty.
    async fn start_with(tokens: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inputs: Inputs = testing::inputs(dir.path(), &["198.18.0.7:443"]);
        let mut config = inputs.config.api.clone();
        if !tokens.is_empty() {
            let file = dir.path().join("tokens");
            std::fs::write(&file, tokens).unwrap();
            config.token_file = Some(file);
        }
        let store = Store::open(dir.path()).unwrap();
        let dataplane = Arc::new(FakeDataplane::new(64 << 20));
        let engine = Engine::new(inputs, None, dataplane, store);
        let service = engine.service();
        let api = Api::new(config, Arc::clone(&service)).bind().await.unwrap();
        let base = format!("http://{}", api.address());
        let (stop, shutdown) = watch::channel(false);
        tokio::spawn(api.run(shutdown.clone()));
        let (_, reload) = tokio::sync::mpsc::channel(1);
        tokio::spawn(engine.run(shutdown, reload));
        testing::until(|| service.ruleset().is_some_and(|ruleset| ruleset.header.prefixes_v4 == 1))
            .await;
        Self { base, stop, dir }
    }

    async fn send(&self, method: reqwest::Method, path: &str) -> (u16, String) {
        crate::feeds::http::install_tls();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.request(method, format!("{}{path}", self.base)).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.text().await.unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.send(reqwest::Method::GET, path).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

const TOKEN: &str = "0123456789abcdef";

impl Bench {
    /// One whose operator has a token.
    async fn with_token() -> Self {
        Self::start_with("alice 0123456789abcdef\nbob fedcba9876543210\n").await
    }

    /// Sends a change with a token; an empty one is left away.
    async fn change(
        &self,
        method: reqwest::Method,
        path: &str,
        token: &str,
        body: &Value,
    ) -> (u16, Value) {
        crate::feeds::http::install_tls();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client
            .request(method, format!("{}/api/v1/{path}", self.base))
            .header("content-type", "application/json")
            .body(body.to_string());
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")))
    }

    async fn verdict(&self, address: &str) -> String {
        let (_, body) = self.get(&format!("/api/v1/explain?address={address}")).await;
        body["verdict"].as_str().unwrap().to_owned()
    }
}

fn entry(decision: &str, network: &str) -> Value {
    serde_json::json!({"decision": decision, "network": network, "reason": "ticket 7", "lasts": "1h"})
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_of_tokens_nothing_can_be_changed() {
    let bench = Bench::start().await;
    for (method, path) in CHANGES {
        let method = method.parse().unwrap();
        let (status, body) = bench.change(method, path, TOKEN, &entry("block", "198.18.0.9")).await;
        assert_eq!((status, &body["error"]["code"]), (403, &"no_token_file".into()), "{path}");
        assert!(body["error"]["message"].as_str().unwrap().contains("api.token_file"), "{body}");
    }
    assert_eq!(bench.verdict("198.18.0.9").await, "pass");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_needs_a_token_of_the_file() {
    let bench = Bench::with_token().await;
    for token in ["", "0123456789abcdeX", "0123456789abcdef0", "alice", "null"] {
        for (method, path) in CHANGES {
            let method = method.parse().unwrap();
            let body = entry("block", "198.18.0.9");
            let (status, body) = bench.change(method, path, token, &body).await;
            assert_eq!((status, &body["error"]["code"]), (401, &"unauthorized".into()), "{path}");
        }
    }
    assert_eq!(bench.verdict("198.18.0.9").await, "pass");
    let (status, body) = bench.get("/api/v1/entries?ended=true").await;
    assert_eq!((status, body), (200, serde_json::json!({"entries": []})));
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_and_allows_are_live_when_they_are_answered() {
    let bench = Bench::with_token().await;
    let post = reqwest::Method::POST;
    let mut body = entry("block", "198.18.0.9");
    body["ports"] = serde_json::json!([443, 80]);
    body["protocol"] = "tcp".into();
    let (status, made) = bench.change(post.clone(), "entries", TOKEN, &body).await;
    assert_eq!((status, &made["live"]), (201, &true.into()), "{made}");
    let entry_made = &made["entry"];
    assert_eq!((&entry_made["owner"], &entry_made["made_by"]), (&"alice".into(), &"alice".into()));
    assert_eq!(entry_made["ports"], serde_json::json!([80, 443]));
    assert_eq!(bench.verdict("198.18.0.9:443/tcp").await, "drop");
    let (_, told) = bench.get("/api/v1/explain?address=198.18.0.9:443/tcp").await;
    assert_eq!(told["live"]["lists"], serde_json::json!(["operator"]));
    assert_eq!(
        (&told["because"][0]["kind"], &told["because"][0]["entry"]),
        (&"operator".into(), &1.into())
    );

    assert_eq!(bench.verdict("198.18.0.7:443/tcp").await, "drop");
    let second = "fedcba9876543210";
    let (status, _) =
        bench.change(post.clone(), "entries", second, &entry("allow", "198.18.0.7")).await;
    assert_eq!(status, 201);
    assert_eq!(bench.verdict("198.18.0.7:443/tcp").await, "pass");
    let (_, told) = bench.get("/api/v1/explain?address=198.18.0.7:443/tcp").await;
    assert_eq!(told["live"]["lists"], serde_json::json!([]), "the kernel knows it as well");

    let delete = reqwest::Method::DELETE;
    let (status, _) = bench.change(delete.clone(), "entries/2", TOKEN, &Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(bench.verdict("198.18.0.7:443/tcp").await, "drop");
    let (status, _) = bench.change(delete, "entries/2", TOKEN, &Value::Null).await;
    assert_eq!(status, 404, "it can't end twice");
    let (_, body) = bench.get("/api/v1/entries").await;
    assert_eq!(body["entries"].as_array().unwrap().len(), 1);
    let (_, body) = bench.get("/api/v1/entries?ended=true").await;
    assert_eq!(
        (&body["entries"][1]["made_by"], &body["entries"][1]["ended_by"]),
        (&"bob".into(), &"alice".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_blocked_is_refused_with_the_reason() {
    let bench = Bench::with_token().await;
    for (network, code, words) in [
        ("10.1.2.3", "refused", "10.0.0.0/8, private use (RFC 1918)"),
        ("100.64.0.7", "refused", "100.64.0.0/10"),
        ("198.18.0.0/16", "refused", "nothing wider than a /24"),
        ("198.18.0.1/24", "bad_request", "host bits"),
        ("example.net", "bad_request", "expected an address or a network"),
    ] {
        let (status, body) =
            bench.change(reqwest::Method::POST, "entries", TOKEN, &entry("block", network)).await;
        let expected = if code == "refused" { 422 } else { 400 };
        assert_eq!((status, &body["error"]["code"]), (expected, &code.into()), "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains(words), "{body}");
    }
    let mut endless = entry("allow", "198.18.0.7");
    endless.as_object_mut().unwrap().remove("lasts");
    let (status, body) = bench.change(reqwest::Method::POST, "entries", TOKEN, &endless).await;
    assert_eq!(status, 400);
    assert!(body["error"]["message"].as_str().unwrap().contains("needs an end"), "{body}");
    let unknown = serde_json::json!({"decision": "block", "colour": "red"});
    let (status, body) = bench.change(reqwest::Method::POST, "entries", TOKEN, &unknown).await;
    assert_eq!((status, &body["error"]["code"]), (400, &"bad_request".into()), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_list_is_told_and_live_once_it_is_accepted() {
    let bench = Bench::with_token().await;
    let hosts: String = (0..200).map(|n| format!("198.18.1.{n}\n")).collect();
    std::fs::write(bench.dir.path().join("one.txt"), hosts).unwrap();
    let mut feeds = Value::Null;
    let deadline = Instant::now() + Duration::from_secs(30);
    while feeds["feeds"][0]["held"].is_null() {
        assert!(Instant::now() < deadline, "{feeds}");
        (_, feeds) = bench.get("/api/v1/feeds").await;
    }
    let held = &feeds["feeds"][0]["held"];
    assert_eq!((&held["reason"], &held["after"]), (&"growth".into(), &200.into()), "{held}");
    let (_, health) = bench.get("/healthz").await;
    assert_eq!(health["ok"], true, "the last good list is enforced");
    let told = health["degraded"][0].as_str().unwrap();
    assert!(told.contains("feed 'one': a list is held since"), "{told}");
    assert_eq!(bench.verdict("198.18.1.5").await, "pass");
    let (post, list) = (reqwest::Method::POST, serde_json::json!({"list": held["list"]}));
    let other = serde_json::json!({"list": "00000000"});
    let (status, body) = bench.change(post.clone(), "feeds/one/accept", TOKEN, &other).await;
    assert_eq!((status, &body["error"]["code"]), (409, &"conflict".into()));
    let (status, _) = bench.change(post.clone(), "feeds/two/accept", TOKEN, &list).await;
    assert_eq!(status, 404);
    let (status, done) = bench.change(post.clone(), "feeds/one/accept", TOKEN, &list).await;
    assert_eq!((status, &done["live"]), (200, &true.into()), "{done}");
    assert_eq!(bench.verdict("198.18.1.5").await, "observe", "what is new in it is still new");
    let (status, _) = bench.change(post, "feeds/one/reject", TOKEN, &list).await;
    assert_eq!(status, 409, "nothing is held any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_told_compared_and_gone_back_to() {
    let bench = Bench::with_token().await;
    let post = reqwest::Method::POST;
    let (_, made) =
        bench.change(post.clone(), "entries", TOKEN, &entry("block", "198.18.0.9")).await;
    let (status, told) = bench.get("/api/v1/history").await;
    let numbers: Vec<u64> = told["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["number"].as_u64().unwrap())
        .collect();
    assert_eq!((status, numbers[0]), (200, made["generation"].as_u64().unwrap()));
    assert_eq!(
        told["versions"][0]["causes"][0],
        serde_json::json!({"kind": "entry", "entry": 1, "by": "alice"})
    );
    let (_, one) = bench.get("/api/v1/history?limit=1").await;
    assert_eq!(one["versions"].as_array().unwrap().len(), 1);
    let path = format!("/api/v1/history/diff?from={}&to={}", numbers[1], numbers[0]);
    let (status, diff) = bench.get(&path).await;
    assert_eq!((status, &diff["added"], &diff["removed"]), (200, &1.into(), &0.into()), "{diff}");
    assert_eq!(
        diff["changes"][0]["after"],
        serde_json::json!({"feeds": ["operator"], "action": "drop"})
    );
    let (status, body) = bench.get("/api/v1/history/diff?from=1&to=999").await;
    assert_eq!((status, &body["error"]["code"]), (404, &"not_found".into()));
    let (status, _) = bench.get("/api/v1/history/diff?from=1").await;
    assert_eq!(status, 400);

    let back = format!("history/{}/rollback", numbers[1]);
    let (status, done) = bench.change(post.clone(), &back, TOKEN, &Value::Null).await;
    assert_eq!((status, &done["live"]), (200, &true.into()), "{done}");
    assert_eq!(bench.verdict("198.18.0.9").await, "pass");
    let (_, status_now) = bench.get("/api/v1/status").await;
    assert_eq!(
        (&status_now["pinned"]["version"], &status_now["pinned"]["by"]),
        (&numbers[1].into(), &"alice".into())
    );
    let (status, _) = bench.change(post.clone(), "history/999/rollback", TOKEN, &Value::Null).await;
    assert_eq!(status, 404);
    let (status, _) = bench.change(post.clone(), "history/resume", TOKEN, &Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(bench.verdict("198.18.0.9").await, "drop");
    let (status, _) = bench.change(post, "history/resume", TOKEN, &Value::Null).await;
    assert_eq!(status, 409, "nothing is pinned");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers() {
    let bench = Bench::start().await;
    let (status, body) = bench.get("/api/v1/status").await;
    assert_eq!((status, &body["ruleset"]["entries_v4"]), (200, &1.into()));
    assert_eq!(body["mode"]["global"], "enforce");
    assert_eq!(body["health"]["ok"], true, "{body}");
    let (status, body) = bench.get("/api/v1/feeds").await;
    assert_eq!((status, &body["feeds"][0]["name"]), (200, &"one".into()));
    let (status, body) = bench.get("/api/v1/ruleset").await;
    assert_eq!((status, &body["feeds"][0]["accepted"]), (200, &1.into()));
    let (status, body) = bench.get("/api/v1/hits?limit=5").await;
    assert_eq!((status, body), (200, serde_json::json!({"hits": [], "next": null})));
    let (status, body) = bench.get("/api/v1/overview?days=7").await;
    assert_eq!((status, &body["total"]["flows"]), (200, &0.into()));
    assert_eq!(body["days"].as_array().map(Vec::len), Some(7));
    let (_, body) = bench.get("/api/v1/overview").await;
    assert_eq!(body["days"].as_array().map(Vec::len), Some(30));
    let (status, body) = bench.get("/api/v1/explain?address=198.18.0.7:443/tcp").await;
    assert_eq!((status, &body["verdict"]), (200, &"drop".into()));
    let live = &body["live"];
    assert_eq!(live["lists"], serde_json::json!(["one"]));
    assert!(live["generation"].as_u64() > Some(0), "{live}");
    let [told] = &body["indicators"].as_array().unwrap()[..] else { panic!("{body}") };
    assert_eq!((&told["indicator"], &told["line"]), (&"198.18.0.7:443".into(), &2.into()));
    let stages = told["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 12, "{told}");
    assert!(stages.iter().all(|stage| stage["outcome"] == "passed"), "{told}");
    assert_eq!((&told["score"], &told["left"]), (&60.into(), &"drop".into()));
    assert!(told["since"].is_string(), "{told}");
    assert_eq!(body["met"]["flows"], 0);
    let (status, body) = bench.get("/api/v1/explain?address=198.18.0.7:443&public=true").await;
    assert_eq!((status, &body["verdict"]), (200, &"drop".into()));
    assert!(!body.to_string().contains("one") && body.get("met").is_none(), "{body}");
    let (status, body) = bench.get("/api/v1/preview?feed=one&days=30").await;
    assert_eq!((status, &body["entries"], &body["unrecorded"]), (200, &1.into(), &0.into()));
    let (status, body) = bench.get("/api/v1/preview").await;
    assert_eq!((status, &body["total"]["stopped"]["flows"]), (200, &0.into()));
    let (status, body) = bench.get("/api/v1/feeds/worth").await;
    assert_eq!((status, &body["feeds"][0]["overlap"]["unique"]), (200, &1.into()));
    let (_, body) = bench.get("/api/v1/explain?address=198.18.0.8").await;
    assert_eq!(body["live"]["lists"], serde_json::json!([]));
    let [interface] = &body["live"]["interfaces"].as_array().unwrap()[..] else { panic!("{body}") };
    assert_eq!(interface["reason"], "not_listed");
    let (status, body) = bench.get("/healthz").await;
    assert_eq!((status, &body["ok"]), (200, &true.into()));
    let (status, text) = bench.send(reqwest::Method::GET, "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("sekisho_ruleset_entries{family=\"ipv4\"} 1\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_of_the_breaker_take_json_and_name_what_is_not_there() {
    let bench = Bench::with_token().await;
    assert_eq!(bench.get("/api/v1/breaker").await, (200, serde_json::json!({"entries": []})));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = |kind: &'static str, body: &'static str| {
        let request = client.post(format!("{}/api/v1/breaker/7", bench.base));
        request.header("content-type", kind).bearer_auth(TOKEN).body(body).send()
    };
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    for (kind, body, status) in [
        (json, r#"{"decision":"release"}"#, 404),
        (json, r#"{"decision":"perhaps"}"#, 400),
        (json, "{}", 400),
        (form, "decision=release", 400),
        ("text/plain", r#"{"decision":"release"}"#, 400),
    ] {
        let response = post(kind, body).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{kind} {body}");
    }
    for (path, expected) in [("/api/v1/breaker/7", 404), ("/api/v1/breaker/x", 400)] {
        let request = client.delete(format!("{}{path}", bench.base)).bearer_auth(TOKEN);
        assert_eq!(request.send().await.unwrap().status().as_u16(), expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_has_a_stable_code_and_a_sentence() {
    let bench = Bench::start().await;
    let cases = [
        ("/api/v1/nothing", 404, "not_found"),
        ("/", 404, "not_found"),
        ("/api/v1/hits?limit=0", 400, "bad_query"),
        ("/api/v1/hits?limit=10001", 400, "bad_query"),
        ("/api/v1/hits?limit=many", 400, "bad_query"),
        ("/api/v1/hits?since=yesterday", 400, "bad_query"),
        ("/api/v1/hits?remote=example.net", 400, "bad_query"),
        ("/api/v1/hits?cursor=x", 400, "bad_query"),
        ("/api/v1/hits?colour=red", 400, "bad_query"),
        ("/api/v1/overview?days=0", 400, "bad_query"),
        ("/api/v1/overview?days=181", 400, "bad_query"),
        ("/api/v1/preview?days=0", 400, "bad_query"),
        ("/api/v1/preview?feed=nobody", 404, "not_found"),
        ("/api/v1/feeds/worth?days=181", 400, "bad_query"),
        ("/api/v1/explain?address=198.18.0.1&public=perhaps", 400, "bad_query"),
        ("/api/v1/explain", 400, "bad_query"),
        ("/api/v1/explain?address=nowhere", 400, "bad_query"),
    ];
    for (path, status, code) in cases {
        let (found, body) = bench.get(path).await;
        assert_eq!((found, &body["error"]["code"]), (status, &code.into()), "{path}: {body}");
        assert!(body["error"]["message"].as_str().is_some_and(|text| text.len() > 5), "{body}");
    }
    let (status, text) = bench.send(reqwest::Method::POST, "/api/v1/status").await;
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &body["error"]["code"]), (405, &"method_not_allowed".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_in_our_shape() {
    let bench = Bench::start().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("{}/api/v1/status", bench.base)).body(vec![0; 10_000]);
    let response = request.send().await.unwrap();
    assert_eq!(response.status().as_u16(), 413);
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "too_large");
}

#[tokio::test]
async fn a_panic_is_an_error_without_a_word_of_it() {
    let response = error::panicked(Box::new("secret"));
    assert_eq!(response.status().as_u16(), 500);
    let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["code"], "internal");
    assert!(!body.to_string().contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_when_told() {
    let bench = Bench::start().await;
    bench.stop.send_replace(true);
    let began = Instant::now();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    while client.get(format!("{}/healthz", bench.base)).send().await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(10), "it still answers");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_ours_is_refused() {
    let bench = Bench::start().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = |host: &'static str| {
        let request = client.get(format!("{}/api/v1/hits", bench.base)).header("Host", host);
        async move { request.send().await.unwrap() }
    };
    for host in ["evil.example", "evil.example:9320", "localhost.evil.example", "198.18.0.1", "a@b"]
    {
        let response = ask(host).await;
        assert_eq!(response.status().as_u16(), 421, "{host}");
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(body["error"]["code"], "wrong_host");
    }
    for host in ["localhost", "LOCALHOST:9320", "127.0.0.1:1", "[::1]:9320"] {
        assert_eq!(ask(host).await.status().as_u16(), 200, "{host}");
    }
}

#[test]
fn an_address_that_others_reach_may_be_named_by_its_number() {
    let listen = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert!(is_ours("198.18.0.1:9320", listen("198.18.0.1:9320")));
    assert!(!is_ours("198.18.0.2:9320", listen("198.18.0.1:9320")));
    assert!(is_ours("[2001:db8::1]", listen("[::]:9320")));
    assert!(is_ours("198.18.0.2", listen("0.0.0.0:9320")));
    assert!(!is_ours("rebound.example", listen("0.0.0.0:9320")));
    assert!(!is_ours("", listen("0.0.0.0:9320")));
}
