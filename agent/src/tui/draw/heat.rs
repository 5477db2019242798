//! Heat maps and histograms of times as text: a row per power of two, darker where there was more.

use crate::report::{
    group::{Octaves, octave_bound},
    units,
};

/// From little to much. Four steps, which every terminal font has.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];
/// The rows of a heat map: what is beyond is drawn in the last one, and said.
const ROWS: usize = 12;
/// Columns of the label before a row.
pub const LABEL: usize = 7;

/// The octaves that hold something, from the greatest; at most [`ROWS`].
fn rows<'a>(all: impl Iterator<Item = &'a Octaves>) -> Vec<usize> {
    let (mut low, mut high) = (usize::MAX, 0);
    for (octave, _) in all.flat_map(|octaves| octaves.iter()) {
        (low, high) = (low.min(usize::from(*octave)), high.max(usize::from(*octave)));
    }
    if low == usize::MAX {
        return Vec::new();
    }
    (low.max((high + 1).saturating_sub(ROWS))..=high).rev().collect()
}

/// How much of `octaves` lies in the row: the last row takes what is below it too.
fn count(octaves: &Octaves, row: usize, last: bool) -> u64 {
    let belongs = |octave: u8| usize::from(octave) == row || (last && usize::from(octave) < row);
    octaves.iter().filter(|(octave, _)| belongs(*octave)).map(|(_, count)| *count).sum()
}

/// A heat map over the latest windows, the newest at the right, in at most `width` columns.
pub fn map(past: &[Octaves], width: usize) -> Vec<String> {
    let shown = width.saturating_sub(LABEL + 1).min(past.len());
    let latest = || past.iter().skip(past.len() - shown);
    let rows = rows(latest());
    let last = rows.len().saturating_sub(1);
    let most = |octaves: &Octaves| octaves.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let lines = rows.iter().enumerate().map(|(i, row)| {
        let cells: String =
            latest().map(|octaves| shade(count(octaves, *row, i == last), most(octaves))).collect();
        format!("{:>LABEL$} {cells}", units::seconds(octave_bound(*row)))
    });
    lines.collect()
}

/// Shades of a window are relative to its fullest row: a window with few waits shows their shape too.
fn shade(count: u64, most: u64) -> char {
    let step = match count {
        0 => 0,
        _ => 1 + (count.saturating_mul(3) / most.max(1)).min(3),
    };
    usize::try_from(step).ok().and_then(|step| SHADES.get(step)).copied().unwrap_or(' ')
}

/// A histogram of one window: a bar per row, and the count.
pub fn histogram(octaves: &Octaves, width: usize) -> Vec<String> {
    let rows = rows(std::iter::once(octaves));
    let last = rows.len().saturating_sub(1);
    let most = rows.iter().enumerate().map(|(i, row)| count(octaves, *row, i == last)).max().unwrap_or(0);
    let room = width.saturating_sub(LABEL + 8);
    let lines = rows.iter().enumerate().map(|(i, row)| {
        let count = count(octaves, *row, i == last);
        let bar = units::bar(count as f64 / most.max(1) as f64, room);
        format!(
            "{:>LABEL$} {:>5} {}",
            units::seconds(octave_bound(*row)),
            units::count(count),
            bar.trim_end()
        )
    });
    lines.collect()
}
