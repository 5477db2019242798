//! Claims about groups that need no records; those with figures are in the tests of top.

use super::*;

#[test]
fn every_grouping_is_reached_and_comes_round() {
    let mut grouping = Grouping::default();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(grouping);
        grouping = grouping.next();
    }
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), grouping), (3, Grouping::Thread));
}

#[test]
fn a_place_is_the_container_else_the_unit_else_the_control_group_else_the_name() {
    let mut row = LoopRow { comm: "x".to_owned(), ..LoopRow::default() };
    assert_eq!(place(&row), "x");
    row.cgroup = Some("/a".to_owned());
    assert_eq!(place(&row), "/a");
    row.unit = Some("a.service".to_owned());
    assert_eq!(place(&row), "a.service");
    row.container = Some("shop".to_owned());
    assert_eq!(place(&row), "shop");
}

#[test]
fn octaves_hold_every_bucket_once_and_their_bounds_double() {
    let mut buckets = [0; TIME_BUCKETS];
    buckets[0] = 3;
    buckets[PER_OCTAVE - 1] = 4;
    buckets[TIME_BUCKETS - 1] = 5;
    assert_eq!(*octaves(&buckets), [(0, 7), (OCTAVES as u8 - 1, 5)]);
    assert!((octave_bound(1) / octave_bound(0) - 2.0).abs() < 1e-9);
}
