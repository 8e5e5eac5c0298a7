//! The reader of the facts file.

use std::collections::HashMap;

use super::{Container, Element, Facts, Field, ListType, Package, Presence, Scalar, Special, Type, TypeId};

/// A line that is not a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the facts: {what}")]
pub(super) struct Error {
    line: usize,
    what: &'static str,
}

/// Reads the whole file.
pub(super) fn parse(text: &'static str) -> Result<Facts, Error> {
    let names = type_names(text);
    let mut facts = Facts {
        types: Box::default(),
        names: HashMap::new(),
        kinds: HashMap::new(),
        packages: HashMap::new(),
        enums: HashMap::new(),
    };
    let mut types: Vec<Building> = Vec::with_capacity(names.len());
    for (index, line) in text.lines().enumerate() {
        let error = |what| Error { line: index + 1, what };
        let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
        match tag {
            "#" | "" => {}
            "P" => {
                let mut words = rest.split(' ');
                let (Some(short), Some(openapi), Some(go)) = (words.next(), words.next(), words.next()) else {
                    return Err(error("a package has three names"));
                };
                facts.packages.insert(short, Package { openapi, go });
            }
            "E" => {
                let (name, values) = rest.split_once(' ').ok_or(error("an enumeration has values"))?;
                facts.enums.insert(name, values.split('|').collect());
            }
            "T" => types.push(Building::new(rest).ok_or(error("an unknown kind of type"))?),
            "K" => {
                let kind = rest.split_once(' ').ok_or(error("a kind has an apiVersion"))?;
                let id =
                    TypeId(u32::try_from(types.len().wrapping_sub(1)).map_err(|_| error("a kind before any type"))?);
                facts.kinds.insert(kind, id);
                types.last_mut().ok_or(error("a kind before any type"))?.kinds.push(kind);
            }
            "F" => {
                let field = field(rest, &names).map_err(error)?;
                types.last_mut().ok_or(error("a field before any type"))?.fields.push(field);
            }
            _ => return Err(error("an unknown tag")),
        }
    }
    facts.types = types.into_iter().map(Building::finish).collect();
    facts.names = names;
    Ok(facts)
}

fn type_names(text: &'static str) -> HashMap<&'static str, TypeId> {
    let types = text.lines().filter_map(|line| line.strip_prefix("T "));
    types.zip(0..).map(|(rest, id)| (rest.split(' ').next().unwrap_or(rest), TypeId(id))).collect()
}

struct Building {
    name: &'static str,
    special: Option<Special>,
    atomic: bool,
    fields: Vec<Field>,
    kinds: Vec<(&'static str, &'static str)>,
}

impl Building {
    fn new(rest: &'static str) -> Option<Self> {
        let mut words = rest.split(' ');
        let mut building =
            Self { name: words.next()?, special: None, atomic: false, fields: Vec::new(), kinds: Vec::new() };
        for word in words {
            match word.strip_prefix("special=") {
                Some(name) => building.special = Some(special(name)?),
                None if word == "atomic" => building.atomic = true,
                None => return None,
            }
        }
        Some(building)
    }

    fn finish(self) -> Type {
        let mut by_number: Vec<u16> =
            (0..).zip(&self.fields).filter(|(_, field)| field.number != 0).map(|(index, _)| index).collect();
        by_number.sort_by_key(|index| self.fields[usize::from(*index)].number);
        Type {
            name: self.name,
            special: self.special,
            atomic: self.atomic,
            fields: self.fields.into_boxed_slice(),
            kinds: self.kinds.into_boxed_slice(),
            by_number: by_number.into_boxed_slice(),
        }
    }
}

fn special(name: &str) -> Option<Special> {
    Some(match name {
        "quantity" => Special::Quantity,
        "intorstring" => Special::IntOrString,
        "time" => Special::Time,
        "microtime" => Special::MicroTime,
        "duration" => Special::Duration,
        "raw" => Special::Raw,
        "items" => Special::Items,
        "schemaorbool" => Special::SchemaOrBool,
        "schemaorarray" => Special::SchemaOrArray,
        "schemaorstrings" => Special::SchemaOrStrings,
        _ => return None,
    })
}

fn field(rest: &'static str, names: &HashMap<&'static str, TypeId>) -> Result<Field, &'static str> {
    let (rest, default) = match rest.split_once(" def=") {
        Some((rest, default)) => (rest, Some(default)),
        None => (rest, None),
    };
    let mut words = rest.split(' ');
    let name = words.next().ok_or("a field has a name")?;
    let number = words.next().and_then(|word| word.parse().ok()).ok_or("a field has a number")?;
    let (container, element) = shape(words.next().ok_or("a field has a shape")?, names)?;
    let mut field = Field {
        name,
        number,
        container,
        element,
        presence: Presence::OmitEmpty,
        inline: false,
        required: false,
        list_type: None,
        atomic: false,
        map_type: None,
        patch_strategies: Box::default(),
        merge_key: None,
        named: None,
        default,
    };
    for word in words {
        flag(&mut field, word)?;
    }
    Ok(field)
}

fn flag(field: &mut Field, word: &'static str) -> Result<(), &'static str> {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    match name {
        "keep" => field.presence = Presence::Keep,
        "zero" => field.presence = Presence::OmitZero,
        "inline" => field.inline = true,
        "req" => field.required = true,
        "atomic" => field.atomic = true,
        "as" => field.named = Some(value),
        "map" => field.map_type = Some(value),
        "list" => {
            let (kind, keys) = value.split_once(':').unwrap_or((value, ""));
            field.list_type = Some(match kind {
                "atomic" => ListType::Atomic,
                "set" => ListType::Set,
                "map" => ListType::Map(keys.split(',').collect()),
                _ => return Err("an unknown list type"),
            });
        }
        "merge" => {
            let (strategies, key) = value.split_once(':').unwrap_or((value, ""));
            field.patch_strategies = strategies.split(',').collect();
            field.merge_key = (!key.is_empty()).then_some(key);
        }
        _ => return Err("an unknown flag"),
    }
    Ok(())
}

fn shape(word: &str, names: &HashMap<&'static str, TypeId>) -> Result<(Container, Element), &'static str> {
    let (container, element) = if let Some(rest) = word.strip_prefix('*') {
        (Container::Pointer, rest)
    } else if let Some(rest) = word.strip_prefix("[]") {
        (Container::List, rest)
    } else if let Some(rest) = word.strip_prefix("{}") {
        (Container::Map, rest)
    } else {
        (Container::One, word)
    };
    let element = match element {
        "string" => Element::Scalar(Scalar::String),
        "bool" => Element::Scalar(Scalar::Bool),
        "int32" => Element::Scalar(Scalar::Int32),
        "int64" => Element::Scalar(Scalar::Int64),
        "uint32" => Element::Scalar(Scalar::Uint32),
        "uint64" => Element::Scalar(Scalar::Uint64),
        "double" => Element::Scalar(Scalar::Double),
        "bytes" => Element::Scalar(Scalar::Bytes),
        "any" => Element::Scalar(Scalar::Any),
        name => Element::Type(*names.get(name).ok_or("an unknown type")?),
    };
    Ok((container, element))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_facts_are_refused_with_their_number() {
        for (text, what) in [
            ("F name 1 string", "a field before any type"),
            ("T a.B\nF name x string", "a field has a number"),
            ("T a.B\nF name 1 c.D", "an unknown type"),
            ("X", "an unknown tag"),
        ] {
            assert_eq!(parse(text).map(|_| ()), Err(Error { line: text.lines().count(), what }));
        }
    }

    #[test]
    fn a_field_has_all_its_flags() {
        let facts = super::super::facts();
        let containers = facts.by_name("core.v1.PodSpec").and_then(|spec| spec.field("containers")).unwrap();
        assert_eq!(containers.list_type, Some(ListType::Map(["name"].into())));
        assert_eq!((containers.merge_key, containers.merges(), containers.required), (Some("name"), true, true));
        assert_eq!((containers.number, containers.presence), (2, Presence::Keep));
        let volume = facts.by_name("core.v1.Volume").unwrap();
        assert!(volume.field("emptyDir").is_some(), "fields of inlined structs are found");
        assert!(volume.field("volumeSource").is_none());
        assert_eq!(facts.openapi_name("meta.v1.ObjectMeta"), "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        assert_eq!(facts.go_name("core.v1.PodSpec"), "v1.PodSpec");
    }
}
