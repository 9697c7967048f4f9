//! Lists of one claim a line, long ones in pieces that are read at the same time. What comes of it
//! is what reading line after line would give.

use rayon::prelude::*;

use super::{
    Limits, ParseFailure, Parsed, RejectReason,
    lines::{Line, Lines, line_ends},
    reader::{Ending, Reader, Row},
};

/// Bytes below which a piece is not worth a processor.
const LEAST: usize = 1 << 18;

/// Reads every line that is no comment.
pub(super) fn read<'a>(
    text: &'a [u8],
    limits: &Limits,
    ending: Ending,
    row: impl Fn(Line<'a>) -> Result<Row, RejectReason> + Sync,
) -> Result<Parsed, ParseFailure> {
    let most = rayon::current_num_threads().min(text.len() / LEAST);
    read_in(most, text, limits, ending, row)
}

fn read_in<'a>(
    most: usize,
    text: &'a [u8],
    limits: &Limits,
    ending: Ending,
    row: impl Fn(Line<'a>) -> Result<Row, RejectReason> + Sync,
) -> Result<Parsed, ParseFailure> {
    let mut reader = Reader::new(text, limits);
    let pieces = cut(text, most);
    let ends: Vec<u32> = pieces.par_iter().map(|piece| line_ends(piece)).collect();
    let before = ends.iter().scan(0_u32, |sum, ends| {
        let before = *sum;
        *sum = sum.saturating_add(*ends);
        Some(before)
    });
    let pieces: Vec<_> = pieces.into_iter().zip(before).collect();
    let Some((first, rest)) = pieces.split_first() else { return reader.finish(ending) };
    let read_rest = || {
        let of = |&(piece, before): &(&'a [u8], u32)| {
            let mut reader = Reader::new(piece, limits);
            read_piece(piece, before, &mut reader, &row).map(|()| reader)
        };
        rest.par_iter().map(of).collect::<Vec<_>>()
    };
    let (begun, rest) = rayon::join(|| read_piece(first.0, first.1, &mut reader, &row), read_rest);
    begun?;
    for next in rest {
        reader.append(next?)?;
    }
    reader.finish(ending)
}

fn read_piece<'a>(
    piece: &'a [u8],
    lines_before: u32,
    reader: &mut Reader<'_>,
    row: &impl Fn(Line<'a>) -> Result<Row, RejectReason>,
) -> Result<(), ParseFailure> {
    for line in Lines::after(lines_before, piece) {
        match line.comment() {
            Some(comment) => reader.note(line, comment)?,
            None => reader.row(line, || row(line))?,
        }
    }
    Ok(())
}

/// The text in at most so many pieces of about one size, each of whole lines that end in LF.
fn cut(text: &[u8], most: usize) -> Vec<&[u8]> {
    let most = most.max(1);
    let mut pieces = Vec::with_capacity(most);
    let mut rest = text;
    for left in (1..=most).rev() {
        let about = (rest.len() / left).min(rest.len());
        let end = match memchr::memchr(b'\n', &rest[about..]) {
            Some(at) if left > 1 => about + at + 1,
            _ => rest.len(),
        };
        let (piece, after) = rest.split_at(end);
        if !piece.is_empty() {
            pieces.push(piece);
        }
        rest = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::{drop_text, hosts, plain};

    const FEW: Limits = Limits {
        max_bytes: 1 << 20,
        max_lines: 30,
        max_line_bytes: 60,
        max_reject_percent: 60,
        tolerated_rejects: 20,
    };

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => (0..200_u8).prop_map(|n| format!("198.18.0.{n}")),
            2 => "198\\.18\\.[0-9]{1,3}\\.[0-9]{1,3}(/[0-9]{1,2}|:[0-9]{1,5}| ; x|  7)?",
            1 => Just("0.0.0.0 c2.example.net c3.example.net localhost".to_owned()),
            1 => Just("127.0.0.1 localhost".to_owned()),
            1 => Just("# Last updated: 2026-01-02 03:04:05 UTC, abuse.ch".to_owned()),
            1 => (0..9_u8).prop_map(|n| format!("# END {n} entries")),
            1 => Just("; EOF".to_owned()),
            1 => "[ -~]{0,70}",
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        let end = prop_oneof![6 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\r"), 1 => Just("")];
        proptest::collection::vec((line(), end), 0..40).prop_map(|lines| {
            lines.into_iter().flat_map(|(line, end)| [line, end.into()]).collect()
        })
    }

    proptest! {
        #[test]
        fn pieces_say_what_the_whole_says(text in text(), most in 2..9_usize) {
            let text = text.as_bytes();
            for ending in [Ending::Open, Ending::Count, Ending::CountIfBanner, Ending::Mark] {
                for row in [plain::row, hosts::row, drop_text::row] {
                    let whole = read_in(1, text, &FEW, ending, row);
                    prop_assert_eq!(read_in(most, text, &FEW, ending, row), whole);
                }
            }
        }

        #[test]
        fn pieces_are_whole_lines_and_the_whole_text(text in text(), most in 0..9_usize) {
            let pieces = cut(text.as_bytes(), most);
            prop_assert!(pieces.len() <= most.max(1));
            prop_assert_eq!(pieces.concat(), text.as_bytes());
            for piece in pieces.iter().rev().skip(1) {
                prop_assert!(piece.ends_with(b"\n"));
            }
        }
    }

    #[test]
    fn a_list_that_is_cut_keeps_the_numbers_of_its_lines() {
        let text: String = (0..9_u8).map(|n| format!("198.18.0.{n}\r\n\r\n")).collect();
        let text = format!("{text}# a comment\rnonsense\n198.18.0.256\n");
        let read = read_in(4, text.as_bytes(), &Limits::default(), Ending::Open, plain::row);
        let read = read.unwrap();
        let lines: Vec<u32> = read.indicators.iter().map(|indicator| indicator.line).collect();
        assert_eq!(lines, [1, 3, 5, 7, 9, 11, 13, 15, 17]);
        let rejects: Vec<u32> = read.rejects.samples.iter().map(|reject| reject.line).collect();
        assert_eq!(rejects, [20, 21]);
    }
}
