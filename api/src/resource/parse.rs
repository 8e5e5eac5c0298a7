//! The reader of the resource table.

use super::{REGISTRY, Resource, Storage, Subresource, Verb};

/// A line that is not a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the resource table: {what}")]
pub(super) struct Error {
    line: usize,
    what: &'static str,
}

/// Reads the whole table.
pub(super) fn parse(text: &'static str) -> Result<Vec<Resource>, Error> {
    let mut resources: Vec<(Resource, Vec<Subresource>)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let error = |what| Error { line: index + 1, what };
        let mut words = line.split(' ');
        match words.next() {
            Some("R") => resources.push((resource(words).map_err(error)?, Vec::new())),
            Some("S") => {
                let (_, subresources) = resources.last_mut().ok_or(error("a subresource before any resource"))?;
                subresources.push(subresource(words).map_err(error)?);
            }
            Some("#" | "") => {}
            _ => return Err(error("an unknown tag")),
        }
    }
    let finish = |(resource, subresources): (Resource, Vec<Subresource>)| Resource {
        subresources: subresources.into_boxed_slice(),
        ..resource
    };
    Ok(resources.into_iter().map(finish).collect())
}

type Words = std::str::Split<'static, char>;

fn resource(mut words: Words) -> Result<Resource, &'static str> {
    let (group, version) = group_version(words.next().ok_or("an apiVersion is missing")?);
    let plural = words.next().ok_or("a plural is missing")?;
    let kind = words.next().ok_or("a kind is missing")?;
    let namespaced = match words.next() {
        Some("namespaced") => true,
        Some("cluster") => false,
        _ => return Err("a scope is missing"),
    };
    let verbs = verbs(words.next().ok_or("verbs are missing")?)?;
    let mut resource = Resource {
        group,
        version,
        kind,
        list_kind: if verbs.contains(&Verb::List) { format!("{kind}List") } else { String::new() },
        plural,
        singular: kind.to_lowercase(),
        short_names: Box::default(),
        categories: Box::default(),
        namespaced,
        verbs,
        subresources: Box::default(),
        storage: Storage::Stored { prefix: format!("{REGISTRY}/{plural}") },
        storage_group: group,
        storage_version: version,
    };
    for word in words {
        match word.split_once('=') {
            Some(("short", names)) => resource.short_names = names.split(',').collect(),
            Some(("cat", names)) => resource.categories = names.split(',').collect(),
            Some(("key", prefix)) => resource.storage = Storage::Stored { prefix: format!("{REGISTRY}/{prefix}") },
            Some(("stored", api_version)) => {
                (resource.storage_group, resource.storage_version) = group_version(api_version)
            }
            None if word == "virtual" => resource.storage = Storage::Virtual,
            _ => return Err("an unknown flag"),
        }
    }
    Ok(resource)
}

fn subresource(mut words: Words) -> Result<Subresource, &'static str> {
    let name = words.next().ok_or("a name is missing")?;
    let (group, version) = group_version(words.next().ok_or("an apiVersion is missing")?);
    let kind = words.next().ok_or("a kind is missing")?;
    Ok(Subresource { name, group, version, kind, verbs: verbs(words.next().ok_or("verbs are missing")?)? })
}

fn group_version(text: &'static str) -> (&'static str, &'static str) {
    text.split_once('/').unwrap_or(("", text))
}

fn verbs(text: &str) -> Result<Box<[Verb]>, &'static str> {
    text.split(',')
        .map(|word| {
            Ok(match word {
                "create" => Verb::Create,
                "delete" => Verb::Delete,
                "deletecollection" => Verb::DeleteCollection,
                "get" => Verb::Get,
                "list" => Verb::List,
                "patch" => Verb::Patch,
                "update" => Verb::Update,
                "watch" => Verb::Watch,
                _ => return Err("an unknown verb"),
            })
        })
        .collect()
}
