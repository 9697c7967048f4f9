//! Bytes that no publisher ever sent.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_bytes_give_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        for format in Format::ALL {
            check(format, &bytes);
        }
    }

    #[test]
    fn a_damaged_list_gives_a_result(
        sample in 0..samples::SAMPLES.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..20),
    ) {
        let (format, bytes) = samples::SAMPLES[sample];
        let mut bytes = bytes.to_vec();
        for (at, byte, kind) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        check(format, &bytes);
    }
}

/// What holds of every list: nothing is lost, and no claim is out of its bounds.
fn check(format: Format, bytes: &[u8]) {
    let limits = Limits { max_lines: 10_000, ..Limits::default() };
    let Ok(parsed) = parse(format, bytes, &limits) else { return };
    samples::assert_sound(format, bytes, &parsed, limits.max_lines);
}
