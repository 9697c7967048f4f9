//! Repeated measurements: a clock that other processes cannot stop, and the middle of many runs.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// What several runs of one thing brought.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one run's figure.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many runs there were.
    pub fn runs(&self) -> usize {
        self.0.len()
    }

    /// The middle figure; of an even number of runs, the mean of the two in the middle.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        if sorted.len() % 2 == 1 {
            return Some(upper);
        }
        sorted.get(sorted.len() / 2 - 1).map(|lower| (lower + upper) / 2.0)
    }

    /// The least figure.
    pub fn min(&self) -> Option<f64> {
        self.0.iter().copied().min_by(f64::total_cmp)
    }

    /// The greatest figure.
    pub fn max(&self) -> Option<f64> {
        self.0.iter().copied().max_by(f64::total_cmp)
    }

    /// This run by run less another one, for variants that were measured in turn.
    pub fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one - other).collect())
    }
}

/// Processor time of this thread, in user space and in the kernel: whatever else the machine does
/// meanwhile does not count.
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_not_the_mean() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), None);
        for value in [9.0, 1.0, 100.0] {
            samples.push(value);
        }
        assert_eq!(samples.median(), Some(9.0));
        samples.push(11.0);
        assert_eq!(samples.median(), Some(10.0));
        assert_eq!((samples.min(), samples.max()), (Some(1.0), Some(100.0)));
    }
}
