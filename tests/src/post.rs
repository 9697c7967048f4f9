//! A daemon on a span, as a process that can be killed.
#![allow(clippy::expect_used, reason = "a daemon that cannot be started fails its test")]

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    scene::write_lists,
    span::{ACCESS, LISTED, LISTED_V6, Span, UPLINK, ip},
};

/// Where a daemon answers.
pub const API: &str = "127.0.0.1:9320";
const LONGEST: Duration = Duration::from_secs(30);

/// What a daemon needs: its configuration, a list of two addresses, and its state.
#[derive(Debug)]
pub struct Post {
    program: &'static Path,
    pin_dir: PathBuf,
    folder: tempfile::TempDir,
}

impl Post {
    /// Furnishes one for a span, whose wire it guards.
    pub fn furnish(program: &'static Path, span: &Span) -> Self {
        ip("link set lo up");
        let folder = tempfile::tempdir().expect("a folder");
        let list = format!("{LISTED}\n{LISTED_V6}\n");
        write_lists(folder.path(), &[("listed", "plain", list.as_bytes())]).expect("written");
        fs::write(folder.path().join("tokens"), "tests 0123456789abcdef\n").expect("written");
        let post = Self { program, pin_dir: span.settings.pin_dir.clone(), folder };
        post.configure("");
        post
    }

    /// A file of the daemon's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration with further keys, for the next daemon that starts.
    pub fn configure(&self, further: &str) {
        let text = format!(
            "interfaces:\n  - {{name: {ACCESS}, role: subscriber, forwarding: wire, peer: {UPLINK}}}\n  \
             - {{name: {UPLINK}, role: uplink, forwarding: wire, peer: {ACCESS}}}\n\
             feeds: feeds.yaml\nstate_dir: state\nnever_block: {{shipped: false}}\n\
             api: {{listen: '{API}', token_file: tokens}}\n{further}\n"
        );
        let has_dataplane = further.contains("dataplane:");
        let pins = format!("pin_dir: {}, attach: native", self.pin_dir.display());
        let text = match has_dataplane {
            true => text.replace("dataplane: {", &format!("dataplane: {{{pins}, ")),
            false => format!("{text}dataplane: {{{pins}}}\n"),
        };
        fs::write(self.file("sekisho.yaml"), text).expect("written");
    }

    /// Starts the daemon and waits until its ruleset is live and all is well.
    pub fn start(&self) -> Daemon {
        let mut daemon = self.launch();
        daemon.wait("a ruleset", |status| {
            status["ruleset"]["entries_v4"] == 1 && status["ruleset"]["entries_v6"] == 1
        });
        daemon.wait("health", |status| status["health"]["ok"] == true);
        daemon
    }

    /// Starts the daemon, and waits for nothing.
    pub fn launch(&self) -> Daemon {
        let log = fs::File::options().create(true).append(true).open(self.file("log"));
        let log = log.expect("a log");
        let child = Command::new(self.program)
            .args(["run", "-c"])
            .arg(self.file("sekisho.yaml"))
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        Daemon { child, log: self.file("log") }
    }

    /// Runs a command of the program.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(self.program).args(arguments).output().expect("it runs")
    }
}

/// A daemon that runs; it is killed with this value.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Kills it, as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("it can be killed");
    }

    /// Asks it to end, and waits for that.
    pub fn stop(mut self) -> ExitStatus {
        let id = Pid::from_raw(self.child.id().cast_signed());
        kill(id, Signal::SIGTERM).expect("it runs");
        let deadline = Instant::now() + LONGEST;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.last_words());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// `/api/v1/status`; null while it does not answer.
    pub fn status(&self) -> Value {
        status()
    }

    /// What it answers to a GET of this path.
    pub fn get(&self, path: &str) -> String {
        get(path).expect("an answer")
    }

    /// How many packets its record of hits tells of.
    pub fn recorded(&self) -> u64 {
        let (mut packets, mut cursor) = (0, String::new());
        loop {
            let page = get(&format!("/api/v1/hits?limit=10000{cursor}")).expect("an answer");
            let page: Value = serde_json::from_str(&page).expect("JSON");
            let hits = page["hits"].as_array().expect("hits");
            packets += hits.iter().filter_map(|hit| hit["packets"].as_u64()).sum::<u64>();
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return packets,
            }
        }
    }

    /// Waits until its status is as wanted.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + LONGEST;
        while !wanted(&self.status()) {
            let ended = self.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "it ended ({ended:?}): {}", self.last_words());
            let status = self.status();
            assert!(Instant::now() < deadline, "no {what}: {status}\n{}", self.last_words());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// `/api/v1/status` of the daemon of this network namespace; null while it does not answer.
pub fn status() -> Value {
    serde_json::from_str(&get("/api/v1/status").unwrap_or_default()).unwrap_or_default()
}

/// What the daemon of this network namespace answers to a GET of this path.
pub fn get(path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(API)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    // A large body comes in chunks (RFC 9112, 7.1), each behind its length in a line of its own.
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Ok(body.to_owned());
    }
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((length, behind)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        if length == 0 {
            break;
        }
        whole.push_str(behind.get(..length).unwrap_or_default());
        rest = behind.get(length + 2..).unwrap_or_default();
    }
    Ok(whole)
}
