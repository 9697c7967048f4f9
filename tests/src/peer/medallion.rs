//! medallion, the TAXII 2.1 server of OASIS.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::Command,
};

use serde_json::{Value, json};

use super::{Server, free_port, installed};

/// Its collection.
const COLLECTION: &str = "91a7b528-80eb-42ed-a74d-c6fbd5a26116";
const MEDIA_TYPE: &str = "application/taxii+json;version=2.1";

/// A medallion with one collection, which `sekisho` may read and write with the password in
/// [`Medallion::password`].
#[derive(Debug)]
pub struct Medallion {
    server: Server,
    port: u16,
    folder: tempfile::TempDir,
}

impl Medallion {
    /// Starts it with these objects; its pages have at most so many.
    pub fn start(objects: &[Value], page: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        let write = |name: &str, text: String| fs::write(file(name), text).expect("written");
        write("password", "hunter2\n".to_owned());
        write("data.json", data(objects).to_string());
        let config = json!({
            "backend": {
                "module": "medallion.backends.memory_backend",
                "module_class": "MemoryBackend",
                "filename": file("data.json"),
            },
            "users": {"sekisho": "hunter2"},
            "taxii": {"max_page_size": page},
        });
        write("config.json", config.to_string());
        let port = free_port();
        let mut command = Command::new(installed("medallion/bin/medallion"));
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]).arg(file("config.json"));
        let server = Server::start(&mut command, port, file("log"));
        Self { server, port, folder }
    }

    /// Its row of a catalogue. The API root that it names itself is nobody's.
    pub fn row(&self, further: &str) -> String {
        let (port, password) = (self.port, self.password());
        format!(
            "  - name: taxii\n    source: taxii+http://127.0.0.1:{port}/taxii2/\n    format: stix\n    \
             refresh: 5m\n    auth: {{basic: {{user: sekisho, password: {{file: '{}'}}}}}}\n    \
             taxii: {{api_root: 'http://127.0.0.1:{port}/lists/'{further}}}\n",
            password.display()
        )
    }

    /// The file that holds the password.
    pub fn password(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// The targets of the requests for objects so far.
    pub fn asked(&self) -> Vec<String> {
        let log = self.server.log();
        let targets = log.lines().filter_map(|line| line.split("\"GET ").nth(1)?.split(' ').next());
        targets.filter(|target| target.contains("/objects/")).map(str::to_owned).collect()
    }

    /// Adds objects as a client does.
    pub fn add(&self, objects: &[Value]) {
        let body = json!({"objects": objects}).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        // "sekisho:hunter2" in base64.
        write!(
            stream,
            "POST /lists/collections/{COLLECTION}/objects/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\
             Authorization: Basic c2VraXNobzpodW50ZXIy\r\nAccept: {MEDIA_TYPE}\r\n\
             Content-Type: {MEDIA_TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }
}

fn data(objects: &[Value]) -> Value {
    let manifests: Vec<Value> = (0..)
        .zip(objects)
        .map(|(nth, object)| {
            json!({
                "id": object["id"],
                "date_added": format!("2026-01-01T00:{:02}:{:02}.000001Z", nth / 60, nth % 60),
                "version": object["modified"],
                "media_type": "application/stix+json;version=2.1",
            })
        })
        .collect();
    let root = "http://taxii.example:5000/lists/";
    json!({
        "/discovery": {"title": "a server", "default": root, "api_roots": [root]},
        "lists": {
            "information": {"title": "lists", "versions": [MEDIA_TYPE], "max_content_length": 9_765_625},
            "status": [],
            "collections": [{
                "id": COLLECTION,
                "title": "Indicators",
                "can_read": true,
                "can_write": true,
                "media_types": ["application/stix+json;version=2.1"],
                "objects": objects,
                "manifest": manifests,
            }],
        },
    })
}
