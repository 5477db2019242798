//! Classic Prometheus buckets (`le`) as exact sums of the probes' buckets.
//!
//! Every bound here is a bound of a bucket there, so that nothing is interpolated.

use loopscope_probe::histogram::{COUNT_BUCKETS, TIME_BUCKETS};

use crate::model::histogram::{count_bound, time_bound};

/// A distribution of a group.
#[derive(Clone, Copy, Debug)]
pub struct Buckets<'a> {
    /// The probes' own buckets.
    raw: &'a [u64],
    scale: &'static Scale,
    /// All values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

/// How the probes' buckets of a kind of values lie.
#[derive(Debug)]
struct Scale {
    /// Classic buckets: the first one's last bucket of the probes, how many more there are in each, how many there are.
    classic: (usize, usize, usize),
    /// Upper bound of a bucket of the probes.
    bound: fn(usize) -> f64,
    /// Native schema 2: the number of a bucket of the probes is its index there and this.
    #[cfg(feature = "native-histograms")]
    shift: i32,
}

/// Classic buckets that end at 2^-20 s, 2^-18 s, ... 2^6 s: the probes' bucket i ends at 2^((i + 1) / 4 - 22) s.
static TIMES: Scale = Scale {
    classic: (7, 8, 14),
    bound: time_bound,
    #[cfg(feature = "native-histograms")]
    shift: -87,
};

/// Classic buckets that end at 1, 2, 4, ... 32,768 and contain it: the probes' bucket i ends at 2^((i - 1) / 4).
static COUNTS: Scale = Scale {
    classic: (1, 4, 16),
    bound: count_bound,
    #[cfg(feature = "native-histograms")]
    shift: -1,
};

impl Buckets<'_> {
    /// Of times, with their sum in ns.
    pub fn times(raw: &[u64; TIME_BUCKETS], sum_ns: u64) -> Buckets<'_> {
        Buckets { raw, scale: &TIMES, count: raw.iter().sum(), sum: sum_ns as f64 / 1e9 }
    }

    /// Of counts.
    pub fn counts(raw: &[u64; COUNT_BUCKETS], sum: u64) -> Buckets<'_> {
        Buckets { raw, scale: &COUNTS, count: raw.iter().sum(), sum: sum as f64 }
    }

    /// Upper bounds, and how many values are at most that.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let (first, step, number) = self.scale.classic;
        let mut sum = 0;
        let mut begin = 0;
        (0..number).map(move |i| {
            let end = first + step * i;
            sum += self.raw.get(begin..=end).unwrap_or_default().iter().sum::<u64>();
            begin = end + 1;
            ((self.scale.bound)(end), sum)
        })
    }
}

/// A distribution as a native histogram of schema 2.
#[cfg(feature = "native-histograms")]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Native {
    /// Up to here values count as nothing: the end of the probes' lowest bucket of times.
    pub zero_threshold: f64,
    /// How many those are.
    pub zero_count: u64,
    /// Runs of buckets: how far from the last one, and how many.
    pub spans: Vec<(i32, u32)>,
    /// What each bucket has more than the one before.
    pub deltas: Vec<i64>,
}

#[cfg(feature = "native-histograms")]
impl Buckets<'_> {
    /// The same as a native histogram: every bucket of the probes is one of schema 2.
    pub fn native(&self) -> Native {
        let zero_threshold = match (self.scale.bound)(0) {
            // Of counts: nothing is exactly nothing, for which clients write 2^-128.
            0.0 => (-128.0_f64).exp2(),
            bound => bound,
        };
        let mut native = Native {
            zero_threshold,
            zero_count: self.raw.first().copied().unwrap_or(0),
            ..Native::default()
        };
        let (mut next, mut last) = (0, 0);
        for (i, count) in (0_i32..).zip(self.raw).skip(1).filter(|(_, count)| **count > 0) {
            let index = i + self.scale.shift;
            match native.spans.last_mut() {
                Some((_, length)) if index == next => *length += 1,
                // The first one's distance is from index 0.
                _ => native.spans.push((index - next, 1)),
            }
            native.deltas.push(count.cast_signed() - last);
            (next, last) = (index + 1, count.cast_signed());
        }
        native
    }
}

#[cfg(test)]
mod tests {
    use loopscope_probe::histogram::{count_bucket, time_bucket};

    use super::*;

    #[test]
    fn times_end_at_powers_of_two_seconds_from_a_microsecond_to_a_minute() {
        let bounds: Vec<f64> = Buckets::times(&[0; TIME_BUCKETS], 0).cumulative().map(|(le, _)| le).collect();
        let expected: Vec<f64> = (-20..=6).step_by(2).map(|exponent| f64::from(exponent).exp2()).collect();
        assert_eq!(bounds, expected);
    }

    #[test]
    fn counts_end_at_powers_of_two() {
        let bounds: Vec<f64> =
            Buckets::counts(&[0; COUNT_BUCKETS], 0).cumulative().map(|(le, _)| le).collect();
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
            assert_eq!(buckets.cumulative().map(|(_, count)| count).collect::<Vec<_>>(), expected, "{ns}");
            assert_eq!((buckets.count, buckets.sum), (3, 3.0 * ns as f64 / 1e9));
        }
    }

    #[test]
    fn a_power_of_two_belongs_to_the_bucket_that_it_names() {
        for n in [0_u32, 1, 2, 3, 4, 5, 8, 9, 1024, 1025, 32_768, 40_000] {
            let mut kernel = [0; COUNT_BUCKETS];
            kernel[count_bucket(n)] = 1;
            for (le, count) in Buckets::counts(&kernel, n.into()).cumulative() {
                assert_eq!(count == 1, f64::from(n) <= le, "{n} at {le}");
            }
        }
    }

    /// What a native histogram says, bucket by bucket: its upper bound, and how many.
    #[cfg(feature = "native-histograms")]
    fn said(native: &Native) -> Vec<(f64, u64)> {
        let (mut index, mut count, mut deltas) = (0, 0, native.deltas.iter());
        let mut said = vec![(native.zero_threshold, native.zero_count)];
        for (distance, length) in &native.spans {
            index += distance;
            for _ in 0..*length {
                count += deltas.next().unwrap();
                // Schema 2: bucket i ends at 2^(i / 4).
                said.push(((f64::from(index) / 4.0).exp2(), count.try_into().unwrap()));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        said.retain(|(_, count)| *count > 0);
        said
    }

    #[test]
    #[cfg(feature = "native-histograms")]
    fn a_native_histogram_has_every_bucket_of_the_probes_at_its_own_bound() {
        for filled in
            [vec![0], vec![1], vec![127], vec![0, 1, 2, 3, 50, 52, 53, 87, 88, 127], (0..128).collect()]
        {
            let mut kernel = [0; TIME_BUCKETS];
            filled.iter().for_each(|i| kernel[*i] = 1 + 7 * *i as u64 % 5);
            let expected: Vec<(f64, u64)> = filled.iter().map(|i| (time_bound(*i), kernel[*i])).collect();
            assert_eq!(said(&Buckets::times(&kernel, 0).native()), expected);
        }
        for n in [0_u32, 1, 2, 3, 16, 1_024, 1_025] {
            let mut kernel = [0; COUNT_BUCKETS];
            kernel[count_bucket(n)] = 4;
            let found = said(&Buckets::counts(&kernel, 0).native());
            let [(bound, 4)] = found[..] else { panic!("{n}: {found:?}") };
            assert!(f64::from(n) <= bound && (n < 2 || f64::from(n) > bound * 0.8408), "{n}: {bound}");
        }
        assert_eq!(Buckets::times(&[0; TIME_BUCKETS], 0).native().spans, []);
    }
}
