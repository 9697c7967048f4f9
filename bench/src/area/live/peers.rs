//! What a user would pick instead, from the distribution's packages.

use std::{fs, io::Write as _, net::Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Map, MapData, PerCpuHashMap, PerCpuValues};

use crate::lab::run;

/// A way to drop listed addresses.
pub(super) trait Peer {
    /// As results name it.
    fn name(&self) -> &'static str;
    /// The longest list to give it.
    fn most_entries(&self) -> usize;
    /// Whether it is no XDP program itself, so that the cable needs one.
    fn needs_program(&self) -> bool;
    /// Whether it drops before the IPv4 layer counts a packet.
    fn drops_early(&self) -> bool;
    /// Puts it onto an interface.
    fn load(&self, interface: &str, listed: &[Ipv4Addr]) -> Result<()>;
    /// Whether it dropped everything: packets sent, and those that the IPv4 layer saw.
    fn check(&self, sent: u64, in_stack: u64) -> Result<()>;
    /// Takes it away again.
    fn unload(&self, interface: &str) -> Result<()>;
}

/// xdp-tools' filter, which counts by verdict and by address.
pub(super) struct XdpFilter;

const FILTER_MAP: &str = "/sys/fs/bpf/xdp-filter/filter_ipv4";

impl Peer for XdpFilter {
    fn name(&self) -> &'static str {
        "xdp-filter"
    }

    /// `MAX_ENTRIES` in its source.
    fn most_entries(&self) -> usize {
        10_000
    }

    fn needs_program(&self) -> bool {
        false
    }

    fn drops_early(&self) -> bool {
        true
    }

    fn load(&self, interface: &str, listed: &[Ipv4Addr]) -> Result<()> {
        ensure!(
            !std::path::Path::new(FILTER_MAP).exists(),
            "xdp-filter is in use on this machine; its pins are shared by all interfaces"
        );
        run("xdp-filter", &["load", interface, "-m", "native", "-f", "ipv4"])?;
        let (first, others) = listed.split_first().context("an empty list")?;
        run("xdp-filter", &["ip", "-m", "dst", &first.to_string()])?;
        // One process an address takes minutes: the others go into its map as the first one did.
        let map = MapData::from_pin(FILTER_MAP).context(FILTER_MAP)?;
        let mut map = PerCpuHashMap::<_, [u8; 4], u64>::try_from(Map::PerCpuHashMap(map))?;
        let value: Vec<u64> = map.get(&first.octets(), 0)?.iter().copied().collect();
        for address in others {
            map.insert(address.octets(), PerCpuValues::try_from(value.clone())?, 0)?;
        }
        Ok(())
    }

    fn check(&self, _: u64, _: u64) -> Result<()> {
        Ok(())
    }

    fn unload(&self, interface: &str) -> Result<()> {
        run("xdp-filter", &["unload", interface]).map(drop)
    }
}

/// A set in an nftables chain on the ingress hook, the earliest that nftables has.
pub(super) struct Nftables;

impl Peer for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn most_entries(&self) -> usize {
        100_000
    }

    fn needs_program(&self) -> bool {
        true
    }

    fn drops_early(&self) -> bool {
        true
    }

    fn load(&self, interface: &str, listed: &[Ipv4Addr]) -> Result<()> {
        let elements = joined(listed, ",\n");
        let rules = format!(
            "table netdev bench {{\n set listed {{\n type ipv4_addr\n elements = {{ {elements} }}\n }}\n \
             chain ingress {{\n type filter hook ingress device \"{interface}\" priority 0\n policy accept\n \
             ip daddr @listed drop\n }}\n}}\n"
        );
        from_file("nft", &["-f"], &rules)
    }

    fn check(&self, _: u64, _: u64) -> Result<()> {
        Ok(())
    }

    fn unload(&self, _: &str) -> Result<()> {
        run("nft", &["delete", "table", "netdev", "bench"]).map(drop)
    }
}

/// An ipset in the raw table of iptables, in front of connection tracking.
pub(super) struct Ipset;

/// The rule, to be added (`-A`) or deleted (`-D`).
fn rule(change: &str, interface: &str) -> Result<()> {
    let matched = ["-i", interface, "-m", "set", "--match-set", "bench", "dst"];
    let command = [&["-t", "raw", change, "PREROUTING"], matched.as_slice(), &["-j", "DROP"]];
    run("iptables", &command.concat()).map(drop)
}

impl Peer for Ipset {
    fn name(&self) -> &'static str {
        "ipset"
    }

    fn most_entries(&self) -> usize {
        100_000
    }

    fn needs_program(&self) -> bool {
        true
    }

    fn drops_early(&self) -> bool {
        false
    }

    fn load(&self, interface: &str, listed: &[Ipv4Addr]) -> Result<()> {
        let mut commands = format!("create bench hash:ip maxelem {}\n", listed.len());
        for address in listed {
            commands.push_str(&format!("add bench {address}\n"));
        }
        from_file("ipset", &["restore", "-file"], &commands)?;
        rule("-A", interface)
    }

    fn check(&self, sent: u64, in_stack: u64) -> Result<()> {
        ensure!(in_stack == sent, "of {sent} packets {in_stack} reached the IPv4 layer");
        let counters = run("iptables", &["-t", "raw", "-v", "-x", "-n", "-L", "PREROUTING", "-Z"])?;
        let dropped: Option<u64> = counters
            .lines()
            .find(|line| line.contains("match-set"))
            .and_then(|line| line.split_whitespace().next()?.parse().ok());
        ensure!(dropped == Some(sent), "of {sent} packets {dropped:?} were dropped");
        Ok(())
    }

    fn unload(&self, interface: &str) -> Result<()> {
        rule("-D", interface)?;
        run("ipset", &["destroy", "bench"]).map(drop)
    }
}

fn joined(addresses: &[Ipv4Addr], separator: &str) -> String {
    addresses.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(separator)
}

/// Runs a program on a file with this text.
fn from_file(program: &str, arguments: &[&str], text: &str) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    file.flush()?;
    let path = fs::canonicalize(file.path())?;
    let path = path.to_str().context("an odd temporary folder")?;
    run(program, &[arguments, &[path]].concat()).map(drop)
}
