//! What names, label keys and label values may look like, with upstream's wording of the refusals
//! (apimachinery `pkg/util/validation/validation.go`).

/// Longest DNS label, in bytes.
pub const DNS_LABEL_BYTES_MAX: usize = 63;
/// Longest DNS subdomain, in bytes.
pub const DNS_SUBDOMAIN_BYTES_MAX: usize = 253;
/// Longest label value and name part of a qualified name, in bytes.
pub const LABEL_VALUE_BYTES_MAX: usize = 63;

const DNS_LABEL_FORM: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_SUBDOMAIN_FORM: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS_1035_FORM: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE_FORM: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED_NAME_FORM: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const QUALIFIED_NAME_PARTS: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn is_label_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
}

fn is_name_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// What is wrong with `text` as a DNS-1123 label; empty when nothing is.
pub fn dns_label(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > DNS_LABEL_BYTES_MAX {
        problems.push(too_long(DNS_LABEL_BYTES_MAX));
    }
    if !is_label_shape(text) {
        problems.push(DNS_LABEL_FORM.to_owned());
    }
    problems
}

/// What is wrong with `text` as a DNS-1123 subdomain; empty when nothing is.
pub fn dns_subdomain(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > DNS_SUBDOMAIN_BYTES_MAX {
        problems.push(too_long(DNS_SUBDOMAIN_BYTES_MAX));
    }
    if !text.split('.').all(is_label_shape) {
        problems.push(DNS_SUBDOMAIN_FORM.to_owned());
    }
    problems
}

/// What is wrong with `text` as a DNS-1035 label (Service names); empty when nothing is.
pub fn dns_1035_label(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > DNS_LABEL_BYTES_MAX {
        problems.push(too_long(DNS_LABEL_BYTES_MAX));
    }
    if !is_label_shape(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        problems.push(DNS_1035_FORM.to_owned());
    }
    problems
}

/// What is wrong with `text` as a label value; empty when nothing is.
pub fn label_value(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > LABEL_VALUE_BYTES_MAX {
        problems.push(too_long(LABEL_VALUE_BYTES_MAX));
    }
    if !text.is_empty() && !is_name_shape(text) {
        problems.push(LABEL_VALUE_FORM.to_owned());
    }
    problems
}

/// What is wrong with `text` as a qualified name (label and annotation keys, finalizers); empty when nothing is.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((prefix, name)) if !name.contains('/') => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                problems.extend(dns_subdomain(prefix).into_iter().map(|problem| format!("prefix part {problem}")));
            }
            name
        }
        Some(_) => return vec![QUALIFIED_NAME_PARTS.to_owned()],
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_VALUE_BYTES_MAX {
        problems.push(format!("name part {}", too_long(LABEL_VALUE_BYTES_MAX)));
    }
    if !is_name_shape(name) {
        problems.push(QUALIFIED_NAME_FORM.to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_rules() {
        assert!(dns_label("a-1").is_empty());
        assert_eq!(dns_label("A").len(), 1);
        assert_eq!(dns_label(&"A".repeat(64)).len(), 2);
        assert!(dns_subdomain("a.b-c.d").is_empty());
        assert!(!dns_subdomain("a..b").is_empty());
        assert!(!dns_1035_label("1a").is_empty());
        assert!(label_value("").is_empty() && label_value("a_B.c").is_empty() && !label_value("-a").is_empty());
        assert!(qualified_name("example.com/My_name").is_empty());
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
        assert_eq!(qualified_name("").len(), 2);
        assert_eq!(qualified_name("a/b/c").len(), 1);
    }
}
