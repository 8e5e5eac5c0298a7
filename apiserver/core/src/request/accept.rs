//! Content negotiation (apiserver `pkg/endpoints/handlers/negotiation`).

use std::fmt;

/// A wire form of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

impl MediaType {
    /// The media type's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        match name {
            "application/json" => Some(Self::Json),
            "application/yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A form of meta.k8s.io that objects are asked to be turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transform {
    /// The object itself.
    None,
    /// `meta.k8s.io` Table.
    Table {
        /// `v1` or `v1beta1`.
        version: &'static str,
    },
    /// Only metadata (a list of it, for lists).
    PartialMetadata {
        /// `v1` or `v1beta1`.
        version: &'static str,
    },
}

/// The answer's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The encoding.
    pub media: MediaType,
    /// The kind of answer.
    pub transform: Transform,
    /// A watch is framed (`;stream=watch`).
    pub stream_watch: bool,
    /// JSON with indentation (`pretty=1`, or a browser or curl asking).
    pub pretty: bool,
}

/// Nothing the server has is acceptable, or what came is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// 406, reason NotAcceptable.
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(String),
    /// 415, reason UnsupportedMediaType.
    #[error("the body of the request was in an unknown format - accepted media types include: {0}")]
    UnsupportedMediaType(String),
}

/// What every resource can be read and written as.
const OBJECT_MEDIA: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

struct Clause<'a> {
    name: &'a str,
    params: Vec<(&'a str, &'a str)>,
    quality: u32,
    order: usize,
}

fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut out: Vec<Clause<'_>> = header
        .split(',')
        .enumerate()
        .filter_map(|(order, text)| {
            let mut pieces = text.split(';').map(str::trim);
            let name = pieces.next().filter(|name| !name.is_empty())?;
            let params: Vec<_> =
                pieces.filter_map(|p| p.split_once('=')).map(|(k, v)| (k.trim(), v.trim().trim_matches('"'))).collect();
            let q = params.iter().find(|(k, _)| *k == "q").and_then(|(_, v)| v.parse::<f64>().ok()).unwrap_or(1.0);
            Some(Clause { name, params, quality: (q * 1000.0) as u32, order })
        })
        .collect();
    // The more specific of two equal clauses wins, then the one named first.
    out.sort_by_key(|c| (std::cmp::Reverse(c.quality), c.name.matches('*').count(), c.order));
    out
}

/// Chooses the answer's form by the Accept header (empty or absent means JSON). `tables` tells whether this endpoint
/// can render Tables and partial metadata.
pub fn negotiate_output(
    accept: &str,
    pretty: Option<&str>,
    user_agent: &str,
    tables: bool,
) -> Result<Wanted, NegotiationError> {
    let agent = user_agent.to_ascii_lowercase();
    let human = ["curl", "wget", "mozilla/5.0"].iter().any(|prefix| agent.starts_with(prefix));
    let pretty = pretty.map_or(human, |v| v != "false" && v != "0");
    if accept.trim().is_empty() {
        return Ok(Wanted { media: MediaType::Json, transform: Transform::None, stream_watch: false, pretty });
    }
    for clause in clauses(accept).iter().filter(|c| c.quality > 0) {
        let media = match clause.name {
            "*/*" | "application/*" => MediaType::Json,
            name => match MediaType::parse(name) {
                Some(media) => media,
                None => continue,
            },
        };
        let param = |key: &str| clause.params.iter().find(|(k, _)| *k == key).map_or("", |(_, v)| *v);
        let Some(transform) = transform_of(param("as"), param("g"), param("v"), tables) else { continue };
        let pretty = if param("pretty").is_empty() { pretty } else { param("pretty") != "0" };
        return Ok(Wanted { media, transform, stream_watch: param("stream") == "watch", pretty });
    }
    Err(NegotiationError::NotAcceptable(OBJECT_MEDIA.into()))
}

fn transform_of(kind: &str, group: &str, version: &str, tables: bool) -> Option<Transform> {
    if kind.is_empty() {
        return Some(Transform::None);
    }
    let version = match version {
        "v1" => "v1",
        "v1beta1" => "v1beta1",
        _ => return None,
    };
    match kind {
        _ if !tables || group != "meta.k8s.io" => None,
        "Table" => Some(Transform::Table { version }),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Transform::PartialMetadata { version }),
        _ => None,
    }
}

/// Chooses the form of `/api` and `/apis`: `Some(version)` (`v2` or `v2beta1`) for aggregated discovery (KEP-3352).
pub fn negotiate_discovery(accept: &str) -> Result<(MediaType, Option<&'static str>), NegotiationError> {
    if accept.trim().is_empty() {
        return Ok((MediaType::Json, None));
    }
    for clause in clauses(accept).iter().filter(|c| c.quality > 0) {
        let media = match clause.name {
            "*/*" | "application/*" => MediaType::Json,
            name => match MediaType::parse(name) {
                Some(media) => media,
                None => continue,
            },
        };
        let param = |key: &str| clause.params.iter().find(|(k, _)| *k == key).map_or("", |(_, v)| *v);
        match (param("as"), param("g"), param("v")) {
            ("", ..) => return Ok((media, None)),
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => return Ok((media, Some("v2"))),
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1") => return Ok((media, Some("v2beta1"))),
            _ => {}
        }
    }
    Err(NegotiationError::NotAcceptable(OBJECT_MEDIA.into()))
}

/// Reads a Content-Type; empty means JSON.
pub fn negotiate_input(content_type: &str) -> Result<MediaType, NegotiationError> {
    let name = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if name.is_empty() {
        return Ok(MediaType::Json);
    }
    MediaType::parse(&name).ok_or_else(|| NegotiationError::UnsupportedMediaType(OBJECT_MEDIA.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(accept: &str) -> Result<(MediaType, Transform), NegotiationError> {
        negotiate_output(accept, None, "", true).map(|w| (w.media, w.transform))
    }

    #[test]
    fn kubectl_and_client_go_get_what_they_ask_for() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(out(kubectl), Ok((MediaType::Json, Transform::Table { version: "v1" })));
        assert_eq!(
            out("application/vnd.kubernetes.protobuf,application/json"),
            Ok((MediaType::Protobuf, Transform::None))
        );
        assert_eq!(out("application/json;q=0.5, application/yaml"), Ok((MediaType::Yaml, Transform::None)));
        assert_eq!(out("*/*"), Ok((MediaType::Json, Transform::None)));
        assert_eq!(out(""), Ok((MediaType::Json, Transform::None)));
        assert_eq!(
            out("application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Ok((MediaType::Protobuf, Transform::PartialMetadata { version: "v1" }))
        );
        assert!(out("text/html").is_err());
    }

    #[test]
    fn discovery_prefers_the_aggregated_form_when_asked() {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(negotiate_discovery(accept), Ok((MediaType::Json, Some("v2"))));
        assert_eq!(negotiate_discovery("application/json"), Ok((MediaType::Json, None)));
    }

    #[test]
    fn unknown_bodies_are_refused() {
        assert_eq!(negotiate_input("application/json; charset=utf-8"), Ok(MediaType::Json));
        assert!(negotiate_input("text/plain").is_err());
    }
}
