//! `intstr.IntOrString`.

use std::fmt;

use serde_json::Value;

/// A number, or a name or percentage: ports, `maxUnavailable`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IntOrString {
    /// A plain number.
    Int(i32),
    /// A name, or a percentage such as `"25%"`.
    String(String),
}

impl IntOrString {
    /// Reads it from a JSON value; `None` for anything but a 32-bit number or a string.
    pub fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::String(text.clone())),
            Value::Number(number) => number.as_i64().and_then(|n| i32::try_from(n).ok()).map(Self::Int),
            _ => None,
        }
    }

    /// As JSON.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Int(number) => Value::from(*number),
            Self::String(text) => Value::from(text.as_str()),
        }
    }

    /// The percentage, if this is a string of the form `N%`.
    pub fn percent(&self) -> Option<i32> {
        match self {
            Self::Int(_) => None,
            Self::String(text) => text.strip_suffix('%')?.parse().ok(),
        }
    }

    /// As `intstr.GetScaledValueFromIntOrPercent`: a number as it is, a percentage of `total`; `None` for other text.
    pub fn scaled(&self, total: i32, round_up: bool) -> Option<i32> {
        if let Self::Int(number) = self {
            return Some(*number);
        }
        let product = i64::from(self.percent()?) * i64::from(total);
        let scaled = if round_up {
            product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0)
        } else {
            product.div_euclid(100)
        };
        i32::try_from(scaled).ok()
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::String(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_scale_and_round_as_asked() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!(quarter.scaled(10, true), Some(3));
        assert_eq!(quarter.scaled(10, false), Some(2));
        assert_eq!(IntOrString::Int(7).scaled(10, true), Some(7));
        assert_eq!(IntOrString::String("http".into()).scaled(10, true), None);
    }
}
