//! Those who opted out, from a CSV file: `prefix,ports`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use csv::StringRecord;
use ipnet::IpNet;
use tokio::{sync::watch, task::spawn_blocking, time::interval};
use tracing::{error, info};

use crate::{
    csv_file::{self, CsvFileError, network},
    dataplane::{OptOuts, PortBlock},
    engine::service::Service,
    shutdown::stopped,
};

/// The columns, in this order.
const HEADER: [&str; 2] = ["prefix", "ports"];
/// How often the file is looked at: a change is in force well within a second.
const LOOK: Duration = Duration::from_millis(250);

/// Reads a file.
pub fn read(path: &Path) -> Result<OptOuts, CsvFileError> {
    parse(&csv_file::read(path)?, path)
}

/// Reads a text; `path` only serves the error text.
fn parse(bytes: &[u8], path: &Path) -> Result<OptOuts, CsvFileError> {
    let mut opt_outs = OptOuts::default();
    csv_file::rows(bytes, path, &HEADER, |record| add(&mut opt_outs, record))?;
    Ok(opt_outs)
}

fn add(opt_outs: &mut OptOuts, record: &StringRecord) -> Result<(), String> {
    let fields: Vec<&str> = record.iter().collect();
    let (prefix, ports) = match fields[..] {
        [prefix] => (prefix, ""),
        [prefix, ports] => (prefix, ports),
        _ => return Err(format!("expected 1 or 2 fields, found {}", record.len())),
    };
    let network = network(prefix)?;
    if ports.is_empty() {
        opt_outs.networks.push(network);
        return Ok(());
    }
    let IpNet::V4(v4) = network else {
        return Err(format!("'{prefix}' with ports: expected an IPv4 address"));
    };
    if v4.prefix_len() != 32 {
        return Err(format!("'{prefix}' with ports: expected a single address"));
    }
    let (first, last) = range(ports)?;
    opt_outs.blocks.push(PortBlock { address: v4.addr(), first, last });
    Ok(())
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let wrong = || format!("'{text}' is no port block: expected 2048-2303 or the like");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first, last))
}

/// Follows a file: whatever it says is in force within a second.
pub struct Follower {
    path: PathBuf,
    service: Arc<Service>,
    seen: Option<Stamp>,
}

/// What changes when a file does.
type Stamp = (SystemTime, u64);

impl Follower {
    /// Of this file.
    pub fn new(path: PathBuf, service: Arc<Service>) -> Self {
        Self { path, service, seen: None }
    }

    /// Looks at the file until `shutdown`.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                () = stopped(&mut shutdown) => return,
                _ = look.tick() => {}
            }
            let Ok(follower) = spawn_blocking(move || {
                self.look();
                self
            })
            .await
            else {
                return;
            };
            self = follower;
        }
    }

    /// Puts what the file says into force if it changed. A file that can't be used leaves everybody
    /// as they were.
    pub fn look(&mut self) {
        let stamp =
            fs::metadata(&self.path).and_then(|about| Ok((about.modified()?, about.len()))).ok();
        if stamp.is_some() && stamp == self.seen {
            return;
        }
        self.seen = stamp;
        let put = read(&self.path).map_err(|fault| fault.to_string()).and_then(|opt_outs| {
            let put = self.service.dataplane().set_opt_outs(&opt_outs);
            put.map(|()| opt_outs).map_err(|failure| failure.to_string())
        });
        let outcome = match put {
            Ok(OptOuts { networks, blocks }) => {
                info!(networks = networks.len(), blocks = blocks.len(), "opt-outs are in force");
                None
            }
            Err(fault) => {
                // A file that is missing for long is said once.
                let known = self.service.opt_out_error();
                if known.as_deref() != Some(&fault) {
                    error!("the opt-outs in force stay: {fault}");
                }
                Some(fault)
            }
        };
        if outcome.is_some() {
            // The next look tries again: what was in the way may be gone.
            self.seen = None;
        }
        self.service.opt_out_outcome(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<OptOuts, String> {
        parse(text.as_bytes(), Path::new("o.csv")).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_prefixes_and_port_blocks_are_read() {
        let opt_outs = parsed(
            "prefix,ports\n100.64.7.9,\n# a line of comment\n2001:db8:7::/48\n198.51.100.7,2048-2303\n",
        )
        .unwrap();
        assert_eq!(opt_outs.networks.len(), 2);
        let block = PortBlock { address: [198, 51, 100, 7].into(), first: 2048, last: 2303 };
        assert_eq!(opt_outs.blocks, [block]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, expected) in [
            ("prefix\n", "o.csv:1: expected the header prefix,ports"),
            ("prefix,ports\n\n100.64.7.9/24,\n", "o.csv:3: '100.64.7.9/24' has host bits"),
            ("prefix,ports\n100.64.7.9,9-8\n", "o.csv:2: '9-8' is no port block"),
            ("prefix,ports\n100.64.7.0/24,1-2\n", "o.csv:2: '100.64.7.0/24' with ports"),
            ("prefix,ports\n2001:db8::1,1-2\n", "expected an IPv4 address"),
            ("prefix,ports\na,b,c\n", "expected 1 or 2 fields, found 3"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
