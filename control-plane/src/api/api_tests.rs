use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::{
    dataplane::fake::FakeDataplane,
    engine::{Engine, Inputs},
    store::Store,
    testing,
};

/// The API of an engine that runs on a fake kernel.
struct Bench {
    base: String,
    stop: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inputs: Inputs = testing::inputs(dir.path(), &["198.18.0.7:443"]);
        let config = inputs.config.api.clone();
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
        Self { base, stop, _dir: dir }
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
    let (status, body) = bench.get("/api/v1/explain?address=198.18.0.7:443/tcp").await;
    assert_eq!((status, &body["verdict"]), (200, &"drop".into()));
    let live = &body["live"];
    assert_eq!(live["lists"], serde_json::json!(["one"]));
    assert!(live["generation"].as_u64() > Some(0), "{live}");
    let [told] = &body["indicators"].as_array().unwrap()[..] else { panic!("{body}") };
    assert_eq!((&told["indicator"], &told["line"]), (&"198.18.0.7:443".into(), &2.into()));
    let stages = told["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 11, "{told}");
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
    let bench = Bench::start().await;
    assert_eq!(bench.get("/api/v1/breaker").await, (200, serde_json::json!({"entries": []})));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = |kind: &'static str, body: &'static str| {
        let request = client.post(format!("{}/api/v1/breaker/7", bench.base));
        request.header("content-type", kind).body(body).send()
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
    let (status, _) = bench.send(reqwest::Method::DELETE, "/api/v1/breaker/7").await;
    assert_eq!(status, 404);
    let (status, _) = bench.send(reqwest::Method::DELETE, "/api/v1/breaker/x").await;
    assert_eq!(status, 400);
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
