//! Which files a ConfigMap, Secret, downward API or projected volume holds.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, DownwardAPIVolumeFile, KeyToPath, Pod, Volume};

use crate::{
    env::{self, Facts, Objects},
    pod,
};

/// Mode bits a file has when nobody says otherwise.
pub const MODE_DEFAULT: i32 = 0o644;

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its content.
    pub content: Vec<u8>,
    /// Its mode bits.
    pub mode: i32,
}

/// A volume's files by path relative to its root.
pub type Files = BTreeMap<String, File>;

/// A ServiceAccount token a projected volume asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenWish {
    /// Audience; empty is the API server's.
    pub audience: String,
    /// Seconds it shall be good for.
    pub expiration_seconds: i64,
}

/// Why a volume cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An object or key is missing.
    #[error(transparent)]
    Reference(#[from] env::Error),
    /// `items` names a key that is not there.
    #[error("references non-existent config key: {0}")]
    Key(String),
    /// A path leaves the volume.
    #[error("path {0:?} must stay inside the volume")]
    Path(String),
    /// A token was not provided.
    #[error("no service account token for audience {0:?}")]
    Token(String),
}

/// The tokens a volume needs before [`volume_files`] can fill it.
pub fn token_wishes(volume: &Volume) -> Vec<TokenWish> {
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    sources
        .filter_map(|source| source.service_account_token.as_ref())
        .map(|token| TokenWish {
            audience: token.audience.clone().unwrap_or_default(),
            expiration_seconds: token.expiration_seconds.unwrap_or(3600),
        })
        .collect()
}

/// The files of a volume that is made of API objects; `None` if it is of another kind.
pub fn volume_files(
    pod: &Pod,
    volume: &Volume,
    objects: &Objects,
    tokens: &BTreeMap<TokenWish, String>,
    facts: &Facts,
) -> Result<Option<Files>, Error> {
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        let data = object(objects.config_maps.get(&source.name), "configmap", &source.name, source.optional)?;
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        add(&mut files, data, source.items.as_deref(), mode, source.optional)?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        let data = object(objects.secrets.get(&name), "secret", &name, source.optional)?;
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        add(&mut files, data, source.items.as_deref(), mode, source.optional)?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        downward(&mut files, pod, source.items.as_deref().unwrap_or_default(), mode, facts)?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(MODE_DEFAULT);
        for source in projected.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                let data = object(objects.config_maps.get(&source.name), "configmap", &source.name, source.optional)?;
                add(&mut files, data, source.items.as_deref(), mode, source.optional)?;
            } else if let Some(source) = &source.secret {
                let data = object(objects.secrets.get(&source.name), "secret", &source.name, source.optional)?;
                add(&mut files, data, source.items.as_deref(), mode, source.optional)?;
            } else if let Some(source) = &source.downward_api {
                downward(&mut files, pod, source.items.as_deref().unwrap_or_default(), mode, facts)?;
            } else if let Some(source) = &source.service_account_token {
                let wish = TokenWish {
                    audience: source.audience.clone().unwrap_or_default(),
                    expiration_seconds: source.expiration_seconds.unwrap_or(3600),
                };
                let token = tokens.get(&wish).ok_or_else(|| Error::Token(wish.audience.clone()))?;
                // Others cannot read a token unless the pod shares a group for its files (upstream's projected plugin).
                let private =
                    pod::spec(pod).security_context.as_ref().is_some_and(|context| context.fs_group.is_some());
                let mode = if private { 0o600 } else { mode };
                files.insert(checked(&source.path)?, File { content: token.clone().into_bytes(), mode });
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

type Data = BTreeMap<String, Vec<u8>>;

fn object<'a>(
    found: Option<&'a Data>,
    kind: &'static str,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<&'a Data>, Error> {
    match found {
        None if optional != Some(true) => Err(env::Error::NoObject { kind, name: name.to_owned() }.into()),
        found => Ok(found),
    }
}

fn add(
    files: &mut Files,
    data: Option<&Data>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: Option<bool>,
) -> Result<(), Error> {
    let Some(data) = data else { return Ok(()) };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        files.extend(data.iter().map(|(key, value)| (key.clone(), File { content: value.clone(), mode })));
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                let mode = item.mode.unwrap_or(mode);
                files.insert(checked(&item.path)?, File { content: value.clone(), mode });
            }
            None if optional == Some(true) => {}
            None => return Err(Error::Key(item.key.clone())),
        }
    }
    Ok(())
}

fn downward(
    files: &mut Files,
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    facts: &Facts,
) -> Result<(), Error> {
    for item in items {
        let content = if let Some(field) = &item.field_ref {
            env::field_value(pod, field, facts)?
        } else if let Some(resource) = &item.resource_field_ref {
            env::resource_value(pod, &Container::default(), resource, facts)
        } else {
            continue;
        };
        let file = File { content: content.into_bytes(), mode: item.mode.unwrap_or(mode) };
        files.insert(checked(&item.path)?, file);
    }
    Ok(())
}

fn checked(path: &str) -> Result<String, Error> {
    let good = !path.is_empty()
        && !path.starts_with('/')
        && !path.starts_with("..")
        && path.split('/').all(|part| part != ".." && !part.is_empty());
    if good { Ok(path.to_owned()) } else { Err(Error::Path(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fill(volume: Value) -> Result<Vec<(String, String, i32)>, String> {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": []}}))
                .unwrap();
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let mut objects = Objects::default();
        objects.config_maps.insert("m".into(), [("k".to_owned(), b"v".to_vec())].into());
        let tokens = token_wishes(&volume).into_iter().map(|wish| (wish, "t".to_owned())).collect();
        let files = volume_files(&pod, &volume, &objects, &tokens, &Facts::default()).map_err(|e| e.to_string())?;
        let shown = |(path, file): (String, File)| (path, String::from_utf8(file.content).unwrap(), file.mode);
        Ok(files.unwrap().into_iter().map(shown).collect())
    }

    #[test]
    fn volumes_hold_what_their_sources_say() {
        let row = |path: &str, content: &str, mode| (path.to_owned(), content.to_owned(), mode);
        assert_eq!(fill(json!({"name": "v", "configMap": {"name": "m"}})).unwrap(), [row("k", "v", 0o644)]);
        let items =
            json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "a/b", "mode": 256}]}});
        assert_eq!(fill(items).unwrap(), [row("a/b", "v", 0o400)]);
        let projected = json!({"name": "v", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "m"}},
            {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}});
        assert_eq!(fill(projected).unwrap(), [row("k", "v", 0o644), row("ns", "d", 0o644), row("token", "t", 0o644)]);
        assert_eq!(fill(json!({"name": "v", "secret": {"secretName": "s", "optional": true}})).unwrap(), []);
    }

    #[test]
    fn what_is_missing_or_leaves_the_volume_is_refused() {
        let missing = json!({"name": "v", "secret": {"secretName": "s"}});
        assert_eq!(fill(missing).unwrap_err(), "secret \"s\" not found");
        let outside = json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "../x"}]}});
        assert!(fill(outside).unwrap_err().contains("inside the volume"));
    }
}
