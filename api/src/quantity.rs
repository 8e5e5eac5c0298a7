//! `resource.Quantity`: exact amounts with suffixes, printed canonically.
//!
//! Parsing, rounding and printing follow apimachinery `pkg/api/resource/{quantity,amount,suffix}.go`: nothing below a
//! nano exists (it is rounded away from zero), nothing above 2^63-1 either (it is capped), and a canonical quantity has no
//! fraction, the largest suffix that allows that, and the family of suffixes it was written with.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Add, Sub};
use std::str::FromStr;

/// Units of the representation in one.
const NANOS: i128 = 1_000_000_000;
/// Largest amount, in nanos.
const NANOS_MAX: i128 = i64::MAX as i128 * NANOS;
/// Digits of a fraction that are looked at one by one; what follows only rounds up.
const FRACTION_DIGITS: usize = 18;
/// Decimal exponents beyond this say zero or the maximum, whatever the digits.
const EXPONENT_MAX: i64 = 10_000;
/// Longest text that is looked at, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

/// Which family of suffixes a quantity is printed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// `n u m k M G T P E`.
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`.
    BinarySi,
    /// `e3`, `e-6`.
    DecimalExponent,
}

/// An amount of a resource.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not of the form.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The suffix is none.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// The number is none.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

impl Quantity {
    /// A whole amount.
    pub fn from_i64(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * NANOS, format }
    }

    /// An amount in thousandths.
    pub fn from_milli(milli: i64, format: Format) -> Self {
        Self { nanos: i128::from(milli) * (NANOS / 1000), format }
    }

    /// The family of suffixes.
    pub fn format(self) -> Format {
        self.format
    }

    /// Whether this is 0.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(self) -> i32 {
        self.nanos.signum() as i32
    }

    /// Rounded away from zero to a whole number.
    pub fn value(self) -> i64 {
        clamp(round_away(self.nanos, NANOS))
    }

    /// Rounded away from zero to thousandths.
    pub fn milli_value(self) -> i64 {
        clamp(round_away(self.nanos, NANOS / 1000))
    }

    /// As a float, for ratios.
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    /// The outcome of an operation with another quantity, whose format counts when this is 0.
    fn combined(self, nanos: i128, other: Self) -> Self {
        Self { nanos, format: if self.is_zero() { other.format } else { self.format } }
    }
}

impl Add for Quantity {
    type Output = Self;

    /// Keeps this quantity's format unless it is 0.
    fn add(self, other: Self) -> Self {
        self.combined(self.nanos.saturating_add(other.nanos), other)
    }
}

impl Sub for Quantity {
    type Output = Self;

    /// Keeps this quantity's format unless it is 0.
    fn sub(self, other: Self) -> Self {
        self.combined(self.nanos.saturating_sub(other.nanos), other)
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn round_away(value: i128, unit: i128) -> i128 {
    value / unit + if value % unit == 0 { 0 } else { value.signum() }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// What a suffix multiplies by: a power of ten, or a power of 1024.
enum Scale {
    Ten(i64),
    Kibi(u32),
}

fn suffix(text: &str) -> Option<(Scale, Format)> {
    if let Some(position) = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().position(|name| *name == text) {
        return Some((Scale::Kibi(position as u32 + 1), Format::BinarySi));
    }
    if let Some(exponent) = decimal_suffix(text) {
        return Some((Scale::Ten(exponent), Format::DecimalSi));
    }
    let digits = text.strip_prefix(['e', 'E'])?;
    let exponent: i64 = digits.parse().ok()?;
    Some((Scale::Ten(exponent.clamp(-EXPONENT_MAX, EXPONENT_MAX)), Format::DecimalExponent))
}

fn decimal_suffix(text: &str) -> Option<i64> {
    let names = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    names.iter().position(|name| *name == text).map(|position| (position as i64 - 3) * 3)
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(ParseError::Format);
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let whole_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (whole, rest) = rest.split_at(whole_end);
        let (fraction, tail) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() || !tail.bytes().all(|b| b"eEinumkKMGTP+-0123456789".contains(&b)) {
            return Err(ParseError::Format);
        }
        let (scale, mut format) = suffix(tail).ok_or(ParseError::Suffix)?;
        let magnitude = match scale {
            Scale::Ten(exponent) => decimal(whole, fraction, exponent, 1),
            Scale::Kibi(power) => decimal(whole, fraction, 0, 1024_i128.pow(power)),
        };
        // Fractions of a byte are no bytes.
        if format == Format::BinarySi && magnitude > 0 && magnitude < NANOS {
            format = Format::DecimalSi;
        }
        Ok(Self { nanos: if negative { -magnitude } else { magnitude }, format })
    }
}

/// `whole.fraction * 10^exponent * factor` in nanos, rounded up and capped.
fn decimal(whole: &str, fraction: &str, exponent: i64, factor: i128) -> i128 {
    let digits = format!("{whole}{fraction}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let digits = &digits[zeros..];
    if digits.is_empty() {
        return 0;
    }
    // Where the point stands in `digits`; it may be outside.
    let point = whole.len() as i64 - zeros as i64 + exponent;
    if point > 19 {
        return NANOS_MAX;
    }
    let digit = |index: i64| {
        usize::try_from(index).ok().and_then(|index| digits.as_bytes().get(index)).map_or(0, |b| i128::from(b - b'0'))
    };
    let integer = (0..point).fold(0, |sum, index| sum * 10 + digit(index));
    let mut below: i128 = 0;
    let fraction_end = point + FRACTION_DIGITS as i64;
    for index in point..fraction_end {
        below = below * 10 + digit(index);
    }
    let more = usize::try_from(fraction_end.max(0)).is_ok_and(|end| digits.bytes().skip(end).any(|b| b != b'0'));
    let Some(integer) = integer.checked_mul(NANOS).and_then(|nanos| nanos.checked_mul(factor)) else {
        return NANOS_MAX;
    };
    let product = below * factor;
    let rest = round_away(product, NANOS) + i128::from(more && product % NANOS == 0);
    (integer + rest).min(NANOS_MAX)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANOS == 0;
        let small = self.nanos.abs() < 1024 * NANOS;
        if self.format == Format::BinarySi && whole && !small {
            let mut value = self.nanos / NANOS;
            let mut power = 0;
            while value % 1024 == 0 && power < 6 {
                value /= 1024;
                power += 1;
            }
            return write!(f, "{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let mut value = self.nanos;
        let mut exponent = -9;
        while value % 1000 == 0 && exponent < 18 {
            value /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 { write!(f, "{value}") } else { write!(f, "{value}e{exponent}") };
        }
        let name = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][(exponent / 3 + 3) as usize];
        write!(f, "{value}{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_become_canonical() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1000", "1k"),
            ("1100", "1100"),
            ("100000", "100k"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("512", "512"),
            ("0.5Ki", "512"),
            ("1.5Ki", "1536"),
            ("0.0001Ki", "102400u"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("1E", "1E"),
            ("12e-1", "1200e-3"),
            ("0.0000000001", "1n"),
            ("-0.0000000001", "-1n"),
            ("1.0000000001", "1000000001n"),
            ("9223372036854775807", "9223372036854775807"),
            ("99999999999999999999", "9223372036854775807"),
            ("100E", "9223372036854775807"),
            ("-1Ki", "-1Ki"),
            ("+2", "2"),
        ] {
            assert_eq!(text.parse::<Quantity>().map(|q| q.to_string()), Ok(canonical.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", ".", "a", "1x", "1 ", "--1", "1.2.3", "+"] {
            assert_eq!(text.parse::<Quantity>(), Err(ParseError::Format), "{text}");
        }
        for text in ["1ki", "1mm", "1K", "1e", "1e1.5", "1i"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_round_up_and_add_exactly() {
        let parse = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(parse("1100m").value(), 2);
        assert_eq!(parse("1.5m").milli_value(), 2);
        assert_eq!((parse("100m") + parse("0.9")).to_string(), "1");
        assert_eq!((parse("1Gi") - parse("512Mi")).to_string(), "512Mi");
        assert!(parse("1G") < parse("1Gi") && parse("1000m") == parse("1"));
    }

    proptest! {
        #[test]
        fn canonical_text_is_a_fixed_point(text in "[+-]?[0-9]{0,22}(\\.[0-9]{0,12})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9]{1,3})?") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                let printed = quantity.to_string();
                let again: Quantity = printed.parse().unwrap();
                prop_assert_eq!(again, quantity);
                prop_assert_eq!(again.to_string(), printed);
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,30}") {
            text.parse::<Quantity>().ok();
        }
    }
}
