//! Sums that stay at the greatest number where they would begin anew.
//!
//! Counts of a kernel never come near it. Those of a recording are what somebody wrote into a file: they may be
//! nonsense, but a view of them ends neither in a panic nor in a counter that falls.

/// Adds to a sum.
pub fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

/// Adds to each sum another one.
pub fn add_each<'a>(sums: impl IntoIterator<Item = &'a mut u64>, more: impl IntoIterator<Item = u64>) {
    sums.into_iter().zip(more).for_each(|(sum, more)| add(sum, more));
}

/// The sum of some.
pub fn of(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_is_too_great_stays_where_it_is() {
        let mut sums = [u64::MAX - 1, 4];
        add_each(&mut sums, [7, 7]);
        assert_eq!((sums, of(sums)), ([u64::MAX, 11], u64::MAX));
        assert_eq!((of([1, 2]), of([])), (3, 0));
    }
}
