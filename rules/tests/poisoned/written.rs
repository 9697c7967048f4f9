//! One value in the shape of each format, and what every format must make of a dangerous one.

use super::*;

/// A list of this format with these values in it and a harmless one behind them; none if the format
/// carries no addresses.
pub(crate) fn list(format: Format, values: &[&str]) -> Option<String> {
    let values: Vec<&str> = values.iter().copied().chain(["198.18.0.1"]).collect();
    let lines = |row: &dyn Fn(&str) -> String| values.iter().map(|v| row(v)).collect::<String>();
    let json = |row: &dyn Fn(&str) -> String| {
        values.iter().map(|v| row(&quoted(v))).collect::<Vec<_>>().join(",\n")
    };
    let count = values.len();
    Some(match format {
        Format::Plain => lines(&|v| format!("{v}\n")),
        Format::Hosts => lines(&|v| format!("{v} c2.example.net\n")),
        Format::FeodoCsv => format!(
            "\"first_seen_utc\",\"dst_ip\",\"dst_port\",\"c2_status\",\"last_online\",\"malware\"\n{}\
             # END {count} entries\n",
            lines(&|v| format!(
                "\"2026-01-17 07:30:05\",\"{v}\",\"443\",\"online\",\"2026-11-18\",\"Dridex\"\n"
            ))
        ),
        Format::FeodoJson => format!(
            "[{}]",
            json(&|v| format!("{{\"ip_address\": {v}, \"port\": 443, \"malware\": \"Emotet\"}}"))
        ),
        Format::ThreatfoxCsv => format!(
            "# ioc_value,ioc_type,threat_type\n{}",
            lines(&|v| format!("\"{}\", \"ip:port\", \"botnet_cc\"\n", with_port(v)))
        ),
        Format::ThreatfoxJson => {
            let row = |(id, v): (usize, &&str)| {
                let value = quoted(&with_port(v));
                format!(
                    "\"{id}\": [{{\"ioc_value\": {value}, \"ioc_type\": \"ip:port\", \"threat_type\": \
                     \"botnet_cc\"}}]"
                )
            };
            let rows: Vec<_> = values.iter().enumerate().map(row).collect();
            format!("{{{}}}", rows.join(",\n"))
        }
        Format::SslblCsv => format!(
            "# Firstseen,DstIP,DstPort\n{}# END ({count}) entries\n",
            lines(&|v| format!("2026-11-19 21:58:27,{v},443\n"))
        ),
        Format::SpamhausDropJson => format!(
            "{}{{\"type\":\"metadata\",\"timestamp\":1763600000,\"records\":{count}}}\n",
            lines(&|v| format!("{{\"cidr\":{},\"sblid\":\"SBL1\"}}\n", quoted(v)))
        ),
        Format::SpamhausDropText => format!("{}; EOF\n", lines(&|v| format!("{v} ; SBL1\n"))),
        Format::FireholNetset => {
            format!(
                "# Entries         : {count} subnets, 9 unique IPs\n{}",
                lines(&|v| format!("{v}\n"))
            )
        }
        Format::SuricataRules => lines(&|v| {
            format!("alert tcp $HOME_NET any -> [{v}] any (msg:\"x\"; flags:S; sid:1; rev:1;)\n")
        }),
        Format::C2intelCsv => format!("#ip,ioc\n{}", lines(&|v| format!("{v},a C2\n"))),
        Format::ShadowserverCsv => format!(
            "timestamp,protocol,dst_ip,dst_port,src_ip\n{}",
            lines(&|v| format!("2026-11-20 00:01:02,tcp,{v},443,198.19.0.1\n"))
        ),
        Format::Misp => format!(
            "{{\"Event\": {{\"uuid\": \"1\", \"Attribute\": [{}]}}}}",
            json(&|v| format!("{{\"type\": \"ip-dst\", \"to_ids\": true, \"value\": {v}}}"))
        ),
        Format::Stix => format!(
            "{{\"type\": \"bundle\", \"id\": \"bundle--1\", \"objects\": [{}]}}",
            json(&|v| {
                let kind = if v.contains("::") { "ipv6-addr" } else { "ipv4-addr" };
                let value = v.trim_matches('"');
                format!(
                    "{{\"type\": \"indicator\", \"id\": \"indicator--{value}\", \"pattern_type\": \"stix\", \
                         \"pattern\": \"[{kind}:value = '{value}']\"}}"
                )
            })
        ),
        Format::Crowdsec => format!(
            "{{\"decisions\": [{}]}}",
            json(&|v| {
                let scope = if v.contains('/') { "range" } else { "ip" };
                format!(
                    "{{\"origin\": \"cscli\", \"type\": \"ban\", \"scope\": \"{scope}\", \"value\": {v}, \
                         \"scenario\": \"x\", \"until\": \"2026-12-01T10:00:00Z\"}}"
                )
            })
        ),
        Format::Csv => format!("ip,port\n{}", lines(&|v| format!("\"{v}\",\n"))),
        Format::Json => format!("[{}]", json(&|v| format!("{{\"ip\": {v}, \"port\": null}}"))),
        Format::JsonLines => lines(&|v| format!("{{\"ip\": {}, \"port\": null}}\n", quoted(v))),
        Format::UrlhausCsv => return None,
    })
}

/// ThreatFox lists an address with its port, or nothing.
fn with_port(value: &str) -> String {
    match value.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => format!("{v4}:443"),
        Ok(IpAddr::V6(v6)) => format!("[{v6}]:443"),
        Err(_) => value.to_owned(),
    }
}

fn quoted(value: &str) -> String {
    serde_json::to_string(value).unwrap()
}

/// Hosts and networks that no list may name, as they are written usually.
const DANGEROUS: [&str; 26] = [
    "8.8.8.8",
    "8.8.8.0/24",
    "8.8.8.0/25",
    "1.1.1.1",
    "9.9.9.9/32",
    "198.41.0.4",
    "104.16.0.0/13",
    "104.16.1.1",
    "151.101.0.0/16",
    "13.32.0.0/15",
    "142.250.0.0/15",
    "52.94.76.0/22",
    "198.19.64.9",
    "198.19.64.0/20",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "192.168.1.0/24",
    "127.0.0.1",
    "224.0.0.1",
    "0.0.0.0/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "2606:4700:4700::1111",
    "2001:2:64::/48",
    "::/0",
    "2002:808:808::/48",
];

#[test]
fn no_format_lets_a_dangerous_entry_through() {
    for format in Format::ALL {
        let Some(text) = list(format, &DANGEROUS) else { continue };
        let (parsed, compiled) = read(format, WIDE, &text);
        assert_harmless(&compiled, format.as_str());
        assert_explained(&parsed, &compiled, format.as_str());
        let found: Vec<_> = networks(&compiled).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["198.18.0.1/32"], "{format}");
        let told = (parsed.indicators.len() + parsed.named.len()) as u64
            + parsed.rejects.total()
            + parsed.skipped_total();
        assert!(told > DANGEROUS.len() as u64, "{format}: {told} of {} rows", DANGEROUS.len() + 1);
    }
}

#[test]
fn no_format_lets_a_url_become_a_block() {
    let urls = ["http://8.8.8.8/", "http://198.18.7.7:8080/x", "https://[2606:4700:4700::1111]/"];
    for format in Format::ALL {
        let Some(text) = list(format, &urls) else { continue };
        let spec = spec(format, WIDE);
        let Ok(parsed) = parse_feed(&spec, text.as_bytes(), &Limits::default()) else { continue };
        let compiled = compiled(&spec, &parsed, &[]);
        assert_harmless(&compiled, format.as_str());
        let found: Vec<_> = networks(&compiled).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["198.18.0.1/32"], "{format}");
    }
}
