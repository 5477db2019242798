//! The buckets that kernel and agent share: which bucket a value falls in, and the bounds of each.
//!
//! Base-2 exponential, four buckets per power of two (Prometheus native-histogram schema 2, OpenTelemetry
//! scale 2). This file must stay free of floats, of division and of anything that can panic on the kernel's
//! path: [`time_bucket`] and [`count_bucket`] run inside the probes.

/// Buckets of a distribution of times. They span 2^-22 s (0.24 us) to 2^10 s; the first and the last also
/// take what lies beyond.
pub const TIME_BUCKETS: usize = 128;

/// Buckets of a distribution of counts: bucket 0 holds the zeros, the others 1 to 2^15.5 (46,340); the last
/// also takes what lies beyond.
pub const COUNT_BUCKETS: usize = 64;

/// Times are scaled to 2^-30 s, so that bucket bounds are powers of two in seconds: ns * 17592 >> 14 is
/// ns * 1.0737305 where 2^30 / 10^9 = 1.0737418, an error of 0.001 %.
const SCALE_MUL: u64 = 17_592;
const SCALE_SHIFT: u32 = 14;
/// Beyond this, 2199 s, all is one bucket; up to it, no product or shift below leaves 64 bits.
const TIME_CEILING_NS: u64 = 1 << 41;
/// log2 of the lower bound of time bucket 0, in units of 2^-30 s.
const TIME_FLOOR_LOG2: u64 = 8;

/// The highest bit of a value, as 0 or 1.
#[inline(always)]
fn sign(v: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut sign = v;
        // In assembler, because the compiler makes a comparison and a branch of a shift that it can see through, and
        // each branch doubles the paths that the verifier follows.
        // SAFETY: shifts a register.
        unsafe { core::arch::asm!("{sign} >>= 63", sign = inout(reg) sign) };
        sign
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        v >> 63
    }
}

/// 1 where v > limit, else 0, without a branch, for values below 2^63.
#[inline(always)]
pub fn above(v: u64, limit: u64) -> u64 {
    sign(limit.wrapping_sub(v))
}

/// `v >> by`, for `by` below 64.
#[inline(always)]
fn shifted(v: u64, by: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut v = v;
        // In assembler, because Rust's shift has a mask, which is a step more in a chain of them.
        // SAFETY: shifts a register.
        unsafe { core::arch::asm!("{v} >>= {by}", v = inout(reg) v, by = in(reg) by) };
        v
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        v >> by
    }
}

/// 1 where v is not 0, else 0, without a branch.
#[inline(always)]
pub fn nonzero(v: u64) -> u64 {
    sign(v | v.wrapping_neg())
}

/// floor(log2(v)) for v > 0, without `leading_zeros`: BPF has no such instruction before cpu v4. The last three of its six
/// steps, each of which waits for the one before, are a table's.
#[inline(always)]
pub fn log2(mut v: u64) -> u64 {
    // The upper half first, and by another test, since `above` holds below 2^63 alone.
    let mut r = nonzero(v >> 32) * 32;
    v = shifted(v, r);
    for bits in [16, 8] {
        let shift = above(v, (1 << bits) - 1) * bits;
        v = shifted(v, shift);
        r += shift;
    }
    r + small_log2(v)
}

/// floor(log2(v)) for 0 < v < 256.
#[inline(always)]
fn small_log2(v: u64) -> u64 {
    #[expect(clippy::indexing_slicing, reason = "in a constant, an index out of bounds does not compile")]
    static TABLE: [u8; 256] = {
        let mut table = [0; 256];
        let mut v = 2;
        while v < 256 {
            table[v] = table[v / 2] + 1;
            v += 1;
        }
        table
    };
    let mut i = v as usize;
    #[cfg(target_arch = "bpf")]
    // In assembler, since the compiler leaves out a mask that it sees to be of no effect, and the verifier does not see it.
    // SAFETY: masks a register.
    unsafe {
        core::arch::asm!("{i} &= 255", i = inout(reg) i)
    };
    #[cfg(not(target_arch = "bpf"))]
    {
        i &= 255;
    }
    // SAFETY: below the length of the table. Volatile, or the compiler makes a branch of it that is verified twice.
    u64::from(unsafe { (&raw const TABLE).cast::<u8>().add(i).read_volatile() })
}

/// Which quarter (0..4) of its octave `v` (> 0, floor(log2(v)) = `exponent`) lies in; the quarters are equal
/// on a logarithmic scale.
#[inline(always)]
fn quarter(v: u64, exponent: u64) -> u64 {
    // The mantissa with 16 bits behind the point; v stays below 2^48 in both uses.
    let mantissa = shifted(v << 16, exponent) & 0xffff;
    above(mantissa, QUARTERS[0] - 1) + above(mantissa, QUARTERS[1] - 1) + above(mantissa, QUARTERS[2] - 1)
}

/// (2^(1/4) - 1, 2^(2/4) - 1, 2^(3/4) - 1) in 1/2^16, rounded up: where the quarters of an octave begin.
const QUARTERS: [u64; 3] = [12_400, 27_146, 44_682];

/// The bucket of a time in nanoseconds: 0..TIME_BUCKETS. Bucket i holds times from 2^(i/4 - 22) s up to
/// (not including) 2^((i+1)/4 - 22) s; a time on a bound is put by at most 0.003 % of itself on the wrong side.
#[inline(always)]
pub fn time_bucket(ns: u64) -> usize {
    let ns = if ns > TIME_CEILING_NS { TIME_CEILING_NS } else { ns };
    let v = (ns * SCALE_MUL) >> SCALE_SHIFT;
    if v < 1 << TIME_FLOOR_LOG2 {
        return 0;
    }
    let exponent = log2(v);
    let i = ((exponent - TIME_FLOOR_LOG2) * 4 + quarter(v, exponent)) as usize;
    if i < TIME_BUCKETS { i } else { TIME_BUCKETS - 1 }
}

/// The bucket of a count: 0 for none, else 1 + ceil(4 * log2(n)), so that an upper bound belongs to its
/// bucket: bucket i > 0 holds counts above 2^((i-2)/4) up to and including 2^((i-1)/4).
#[inline(always)]
pub fn count_bucket(n: u32) -> usize {
    if n == 0 {
        return 0;
    }
    // A hair (2^-16) below n, so that a power of two falls into the quarter that it ends.
    let v = ((n as u64) << 16) - 1;
    let exponent = log2(v);
    // v >= 2^15 always, hence no underflow: n = 1 gives exponent 15, quarter 3, bucket 1.
    let i = (exponent * 4 + quarter(v, exponent) + 2 - 64) as usize;
    if i < COUNT_BUCKETS { i } else { COUNT_BUCKETS - 1 }
}

/// Counts whose buckets [`SMALL_COUNTS`] has.
pub const SMALL: usize = 64;
/// The buckets of small counts. By exact arithmetic: bucket i > 0 ends at 2^((i-1)/4), so a count's fourth power is at
/// most 2^(i-1).
#[expect(clippy::indexing_slicing, reason = "in a constant, an index out of bounds does not compile")]
pub static SMALL_COUNTS: [u8; SMALL] = {
    let mut buckets = [0; SMALL];
    let mut n = 1;
    while n < SMALL {
        while (1 << (buckets[n] as u32)) < n * n * n * n {
            buckets[n] += 1;
        }
        buckets[n] += 1;
        n += 1;
    }
    buckets
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_of_small_counts_are_those_of_all_counts() {
        for (n, bucket) in SMALL_COUNTS.iter().enumerate() {
            assert_eq!(usize::from(*bucket), count_bucket(n as u32), "{n}");
        }
    }

    #[test]
    fn a_logarithm_by_steps_and_a_table_is_the_machines() {
        for bit in 0..64 {
            for v in [(1_u64 << bit) - 1, 1 << bit, (1 << bit) | 1, (1 << bit) | (1 << bit) >> 1] {
                if v > 0 {
                    assert_eq!(log2(v), u64::from(v.ilog2()), "{v}");
                }
            }
        }
    }

    #[test]
    fn time_buckets_start_at_powers_of_two_in_seconds() {
        for (exponent, bucket) in [(-22, 0), (-20, 8), (-10, 48), (0, 88), (9, 124)] {
            let bound_ns = 1e9 * f64::from(exponent).exp2();
            assert_eq!(time_bucket((bound_ns * 1.0001) as u64 + 1), bucket, "just above 2^{exponent} s");
            if bucket > 0 {
                assert_eq!(time_bucket((bound_ns * 0.9999) as u64), bucket - 1, "just below 2^{exponent} s");
            }
        }
    }

    #[test]
    fn every_time_lies_within_the_bounds_of_its_bucket() {
        let mut ns = 300_u64;
        while ns < 1_000_000_000_000 {
            let i = time_bucket(ns) as f64;
            let seconds = ns as f64 / 1e9;
            // A unit is 0.93 ns, which near 0.3 us is 0.3 % of the value.
            let slack = 1.0 + 0.000_05 + 1.0 / ns as f64;
            assert!(seconds * slack >= (i / 4.0 - 22.0).exp2(), "{ns} ns is below bucket {i}");
            assert!(seconds / slack < ((i + 1.0) / 4.0 - 22.0).exp2(), "{ns} ns is above bucket {i}");
            ns += ns / 97 + 1;
        }
    }

    #[test]
    fn log2_is_the_highest_bit_of_every_value() {
        for bit in 0..64 {
            for v in [1_u64 << bit, u64::MAX >> (63 - bit), (1 << bit) | (1 << bit >> 1)] {
                assert_eq!(log2(v), bit, "{v:#x}");
            }
        }
        assert_eq!([0, 1, 1 << 63, u64::MAX].map(nonzero), [0, 1, 1, 1]);
    }

    #[test]
    fn times_beyond_both_ends_stay_in_the_outer_buckets() {
        assert_eq!(time_bucket(0), 0);
        assert_eq!(time_bucket(u64::MAX), TIME_BUCKETS - 1);
        assert_eq!(time_bucket(2_000_000_000_000), TIME_BUCKETS - 1);
    }

    #[test]
    fn time_buckets_never_decrease() {
        let mut last = 0;
        let mut ns = 1_u64;
        while ns < u64::MAX / 2 {
            let bucket = time_bucket(ns);
            assert!(bucket >= last);
            last = bucket;
            ns += ns / 61 + 1;
        }
    }

    #[test]
    fn every_count_lies_within_the_bounds_of_its_bucket() {
        for n in 1..=46_340_u32 {
            let i = count_bucket(n) as f64;
            assert!(f64::from(n) > ((i - 2.0) / 4.0).exp2() * 0.999_99, "{n} is below bucket {i}");
            assert!(f64::from(n) <= ((i - 1.0) / 4.0).exp2() * 1.000_01, "{n} is above bucket {i}");
        }
    }

    #[test]
    fn a_power_of_two_ends_its_bucket() {
        assert_eq!(count_bucket(0), 0);
        for exponent in 0..15_u32 {
            let n = 1 << exponent;
            assert_eq!(count_bucket(n), (1 + 4 * exponent) as usize);
            assert!(count_bucket(n + 1) > count_bucket(n));
        }
        assert_eq!(count_bucket(u32::MAX), COUNT_BUCKETS - 1);
    }
}
