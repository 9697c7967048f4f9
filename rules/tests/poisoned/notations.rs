//! Notations with two readings, and bytes that are no list.

use super::*;

/// What a value does in each format: it must never become an entry that is not the address as
/// written.
const DOUBTFUL: [&str; 47] = [
    "008.008.008.008",
    "010.0.0.1",
    "8.8.8.08",
    "134744072",
    "0x08080808",
    "0x8.0x8.0x8.0x8",
    "8.8.2056",
    "8.526344",
    "8.8.8",
    "8.8.8.8.8",
    "8.8.8.8.",
    ".8.8.8.8",
    "8.8.8.8/24",
    "8.8.8.8/0",
    "8.8.8.0/255.255.255.0",
    "8.8.8.0-8.8.8.255",
    "8.8.8.0 - 8.8.8.255",
    "8.8.8.0-255",
    "8.8.8.*",
    "*.*.*.*",
    "*",
    "8.8.8.8:53",
    "8.8.8.8:0",
    "8.8.8.8:443,80",
    "8.8.8.8:*",
    "8.8.8.8:1-65535",
    "\u{ff18}.8.8.8",
    "8\u{3002}8\u{3002}8\u{3002}8",
    "\u{0668}.\u{0668}.\u{0668}.\u{0668}",
    "8.8.8.8\u{200b}",
    "\u{202e}8.8.8.8",
    "8.8.8.8\u{a0}",
    "8[.]8[.]8[.]8",
    "8,8,8,8",
    "!8.8.8.8",
    "-8.8.8.8",
    "+8.8.8.8",
    "8.8.8.8/33",
    "8.8.8.8/-1",
    "8.8.8.8/32/24",
    "::ffff:8.8.8.8%1",
    "[::ffff:8.8.8.8]:53",
    "2606:4700:4700::1111%eth0",
    "::/0",
    "/0",
    "0/0",
    "any",
];

#[test]
fn no_doubtful_notation_becomes_a_dangerous_entry_in_any_format() {
    for format in Format::ALL {
        for value in DOUBTFUL {
            let Some(text) = written::list(format, &[value]) else { continue };
            let spec = spec(format, WIDE);
            let Ok(parsed) = parse_feed(&spec, text.as_bytes(), &Limits::default()) else {
                continue;
            };
            let compiled = compiled(&spec, &parsed, &[]);
            let what = format!("{format}: {value:?}");
            assert_harmless(&compiled, &what);
            assert_explained(&parsed, &compiled, &what);
            // `8,8,8,8` is four columns of CSV, and the harmless row may be lost to a quote; but
            // whatever stands is what was written.
            for network in networks(&compiled) {
                assert_eq!(network.to_string(), "198.18.0.1/32", "{what}");
            }
        }
    }
}

#[test]
fn a_line_that_is_no_address_is_counted_with_its_number_and_reason() {
    let text = format!("{}\n198.18.0.1\n", DOUBTFUL.join("\n"));
    let spec = spec(Format::Plain, WIDE);
    let failure = parse_feed(&spec, text.as_bytes(), &Limits::default()).unwrap_err();
    assert_eq!(failure.as_str(), "too_many_rejects");
    let mut text = DOUBTFUL[..20].join("\n");
    text.extend((1..=250).map(|host| format!("\n198.18.1.{host}")));
    let parsed = parse_feed(&spec, text.as_bytes(), &Limits::default()).unwrap();
    assert!(parsed.rejects.total() >= 19, "{:?}", parsed.rejects.by_reason);
    let lines: Vec<u32> = parsed.rejects.samples.iter().map(|reject| reject.line).collect();
    assert!(lines.is_sorted() && lines[0] == 1, "{lines:?}");
}

#[test]
fn line_ends_marks_and_blanks_change_nothing() {
    for text in [
        "\u{feff}8.8.8.8\r\n198.18.0.1\r\n",
        "8.8.8.8\r198.18.0.1\r",
        "\t8.8.8.8 # dns\n  198.18.0.1\t; x\n",
        "8.8.8.8\n\n\n198.18.0.1",
    ] {
        let (_, compiled) = read(Format::Plain, WIDE, text);
        assert_eq!(refused(&compiled), ["8.8.8.8 never_block"], "{text:?}");
        assert_eq!(networks(&compiled).len(), 1, "{text:?}");
    }
}

#[test]
fn bytes_that_are_no_list_are_refused_whole() {
    let spec = spec(Format::Plain, WIDE);
    let huge = vec![b'8'; 3 << 20];
    for (bytes, reason) in [
        (&b"8.8.8.8\0\n198.18.0.1\n"[..], "binary"),
        (b"\xff\xfe8\0.\0", "utf16"),
        (b"<html><body>8.8.8.8</body></html>", "html"),
        (b"", "empty"),
        (b"\n \n", "empty"),
        (&huge, "too_many_rejects"),
    ] {
        let found = parse_feed(&spec, bytes, &Limits::default()).map(|p| p.indicators.len());
        let found = found.map_err(|failure| failure.as_str());
        assert_eq!(found, Err(reason), "{:?}", &bytes[..bytes.len().min(20)]);
    }
}
