//! Durations as Go writes them: `1h2m3.5s`, `300ms`.

use std::time::Duration;

/// Nanoseconds by unit (Go `time.ParseDuration`).
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];

/// Reads a duration.
///
/// # Errors
/// What is no duration, in a sentence.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration like 10s, 300ms or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut nanos) = (text, 0.0);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = UNITS.iter().find(|(name, _)| *name == &rest[..unit]).ok_or_else(wrong)?.1;
        nanos += number * scale;
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(nanos / 1e9).map_err(|_| wrong())
}

/// Reads a duration, or, as this store took it once, a number of seconds.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_or_seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).or_else(|_| parse(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        assert_eq!(parse("1h2m3.5s"), Ok(Duration::from_millis(3_723_500)));
        assert_eq!(parse("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        for wrong in ["", "5", "s", "5x", "-1s", "1.2.3s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_or_seconds("600"), Ok(Duration::from_secs(600)));
    }
}
