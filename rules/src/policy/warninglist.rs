//! MISP warninglists, `lists/*/list.json`, as never-block lists.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::{NeverBlock, NeverBlockNet, Tier};
use crate::yaml::YamlError;

/// What a list must be for its entries to be networks.
const KIND: &str = "cidr";

#[derive(Deserialize)]
struct Warninglist {
    name: String,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    description: String,
    #[serde(rename = "type")]
    kind: String,
    list: Vec<String>,
}

pub(super) fn read(text: &str, file: &str) -> Result<NeverBlock, YamlError> {
    let error = |line, column, message| YamlError { file: file.to_owned(), line, column, message };
    let list: Warninglist = serde_json::from_str(text).map_err(|fault| {
        let message = format!(
            "no MISP warninglist, which is an object with 'name', 'type' and 'list': {fault}"
        );
        error(fault.line().max(1) as u64, fault.column().max(1) as u64, message)
    })?;
    if list.kind != KIND {
        let message = format!(
            "a warninglist of the type '{}' holds no networks: expected one of the type '{KIND}'",
            list.kind
        );
        return Err(error(1, 1, message));
    }
    let entry = |text: &String| {
        network(text).ok_or_else(|| error(1, 1, format!("'{text}' is no address and no network")))
    };
    Ok(NeverBlock {
        name: list.name,
        version: list.version.to_string(),
        source: "MISP warninglists".to_owned(),
        licence: Some("CC0-1.0".to_owned()),
        tier: Tier::Never,
        reason: Some(list.description),
        networks: list
            .list
            .iter()
            .map(|text| Ok(NeverBlockNet { network: entry(text)?, reason: None }))
            .collect::<Result<_, _>>()?,
    })
}

/// An address or a network; host bits widen what must stay reachable, and so do no harm.
fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.map(|network: IpNet| network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(kind: &str, entries: &str) -> Result<NeverBlock, String> {
        let text = format!(
            r#"{{"name":"Example","version":20260822,"description":"many sites",
                "type":"{kind}","matching_attributes":["ip-dst"],"list":[{entries}]}}"#
        );
        NeverBlock::from_warninglist(&text, "list.json").map_err(|error| error.to_string())
    }

    #[test]
    fn networks_and_addresses_of_both_families_are_read() {
        let list = list("cidr", r#""198.18.4.7/24","2001:2:53::/48","2001:2:AB::1","198.18.0.1""#);
        let list = list.unwrap();
        let networks: Vec<_> = list.networks.iter().map(|row| row.network.to_string()).collect();
        assert_eq!(
            networks,
            ["198.18.4.0/24", "2001:2:53::/48", "2001:2:ab::1/128", "198.18.0.1/32"]
        );
        assert_eq!((list.version.as_str(), list.tier), ("20260822", Tier::Never));
        assert_eq!(list.reason.as_deref(), Some("many sites"));
    }

    #[test]
    fn what_is_no_list_of_networks_is_refused() {
        let names = list("hostname", r#""example.net""#).unwrap_err();
        assert!(names.contains("'hostname' holds no networks"), "{names}");
        let wrong = list("cidr", r#""example.net""#).unwrap_err();
        assert!(wrong.contains("'example.net' is no address"), "{wrong}");
        let json = NeverBlock::from_warninglist("{\n\"name\":}", "list.json").unwrap_err();
        assert!(json.to_string().starts_with("list.json:2:"), "{json}");
    }
}
