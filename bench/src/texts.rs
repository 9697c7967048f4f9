//! Lists in every format that the product reads, one claim a line or element, as their publishers write
//! them.

use std::net::Ipv4Addr;

use sekisho_rules::feed::Format;

/// A list of these hosts.
pub fn text(format: Format, hosts: &[Ipv4Addr]) -> String {
    match format {
        Format::Plain | Format::Hosts => lines(hosts, |host| host.to_string()),
        Format::FireholNetset => {
            format!("# Entries         : {} unique IPs\n", hosts.len())
                + &lines(hosts, |host| host.to_string())
        }
        Format::SpamhausDropText => {
            lines(hosts, |host| format!("{host}/32 ; SBL100001")) + "; EOF\n"
        }
        Format::SpamhausDropJson => {
            lines(hosts, |host| format!(r#"{{"cidr":"{host}/32","sblid":"SBL1","rir":"arin"}}"#))
                + &format!(
                    r#"{{"type":"metadata","timestamp":1767225600,"records":{}}}"#,
                    hosts.len()
                )
        }
        Format::SuricataRules => lines(hosts, |host| {
            format!(
                "alert tcp $HOME_NET any -> [{host}] any (msg:\"ET CNC Feodo Tracker Reported CnC \
                 Server TCP group 1\"; flags:S; reference:url,example.org; threshold: type limit, \
                 track by_src, seconds 3600, count 1; classtype:trojan-activity; \
                 flowbits:set,ET.BotccIP; sid:2404300; rev:6670;)"
            )
        }),
        _ if is_table(format) => table(format, hosts),
        _ => json(format, hosts),
    }
}

const fn is_table(format: Format) -> bool {
    matches!(
        format,
        Format::FeodoCsv
            | Format::ThreatfoxCsv
            | Format::SslblCsv
            | Format::UrlhausCsv
            | Format::C2intelCsv
            | Format::ShadowserverCsv
            | Format::Csv
    )
}

fn table(format: Format, hosts: &[Ipv4Addr]) -> String {
    let (header, row): (&str, fn(Ipv4Addr) -> String) = match format {
        Format::FeodoCsv => (
            r#""first_seen_utc","dst_ip","dst_port","c2_status","last_online","malware""#,
            |host| {
                format!(r#""2026-01-17 07:30:05","{host}","443","online","2026-11-18","QakBot""#)
            },
        ),
        Format::ThreatfoxCsv => (
            r#"# "first_seen_utc","ioc_id","ioc_value","ioc_type","threat_type","fk_malware","malware_alias","malware_printable","last_seen_utc","confidence_level","is_compromised","reference","tags","anonymous","reporter""#,
            |host| {
                format!(
                    r#""2026-11-19 15:58:01", "9000001", "{host}:5638", "ip:port", "botnet_cc", "elf.mirai", "Katana", "Mirai", "", "80", "False", "None", "elf,Mirai", "0", "x""#
                )
            },
        ),
        Format::SslblCsv => {
            ("# Firstseen,DstIP,DstPort", |host| format!("2026-01-02 03:04:05,{host},443"))
        }
        Format::UrlhausCsv => (
            "# id,dateadded,url,url_status,last_online,threat,tags,urlhaus_link,reporter",
            |host| {
                format!(
                    r#""7000003","2026-11-20 11:59:05","http://{host}:60905/bin.sh","online","2026-11-20 11:59:05","malware_download","32-bit,elf,mips,Mozi","https://example.org/url/7000003/","x""#
                )
            },
        ),
        Format::C2intelCsv => ("#ip,ioc", |host| format!("{host},Possible Cobaltstrike C2 IP")),
        Format::ShadowserverCsv => (
            r#""timestamp","severity","protocol","dst_ip","dst_port","src_ip","src_port","infection","family","tag""#,
            |host| {
                format!(
                    r#""2026-11-20 00:01:02","high","tcp","{host}","8080","198.19.0.1","51234","mirai","Mirai","iot""#
                )
            },
        ),
        _ => ("ip,port", |host| format!("{host},443")),
    };
    format!("{header}\n") + &lines(hosts, row)
}

fn json(format: Format, hosts: &[Ipv4Addr]) -> String {
    let (begin, element, end): (_, fn(Ipv4Addr) -> String, _) = match format {
        Format::FeodoJson => (
            "[",
            |host| {
                format!(
                    r#"{{"ip_address": "{host}", "port": 443, "status": "online", "hostname": null, "as_number": 64496, "country": "ZZ", "first_seen": "2026-01-17 07:30:05", "last_online": "2026-11-18", "malware": "Dridex"}}"#
                )
            },
            "]",
        ),
        Format::ThreatfoxJson => (
            "{",
            |host| {
                let key = u32::from(host);
                format!(
                    r#""{key}": [{{"ioc_value": "{host}:5638", "ioc_type": "ip:port", "threat_type": "botnet_cc", "malware": "elf.mirai", "malware_printable": "Mirai", "first_seen_utc": "2026-11-19 15:58:01", "last_seen_utc": null, "confidence_level": 100, "is_compromised": false, "tags": "elf,Mirai"}}]"#
                )
            },
            "}",
        ),
        Format::Misp => (
            r#"{"Event": {"uuid": "11111111-1111-4111-8111-111111111111", "info": "x", "timestamp": "1763600200", "Attribute": ["#,
            |host| {
                format!(
                    r#"{{"uuid": "a1", "type": "ip-dst|port", "to_ids": true, "value": "{host}|23", "timestamp": "1763600000", "deleted": false}}"#
                )
            },
            "]}}",
        ),
        Format::Stix => (
            r#"{"type": "bundle", "id": "bundle--1", "objects": ["#,
            |host| {
                format!(
                    r#"{{"type": "indicator", "id": "indicator--1", "modified": "2026-11-01T00:00:00.000Z", "pattern": "[ipv4-addr:value = '{host}']", "pattern_type": "stix", "valid_from": "2026-11-01T00:00:00Z", "confidence": 90, "labels": ["Mirai"]}}"#
                )
            },
            "]}",
        ),
        Format::Crowdsec => (
            r#"{"decisions":["#,
            |host| {
                format!(
                    r#"{{"id":1,"origin":"CAPI","type":"ban","scope":"Ip","value":"{host}","scenario":"crowdsecurity/ssh-bf","until":"2026-12-01T10:00:00Z"}}"#
                )
            },
            "]}",
        ),
        Format::JsonLines => {
            return lines(hosts, |host| format!(r#"{{"ip":"{host}","port":443}}"#));
        }
        _ => ("[", |host| format!(r#"{{"ip":"{host}","port":443}}"#), "]"),
    };
    let elements: Vec<String> = hosts.iter().map(|host| element(*host)).collect();
    format!("{begin}\n{}\n{end}\n", elements.join(",\n"))
}

fn lines(hosts: &[Ipv4Addr], line: impl Fn(Ipv4Addr) -> String) -> String {
    hosts.iter().map(|host| line(*host) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use sekisho_rules::parse::{Limits, parse};

    use super::*;
    use crate::lists::uniform_v4;

    #[test]
    fn every_format_lists_every_host_and_urlhaus_a_url_on_it() {
        let hosts = uniform_v4(500);
        for format in Format::ALL {
            let read = parse(format, text(format, &hosts).as_bytes(), &Limits::default());
            let read = read.unwrap_or_else(|failure| panic!("{format}: {failure}"));
            let expected = match format {
                Format::UrlhausCsv => (0, hosts.len()),
                _ => (hosts.len(), 0),
            };
            assert_eq!((read.indicators.len(), read.named.len()), expected, "{format}");
        }
    }
}
