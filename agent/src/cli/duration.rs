//! Durations as they are written on the command line: `10s`, `500ms`, `2m`, `1.5h`; a bare number is seconds.
//!
//! A duration that cannot have been meant (nothing, less than nothing, more than [`LONGEST`]) is refused here,
//! so that no command has to ask again.

use std::time::Duration;

/// The longest duration that is taken.
pub const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// Units and their seconds; a suffix is looked up as a whole, so the order does not matter.
const UNITS: [(&str, f64); 6] =
    [("", 1.0), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];

const WANTED: &str = "a duration is a number with ms, s, m, h or d, such as 500ms, 10s or 1.5h";

/// Reads a duration.
///
/// # Errors
/// One line that says what is wanted, for clap to print after the option and the value.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == suffix).map(|(_, seconds)| *seconds);
    // The split left digits and points alone, so this cannot be an exponent, a sign, an infinity or NaN.
    let (Some(unit), Ok(number)) = (unit, number.parse::<f64>()) else {
        return Err(match text.strip_prefix('-') {
            Some(_) => "a duration must be longer than nothing".to_owned(),
            None => WANTED.to_owned(),
        });
    };
    let seconds = number * unit;
    if seconds > LONGEST.as_secs_f64() {
        return Err("the longest duration is 30d".to_owned());
    }
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| WANTED.to_owned())?;
    if duration.is_zero() {
        return Err("a duration must be longer than nothing".to_owned());
    }
    Ok(duration)
}

/// The same, where no time at all is a good answer too.
///
/// # Errors
/// As [`parse`].
pub fn parse_or_zero(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let is_zero =
        digits.parse() == Ok(0_u64) && UNITS.iter().any(|(unit, _)| text.strip_prefix(digits) == Some(*unit));
    if is_zero { Ok(Duration::ZERO) } else { parse(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_a_duration_only_where_it_may_be() {
        assert_eq!(parse_or_zero("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_or_zero("0"), Ok(Duration::ZERO));
        assert_eq!(parse_or_zero("30s"), Ok(Duration::from_secs(30)));
        for text in ["0x", "-0", "", "s", "0y"] {
            assert!(parse_or_zero(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_unit_is_read_and_a_bare_number_is_seconds() {
        for (text, milliseconds) in [
            ("10s", 10_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1.5s", 1_500),
            ("1d", 86_400_000),
            ("10", 10_000),
            ("0.25", 250),
            (".5s", 500),
            ("30d", 2_592_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_said_why() {
        let refused = |texts: &[&str], reason: &str| {
            for text in texts {
                assert!(parse(text).unwrap_err().contains(reason), "{text}");
            }
        };
        refused(&["0", "0s", "0.0ms", "0.0000001ms", "-1", "-5s"], "longer than nothing");
        refused(&["31d", "721h", "99999999999999999999999999999999s"], "30d");
        refused(
            &[
                "", "s", ".", "1.2.3s", "ten", "10 s", "10S", "1e3s", "+5s", "nan", "inf", "10s5ms", "10µs",
                "５s",
            ],
            "such as",
        );
    }

    proptest! {
        #[test]
        fn any_text_gives_a_duration_in_range_or_one_line(text in "\\PC{0,12}") {
            match parse(&text) {
                Ok(duration) => prop_assert!(!duration.is_zero() && duration <= LONGEST),
                Err(message) => prop_assert!(!message.contains('\n')),
            }
        }
    }
}
