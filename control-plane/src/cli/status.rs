//! `sekisho status`: how the daemon and the kernel are.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::{Failure, daemon, plain, print, print_json};
use crate::{
    config::DataplaneConfig,
    dataplane::{Dataplane as _, kernel::KernelDataplane},
    engine::status::{InterfaceStatus, ModeStatus, RulesetStatus},
};

/// How many of the differences that were put right are shown.
const SHOWN: usize = 5;

/// Arguments of `sekisho status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: daemon::Args,
    /// Folder of the pinned programs and maps, asked if the daemon does not answer
    #[arg(long, value_name = "DIR", default_value_os_t = DataplaneConfig::default().pin_dir)]
    pin_dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the pins say without a daemon.
#[derive(Serialize)]
struct Pinned {
    daemon: String,
    mode: ModeStatus,
    lease_seconds: u64,
    ruleset: RulesetStatus,
    interfaces: Vec<InterfaceStatus>,
}

/// Fails if neither the daemon nor the pins answer.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let status = match args.daemon.get("status", &[]) {
        Ok(status) => status,
        Err(Failure::Failed(silence) | Failure::Usage(silence)) => {
            let pinned = pinned(args, silence)?;
            serde_json::to_value(pinned).map_err(Failure::failed)?
        }
    };
    if args.json { print_json(&status) } else { print(&text(&status)) }
}

fn pinned(args: &Args, silence: String) -> Result<Pinned, Failure> {
    let open = || {
        let dataplane = KernelDataplane::open(&args.pin_dir)?;
        Ok((dataplane.installed()?, dataplane.modes()?))
    };
    let (installed, modes) = open().map_err(|error: crate::dataplane::DataplaneError| {
        Failure::failed(format!("{silence}; and {error}"))
    })?;
    Ok(Pinned {
        daemon: silence,
        mode: ModeStatus::of(&modes, &installed.lists),
        lease_seconds: installed.lease.as_secs(),
        ruleset: RulesetStatus::of(&installed),
        interfaces: InterfaceStatus::all(&installed, &modes),
    })
}

fn text(status: &Value) -> String {
    let names = |value: &Value| {
        let names = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    let health = match status["health"]["ok"].as_bool() {
        Some(_) => {
            let told = ["reasons", "degraded"].map(|what| names(&status["health"][what]));
            let told: Vec<_> = told.into_iter().filter(|names| !names.is_empty()).collect();
            if told.is_empty() {
                "runs".to_owned()
            } else {
                format!("runs, but: {}", told.join(", "))
            }
        }
        None => plain(&status["daemon"]),
    };
    let ruleset = &status["ruleset"];
    let mut rows = vec![
        ("daemon", health),
        ("mode", plain(&status["mode"]["global"])),
        ("lists observed", names(&status["mode"]["observed_lists"])),
        ("lists bypassed", names(&status["mode"]["bypassed_lists"])),
        ("enforced for", format!("{} more seconds", plain(&status["lease_seconds"]))),
        ("ruleset", format!("generation {}", plain(&ruleset["generation"]))),
        (
            "entries",
            format!(
                "{} IPv4, {} IPv6",
                plain(&ruleset["entries_v4"]),
                plain(&ruleset["entries_v6"])
            ),
        ),
        (
            "image",
            format!(
                "{} of {} bytes",
                plain(&ruleset["image_bytes"]),
                plain(&ruleset["image_capacity"])
            ),
        ),
    ];
    rows.extend(proof(&status["proof"]));
    for interface in status["interfaces"].as_array().into_iter().flatten() {
        let attachment = match &interface["attachment"] {
            Value::Null => "gone".to_owned(),
            other => plain(other),
        };
        let line =
            format!("{}: {}, {attachment}", plain(&interface["name"]), plain(&interface["mode"]));
        rows.push(("interface", line));
    }
    for feed in status["feeds"].as_array().into_iter().flatten() {
        let trouble = match feed["trouble"]["text"].as_str() {
            Some(text) => format!("; broken: {text}"),
            None => String::new(),
        };
        let held = match feed["held"]["text"].as_str() {
            Some(text) => format!("; held: {text}"),
            None => String::new(),
        };
        let (name, indicators) = (plain(&feed["name"]), plain(&feed["indicators"]));
        let confirmed = plain(&feed["confirmed_at"]);
        let unchanged = match feed["content_from"].as_str() {
            Some(from) => format!(", unchanged since {from}"),
            None => String::new(),
        };
        let line = format!(
            "{name}: {indicators} indicators, confirmed {confirmed}{unchanged}{trouble}{held}"
        );
        rows.push(("feed", line));
    }
    rows.retain(|(_, value)| !value.is_empty());
    rows.iter().map(|(name, value)| format!("{name:<14} {value}\n")).collect()
}

/// What differs from what was installed, and what did.
fn proof(proof: &Value) -> Vec<(&'static str, String)> {
    let each = |of: &'static str| proof[of].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let standing = each("standing").map(|drift| ("differs", text(drift)));
    let put_right = each("put_right")
        .map(|drift| ("put right", format!("{} at {}", text(&drift["what"]), text(&drift["at"]))));
    standing.chain(put_right.take(SHOWN)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_in_lines() {
        let status = serde_json::json!({
            "health": {"ok": false, "reasons": ["interface 'eth1' is gone"],
                       "degraded": ["the mode is observe: nothing is dropped"]},
            "mode": {"global": "observe", "observed_lists": [], "bypassed_lists": ["two"]},
            "lease_seconds": 60,
            "ruleset": {"generation": 7, "entries_v4": 5, "entries_v6": 0, "image_bytes": 1,
                        "image_capacity": 2},
            "proof": {"standing": ["no pin"],
                      "put_right": [{"at": "2026-01-02T03:04:05Z", "what": "no link"}]},
            "interfaces": [{"name": "eth1", "mode": "observe", "attachment": null}],
            "feeds": [{"name": "two", "indicators": 5, "confirmed_at": null,
                       "content_from": "2026-01-01T00:00:00Z",
                       "trouble": {"text": "no connection"}}],
        });
        let expected = "daemon         runs, but: interface 'eth1' is gone, the mode is observe: nothing is dropped\n\
                        mode           observe\n\
                        lists bypassed two\n\
                        enforced for   60 more seconds\n\
                        ruleset        generation 7\n\
                        entries        5 IPv4, 0 IPv6\n\
                        image          1 of 2 bytes\n\
                        differs        no pin\n\
                        put right      no link at 2026-01-02T03:04:05Z\n\
                        interface      eth1: observe, gone\n\
                        feed           two: 5 indicators, confirmed -, unchanged since \
                        2026-01-01T00:00:00Z; broken: no connection\n";
        assert_eq!(text(&status), expected);
    }
}
