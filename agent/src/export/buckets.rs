//! Classic Prometheus buckets (`le`) as exact sums of the probes' buckets.
//!
//! Every bound here is a bound of a bucket there, so that nothing is interpolated.

use loopscope_probe::histogram::{COUNT_BUCKETS, TIME_BUCKETS};

use crate::model::histogram::{count_bound, time_bound};

/// Classic buckets of times, which end at 2^-20 s, 2^-18 s, ... 2^6 s.
const TIMES: usize = 14;

/// Classic buckets of counts, which end at 1, 2, 4, ... 32,768 and contain it.
const COUNTS: usize = 16;

/// A distribution with cumulative counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Upper bounds, and how many values are at most that.
    pub cumulative: Vec<(f64, u64)>,
    /// All values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl Buckets {
    /// Of times, with their sum in ns.
    pub fn times(buckets: &[u64; TIME_BUCKETS], sum_ns: u64) -> Buckets {
        // The probes' bucket i ends at 2^((i + 1) / 4 - 22) s.
        let ends = (0..TIMES).map(|i| 4 * (2 + 2 * i) - 1);
        Buckets::new(buckets, ends, time_bound, sum_ns as f64 / 1e9)
    }

    /// Of counts.
    pub fn counts(buckets: &[u64; COUNT_BUCKETS], sum: u64) -> Buckets {
        // The probes' bucket i ends at 2^((i - 1) / 4).
        let ends = (0..COUNTS).map(|i| 4 * i + 1);
        Buckets::new(buckets, ends, count_bound, sum as f64)
    }

    /// `ends`: the probes' buckets at whose upper bounds the classic ones end.
    fn new(buckets: &[u64], ends: impl Iterator<Item = usize>, bound: fn(usize) -> f64, sum: f64) -> Buckets {
        let up_to = |end: usize| buckets.iter().take(end + 1).sum();
        let cumulative = ends.map(|end| (bound(end), up_to(end))).collect();
        Buckets { cumulative, count: buckets.iter().sum(), sum }
    }
}

#[cfg(test)]
mod tests {
    use loopscope_probe::histogram::{count_bucket, time_bucket};

    use super::*;

    #[test]
    fn times_end_at_powers_of_two_seconds_from_a_microsecond_to_a_minute() {
        let bounds: Vec<f64> =
            Buckets::times(&[0; TIME_BUCKETS], 0).cumulative.iter().map(|(le, _)| *le).collect();
        let expected: Vec<f64> = (-20..=6).step_by(2).map(|exponent| f64::from(exponent).exp2()).collect();
        assert_eq!(bounds, expected);
    }

    #[test]
    fn counts_end_at_powers_of_two() {
        let bounds: Vec<f64> =
            Buckets::counts(&[0; COUNT_BUCKETS], 0).cumulative.iter().map(|(le, _)| *le).collect();
        let expected: Vec<f64> = (0..16).map(|exponent| f64::from(exponent).exp2()).collect();
        assert_eq!(bounds, expected);
    }

    #[test]
    fn a_time_is_in_every_bucket_from_its_own_on() {
        for (ns, first) in
            [(1, 0), (900, 0), (1_000, 1), (1_000_000, 6), (1_100_000_000, 11), (70_000_000_000, 14)]
        {
            let mut kernel = [0; TIME_BUCKETS];
            kernel[time_bucket(ns)] = 3;
            let buckets = Buckets::times(&kernel, 3 * ns);
            let expected: Vec<u64> = (0..14).map(|i| if i >= first { 3 } else { 0 }).collect();
            assert_eq!(
                buckets.cumulative.iter().map(|(_, count)| *count).collect::<Vec<_>>(),
                expected,
                "{ns}"
            );
            assert_eq!((buckets.count, buckets.sum), (3, 3.0 * ns as f64 / 1e9));
        }
    }

    #[test]
    fn a_power_of_two_belongs_to_the_bucket_that_it_names() {
        for n in [0_u32, 1, 2, 3, 4, 5, 8, 9, 1024, 1025, 32_768, 40_000] {
            let mut kernel = [0; COUNT_BUCKETS];
            kernel[count_bucket(n)] = 1;
            for (le, count) in Buckets::counts(&kernel, n.into()).cumulative {
                assert_eq!(count == 1, f64::from(n) <= le, "{n} at {le}");
            }
        }
    }
}
