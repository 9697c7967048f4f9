//! What holds of every format: what is refused as a whole, and what is let go.

use sekisho_rules::parse::ParseFailure;

use super::*;

#[test]
fn the_end_of_a_line_makes_no_difference() {
    for (format, bytes) in samples::SAMPLES.iter().copied() {
        let unix = String::from_utf8_lossy(bytes).replace("\r\n", "\n").replace('\u{feff}', "");
        let expected = read(format, unix.as_bytes());
        for end in ["\r\n", "\r"] {
            assert_eq!(
                read(format, unix.replace('\n', end).as_bytes()),
                expected,
                "{format} {end:?}"
            );
        }
        let marked = format!("\u{feff}{unix}");
        assert_eq!(read(format, marked.as_bytes()), expected, "{format} with BOM");
    }
}

#[test]
fn a_list_that_is_cut_off_is_refused() {
    let cut = |format, bytes: &[u8], end: &str| {
        let text = String::from_utf8_lossy(bytes);
        let at = text.find(end).unwrap();
        assert_eq!(failure(format, &text.as_bytes()[..at]), "truncated", "{format} before {end}");
    };
    cut(Format::FeodoCsv, include_bytes!("../feeds/feodo.csv"), "# END");
    cut(Format::FeodoCsv, include_bytes!("../feeds/feodo.csv"), "0.32");
    cut(Format::FeodoJson, include_bytes!("../feeds/feodo.json"), "0.31");
    cut(Format::ThreatfoxCsv, include_bytes!("../feeds/threatfox.csv"), "0.42");
    cut(Format::SpamhausDropJson, include_bytes!("../feeds/drop_v4.json"), "{\"type\"");
    cut(Format::SpamhausDropJson, include_bytes!("../feeds/drop_v4.json"), "00003");
    cut(Format::SpamhausDropText, include_bytes!("../feeds/drop.txt"), "; EOF");
    let fewer = |format, bytes: &[u8], row: &str| {
        let text = String::from_utf8_lossy(bytes);
        let text: String = text.split_inclusive('\n').filter(|line| !line.contains(row)).collect();
        assert_eq!(failure(format, text.as_bytes()), "truncated", "{format} without {row}");
    };
    fewer(Format::FeodoCsv, include_bytes!("../feeds/feodo.csv"), "\"2026-02-17");
    fewer(Format::ThreatfoxCsv, include_bytes!("../feeds/threatfox.csv"), "\"2026-11-19 15:58");
    fewer(Format::SslblCsv, include_bytes!("../feeds/sslbl.csv"), "2026-11-19 21");
    fewer(
        Format::SpamhausDropJson,
        include_bytes!("../feeds/drop_v4.json"),
        "{\"cidr\":\"198.18.8",
    );
}

#[test]
fn something_else_than_the_list_is_refused_by_every_format() {
    for format in Format::ALL {
        assert_eq!(failure(format, b""), "empty");
        assert_eq!(failure(format, b"\xef\xbb\xbf\r\n \t\r\n"), "empty");
        assert_eq!(failure(format, b"<!DOCTYPE html><p>198.18.0.1</p>"), "html");
        assert_eq!(failure(format, b"\xff\xfe1\x009\x008\0"), "utf16");
        assert_eq!(failure(format, b"\x1f\x8b\x08\x00abc"), "binary");
        assert_eq!(failure(format, b"<?php exit();"), "php");
        let error = failure(format, br#"{"query_status":"unknown_auth_key","data":"x"}"#);
        assert!(["too_many_rejects", "missing_column", "bad_json", "truncated"].contains(&error));
    }
}

#[test]
fn a_list_of_garbage_is_refused_and_every_line_is_counted() {
    let text = "Too many requests, try again later\n".repeat(300);
    let refused = parse(Format::Plain, text.as_bytes(), &Limits::default());
    let Err(ParseFailure::TooManyRejects { rejects, rows }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((rejects.total(), rows, rejects.samples.len()), (300, 300, 100));
}

#[test]
fn a_few_bad_lines_among_good_ones_are_rejected_one_by_one() {
    let mut text = b"198.18.0.1\n".to_vec();
    text.extend([b'x'; 300]);
    text.extend(b"\n198.18.0.2 # caf\xe9\n198.18.0.\xe9\n");
    text.extend(vec![b'1'; 5_000]);
    text.extend(b"\n198.18.0.3-198.18.0.9\n198.18.0.4\t198.18.0.255\t24\n10.0.0.0/8 x y\n");
    let parsed = read(Format::Plain, &text);
    assert_holds(
        &parsed,
        &["1 198.18.0.1 - - - -", "3 198.18.0.2 - - - -"],
        &[
            "2 not_an_address",
            "4 not_an_address",
            "5 line_too_long",
            "6 not_an_address",
            "7 trailing_text",
            "8 trailing_text",
        ],
    );
    assert!(parsed.rejects.samples.iter().all(|reject| reject.text.len() <= 80));
    assert_eq!(parsed.rejects.samples[1].text, r"198.18.0.\xe9");
}

#[test]
fn columns_are_found_by_name_wherever_they_are() {
    let text = b"# \"malware\",\"NEW\",\"dst_port\",\"dst_ip\"\n\"Mir\xe1i\",\"x\",\"23\",\"198.18.0.1\"\n";
    let parsed = read(Format::FeodoCsv, text);
    assert_holds(&parsed, &["2 198.18.0.1:23/tcp Mir\u{fffd}i - - -"], &[]);
    let lacks = |format, text: &[u8]| match parse(format, text, &Limits::default()) {
        Err(ParseFailure::MissingColumn { column }) => column,
        other => panic!("{other:?}"),
    };
    assert_eq!(lacks(Format::FeodoCsv, b"dst_ip,malware\n198.18.0.1,Mirai\n"), "dst_port");
    assert_eq!(lacks(Format::FeodoCsv, b"198.18.0.1,23\n"), "dst_ip");
    assert_eq!(lacks(Format::ThreatfoxCsv, b"# only a comment\n"), "ioc_value");
}

#[test]
fn a_key_twice_never_decides_a_network() {
    let text = br#"{"cidr":"198.18.4.0/24","cidr":"0.0.0.0/0"}
{"cidr":"198.18.8.0/24"}
{"type":"metadata","timestamp":1,"records":2}"#;
    let parsed = read(Format::SpamhausDropJson, text);
    assert_holds(&parsed, &["2 198.18.8.0/24 - - - -"], &["1 bad_json"]);
}

#[test]
fn limits_on_bytes_and_lines_hold() {
    let limits = Limits { max_bytes: 100, max_lines: 5, ..Limits::default() };
    for format in Format::ALL {
        let long = parse(format, &[b'1'; 101], &limits);
        assert!(matches!(long, Err(ParseFailure::TooLarge { limit: 100 })), "{format}");
    }
    let many = parse(Format::Plain, b"#\n#\n#\n#\n#\n198.18.0.1\n", &limits);
    assert!(matches!(many, Err(ParseFailure::TooManyLines { limit: 5 })));
}
