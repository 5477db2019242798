//! Figures for people: a number with the unit in which it has one to three digits before the point.
//!
//! Two digits are all that a quantile from a histogram can say, so no more are shown. Machine-readable forms
//! never come through here.

/// A unit: its size, its sign, and from which number of it the next one takes over.
struct Unit {
    size: f64,
    sign: &'static str,
    until: f64,
}

const TIMES: [Unit; 7] = [
    Unit { size: 1e-9, sign: "ns", until: 1000.0 },
    Unit { size: 1e-6, sign: "us", until: 1000.0 },
    Unit { size: 1e-3, sign: "ms", until: 1000.0 },
    Unit { size: 1.0, sign: "s", until: 120.0 },
    Unit { size: 60.0, sign: "m", until: 120.0 },
    Unit { size: 3600.0, sign: "h", until: 48.0 },
    Unit { size: 86_400.0, sign: "d", until: f64::INFINITY },
];

const COUNTS: [Unit; 5] = [
    Unit { size: 1.0, sign: "", until: 1000.0 },
    Unit { size: 1e3, sign: "k", until: 1000.0 },
    Unit { size: 1e6, sign: "M", until: 1000.0 },
    Unit { size: 1e9, sign: "G", until: 1000.0 },
    Unit { size: 1e12, sign: "T", until: f64::INFINITY },
];

/// A time in seconds, as `1.2ms`.
pub fn seconds(value: f64) -> String {
    scale(value, &TIMES, 0)
}

/// A count, as `950` or `1.2k`.
pub fn count(value: u64) -> String {
    scale(value as f64, &COUNTS, 0)
}

/// A rate or a mean, as `0.3`, `12` or `1.2k`; one that is above zero never shows as zero.
pub fn number(value: f64) -> String {
    if value > 0.0 && value < 0.05 { "<0.1".to_owned() } else { scale(value, &COUNTS, 1) }
}

/// A share (0 to 1) in percent. Only a true 0 shows as 0 % and only a true 1 as 100 %.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.5 {
        "<1%".to_owned()
    } else if percent < 100.0 {
        format!("{:.0}%", percent.min(99.0))
    } else {
        format!("{percent:.0}%")
    }
}

/// A share (0 to 1) as a bar of `cells` columns, filled from the left in eighths of a column.
pub fn bar(share: f64, cells: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let steps = (share.clamp(0.0, 1.0) * (cells * 8) as f64).round() as usize;
    (0..cells)
        .map(|cell| match steps.saturating_sub(cell * 8) {
            part @ 0..8 => EIGHTHS.get(part).copied().unwrap_or(' '),
            _ => '█',
        })
        .collect()
}

/// The latest `cells` shares (0 to 1) as columns of eighths, the newest at the right; `.` where there was none.
pub fn sparkline(shares: &[Option<f64>], cells: usize) -> String {
    const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let latest = shares.get(shares.len().saturating_sub(cells)..).unwrap_or_default();
    let bars = latest.iter().map(|share| match share {
        None => '.',
        Some(share) => {
            let step = (share.clamp(0.0, 1.0) * 8.0).ceil() as usize;
            EIGHTHS.get(step.saturating_sub(1)).copied().unwrap_or('.')
        }
    });
    " ".repeat(cells - latest.len()).chars().chain(bars).collect()
}

/// `value` in the first unit that holds it; one decimal below ten, except in the smallest unit, which gets
/// `smallest_decimals`.
fn scale(value: f64, units: &[Unit], smallest_decimals: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let mut text = String::new();
    for (i, unit) in units.iter().enumerate() {
        let scaled = value / unit.size;
        // 9.95 is shown with one decimal as 10.0: whole numbers begin where rounding reaches them.
        let decimals = match (i, scaled < 9.95) {
            (0, true) => smallest_decimals,
            (_, true) => 1,
            (_, false) => 0,
        };
        text = format!("{scaled:.decimals$}{}", unit.sign);
        let rounded = if decimals == 0 { scaled.round() } else { scaled };
        if rounded < unit.until {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_at_most_three_digits_and_a_unit() {
        for (value, text) in [
            (0.0, "0"),
            (5e-9, "5ns"),
            (240e-9, "240ns"),
            (1.23e-6, "1.2us"),
            (999.4e-6, "999us"),
            (999.6e-6, "1.0ms"),
            (9.96e-3, "10ms"),
            (0.123, "123ms"),
            (0.9999, "1.0s"),
            (90.0, "90s"),
            (180.0, "3.0m"),
            (7200.0, "2.0h"),
            (864_000.0, "10d"),
        ] {
            assert_eq!(seconds(value), text, "{value}");
        }
    }

    #[test]
    fn counts_are_whole_and_rates_are_not() {
        assert_eq!(
            [count(0), count(7), count(999), count(1234), count(999_950)],
            ["0", "7", "999", "1.2k", "1.0M"]
        );
        assert_eq!(count(u64::MAX), "18446744T");
        assert_eq!(
            [number(0.0), number(0.01), number(0.3), number(12.3), number(45_600.0)],
            ["0", "<0.1", "0.3", "12", "46k"]
        );
    }

    #[test]
    fn nothing_and_all_are_shown_only_for_nothing_and_all() {
        assert_eq!(
            [percent(0.0), percent(0.001), percent(0.5), percent(0.999), percent(1.0)],
            ["0%", "<1%", "50%", "99%", "100%"]
        );
    }

    #[test]
    fn a_sparkline_shows_the_latest_at_the_right() {
        assert_eq!(sparkline(&[Some(0.0), None, Some(0.5), Some(1.0)], 6), "  ▁.▄█");
        assert_eq!(sparkline(&[Some(1.0), Some(0.0), Some(f64::NAN)], 2), "▁▁");
    }

    #[test]
    fn a_bar_always_has_its_width() {
        assert_eq!(
            [bar(0.0, 5), bar(0.5, 5), bar(1.0, 5), bar(7.0, 5)],
            ["     ", "██▌  ", "█████", "█████"]
        );
        assert_eq!(bar(f64::NAN, 3).chars().count(), 3);
    }
}
