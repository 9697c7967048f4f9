//! The cap on what all entries together cover.
//!
//! A poisoned list can stay above every floor and still cover half the Internet in small pieces. Above
//! the cap each feed gets an equal share of it, and what one does not need goes to the others; of a
//! feed that covers more, the widest networks are refused. So no feed can crowd out another.

/// A listed network in units, an address for IPv4 and a /48 for IPv6.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Covered {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Prefix length.
    pub(crate) length: u8,
    /// The feed's place.
    pub(crate) feed: usize,
}

/// For each feed the shortest prefix length that fits, so that all together cover no more than `most`
/// units; nothing if they don't anyway. `rows` are sorted by first unit, and by length where that is
/// equal.
pub(crate) fn floors(
    rows: &(impl Iterator<Item = Covered> + Clone),
    most: u64,
    longest: u8,
) -> Option<Vec<u8>> {
    if units(rows.clone()) <= most {
        return None;
    }
    let feeds = rows.clone().map(|row| row.feed + 1).max().unwrap_or(0);
    let of = |feed: usize| rows.clone().filter(move |row| row.feed == feed);
    let each: Vec<u64> = (0..feeds).map(|feed| units(of(feed))).collect();
    let share = share(each.clone(), most);
    let fits = |feed, floor| units(of(feed).filter(|row| row.length >= floor)) <= share;
    let floor = |(feed, &units): (usize, &u64)| match units <= share {
        true => 0,
        false => (1..=longest).find(|&floor| fits(feed, floor)).unwrap_or(longest + 1),
    };
    Some(each.iter().enumerate().map(floor).collect())
}

/// The share of each feed, so that those that need less leave the rest to the others.
fn share(mut each: Vec<u64>, most: u64) -> u64 {
    each.sort_unstable();
    let mut left = most;
    for (units, feeds) in each.iter().zip((1..=each.len() as u64).rev()) {
        if *units > left / feeds {
            return left / feeds;
        }
        left -= units;
    }
    u64::MAX
}

/// How many units the rows cover together.
fn units(rows: impl Iterator<Item = Covered>) -> u64 {
    let mut sum = 0_u64;
    let mut next = 0_u64;
    for Covered { first, last, .. } in rows {
        let first = first.max(next);
        if first <= last {
            sum = sum.saturating_add((last - first).saturating_add(1));
            next = last.saturating_add(1);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row((feed, first, last, length): (usize, u64, u64, u8)) -> Covered {
        Covered { first, last, length, feed }
    }

    /// Sorted as the merge sorts them.
    const ROWS: [(usize, u64, u64, u8); 4] =
        [(0, 0, 255, 24), (0, 0, 15, 28), (0, 7, 7, 32), (0, 1024, 1024, 32)];

    fn floors(rows: &[(usize, u64, u64, u8)], most: u64) -> Option<Vec<u8>> {
        super::floors(&rows.iter().copied().map(row), most, 32)
    }

    #[test]
    fn nested_networks_count_once() {
        assert_eq!(units(ROWS.into_iter().map(row)), 257);
        assert_eq!(units(ROWS.into_iter().skip(1).map(row)), 17);
    }

    #[test]
    fn the_widest_go_first() {
        assert_eq!(floors(&ROWS, 257), None);
        assert_eq!(floors(&ROWS, 256), Some(vec![25]));
        assert_eq!(floors(&ROWS, 16), Some(vec![29]));
        assert_eq!(floors(&ROWS, 1), Some(vec![33]));
    }

    #[test]
    fn a_feed_that_floods_loses_its_own_networks_and_no_other_does() {
        let flood = (0..100_u64).map(|n| (1, 10_000 + 256 * n, 10_255 + 256 * n, 24));
        let rows: Vec<_> = [(0, 0, 4095, 20)].into_iter().chain(flood).collect();
        assert_eq!(floors(&rows, 20_000), Some(vec![0, 25]));
    }

    #[test]
    fn what_one_feed_does_not_need_goes_to_the_others() {
        assert_eq!(share(vec![900, 10, 500], 1_000), 495);
        assert_eq!(share(vec![900, 10, 10], 1_000), u64::MAX);
        assert_eq!(share(vec![900, 900], 1_000), 500);
        assert_eq!(share(vec![1, 2], 0), 0);
    }
}
