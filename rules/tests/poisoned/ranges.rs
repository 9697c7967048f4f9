//! Dangerous networks whole, in halves, in parts, from around, and in disguise.

use proptest::prelude::*;
use sekisho_rules::policy::Tier;

use super::*;

fn both_halves(network: &str) -> Vec<String> {
    let network: IpNet = network.parse().unwrap();
    let halves: Vec<IpNet> = match network {
        IpNet::V4(v4) => v4.subnets(v4.prefix_len() + 1).unwrap().map(IpNet::V4).collect(),
        IpNet::V6(v6) => v6.subnets(v6.prefix_len() + 1).unwrap().map(IpNet::V6).collect(),
    };
    halves.iter().map(ToString::to_string).collect()
}

/// What every list of networks that must stay reachable for the web is refused by, piece by piece.
#[test]
fn every_shipped_range_is_refused_whole_in_halves_and_host_by_host() {
    let nets =
        never_block().iter().filter(|list| matches!(list.tier, Tier::Never | Tier::PortExact));
    let nets: Vec<IpNet> =
        nets.flat_map(|list| list.networks.iter().map(|row| row.network)).collect();
    let mut rows = Vec::new();
    for network in &nets {
        rows.push(network.to_string());
        rows.push(network.network().to_string());
        rows.push(network.broadcast().to_string());
        rows.push(format!("{}:443", bracketed(network.network())));
        if network.prefix_len() < network.max_prefix_len() {
            rows.extend(both_halves(&network.to_string()));
        }
    }
    let text = rows.join("\n");
    let (parsed, compiled) = read(Format::Plain, WIDE, &text);
    assert_eq!(parsed.indicators.len(), rows.len());
    assert_eq!(networks(&compiled), [], "nothing of {} rows", rows.len());
    assert_eq!(compiled.feeds[0].refused, rows.len() as u64);
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

#[test]
fn what_is_wider_than_a_service_loses_it_or_is_refused() {
    let supernets = [
        "8.0.0.0/8",
        "8.8.0.0/16",
        "8.8.8.0/23",
        "1.0.0.0/8",
        "9.9.0.0/16",
        "104.0.0.0/8",
        "198.40.0.0/15",
        "198.19.0.0/16",
        "198.16.0.0/13",
        "2001:4860::/32",
        "2606:4700::/32",
        "2606:4000::/18",
        "2620::/16",
        "2001::/16",
        "2a03:2000::/20",
    ];
    for network in supernets {
        let (parsed, compiled) = read(Format::Plain, WIDE, network);
        assert_harmless(&compiled, network);
        assert_explained(&parsed, &compiled, network);
    }
    let all = supernets.join("\n");
    let (parsed, compiled) = read(Format::Plain, WIDE, &all);
    assert_harmless(&compiled, "all of them");
    assert_explained(&parsed, &compiled, "all of them");
}

#[test]
fn half_of_the_internet_is_too_wide_in_every_cut() {
    for length in 0..8_u8 {
        let whole: IpNet = "0.0.0.0/0".parse().unwrap();
        let IpNet::V4(whole) = whole else { panic!("it is IPv4") };
        let rows: Vec<String> = whole.subnets(length).unwrap().map(|net| net.to_string()).collect();
        let (_, compiled) = read(
            Format::FireholNetset,
            WIDE,
            &format!("# Entries : {} subnets, 1 unique IPs\n{}\n", rows.len(), rows.join("\n")),
        );
        assert_eq!(networks(&compiled), [], "/{length}");
        let told = refused(&compiled);
        let named = |row: &String| row.ends_with(" too_wide") || row.ends_with(" reserved");
        assert!(told.len() == rows.len() && told.iter().all(named), "/{length}: {told:?}");
    }
}

#[test]
fn clouds_are_blocked_host_by_host_only() {
    let text = "52.94.76.0/24\n52.94.76.0/31\n52.94.76.9\n52.94.77.9:443\n52.0.0.0/8\n20.33.0.0/24\n\
                34.0.0.0/24\n2600:1f13::/40\n2600:1f13::/64\n";
    let (parsed, compiled) = read(Format::Plain, WIDE, text);
    assert_eq!(
        refused(&compiled),
        [
            "52.94.76.0/24 rented_network",
            "52.94.76.0/31 rented_network",
            "52.0.0.0/8 rented_network",
            "20.33.0.0/24 rented_network",
            "34.0.0.0/24 rented_network",
            "2600:1f13::/40 rented_network",
        ]
    );
    assert_explained(&parsed, &compiled, "clouds");
    assert_eq!(networks(&compiled).len(), 3, "two hosts and one customer's network stand");
    let text = compiled.refusals.kept[0].to_string();
    assert!(text.contains("on the list 'amazon-aws', where only hosts are blocked"), "{text}");
}

#[test]
fn ipv6_forms_of_what_is_refused_are_refused_and_told_so() {
    for (text, reason, words) in [
        ("2002:808:808::/48", "never_block", "the 6to4 form of 8.8.8.8, and 8.8.8.0/24 is on"),
        ("2002:808:808::1", "never_block", "the 6to4 form of 8.8.8.8"),
        ("2002:800::/24", "never_block", "the 6to4 form of 8.0.0.0/8"),
        ("2002:a00::/24", "reserved", "the 6to4 form of 10.0.0.0/8, and it overlaps 10.0.0.0/8"),
        ("2002:6440::1", "reserved", "100.64.0.0/10"),
        ("2002:c613:4009::1", "own_prefix", "our own network 'subscribers'"),
        ("2002:6810:101::/48", "shared_address", "the 6to4 form of 104.16.1.1"),
        ("2002::/16", "reserved", "the 6to4 form of 0.0.0.0/0"),
        (
            "2001:0:808:808:0:1234:39ed:bffe",
            "never_block",
            "Teredo address with the server 8.8.8.8",
        ),
        ("2001:0:c612:1:0:1234:f7f7:f7f7", "never_block", "of the client 8.8.8.8"),
        ("2001:0:c612:1:0:1234:39ec:bff6", "own_prefix", "of the client 198.19.64.9"),
        ("2001:0:c612:1::/64", "reserved", "of the client 0.0.0.0/0"),
        ("2001::/32", "reserved", "0.0.0.0/0"),
        ("64:ff9b::808:808", "reserved", "64:ff9b::/96, IPv4/IPv6 translation"),
        ("64:ff9b::8.8.8.8", "reserved", "64:ff9b::/96"),
        ("64:ff9b:1::808:808", "reserved", "64:ff9b:1::/48"),
        ("::ffff:8.8.8.8", "never_block", "8.8.8.0/24 is on the never-block list"),
        ("::ffff:808:808", "never_block", "8.8.8.0/24 is on the never-block list"),
        ("::ffff:8.8.8.0/120", "never_block", "8.8.8.0/24"),
        ("::ffff:0:0/96", "too_wide", "nothing wider than a /8"),
        ("::8.8.8.8", "reserved", "outside the global unicast space"),
        ("::ffff:0:8.8.8.8", "reserved", "outside the global unicast space"),
    ] {
        let (parsed, compiled) = read(Format::Plain, WIDE, text);
        let [refusal] = &compiled.refusals.kept[..] else { panic!("{text} stands") };
        assert_eq!(refusal.why.reason().as_str(), reason, "{text}: {refusal}");
        assert!(refusal.to_string().contains(words), "{text}: {refusal}");
        assert_explained(&parsed, &compiled, text);
    }
    let (_, compiled) =
        read(Format::Plain, WIDE, "2002:c612:1::1\n2001:0:c612:1:0:1234:39ed:fffe\n");
    assert_eq!(networks(&compiled).len(), 2, "forms of hosts that may be blocked stand");
}

/// A network of the lists that no web traffic may be stopped to, by its place among all.
fn service(at: usize) -> IpNet {
    let lists =
        never_block().iter().filter(|list| matches!(list.tier, Tier::Never | Tier::PortExact));
    let mut all = lists.flat_map(|list| &list.networks).map(|row| row.network);
    let count = all.clone().count();
    all.nth(at % count).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_listed_around_and_inside_services_they_are_reached(
        rows in proptest::collection::vec((any::<usize>(), 0..24_u8, any::<bool>(), any::<u32>()), 1..60),
    ) {
        let mut text = String::new();
        let mut services = Vec::new();
        for (at, shorter, is_inside, low) in rows {
            let service = service(at);
            let full = service.max_prefix_len();
            let length = service.prefix_len();
            let length = if is_inside { (length + shorter).min(full) } else {
                length.saturating_sub(shorter)
            };
            let address = match service.network() {
                IpAddr::V4(v4) if is_inside => {
                    let host = low & u32::MAX.checked_shr(service.prefix_len().into()).unwrap_or(0);
                    IpAddr::V4((u32::from(v4) | host).into())
                }
                other => other,
            };
            text += &format!("{}\n", IpNet::new(address, length).unwrap().trunc());
            services.push(service);
        }
        let (parsed, compiled) = read(Format::Plain, WIDE, &text);
        assert_explained(&parsed, &compiled, "random");
        for service in services {
            for address in [service.network(), service.broadcast()] {
                for port in [None, Some(80), Some(443)] {
                    let query = Query { address, port, protocol: None };
                    let verdict = explain(&compiled, query).verdict;
                    prop_assert_eq!(verdict, Verdict::Pass, "{} of {} by {}", address, service, text);
                }
            }
        }
    }
}
