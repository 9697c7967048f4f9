//! CSV, JSON and JSON lines by a mapping.

use sekisho_rules::catalogue::Catalogue;

use super::*;

#[test]
fn csv_by_the_names_of_its_columns() {
    let mapping =
        "{value: IP, port: port, first_seen: date, delimiter: ';', date_format: '%d.%m.%Y %H:%M'}";
    let (_, text) = include_str!("../feeds/generic.csv").split_once('\n').unwrap();
    let parsed = read_mapped(Format::Csv, mapping, text.as_bytes());
    assert_holds(
        &parsed,
        &["2 198.18.0.110:23 - 2026-08-22 - -", "3 198.18.0.111:443 - - - -"],
        &["4 bad_port"],
    );
    let names = read_mapped(Format::Csv, "{value: host, delimiter: ';'}", text.as_bytes());
    assert_names(&names, &["2 c2.example.net -", "3 c2.example.org -"]);
    assert_holds(&names, &[], &["4 missing_column"]);
}

#[test]
fn csv_by_the_numbers_of_its_columns() {
    let mapping = "{value: 3, port: 4, delimiter: ';', skip_rows: 2}";
    let parsed = read_mapped(Format::Csv, mapping, include_bytes!("../feeds/generic.csv"));
    assert_holds(
        &parsed,
        &["3 198.18.0.110:23 - - - -", "4 198.18.0.111:443 - - - -"],
        &["5 bad_port"],
    );
}

#[test]
fn rows_count_only_if_they_meet_every_condition() {
    let text = b"2026-08-16 01:04:58,user,domain,c2.example.net,#x,https://example.org/1\n\
        2026-08-16 02:10:04,user,ip,198.18.0.1,#mirai,https://example.org/2\n\
        2026-08-16 03:10:04,user,sha256,00,#x,https://example.org/3\n";
    let mapping = "{value: 4, first_seen: 1, malware: 5, only: [{field: 3, is: [IP, domain]}]}";
    let parsed = read_mapped(Format::Csv, mapping, text);
    assert_holds(&parsed, &["2 198.18.0.1 #mirai 2026-08-16 - -"], &[]);
    assert_names(&parsed, &["1 c2.example.net #x"]);
    assert_skips(&parsed, &[("left_out", 1)]);
}

#[test]
fn a_prefix_length_and_a_protocol_may_stand_apart() {
    let text = b"198.18.4.0\t198.18.4.255\t24\t170\ttcp\n198.18.0.7\t-\t24\t1\tudp\n198.18.8.0\t-\t24\t1\tgre\n";
    let mapping = "{value: 1, prefix: 3, protocol: 5, delimiter: \"\\t\"}";
    let parsed = read_mapped(Format::Csv, mapping, text);
    assert_holds(&parsed, &["1 198.18.4.0/24/tcp - - - -"], &["2 host_bits_set"]);
    assert_skips(&parsed, &[("other_type", 1)]);
}

#[test]
fn a_port_in_two_places_must_be_the_same() {
    let text = b"ip,port\n198.18.0.1:23,23\n198.18.0.1:23,24\n";
    let parsed = read_mapped(Format::Csv, "{value: ip, port: port}", text);
    assert_holds(&parsed, &["2 198.18.0.1:23 - - - -"], &["3 bad_port"]);
}

#[test]
fn json_by_its_keys() {
    let mapping = "{rows: result.items, value: host.address, port: host.port, malware: family,
        first_seen: seen.first, last_seen: seen.last, confidence: score,
        only: [{field: kind, is: [c2]}]}";
    let parsed = read_mapped(Format::Json, mapping, include_bytes!("../feeds/generic.json"));
    assert_holds(
        &parsed,
        &["1 198.18.0.120:8080 Mirai 2025-11-20 2026-11-20 90"],
        &["4 bad_json", "5 missing_column"],
    );
    assert_names(&parsed, &["2 c2.example.net -"]);
    assert_skips(&parsed, &[("left_out", 2)]);
}

#[test]
fn json_whose_rows_are_plain_texts() {
    let text = br#"{"v4":["198.18.0.1","198.18.4.0/24"],"v6":["2001:2::/48"]}"#;
    let parsed = read_mapped(Format::Json, "{rows: '*', value: .}", text);
    assert_holds(
        &parsed,
        &["1 198.18.0.1 - - - -", "2 198.18.4.0/24 - - - -", "3 2001:2::/48 - - - -"],
        &[],
    );
    let error = br#"{"error":"no such key"}"#;
    let refused = parse_mapped(
        Format::Json,
        &sekisho_rules::yaml::from_yaml("{rows: data, value: .}", "m").unwrap(),
        error,
        &Limits::default(),
    );
    assert_eq!(refused.unwrap_err().as_str(), "missing_column");
}

#[test]
fn json_lines_by_their_keys() {
    let mapping = "{value: ip, port: port}";
    let parsed = read_mapped(Format::JsonLines, mapping, include_bytes!("../feeds/generic.jsonl"));
    assert_holds(
        &parsed,
        &["2 198.18.0.130:23 - - - -", "3 2001:2::/48 - - - -", "4 198.18.0.131 - - - -"],
        &["5 missing_column", "6 bad_json"],
    );
    assert_names(&parsed, &["7 https://c2.example.net/x -"]);
    let cut =
        parse(Format::JsonLines, b"{\"ip\":\"198.18.0.1\"}\n{\"ip\":\"198", &Limits::default());
    assert_eq!(cut.unwrap_err().as_str(), "truncated");
}

#[test]
fn a_column_that_the_mapping_names_must_be_there() {
    let mapping: Mapping =
        sekisho_rules::yaml::from_yaml("{value: ip, malware: family}", "m").unwrap();
    let refused =
        parse_mapped(Format::Csv, &mapping, b"ip,port\n198.18.0.1,23\n", &Limits::default());
    assert_eq!(refused.unwrap_err().as_str(), "missing_column");
}

#[test]
fn the_catalogue_checks_what_a_mapping_says() {
    let read = |format: &str, mapping: &str| {
        let text = format!("feeds:\n  - {{name: a, source: x, format: {format}{mapping}}}\n");
        Catalogue::from_yaml(&text, "feeds.yaml").map_err(|error| error.to_string())
    };
    for (format, mapping, words) in [
        ("csv", "", "needs a 'mapping'"),
        ("plain", ", mapping: {value: ip}", "takes no 'mapping'"),
        ("csv", ", mapping: {value: 0}", "1 to 64"),
        ("csv", ", mapping: {value: 65}", "1 to 64"),
        ("csv", ", mapping: {value: ' '}", "a column's name"),
        ("csv", ", mapping: {value: 1, port: port}", "by name or by number"),
        ("csv", ", mapping: {value: ip, skip_rows: 1}", "by number"),
        ("csv", ", mapping: {value: ip, delimiter: ab}", "one of"),
        ("csv", ", mapping: {value: ip, rows: data}", "is for JSON"),
        ("csv", ", mapping: {port: 1}", "value"),
        ("json", ", mapping: {value: 1}", "for CSV"),
        ("json", ", mapping: {value: ip, delimiter: ';'}", "for CSV"),
        ("json-lines", ", mapping: {value: ip, rows: data}", "each line is a row"),
        ("csv", ", mapping: {value: ip, colour: red}", "colour"),
    ] {
        let error = read(format, mapping).unwrap_err();
        assert!(error.contains(words), "{format}{mapping}: {error}");
    }
    let good = ", mapping: {value: 1, port: 2, only: [{field: 3, is: [c2]}], delimiter: '|', skip_rows: 1}";
    let catalogue = read("csv", good).unwrap();
    let printed = serde_yaml::to_string(&catalogue).unwrap();
    assert_eq!(Catalogue::from_yaml(&printed, "printed").unwrap(), catalogue);
}
