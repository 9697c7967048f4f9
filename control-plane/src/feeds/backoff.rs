//! When to ask a source again.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
    time::Duration,
};

/// Longest wait after failures, unless the feed's own refresh is longer.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// Longest that a server's Retry-After is obeyed: a list of that age has lapsed anyway.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The wait before the next request.
///
/// After success it is the refresh; each failure in a row doubles the floor, so that a broken
/// source is asked soon again and never often. Both vary by up to a tenth, lest many daemons ask at
/// the same second. `chance` is from 0 to 1.
pub fn wait(
    refresh: Duration,
    floor: Duration,
    failures: u32,
    retry_after: Option<Duration>,
    chance: f64,
) -> Duration {
    let refresh = refresh.max(floor);
    let base = match failures {
        0 => refresh,
        _ => floor.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST.max(refresh)),
    };
    let asked_for = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    base.max(asked_for).mul_f64(1.0 + chance.clamp(0.0, 1.0) / 10.0)
}

/// A number from 0 to 1 that nobody can foretell.
pub fn chance() -> f64 {
    // The standard library seeds each of these from the system's randomness.
    let bits = RandomState::new().build_hasher().finish();
    bits as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn success_waits_for_the_refresh_and_never_less_than_the_floor() {
        assert_eq!(wait(HOUR, 5 * MINUTE, 0, None, 0.0), HOUR);
        assert_eq!(wait(MINUTE, 5 * MINUTE, 0, None, 0.0), 5 * MINUTE);
    }

    #[test]
    fn failures_double_the_wait_from_the_floor_to_six_hours() {
        let waits: Vec<_> = (1..=4).map(|n| wait(HOUR, 5 * MINUTE, n, None, 0.0) / 60).collect();
        assert_eq!(waits, [5, 10, 20, 40].map(Duration::from_secs));
        assert_eq!(wait(HOUR, 5 * MINUTE, 4_000_000, None, 0.0), 6 * HOUR);
        assert_eq!(wait(24 * HOUR, 5 * MINUTE, 40, None, 0.0), 24 * HOUR);
    }

    #[test]
    fn the_server_may_ask_for_more_but_not_for_less_nor_for_ever() {
        assert_eq!(wait(HOUR, MINUTE, 1, Some(2 * HOUR), 0.0), 2 * HOUR);
        assert_eq!(wait(HOUR, MINUTE, 1, Some(Duration::ZERO), 0.0), MINUTE);
        assert_eq!(wait(HOUR, MINUTE, 1, Some(HOUR * 9999), 0.0), 24 * HOUR);
    }

    #[test]
    fn waits_vary_by_up_to_a_tenth() {
        assert_eq!(wait(HOUR, MINUTE, 0, None, 1.0), HOUR * 11 / 10);
        assert_ne!(chance().to_bits(), chance().to_bits());
        assert!((0.0..=1.0).contains(&chance()));
    }
}
