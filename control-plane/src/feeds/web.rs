//! A web server on the loopback interface for tests: what it answers is a function of the request.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::http::install_tls;

const CERTIFICATE: &[u8] = include_bytes!("testdata/server.pem");
const KEY: &[u8] = include_bytes!("testdata/server.key.pem");
/// Who vouches for the server.
pub(crate) const CA: &[u8] = include_bytes!("testdata/ca.pem");

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Path and query, as sent.
    pub(crate) target: String,
    /// All of the head, in lower case.
    pub(crate) head: String,
}

/// What it gets.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These bytes, and then the end of the connection.
    Bytes(Vec<u8>),
    /// Nothing, until the client leaves.
    Silence,
    /// A head, and then a byte now and then.
    Trickle(&'static str),
    /// A head, and then a body without end.
    Endless(&'static str),
}

/// A server; it lives as long as the test's process.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Web {
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve("http", answer, |connection| Some(Box::new(connection)))
    }

    pub(crate) fn start_tls(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        install_tls();
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = Arc::new(config);
        Self::serve("https", answer, move |connection| {
            let tls = ServerConnection::new(Arc::clone(&config)).ok()?;
            Some(Box::new(StreamOwned::new(tls, connection)))
        })
    }

    fn serve(
        scheme: &'static str,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let Some(mut connection) = wrap(connection.unwrap()) else { continue };
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || {
                    let Some(request) = read(&mut *connection) else { return };
                    log.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
                    let _ = send(&mut *connection, answer(&request));
                });
            }
        });
        Self { address, scheme, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

fn read(connection: &mut dyn Stream) -> Option<Request> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if connection.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1)?.to_owned();
    Some(Request { target, head: head.to_lowercase() })
}

fn send(connection: &mut dyn Stream, answer: Answer) -> std::io::Result<()> {
    match answer {
        Answer::Bytes(bytes) => connection.write_all(&bytes)?,
        Answer::Silence => drop(connection.read(&mut [0])),
        Answer::Trickle(head) => {
            connection.write_all(head.as_bytes())?;
            loop {
                connection.write_all(b"1")?;
                connection.flush()?;
                thread::sleep(std::time::Duration::from_millis(50));
            }
        }
        Answer::Endless(head) => {
            connection.write_all(head.as_bytes())?;
            loop {
                connection.write_all(&[b'1'; 4096])?;
            }
        }
    }
    connection.flush()
}

/// A whole answer: `status` is `200 OK`, `further` are more header lines, each with its end.
pub(crate) fn page(status: &str, further: &str, body: &[u8]) -> Answer {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{further}\r\n",
        body.len()
    );
    Answer::Bytes([head.as_bytes(), body].concat())
}

/// An answer that points elsewhere.
pub(crate) fn redirect(to: &str) -> Answer {
    page("302 Found", &format!("Location: {to}\r\n"), b"")
}
