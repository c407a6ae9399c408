//! Durations and rates as people write them.
use std::time::Duration;

/// `90`, `90s`, `1.5m`, `250ms`, `2h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is no unit of time; use ms, s, m or h")),
    };
    let number = parse_number(text, unit)?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

/// `1100000`, `1100k`, `1.1M`: bits per second.
pub(crate) fn parse_bitrate(text: &str) -> Result<f64, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let factor = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "m" | "M" => 1e6,
        _ => return Err(format!("{unit:?} is no unit of a bit rate; use k or M")),
    };
    Ok(parse_number(text, unit)? * factor)
}

fn parse_number(text: &str, unit: &str) -> Result<f64, String> {
    let number = text.strip_suffix(unit).unwrap_or(text);
    number.parse().map_err(|_| format!("{number:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood() {
        for (text, ms) in [("2", 2000), ("2s", 2000), ("1.5m", 90_000), ("250ms", 250), ("1h", 3_600_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for (text, bps) in [("64000", 64e3), ("1100k", 1.1e6), ("2.5M", 2.5e6)] {
            assert!((parse_bitrate(text).unwrap() - bps).abs() < 1.0, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "s", "2 parsecs", "-1", "1.2.3", "99999999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_bitrate("2G").is_err() && parse_bitrate("").is_err());
    }
}
