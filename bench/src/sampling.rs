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

    /// The middle figure.
    pub fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// The figure below which this share of the runs lies; between two runs, what lies between their
    /// figures.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = share.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64;
        let lower = *sorted.get(at.floor() as usize)?;
        let upper = *sorted.get(at.ceil() as usize)?;
        Some(lower + (upper - lower) * at.fract())
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

    /// This divided by another one, run by run: what disturbs the machine for longer than a run
    /// disturbs neighbours alike, and so leaves their ratio as it is. Nothing if they were not
    /// measured in turn.
    pub fn over(&self, other: &Self) -> Self {
        if self.runs() != other.runs() {
            return Self::default();
        }
        let pairs = self.0.iter().zip(&other.0).filter(|(_, other)| **other != 0.0);
        Self(pairs.map(|(one, other)| one / other).collect())
    }
}

/// Processor time of all threads of this process together.
pub fn process_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
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
        assert_eq!((samples.quantile(0.25), samples.quantile(1.0)), (Some(7.0), Some(100.0)));
    }

    #[test]
    fn a_ratio_is_that_of_neighbours() {
        let of = |values: &[f64]| Samples(values.to_vec());
        // The second run was disturbed, one and the other alike.
        let ratios = of(&[10.0, 50.0, 10.0]).over(&of(&[5.0, 25.0, 5.0]));
        assert_eq!(ratios.0, [2.0, 2.0, 2.0]);
        assert_eq!(of(&[1.0]).over(&of(&[1.0, 2.0])).runs(), 0);
    }
}
