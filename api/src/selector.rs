//! Label and field selectors.
//!
//! The language is that of apimachinery `pkg/labels/selector.go` and `pkg/fields/selector.go`.

use std::fmt;

use serde_json::{Map, Value};

use crate::{meta, name_rules};

/// Longest selector that is parsed, in bytes.
const SELECTOR_BYTES_MAX: usize = 64 * 1024;

/// Why a selector was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A label selector that does not parse.
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
    /// A field selector that does not parse.
    #[error("invalid selector: '{0}'; can't understand '{1}'")]
    Field(String, String),
    /// A LabelSelector object with an unknown operator.
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    /// Longer than any selector has reason to be.
    #[error("selector of {0} bytes is too long")]
    TooLong(usize),
}

/// What a requirement wants of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// One of the values.
    In,
    /// None of the values, or no such label.
    NotIn,
    /// Any value.
    Exists,
    /// No such label.
    DoesNotExist,
    /// An integer greater than the value.
    GreaterThan,
    /// An integer less than the value.
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The condition.
    pub operator: Operator,
    /// Its values, sorted.
    pub values: Vec<String>,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    /// Matches no object at all: a LabelSelector object that is null.
    nothing: bool,
}

impl Default for LabelSelector {
    fn default() -> Self {
        Self::everything()
    }
}

impl Requirement {
    /// A requirement whose key and values are well-formed.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, Error> {
        let error = |problem: String| Err(Error::Requirement(problem));
        if let Some(problem) = name_rules::qualified_name(key).first() {
            return error(format!("key: Invalid value: {key:?}: {problem}"));
        }
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return error(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".to_owned(),
                );
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return error(
                    "values: Invalid value: values set must be empty for exists and does not exist".to_owned(),
                );
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 || values[0].parse::<i64>().is_err() => {
                return error(
                    "values[0]: Invalid value: for 'Gt', 'Lt' operators, the value must be an integer".to_owned(),
                );
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            if let Some(problem) = name_rules::label_value(value).first() {
                return error(format!("values[{index}][{key}]: Invalid value: {value:?}: {problem}"));
            }
        }
        values.sort();
        values.dedup();
        Ok(Self { key: key.to_owned(), operator, values })
    }

    /// Whether the condition holds for a label's value.
    fn holds(&self, value: Option<&str>) -> bool {
        let among = |value: &str| self.values.iter().any(|wanted| wanted == value);
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|value| number(value));
        match (self.operator, value) {
            (Operator::In, value) => value.is_some_and(among),
            (Operator::NotIn, value) => !value.is_some_and(among),
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::GreaterThan, value) => {
                value.and_then(number).zip(bound()).is_some_and(|(value, bound)| value > bound)
            }
            (Operator::LessThan, value) => {
                value.and_then(number).zip(bound()).is_some_and(|(value, bound)| value < bound)
            }
        }
    }
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self { requirements: Vec::new(), nothing: false }
    }

    /// Matches no object.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Parses `?labelSelector=`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(Error::TooLong(text.len()));
        }
        let mut parser = Parser { rest: text };
        let mut requirements = Vec::new();
        if parser.peek() == Token::End {
            return Ok(Self::everything());
        }
        loop {
            requirements.push(parser.requirement()?);
            match parser.next() {
                Token::End => break,
                Token::Symbol(",") => {
                    if parser.peek() == Token::End {
                        return Err(Error::Requirement("found '', expected: identifier after ','".to_owned()));
                    }
                }
                other => return Err(expected(other, "',' or 'end of string'")),
            }
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// From a `metav1.LabelSelector`: null matches nothing, `{}` everything.
    pub fn from_object(selector: &Value) -> Result<Self, Error> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in labels {
                requirements.push(Requirement::new(key, Operator::In, vec![value.as_str().unwrap_or("").to_owned()])?);
            }
        }
        for expression in meta::list_at(selector, &["matchExpressions"]) {
            let operator = match meta::str_at(expression, &["operator"]) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(Error::Operator(other.to_owned())),
            };
            let values =
                meta::list_at(expression, &["values"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
            requirements.push(Requirement::new(meta::str_at(expression, &["key"]), operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// From a plain map of labels, as Services and ReplicationControllers have them.
    pub fn from_labels(labels: &Map<String, Value>) -> Self {
        let requirements = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.as_str().unwrap_or("").to_owned()],
            })
            .collect();
        Self { requirements, nothing: false }
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        !self.nothing
            && self.requirements.iter().all(|requirement| {
                requirement.holds(labels.and_then(|labels| labels.get(&requirement.key)).and_then(Value::as_str))
            })
    }

    /// Whether this object is selected.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(meta::labels(object))
    }

    /// Whether this has no condition: it matches everything, or nothing.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The conditions.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let Requirement { key, operator, values } = requirement;
            let joined = values.join(",");
            match operator {
                Operator::In if values.len() == 1 => write!(f, "{key}={joined}")?,
                Operator::NotIn if values.len() == 1 => write!(f, "{key}!={joined}")?,
                Operator::In => write!(f, "{key} in ({joined})")?,
                Operator::NotIn => write!(f, "{key} notin ({joined})")?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::GreaterThan => write!(f, "{key}>{joined}")?,
                Operator::LessThan => write!(f, "{key}<{joined}")?,
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    End,
    Symbol(&'a str),
    Word(&'a str),
}

struct Parser<'a> {
    rest: &'a str,
}

fn expected(found: Token<'_>, wanted: &str) -> Error {
    let text = match found {
        Token::End => "",
        Token::Symbol(text) | Token::Word(text) => text,
    };
    Error::Requirement(format!("found '{text}', expected: {wanted}"))
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Token<'a> {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let special = |c: char| "=!(),<> \t\r\n".contains(c);
        let (token, length) = match text.find(special) {
            Some(0) => {
                let length =
                    ["==", "!="].iter().find(|symbol| text.starts_with(**symbol)).map_or(1, |symbol| symbol.len());
                (Token::Symbol(&text[..length]), length)
            }
            Some(end) => (Token::Word(&text[..end]), end),
            None if text.is_empty() => (Token::End, 0),
            None => (Token::Word(text), text.len()),
        };
        self.rest = &text[length..];
        token
    }

    fn peek(&self) -> Token<'a> {
        Parser { rest: self.rest }.next()
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let absent = self.peek() == Token::Symbol("!");
        if absent {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(expected(other, "identifier")),
        };
        if absent || matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Requirement::new(key, if absent { Operator::DoesNotExist } else { Operator::Exists }, Vec::new());
        }
        let operator = match self.next() {
            Token::Symbol("=" | "==") | Token::Word("in") => Operator::In,
            Token::Symbol("!=") | Token::Word("notin") => Operator::NotIn,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            other => return Err(expected(other, "in, notin, =, ==, !=, gt, lt")),
        };
        let values = if self.peek() == Token::Symbol("(") { self.values()? } else { vec![self.value()?] };
        Requirement::new(key, operator, values)
    }

    /// A single value; nothing at all is the empty value.
    fn value(&mut self) -> Result<String, Error> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(word) => {
                self.next();
                Ok(word.to_owned())
            }
            other => Err(expected(other, "identifier")),
        }
    }

    /// `(a, b, )`: values in parentheses, possibly empty ones.
    fn values(&mut self) -> Result<Vec<String>, Error> {
        self.next();
        let mut values = vec![String::new()];
        loop {
            match self.next() {
                Token::Symbol(")") => return Ok(values),
                Token::Symbol(",") => values.push(String::new()),
                Token::Word(word) => match values.last_mut() {
                    Some(last) if last.is_empty() => *last = word.to_owned(),
                    _ => return Err(expected(Token::Word(word), "',' or ')'")),
                },
                other => return Err(expected(other, "',' or ')'")),
            }
        }
    }
}

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldRequirement {
    /// `metadata.name`, `spec.nodeName`.
    pub field: String,
    /// The value it must have, or must not have.
    pub value: String,
    /// Whether it must not have it.
    pub negated: bool,
}

/// Conditions on fields that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Parses `?fieldSelector=`; `\` escapes `\`, `,` and `=`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(Error::TooLong(text.len()));
        }
        let mut requirements = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            let error = || Error::Field(text.to_owned(), part.to_owned());
            let (field, negated, value) = split_operator(part).ok_or_else(error)?;
            requirements.push(FieldRequirement {
                field: field.to_owned(),
                value: unescape(value).ok_or_else(error)?,
                negated,
            });
        }
        Ok(Self { requirements })
    }

    /// Whether an object is selected whose fields `lookup` tells; what it does not know reads as `""`, as upstream's do.
    pub fn matches<'v>(&self, lookup: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.requirements.iter().all(|wanted| (lookup(&wanted.field).unwrap_or("") == wanted.value) != wanted.negated)
    }

    /// The conditions.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// Whether there are no conditions.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value `field` must have for any object to match.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|wanted| wanted.field == field && !wanted.negated)
            .map(|wanted| wanted.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, wanted) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if wanted.negated { "!=" } else { "=" };
            let value = wanted.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{operator}{value}", wanted.field)?;
        }
        Ok(())
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn split_operator(part: &str) -> Option<(&str, bool, &str)> {
    (0..part.len()).filter(|index| part.is_char_boundary(*index)).find_map(|index| {
        let rest = &part[index..];
        [("!=", true), ("==", false), ("=", false)]
            .into_iter()
            .find_map(|(operator, negated)| rest.strip_prefix(operator).map(|value| (&part[..index], negated, value)))
    })
}

fn unescape(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|next| matches!(next, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            other => out.push(other),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn selects(selector: &str, labels: Value) -> bool {
        LabelSelector::parse(selector).unwrap().matches(labels.as_object())
    }

    #[test]
    fn labels_are_selected() {
        for (selector, yes, no) in [
            ("a=b", json!({"a": "b"}), json!({"a": "c"})),
            ("a==b,c", json!({"a": "b", "c": ""}), json!({"a": "b"})),
            ("a!=b", json!({}), json!({"a": "b"})),
            ("a in (x, y)", json!({"a": "y"}), json!({})),
            ("a notin (x,y)", json!({}), json!({"a": "x"})),
            ("!a", json!({"b": ""}), json!({"a": ""})),
            ("example.com/a", json!({"example.com/a": "1"}), json!({"a": "1"})),
            ("a>3", json!({"a": "4"}), json!({"a": "x"})),
            ("a<3", json!({"a": "-1"}), json!({"a": "3"})),
            ("a=", json!({"a": ""}), json!({"a": "b"})),
            ("a in ()", json!({"a": ""}), json!({"a": "b"})),
            ("in=b", json!({"in": "b"}), json!({})),
        ] {
            assert!(selects(selector, yes), "{selector}");
            assert!(!selects(selector, no), "{selector}");
        }
        assert!(LabelSelector::parse("").unwrap().matches(None));
    }

    #[test]
    fn malformed_label_selectors_are_refused() {
        for text in
            ["a=b=c", "a in b,(", "a,", ",a", "!a=b", "a in (x", "a b", "a=b c", "-a", "a=$", "a>b", "=", "a in (b c)"]
        {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn selector_objects_mean_the_same() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["y", "x"]}]});
        assert_eq!(LabelSelector::from_object(&selector).unwrap().to_string(), "a=b,c notin (x,y)");
        assert!(!LabelSelector::from_object(&Value::Null).unwrap().matches(None));
        assert!(LabelSelector::from_object(&json!({})).unwrap().matches(None));
        let bad = json!({"matchExpressions": [{"key": "c", "operator": "Like"}]});
        assert_eq!(
            LabelSelector::from_object(&bad).unwrap_err().to_string(),
            "\"Like\" is not a valid label selector operator"
        );
    }

    #[test]
    fn fields_are_selected() {
        let selector = FieldSelector::parse("metadata.name=a,spec.nodeName!=n,status.x==1\\,2").unwrap();
        let fields = |field: &str| match field {
            "metadata.name" => Some("a"),
            "status.x" => Some("1,2"),
            _ => None,
        };
        assert!(selector.matches(fields));
        assert_eq!(selector.exact("metadata.name"), Some("a"));
        assert_eq!(selector.to_string(), "metadata.name=a,spec.nodeName!=n,status.x=1\\,2");
        assert!(FieldSelector::parse("").unwrap().is_empty());
        for bad in ["a", "a=b=c", "a=\\x"] {
            assert!(FieldSelector::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn printed_selectors_parse_to_themselves(text in "[ab!=,() <>inot1]{0,16}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                let again = LabelSelector::parse(&selector.to_string());
                prop_assert_eq!(again.unwrap().to_string(), selector.to_string());
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,24}") {
            LabelSelector::parse(&text).ok();
            FieldSelector::parse(&text).ok();
        }
    }
}
