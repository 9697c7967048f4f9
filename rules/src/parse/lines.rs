//! Bytes to lines, after a look at whether the bytes are a text list at all.

use super::ParseFailure;

/// Bytes at the beginning that are looked at for the marks of a web page.
const HEAD: usize = 1_024;

/// A line without its end and without blanks around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// 1-based.
    pub(super) number: u32,
    pub(super) text: &'a [u8],
}

impl<'a> Line<'a> {
    /// What the comment says, without its mark, if the whole line is one.
    pub(super) fn comment(&self) -> Option<&'a [u8]> {
        match self.text {
            [b'#' | b';', ..] | [b'/', b'/', ..] => {
                let body = self.text.trim_ascii_start();
                let marks = body.iter().take_while(|b| matches!(b, b'#' | b';' | b'/')).count();
                Some(body[marks..].trim_ascii())
            }
            _ => None,
        }
    }
}

/// The list's text without a byte-order mark, or why it is no list.
pub(super) fn text_of(bytes: &[u8]) -> Result<&[u8], ParseFailure> {
    if bytes.starts_with(&[0xff, 0xfe])
        || bytes.starts_with(&[0xfe, 0xff])
        || bytes.starts_with(&[0, 0, 0xfe, 0xff])
    {
        return Err(ParseFailure::Utf16);
    }
    if let Some(what) = archive(bytes) {
        return Err(ParseFailure::Binary { what });
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    if text.is_empty() {
        return Err(ParseFailure::Empty);
    }
    let head = &text[..text.len().min(HEAD)];
    if head.contains(&0) {
        return Err(ParseFailure::Binary { what: "NUL bytes" });
    }
    let head = head.to_ascii_lowercase();
    if head.starts_with(b"<?php") {
        return Err(ParseFailure::Php);
    }
    if head.starts_with(b"<") || holds(&head, b"<html") || holds(&head, b"<!doctype") {
        return Err(ParseFailure::Html);
    }
    Ok(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
}

/// The kind of archive or compressed file that the bytes begin like.
fn archive(bytes: &[u8]) -> Option<&'static str> {
    const MARKS: [(&[u8], &str); 6] = [
        (b"\x1f\x8b", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"%PDF", "pdf"),
    ];
    MARKS.iter().find(|(mark, _)| bytes.starts_with(mark)).map(|&(_, what)| what)
}

pub(super) fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Lines that end in LF, CR LF or CR; blank ones count and are left out.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    number: u32,
}

impl<'a> Lines<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self::after(0, text)
    }

    /// The lines of a later part of a text, which so many line ends come before.
    pub(super) const fn after(line_ends: u32, text: &'a [u8]) -> Self {
        Self { rest: text, number: line_ends }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        while !self.rest.is_empty() {
            let end = memchr::memchr2(b'\n', b'\r', self.rest);
            let (text, rest) = match end {
                Some(end) => {
                    let (text, rest) = self.rest.split_at(end);
                    (text, rest.strip_prefix(b"\r\n").unwrap_or(&rest[1..]))
                }
                None => (self.rest, &[][..]),
            };
            self.rest = rest;
            self.number = self.number.saturating_add(1);
            let text = text.trim_ascii();
            if !text.is_empty() {
                return Some(Line { number: self.number, text });
            }
        }
        None
    }
}

/// How many line ends there are.
pub(super) fn line_ends(text: &[u8]) -> u32 {
    let is_end = |at: usize| text[at] == b'\n' || text.get(at + 1) != Some(&b'\n');
    let ends = memchr::memchr2_iter(b'\n', b'\r', text).filter(|&at| is_end(at)).count();
    u32::try_from(ends).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_end_counts_once() {
        let lines: Vec<_> =
            Lines::new(b"a\r\nb\nc\rd\r\n\r\n\n e ").map(|line| (line.number, line.text)).collect();
        let expected: Vec<(u32, &[u8])> =
            vec![(1, b"a"), (2, b"b"), (3, b"c"), (4, b"d"), (7, b"e")];
        assert_eq!(lines, expected);
        assert_eq!(line_ends(b"a\r\nb\nc\rd\r\n\r\n\n e "), 6);
    }

    #[test]
    fn what_is_no_list_is_named() {
        fn name(bytes: &[u8]) -> Result<&[u8], &'static str> {
            text_of(bytes).map_err(|failure| failure.as_str())
        }
        assert_eq!(name(b""), Err("empty"));
        assert_eq!(name(b"\xef\xbb\xbf \r\n\t"), Err("empty"));
        assert_eq!(name(b"\xff\xfe1\0"), Err("utf16"));
        assert_eq!(name(b"\n\n <!DOCTYPE html>"), Err("html"));
        assert_eq!(name(b"Error\n<HTML>198.18.0.1"), Err("html"));
        assert_eq!(name(b"<?php exit();"), Err("php"));
        assert_eq!(name(b"PK\x03\x04rest"), Err("binary"));
        assert_eq!(name(b"1\x009\0"), Err("binary"));
        assert_eq!(name(b"\xef\xbb\xbf# list"), Ok(&b"# list"[..]));
    }
}
