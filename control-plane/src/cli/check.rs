//! `sekisho check`: is the configuration fit to run, and what is in force?

use std::{fmt::Write as _, path::PathBuf};

use sekisho_rules::{feed::FeedSpec, policy::Tier};

use super::{Failure, print};
use crate::{
    config::{Config, Forwarding, InterfaceConfig, SinkholeConfig},
    engine::Inputs,
    feeds::http::Fetcher,
};

/// Arguments of `sekisho check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", env = "SEKISHO_CONFIG")]
    config: PathBuf,
    /// Print the configuration in force, defaults included, as YAML
    #[arg(long)]
    print: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let inputs = Inputs::read(&args.config).map_err(Failure::usage)?;
    if args.print {
        return print(&inputs.config.to_yaml().map_err(Failure::failed)?);
    }
    print(&summary(&args.config.display().to_string(), &inputs))
}

fn summary(file: &str, inputs: &Inputs) -> String {
    let Inputs { config, rulebook, subscribers, opt_outs } = inputs;
    let mut text = format!("{file} is valid\n\n");
    let interfaces: Vec<String> = config.interfaces.iter().map(interface).collect();
    let lists = || rulebook.never_block.iter();
    let of = |tiers: &'static [Tier]| lists().filter(move |list| tiers.contains(&list.tier));
    let blocking = || of(&[Tier::Never, Tier::PortExact]);
    let networks: usize = blocking().map(|list| list.networks.len()).sum();
    let rows = [
        ("interfaces", interfaces.join(", ")),
        (
            "feeds",
            format!(
                "{} enabled of {}",
                rulebook.catalogue.enabled().count(),
                rulebook.catalogue.feeds.len()
            ),
        ),
        (
            "policy",
            format!(
                "nothing wider than /{} and /{}, claims last {}, {} own prefixes",
                rulebook.policy.min_prefix_v4,
                rulebook.policy.min_prefix_v6,
                rulebook.policy.expire_after,
                rulebook.policy.own_prefixes.len()
            ),
        ),
        (
            "never block",
            format!(
                "{networks} networks in {} lists; {} lists of sinkholes, {} that only warn",
                blocking().count(),
                of(&[Tier::Sinkhole]).count(),
                of(&[Tier::Warn]).count()
            ),
        ),
        ("list lifetime", config.list_lifetime.to_string()),
        ("subscribers", format!("{} assignments", subscribers.len())),
        (
            "opt-outs",
            format!("{} networks, {} port blocks", opt_outs.networks.len(), opt_outs.blocks.len()),
        ),
        ("sinkhole", config.dataplane.sinkhole.as_ref().map_or("none".to_owned(), sinkhole)),
        ("hits", format!("kept for {}", config.hits.retention)),
        ("state", config.state_dir.display().to_string()),
        ("API", format!("http://{}", config.api.listen)),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<14} {value}");
    }
    for spec in rulebook.catalogue.enabled() {
        let _ = writeln!(text, "  feed {:<20} {} every {}", &*spec.name, spec.format, spec.refresh);
        for fault in access_faults(config, spec) {
            let _ = writeln!(text, "       {:<20} {fault}", "");
        }
    }
    text
}

/// What keeps a feed from being asked, or is wrong with the way its key is kept. The daemon runs all
/// the same.
fn access_faults(config: &Config, spec: &FeedSpec) -> Vec<String> {
    if !spec.source.is_http() {
        return Vec::new();
    }
    match Fetcher::new(&config.fetch).and_then(|fetcher| fetcher.session(spec)) {
        Ok(session) => session.warnings,
        Err(error) => vec![error.detail],
    }
}

fn interface(interface: &InterfaceConfig) -> String {
    let role = format!("{:?}", interface.role).to_lowercase();
    let name = &interface.name;
    match (interface.forwarding, &interface.peer) {
        (Forwarding::Wire, Some(peer)) => format!("{name} ({role}, wire to {peer})"),
        (Forwarding::Tap, _) => format!("{name} ({role}, tap)"),
        _ => format!("{name} ({role})"),
    }
}

fn sinkhole(sinkhole: &SinkholeConfig) -> String {
    let SinkholeConfig { interface, next_hop, mtu, tunnel } = sinkhole;
    let how = if tunnel.is_some() { "tunnel" } else { "next hop" };
    format!("{how} {next_hop} on {interface}, MTU {mtu}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_missing_is_told_below_its_feed() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("key", "hunter2");
        let row = |name: &str, key: &str| {
            format!(
                "  - name: {name}\n    source: http://{name}.example/\n    format: plain\n    auth: \
                 {{bearer: {{file: {key}}}}}\n"
            )
        };
        write("feeds.yaml", &format!("feeds:\n{}{}", row("one", "key"), row("two", "none")));
        let config = "interfaces: [{name: fake0, role: subscriber}]\nfeeds: feeds.yaml\n";
        write("sekisho.yaml", config);
        let inputs = Inputs::read(&dir.path().join("sekisho.yaml")).unwrap();
        let text = summary("sekisho.yaml", &inputs);
        let (one, two) = text.split_once("feed two").unwrap();
        assert!(one.contains("over http:// and can be read"), "{text}");
        assert!(two.contains("the key can't be read from"), "{text}");
        assert!(two.contains(&dir.path().join("none").display().to_string()), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
