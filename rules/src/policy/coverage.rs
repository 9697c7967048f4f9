//! The cap on what all entries together cover.
//!
//! A poisoned list can stay above every floor and still cover half the Internet in small pieces.
//! Above the cap the widest networks are refused first, whichever feed lists them: the shortest
//! prefix length that still fits becomes the floor of this table.

/// The shortest prefix length so that what is left covers no more than `most` units.
///
/// `rows` yields (first unit, last unit, prefix length), sorted by first unit, and by length where
/// that is equal; a unit is an address for IPv4 and a /48 for IPv6.
pub(crate) fn floor(
    rows: &(impl Iterator<Item = (u64, u64, u8)> + Clone),
    most: u64,
    longest: u8,
) -> u8 {
    (0..=longest).find(|&floor| covered(rows.clone(), floor) <= most).unwrap_or(longest + 1)
}

/// How many units the rows of at least this prefix length cover together.
fn covered(rows: impl Iterator<Item = (u64, u64, u8)>, floor: u8) -> u64 {
    let mut sum = 0_u64;
    let mut next = 0_u64;
    for (first, last, length) in rows {
        let first = first.max(next);
        if length >= floor && first <= last {
            sum = sum.saturating_add((last - first).saturating_add(1));
            next = last.saturating_add(1);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &[(u64, u64, u8)] = &[(0, 255, 24), (0, 15, 28), (7, 7, 32), (1024, 1024, 32)];

    #[test]
    fn nested_networks_count_once() {
        assert_eq!(covered(ROWS.iter().copied(), 0), 257);
        assert_eq!(covered(ROWS.iter().copied(), 25), 17);
        assert_eq!(covered(ROWS.iter().copied(), 32), 2);
    }

    #[test]
    fn the_widest_go_first() {
        assert_eq!(floor(&ROWS.iter().copied(), 257, 32), 0);
        assert_eq!(floor(&ROWS.iter().copied(), 256, 32), 25);
        assert_eq!(floor(&ROWS.iter().copied(), 16, 32), 29);
        assert_eq!(floor(&ROWS.iter().copied(), 1, 32), 33);
    }
}
