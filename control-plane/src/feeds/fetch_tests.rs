use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::mpsc,
    thread,
};

use super::*;

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

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn config() -> FetchConfig {
    FetchConfig { contact: Some("noc@example.net\r\nX: y".to_owned()), ..FetchConfig::default() }
}

async fn get(server: &Server, have: &Validators, most: usize) -> Result<Fetched, FetchError> {
    let fetcher = Fetcher::new(&config()).unwrap();
    fetcher.fetch(&server.url("/list"), have, most, Timestamp::UNIX_EPOCH).await
}

const NOTHING: Validators = Validators { etag: None, last_modified: None };

#[tokio::test]
async fn a_list_comes_with_what_to_recognise_it_by() {
    let server = Server::start(vec![answer(
        "HTTP/1.1 200 OK\nETag: \"x\"\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\n\
         Content-Length: 5\n\nhello",
    )]);
    let validators = Validators {
        etag: Some("\"x\"".to_owned()),
        last_modified: Some("Thu, 01 Jan 2026 00:00:00 GMT".to_owned()),
    };
    let fetched = get(&server, &NOTHING, 5).await.unwrap();
    assert_eq!(fetched, Fetched::List { bytes: b"hello".to_vec(), validators });
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
    let fetcher = Fetcher::new(&config).unwrap();
    let outcome = fetcher.fetch(&server.url("/"), &NOTHING, 5, Timestamp::UNIX_EPOCH).await;
    assert_eq!(outcome.unwrap_err().kind, FetchErrorKind::Timeout);
}

#[tokio::test]
async fn nobody_there_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let fetcher = Fetcher::new(&config()).unwrap();
    let url = format!("http://user:secret@{address}/KEY?token=secret");
    let error = fetcher.fetch(&url, &NOTHING, 5, Timestamp::UNIX_EPOCH).await.unwrap_err();
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

#[test]
fn secrets_of_an_address_stay_out_of_the_log() {
    let cases = [
        (
            "https://user:secret@example.net/list?auth-key=secret#secret",
            "https://example.net/list?...",
        ),
        (
            "https://threatfox-api.abuse.ch/v2/files/exports/\
             0123456789abcdef0123456789abcdef0123456789abcdef/recent.csv",
            "https://threatfox-api.abuse.ch/v2/files/exports/.../recent.csv",
        ),
        (
            "https://www.spamhaus.org/drop/drop_v4.json",
            "https://www.spamhaus.org/drop/drop_v4.json",
        ),
        ("not a URL with secret", "(no URL)"),
    ];
    for (url, expected) in cases {
        assert_eq!(redacted(url), expected);
    }
}
