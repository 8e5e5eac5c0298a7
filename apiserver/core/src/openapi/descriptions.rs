//! Descriptions of types and fields, collected by `build.rs`.

use std::collections::HashMap;
use std::io::Read as _;

use flate2::read::GzDecoder;

const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.gz"));
/// More than the descriptions of any version need, in bytes.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Descriptions while documents are made; they are not kept.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    types: HashMap<String, Described>,
}

#[derive(Debug, Default)]
struct Described {
    text: String,
    fields: HashMap<String, String>,
}

impl Descriptions {
    /// Unpacks them.
    pub(super) fn load() -> Self {
        let mut text = String::new();
        GzDecoder::new(COMPRESSED)
            .take(TEXT_BYTES_MAX)
            .read_to_string(&mut text)
            .expect("build.rs compressed text, and reading memory does not fail");
        let mut types: HashMap<String, Described> = HashMap::new();
        let mut current = "";
        for line in text.lines() {
            let Some((name, description)) = line.get(2..).and_then(|rest| rest.split_once('\t')) else { continue };
            if line.starts_with('T') {
                current = name;
                types.entry(name.to_owned()).or_default().text = unescape(description);
            } else if let Some(described) = types.get_mut(current) {
                described.fields.insert(name.to_owned(), unescape(description));
            }
        }
        Self { types }
    }

    /// A type's description, by its OpenAPI name; `""` if there is none.
    pub(super) fn of_type(&self, name: &str) -> &str {
        self.types.get(name).map_or("", |described| &described.text)
    }

    /// A field's description.
    pub(super) fn of_field(&self, name: &str, field: &str) -> &str {
        self.types.get(name).and_then(|described| described.fields.get(field)).map_or("", String::as_str)
    }
}

fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => {}
            },
            (c, false) => out.push(c),
        }
    }
    out
}
