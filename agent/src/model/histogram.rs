//! Quantiles of the probes' histograms. The only place that knows what a bucket's bounds are in users' units.

use super::sum;

/// Upper bound of a bucket of times, seconds.
pub fn time_bound(i: usize) -> f64 {
    ((i as f64 + 1.0) / 4.0 - 22.0).exp2()
}

/// Upper bound (inclusive) of a bucket of counts.
pub fn count_bound(i: usize) -> f64 {
    match i {
        0 => 0.0,
        _ => ((i as f64 - 1.0) / 4.0).exp2().floor(),
    }
}

/// Count, sum, quantiles and largest value of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    /// Values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Median, 90th and 99th percentile: the upper bound of the bucket that holds them, but at most `max`.
    pub quantiles: [f64; 3],
    /// The largest value.
    pub max: f64,
}

/// The quantiles that are shown.
pub const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

impl Distribution {
    /// From buckets, their bounds, and what the kernel says of sum and largest value; None where nothing was seen.
    ///
    /// `max` is believed within the highest bucket that holds something: a value that was counted on one side of
    /// the window's edge and measured on the other must not contradict the histogram, nor the sum, which no value exceeds.
    pub fn new(buckets: &[u64], bound: fn(usize) -> f64, sum: f64, max: f64) -> Option<Distribution> {
        let count = sum::of(buckets.iter().copied());
        let highest = buckets.iter().rposition(|bucket| *bucket > 0)?;
        let floor = if highest == 0 { 0.0 } else { bound(highest - 1) };
        let last = highest + 1 == buckets.len();
        // The last bucket has no upper bound.
        let max = max.max(floor).min(if last { f64::INFINITY } else { bound(highest) }).min(sum);
        let quantiles = QUANTILES.map(|quantile| at(buckets, bound, count, quantile).min(max));
        Some(Distribution { count, sum, quantiles, max })
    }
}

/// Upper bound of the bucket that holds the value of rank ceil(quantile * count).
fn at(buckets: &[u64], bound: fn(usize) -> f64, count: u64, quantile: f64) -> f64 {
    let rank = ((quantile * count as f64).ceil() as u64).max(1);
    let mut seen: u64 = 0;
    for (i, bucket) in buckets.iter().enumerate() {
        sum::add(&mut seen, *bucket);
        if seen >= rank {
            return bound(i);
        }
    }
    bound(buckets.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use loopscope_probe::histogram::{COUNT_BUCKETS, TIME_BUCKETS, count_bucket, time_bucket};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_seen_is_no_distribution() {
        assert_eq!(Distribution::new(&[0; TIME_BUCKETS], time_bound, 0.0, 0.0), None);
    }

    #[test]
    fn a_largest_value_outside_the_histogram_is_pulled_into_its_highest_bucket() {
        let mut buckets = [0; TIME_BUCKETS];
        buckets[time_bucket(1_000_000)] = 1;
        let distribution = Distribution::new(&buckets, time_bound, 0.002, 7.0).unwrap();
        assert!(distribution.max > 0.001 && distribution.max < 0.0012, "{distribution:?}");
        let distribution = Distribution::new(&buckets, time_bound, 0.001_01, 7.0).unwrap();
        assert_eq!(distribution.max, 0.001_01);
        let distribution = Distribution::new(&buckets, time_bound, 0.001, 0.0).unwrap();
        assert!(distribution.max > 0.0008 && distribution.max < 0.001, "{distribution:?}");
    }

    proptest! {
        #[test]
        fn quantiles_of_times_are_at_most_a_bucket_above_the_truth(
            values in proptest::collection::vec(300_u64..1_000_000_000_000, 1..200)
        ) {
            let mut buckets = [0; TIME_BUCKETS];
            values.iter().for_each(|value| buckets[time_bucket(*value)] += 1);
            let mut sorted: Vec<f64> = values.iter().map(|ns| *ns as f64 / 1e9).collect();
            sorted.sort_by(f64::total_cmp);
            let (sum, max) = (sorted.iter().sum(), *sorted.last().unwrap());
            let distribution = Distribution::new(&buckets, time_bound, sum, max).unwrap();
            for (quantile, found) in QUANTILES.into_iter().zip(distribution.quantiles) {
                let truth = sorted[((quantile * sorted.len() as f64).ceil() as usize).max(1) - 1];
                prop_assert!(found >= truth * 0.995 && found <= truth * 1.195, "{quantile}: {found} for {truth}");
            }
            prop_assert_eq!(distribution.count, values.len() as u64);
            prop_assert!((distribution.max - max).abs() <= max * 0.005);
        }

        #[test]
        fn small_counts_have_exact_quantiles(values in proptest::collection::vec(0_u32..6, 1..100)) {
            let mut buckets = [0; COUNT_BUCKETS];
            values.iter().for_each(|value| buckets[count_bucket(*value)] += 1);
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let (sum, max) = (f64::from(sorted.iter().sum::<u32>()), f64::from(*sorted.last().unwrap()));
            let distribution = Distribution::new(&buckets, count_bound, sum, max).unwrap();
            let rank = |quantile: f64| ((quantile * sorted.len() as f64).ceil() as usize).max(1) - 1;
            let truth = QUANTILES.map(|quantile| f64::from(sorted[rank(quantile)]));
            prop_assert_eq!(distribution.quantiles, truth);
            prop_assert_eq!(distribution.max, max);
        }
    }
}
