//! `metav1.Time`, `metav1.MicroTime` and `metav1.Duration` as text.
//!
//! The text forms are those of apimachinery `pkg/apis/meta/v1/{time,micro_time,duration}.go`.

use jiff::Timestamp;
use jiff::tz::Offset;

/// Why a time or duration was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a time of the layout Go expects there.
    #[error("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")]
    Time {
        /// What was given.
        text: String,
        /// The layout in Go's notation.
        layout: &'static str,
    },
    /// Not a Go duration.
    #[error("time: invalid duration {0:?}")]
    Duration(String),
}

const RFC3339: &str = "2006-01-02T15:04:05Z07:00";
const RFC3339_MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";
/// 0001-01-01T00:00:00Z in Unix seconds: Go's zero time, which JSON prints as null.
const GO_ZERO_UNIX_SECONDS: i64 = -62_135_596_800;

fn parse(text: &str, layout: &'static str) -> Result<Timestamp, Error> {
    let error = || Error::Time { text: text.to_owned(), layout };
    let bytes = text.as_bytes();
    // jiff also takes lower-case letters, spaces and offsets without colon, which Go does not.
    let shaped = bytes.len() >= 20
        && bytes[10] == b'T'
        && bytes[..10].iter().enumerate().all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() })
        && (bytes.ends_with(b"Z")
            || (bytes[bytes.len() - 6] == b'+' || bytes[bytes.len() - 6] == b'-') && bytes[bytes.len() - 3] == b':')
        && !text.contains('[');
    if !shaped {
        return Err(error());
    }
    text.parse().map_err(|_| error())
}

/// Parses a `Time`: RFC 3339, any fraction and offset.
pub fn parse_time(text: &str) -> Result<Timestamp, Error> {
    parse(text, RFC3339)
}

/// Parses a `MicroTime`: RFC 3339 with exactly six digits of fraction.
pub fn parse_micro_time(text: &str) -> Result<Timestamp, Error> {
    let fraction = text.get(19..).is_some_and(|rest| {
        let digits = rest.as_bytes();
        digits.len() > 7
            && digits[0] == b'.'
            && digits[1..7].iter().all(u8::is_ascii_digit)
            && !digits[7].is_ascii_digit()
    });
    if fraction {
        parse(text, RFC3339_MICRO)
    } else {
        Err(Error::Time { text: text.to_owned(), layout: RFC3339_MICRO })
    }
}

/// Prints a `Time`: UTC, whole seconds.
pub fn format_time(time: Timestamp) -> String {
    Offset::UTC.to_datetime(time).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Prints a `MicroTime`: UTC, six digits of fraction.
pub fn format_micro_time(time: Timestamp) -> String {
    Offset::UTC.to_datetime(time).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Whether this is Go's zero time.
pub fn is_zero(time: Timestamp) -> bool {
    time.as_second() == GO_ZERO_UNIX_SECONDS && time.subsec_nanosecond() == 0
}

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses a Go duration (`"1h15m30.5s"`) into nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, Error> {
    let error = || Error::Duration(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(error());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        total += scaled(number, *nanos).ok_or_else(error)?;
        if total > i128::from(i64::MAX) + 1 {
            return Err(error());
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| error())
}

fn scaled(number: &str, nanos: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() > 19 || fraction.contains('.') {
        return None;
    }
    let mut total = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()?.checked_mul(nanos)? };
    let mut scale = nanos;
    let mut below: i128 = 0;
    let mut divisor: i128 = 1;
    for digit in fraction.bytes().take(18) {
        below = below * 10 + i128::from(digit - b'0');
        divisor *= 10;
    }
    scale = scale.checked_mul(below)? / divisor;
    total += scale;
    Some(total)
}

/// Prints nanoseconds as Go's `time.Duration.String` does.
pub fn format_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    if magnitude < 1_000_000_000 {
        let (unit, scale) = match magnitude {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{}{unit}", magnitude / scale, fraction(magnitude % scale, scale));
    }
    let seconds_total = magnitude / 1_000_000_000;
    let (hours, minutes, seconds) = (seconds_total / 3600, seconds_total / 60 % 60, seconds_total % 60);
    let tail = format!("{seconds}{}s", fraction(magnitude % 1_000_000_000, 1_000_000_000));
    match (hours, minutes) {
        (0, 0) => format!("{sign}{tail}"),
        (0, _) => format!("{sign}{minutes}m{tail}"),
        _ => format!("{sign}{hours}h{minutes}m{tail}"),
    }
}

fn fraction(rest: u64, scale: u64) -> String {
    if rest == 0 {
        return String::new();
    }
    let width = scale.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    format!(".{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_utc_seconds() {
        let time = parse_time("2024-05-01T12:00:00.9+02:00").unwrap();
        assert_eq!(format_time(time), "2024-05-01T10:00:00Z");
        assert_eq!(
            format_micro_time(parse_micro_time("2024-05-01T12:00:00.000120Z").unwrap()),
            "2024-05-01T12:00:00.000120Z"
        );
        assert!(is_zero(parse_time("0001-01-01T00:00:00Z").unwrap()));
        for bad in
            ["", "yesterday", "2024-05-01", "2024-05-01t12:00:00Z", "2024-05-01T12:00:00", "2024-05-01T25:00:00Z"]
        {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
        assert!(parse_micro_time("2024-05-01T12:00:00Z").is_err());
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, nanos, printed) in [
            ("0", 0, "0s"),
            ("1h15m30.5s", 4_530_500_000_000, "1h15m30.5s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("1.5ms", 1_500_000, "1.5ms"),
            ("-3us", -3_000, "-3µs"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
            assert_eq!(format_duration(nanos), printed);
        }
        for bad in ["", "3", "x", "1d", "s", "9999999999h", "-"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
