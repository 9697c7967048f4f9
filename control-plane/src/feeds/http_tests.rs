use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use sekisho_rules::catalogue::Catalogue;

use super::*;
use crate::feeds::web::{self, Web};

/// A server on the loopback interface that gives one connection after the other these answers, and
/// tells what it was asked.
struct Server {
    address: SocketAddr,
    asked: mpsc::Receiver<String>,
}

enum Answer {
    Bytes(Vec<u8>),
    /// Nothing, for as long as the client waits.
    Silence,
    /// A head, and then a body without end.
    Endless(&'static str),
}

fn answer(text: &str) -> Answer {
    Answer::Bytes(text.replace('\n', "\r\n").into_bytes())
}

impl Server {
    fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = mpsc::channel();
        thread::spawn(move || {
            for answer in answers {
                let (mut connection, _) = listener.accept().unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let _ = tell.send(String::from_utf8_lossy(&head).to_lowercase());
                match answer {
                    Answer::Bytes(bytes) => drop(connection.write_all(&bytes)),
                    Answer::Silence => drop(connection.read(&mut byte)),
                    Answer::Endless(head) => {
                        let _ = connection.write_all(head.as_bytes());
                        while connection.write_all(&[b'1'; 4096]).is_ok() {}
                    }
                }
            }
        });
        Self { address, asked }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }
}

/// A session of a feed with these further keys.
fn session(config: &FetchConfig, further: &str) -> Session {
    Fetcher::new(config).unwrap().session(&spec(further)).unwrap()
}

fn spec(further: &str) -> FeedSpec {
    let text = format!(
        "feeds:\n  - name: one\n    source: https://lists.example/\n    format: plain\n{further}"
    );
    Catalogue::from_yaml(&text, "feeds.yaml").unwrap().feeds.remove(0)
}

fn config() -> FetchConfig {
    FetchConfig { contact: Some("noc@example.net\r\nX: y".to_owned()), ..FetchConfig::default() }
}

async fn get(server: &Server, have: &Validators, most: usize) -> Result<Fetched, FetchError> {
    let session = session(&config(), "");
    session.fetch(&server.url("/list"), have, most, Timestamp::UNIX_EPOCH).await
}

const NOTHING: Validators = Validators { etag: None, last_modified: None, taxii: None };

#[tokio::test]
async fn a_list_comes_with_what_to_recognise_it_by() {
    let server = Server::start(vec![answer(
        "HTTP/1.1 200 OK\nETag: \"x\"\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\n\
         Content-Length: 5\n\nhello",
    )]);
    let validators = Validators {
        etag: Some("\"x\"".to_owned()),
        last_modified: Some("Thu, 01 Jan 2026 00:00:00 GMT".to_owned()),
        taxii: None,
    };
    let fetched = get(&server, &NOTHING, 5).await.unwrap();
    let bytes = b"hello".to_vec();
    assert_eq!(fetched, Fetched::List { bytes, validators, withdrawn: false });
    let asked = server.asked.recv().unwrap();
    let agent = format!("user-agent: sekisho/{} (noc@example.netx: y)", env!("CARGO_PKG_VERSION"));
    assert!(asked.contains(&agent), "{asked}");
    assert!(!asked.contains("if-none-match"), "{asked}");
}

#[tokio::test]
async fn a_list_that_did_not_change_is_not_sent_again() {
    let server = Server::start(vec![answer("HTTP/1.1 304 Not Modified\n\n")]);
    let have = Validators {
        etag: Some("\"x\"".to_owned()),
        last_modified: Some("Thu, 01 Jan 2026 00:00:00 GMT".to_owned()),
        taxii: None,
    };
    assert_eq!(get(&server, &have, 5).await, Ok(Fetched::NotModified));
    let asked = server.asked.recv().unwrap();
    assert!(asked.contains("if-none-match: \"x\""), "{asked}");
    assert!(asked.contains("if-modified-since: thu, 01 jan 2026 00:00:00 gmt"), "{asked}");
}

async fn error_of(text: &str) -> FetchError {
    get(&Server::start(vec![answer(text)]), &NOTHING, 100).await.unwrap_err()
}

#[tokio::test]
async fn statuses_have_their_kinds() {
    let cases = [
        ("403 Forbidden", FetchErrorKind::Denied),
        ("404 Not Found", FetchErrorKind::NotFound),
        ("503 Service Unavailable", FetchErrorKind::Throttled),
        ("500 Internal Server Error", FetchErrorKind::Status),
        ("204 No Content", FetchErrorKind::Status),
    ];
    for (status, kind) in cases {
        let error = error_of(&format!("HTTP/1.1 {status}\nContent-Length: 0\n\n")).await;
        assert_eq!(error.kind, kind);
        assert!(error.detail.contains(status), "{error}");
    }
}

#[tokio::test]
async fn the_server_says_when_to_ask_again() {
    let error = error_of("HTTP/1.1 429 Too Many Requests\nRetry-After: 120\n\n").await;
    assert_eq!(error.kind, FetchErrorKind::Throttled);
    assert_eq!(error.retry_after, Some(Duration::from_secs(120)));
    let date = "Thu, 01 Jan 1970 00:01:00 GMT";
    assert_eq!(retry_after(date, Timestamp::UNIX_EPOCH), Some(Duration::from_secs(60)));
    assert_eq!(retry_after(date, Timestamp::from_second(999).unwrap()), Some(Duration::ZERO));
    assert_eq!(retry_after("soon", Timestamp::UNIX_EPOCH), None);
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error() {
    let error = error_of("HTTP/1.1 200 OK\nContent-Length: 50\n\nhello").await;
    assert_eq!(error.kind, FetchErrorKind::Interrupted);
}

#[tokio::test]
async fn a_body_without_end_is_cut_at_the_limit() {
    let server = Server::start(vec![Answer::Endless("HTTP/1.1 200 OK\r\n\r\n")]);
    let error = get(&server, &NOTHING, 100_000).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TooLarge);
    assert_eq!(error.detail, "the list has more than 100000 bytes");
}

/// 100,000 zeros in the format of gzip.
fn bomb() -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    // Stored deflate blocks need no compressor.
    let zeros = [0_u8; 50_000];
    for last in [0_u8, 1] {
        bytes.push(last);
        bytes.extend(50_000_u16.to_le_bytes());
        bytes.extend((!50_000_u16).to_le_bytes());
        bytes.extend(zeros);
    }
    bytes.extend(crc32fast::hash(&[0; 100_000]).to_le_bytes());
    bytes.extend(100_000_u32.to_le_bytes());
    bytes
}

fn compressed(body: &[u8]) -> Answer {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Answer::Bytes([head.as_bytes(), body].concat())
}

#[tokio::test]
async fn a_compressed_body_is_measured_unpacked() {
    let server = Server::start(vec![compressed(&bomb()), compressed(&bomb())]);
    let Ok(Fetched::List { bytes, .. }) = get(&server, &NOTHING, 100_000).await else {
        panic!("expected a list");
    };
    assert_eq!(bytes, [0; 100_000]);
    let error = get(&server, &NOTHING, 99_999).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TooLarge);
}

#[tokio::test]
async fn damaged_compression_is_an_error() {
    let mut body = bomb();
    let end = body.len() - 6;
    body[end] ^= 1;
    let error = get(&Server::start(vec![compressed(&body)]), &NOTHING, 1 << 20).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Interrupted);
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let server = Server::start(vec![Answer::Silence]);
    let config = FetchConfig { timeout: "1s".parse().unwrap(), ..config() };
    let session = session(&config, "");
    let outcome = session.fetch(&server.url("/"), &NOTHING, 5, Timestamp::UNIX_EPOCH).await;
    assert_eq!(outcome.unwrap_err().kind, FetchErrorKind::Timeout);
}

#[tokio::test]
async fn nobody_there_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = Url::parse(&format!("http://user:secret@{address}/KEY?token=secret")).unwrap();
    let error =
        session(&config(), "").fetch(&url, &NOTHING, 5, Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Connect);
    assert!(!error.detail.contains("secret") && !error.detail.contains("KEY"), "{error}");
}

#[tokio::test]
async fn redirects_are_followed_five_times() {
    let to = |path: &str| {
        answer(&format!(
            "HTTP/1.1 302 Found\nLocation: {path}\nContent-Length: 0\nConnection: close\n\n"
        ))
    };
    let five = ["/1", "/2", "/3", "/4", "/5"].map(to);
    let mut answers: Vec<_> = five.into();
    answers.push(answer("HTTP/1.1 200 OK\nContent-Length: 1\n\nx"));
    let server = Server::start(answers);
    assert!(matches!(get(&server, &NOTHING, 5).await, Ok(Fetched::List { .. })));
    let server = Server::start(["/1", "/2", "/3", "/4", "/5", "/6"].map(to).into());
    assert_eq!(get(&server, &NOTHING, 5).await.unwrap_err().kind, FetchErrorKind::Redirect);
}

#[tokio::test]
async fn a_chunked_body_without_its_end_is_an_error() {
    let error = error_of("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n").await;
    assert_eq!(error.kind, FetchErrorKind::Interrupted);
}

/// A key file, and the row of a catalogue that shows it in this way.
fn keyed(auth: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"hunter2\n").unwrap();
    let place = format!("{{file: '{}'}}", file.path().display());
    (file, format!("    auth: {}\n", auth.replace("KEY", &place)))
}

const IN_HEADER: &str = "{header: {name: Auth-Key, value: KEY}}";

#[tokio::test]
async fn each_way_to_show_a_key_reaches_the_server() {
    let web = Web::start(|_| web::page("200 OK", "", b"hello"));
    for (auth, expected) in [
        (IN_HEADER, "\r\nauth-key: hunter2\r\n"),
        ("{bearer: KEY}", "\r\nauthorization: bearer hunter2\r\n"),
        // "noc:hunter2" in base64, in lower case as the whole head.
        ("{basic: {user: noc, password: KEY}}", "\r\nauthorization: basic bm9jomh1bnrlcji=\r\n"),
    ] {
        let (_file, further) = keyed(auth);
        let session = session(&config(), &further);
        let url = session.url(&web.url("/list")).unwrap();
        session.fetch(&url, &NOTHING, 9, Timestamp::UNIX_EPOCH).await.unwrap();
        let asked = web.asked().pop().unwrap();
        assert!(asked.head.contains(expected), "{auth}: {}", asked.head);
    }
    let (_file, further) = keyed("{url_key: KEY}");
    let text = format!(
        "feeds:\n  - name: one\n    source: https://lists.example/{{key}}/x\n    format: plain\n{further}"
    );
    let spec = Catalogue::from_yaml(&text, "feeds.yaml").unwrap().feeds.remove(0);
    let session = Fetcher::new(&config()).unwrap().session(&spec).unwrap();
    let url = session.url(&web.url("/exports/{key}/recent.csv")).unwrap();
    session.fetch(&url, &NOTHING, 9, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(web.asked().pop().unwrap().target, "/exports/hunter2/recent.csv");
}

#[tokio::test]
async fn a_key_follows_a_redirect_on_its_server_and_to_no_other() {
    let other = Web::start(|_| web::page("200 OK", "", b"hello"));
    let (here, there) = (Arc::new(Mutex::new(String::new())), other.url("/elsewhere"));
    let target = Arc::clone(&here);
    let web = Web::start(move |request| match &*request.target {
        "/list" => web::redirect(&target.lock().unwrap()),
        _ => web::page("200 OK", "", b"hello"),
    });
    let (_file, further) = keyed(IN_HEADER);
    let session = session(&config(), &further);
    let url = session.url(&web.url("/list")).unwrap();
    let fetch = || session.fetch(&url, &NOTHING, 9, Timestamp::UNIX_EPOCH);
    *here.lock().unwrap() = "moved".to_owned();
    fetch().await.unwrap();
    assert!(web.asked().pop().unwrap().head.contains("auth-key: hunter2"));
    *here.lock().unwrap() = there.clone();
    fetch().await.unwrap();
    let asked = other.asked().pop().unwrap();
    assert!(!asked.head.contains("hunter2"), "{}", asked.head);
    *here.lock().unwrap() = format!("{there}?key=hunter2");
    let error = fetch().await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Redirect);
    assert!(error.detail.ends_with("it would take the key to another host"), "{error}");
    assert_eq!(other.asked().len(), 1, "nobody else was asked");
}

#[tokio::test]
async fn a_server_is_believed_if_the_ca_file_vouches_for_it_and_never_left_for_http() {
    let plain = Web::start(|_| web::page("200 OK", "", b"in the clear"));
    let to = plain.url("/list");
    let tls = Web::start_tls(move |request| match &*request.target {
        "/list" => web::page("200 OK", "", b"hello"),
        _ => web::redirect(&to),
    });
    let mut ca = tempfile::NamedTempFile::new().unwrap();
    ca.write_all(web::CA).unwrap();
    let further = format!("    ca_file: '{}'\n", ca.path().display());
    let believing = session(&config(), &further);
    let url = Url::parse(&tls.url("/list")).unwrap();
    let fetched = believing.fetch(&url, &NOTHING, 9, Timestamp::UNIX_EPOCH).await;
    assert!(matches!(fetched, Ok(Fetched::List { .. })), "{fetched:?}");
    let doubting = session(&config(), "").fetch(&url, &NOTHING, 9, Timestamp::UNIX_EPOCH).await;
    let doubt = doubting.unwrap_err();
    assert_eq!(doubt.kind, FetchErrorKind::Tls, "{doubt}");
    let url = Url::parse(&tls.url("/down")).unwrap();
    let error = believing.fetch(&url, &NOTHING, 99, Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert_eq!(error.detail, "a redirect is not followed: it leads from https to http");
    assert!(plain.asked().is_empty());
}

#[tokio::test]
async fn requests_go_through_the_proxy_that_is_named() {
    let proxy = Web::start(|_| web::page("200 OK", "", b"hello"));
    let (_file, auth) = keyed("{user: noc, password: KEY}");
    let login = auth.replace("auth:", "proxy_login:");
    let further = format!("    proxy: '{}'\n{login}", proxy.url(""));
    let session = session(&config(), &further);
    let url = Url::parse("http://lists.example/list").unwrap();
    session.fetch(&url, &NOTHING, 9, Timestamp::UNIX_EPOCH).await.unwrap();
    let asked = proxy.asked().pop().unwrap();
    assert_eq!(asked.target, "http://lists.example/list");
    assert!(asked.head.contains("proxy-authorization: basic bm9jomh1bnrlcji="), "{}", asked.head);
    // What a feed names goes before what all have in common.
    let config = FetchConfig { proxy: Some("http://192.0.2.1:1".parse().unwrap()), ..config() };
    let direct = Fetcher::new(&config).unwrap().session(&spec("    proxy: direct\n")).unwrap();
    let url = Url::parse(&proxy.url("/list")).unwrap();
    direct.fetch(&url, &NOTHING, 9, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(proxy.asked().pop().unwrap().target, "/list");
}

#[test]
fn what_the_configuration_names_and_is_not_there_is_told_with_its_place() {
    let kind = |further: &str| {
        let error = Fetcher::new(&config()).unwrap().session(&spec(further)).unwrap_err();
        (error.kind, error.detail)
    };
    let (setup, told) = kind("    ca_file: /nowhere/ca.pem\n");
    assert_eq!(setup, FetchErrorKind::Setup);
    assert!(
        told.starts_with("the certificates of ca_file /nowhere/ca.pem can't be read"),
        "{told}"
    );
    let (secret, told) = kind("    auth: {bearer: {file: /nowhere/key}}\n");
    assert_eq!(secret, FetchErrorKind::Secret);
    assert!(told.starts_with("the key can't be read from /nowhere/key"), "{told}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let (_, told) = kind(&format!("    ca_file: '{}'\n", empty.path().display()));
    assert!(told.ends_with("are none: expected PEM"), "{told}");
    let config = FetchConfig { ca_file: Some("/nowhere/ca.pem".into()), ..config() };
    assert_eq!(Fetcher::new(&config).unwrap_err().kind, FetchErrorKind::Setup);
}

/// A trickle keeps each read short and the whole without end.
#[tokio::test]
async fn a_server_that_sends_a_byte_now_and_then_is_left() {
    let web = Web::start(|_| web::Answer::Trickle("HTTP/1.1 200 OK\r\n\r\n"));
    let config = FetchConfig { timeout: "1s".parse().unwrap(), ..config() };
    let url = Url::parse(&web.url("/")).unwrap();
    let outcome = session(&config, "").fetch(&url, &NOTHING, 999, Timestamp::UNIX_EPOCH).await;
    assert_eq!(outcome.unwrap_err().kind, FetchErrorKind::Timeout);
}

#[test]
fn a_key_that_others_can_read_on_the_way_is_told() {
    for (source, told) in [
        ("http://lists.example/", true),
        ("https://lists.example/", false),
        ("http://127.0.0.1:8080/", false),
        ("http://[::1]/", false),
        ("http://localhost/", false),
    ] {
        assert_eq!(is_overheard(source), told, "{source}");
    }
}
