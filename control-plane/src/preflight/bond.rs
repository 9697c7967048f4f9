//! Checks of a bond and its members.

use super::{
    Row, Rows, Topic,
    facts::{Bond, Host, Link},
    link,
};

/// Modes that take a program since kernel 5.15.
const MODES: [&str; 4] = ["802.3ad", "active-backup", "balance-xor", "balance-rr"];

/// What lets a bond take a program that takes none; `None` if neither mode nor policy forbids it.
pub(super) fn remedy(name: &str, bond: &Bond) -> Option<String> {
    if !MODES.contains(&bond.mode.as_str()) {
        return Some(to_802_3ad(name));
    }
    // The policy is only asked for where members are chosen by hash.
    let hashes = matches!(bond.mode.as_str(), "802.3ad" | "balance-xor");
    (hashes && bond.hashes_vlan_and_mac)
        .then(|| format!("ip link set dev {name} type bond xmit_hash_policy layer3+4"))
}

fn to_802_3ad(name: &str) -> String {
    format!("ip link set dev {name} down && ip link set dev {name} type bond mode 802.3ad")
}

pub(super) fn check(name: &str, bond: &Bond, wired: bool, rows: &mut Rows) {
    let mode = &bond.mode;
    if let Some(command) = remedy(name, bond) {
        let policy =
            if MODES.contains(&mode.as_str()) { " with the hash policy vlan+srcmac" } else { "" };
        rows.fail(
            Topic::Bond,
            format!("a bond in mode {mode}{policy} takes no XDP program"),
            command,
        );
    } else if bond.members.is_empty() {
        rows.warn(
            Topic::Bond,
            format!("the bond '{name}' ({mode}) has no members yet; each gets the program"),
            format!("ip link set dev MEMBER down && ip link set dev MEMBER master {name}"),
        );
    } else if wired && mode == "active-backup" {
        rows.warn(
            Topic::Bond,
            format!(
                "what comes in on the standby member of '{name}' ({mode}) crosses the wire, too: \
                 frames that a switch floods come out twice"
            ),
            to_802_3ad(name),
        );
    } else {
        let members: Vec<&str> = bond.members.iter().map(|member| member.name.as_str()).collect();
        rows.pass(
            Topic::Bond,
            format!("the bond '{name}' ({mode}) hands the program to {}", members.join(", ")),
        );
    }
}

/// What of a member matters to the bond's program.
pub(super) fn member(name: &str, link: &Link, host: &Host, wired: bool) -> Vec<Row> {
    let mut rows = Rows::about(name);
    if let Some(attached) = link.attached.as_ref().filter(|found| !found.program.is_ours()) {
        rows.fail(
            Topic::XdpProgram,
            format!(
                "'{name}' has an XDP program of its own (id {}), with which its bond takes none",
                attached.program.id
            ),
            format!("ip link set dev {name} xdpdrv off"),
        );
    }
    link::on_hardware(name, link, host, wired, &mut rows);
    rows.rows
}
