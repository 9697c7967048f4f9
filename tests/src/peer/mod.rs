//! Real counterparts of the daemon, as `scripts/bootstrap test` installs them: each is a process on
//! loopback that ends with its value.
#![allow(clippy::expect_used, reason = "a peer that cannot be started fails its test")]

mod crowdsec;
mod medallion;

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

pub use self::{crowdsec::CrowdSec, medallion::Medallion};

const LONGEST: Duration = Duration::from_secs(30);

/// A program of a peer.
fn installed(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/peers").join(name);
    assert!(path.exists(), "{} is missing: run `scripts/bootstrap test`", path.display());
    path
}

/// A port of 127.0.0.1 that nobody has.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    listener.local_addr().expect("it is bound").port()
}

/// A server that runs.
#[derive(Debug)]
struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it and waits until it takes connections.
    fn start(command: &mut Command, port: u16, log: PathBuf) -> Self {
        let file = File::create(&log).expect("a log");
        let child = command
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file)
            .spawn()
            .expect("it starts");
        let mut server = Self { child, log };
        let deadline = Instant::now() + LONGEST;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "it ended ({ended:?}): {}", server.log());
            assert!(Instant::now() < deadline, "it does not listen: {}", server.log());
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}
