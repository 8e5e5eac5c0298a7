//! Query parameters, read as apimachinery's conversions read them.

use serde_json::Value;
use xebec_api::field::{self, Path};
use xebec_api::{GroupKind, Status, meta};

/// Longest field manager name, in bytes (apimachinery `FieldManagerMaxLength`).
const FIELD_MANAGER_BYTES_MAX: usize = 128;

/// A parameter that cannot be read or may not be combined.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OptionsError {
    /// Not a number, and the like: 400 BadRequest.
    #[error("{0}")]
    Unreadable(String),
    /// Readable but refused: 422 Invalid of the options' kind.
    #[error("{kind}.meta.k8s.io \"\" is invalid: {error}")]
    Invalid {
        /// `ListOptions`, `CreateOptions`, `PatchOptions`, ...
        kind: &'static str,
        /// The parameter and what is wrong with it.
        error: field::Error,
    },
}

impl OptionsError {
    /// A parameter whose value is none of `supported`.
    fn not_supported(kind: &'static str, parameter: &str, value: &str, supported: &[&str]) -> Self {
        Self::Invalid { kind, error: field::Error::not_supported(&Path::new(parameter), value, supported) }
    }

    /// A parameter that may not be there.
    pub fn forbidden(kind: &'static str, parameter: &str, why: &str) -> Self {
        Self::Invalid { kind, error: field::Error::forbidden(&Path::new(parameter), why) }
    }

    /// A parameter that must be there.
    pub fn required(kind: &'static str, parameter: &str, why: &str) -> Self {
        Self::Invalid { kind, error: field::Error::required(&Path::new(parameter), why) }
    }

    /// As the API answers it.
    pub fn to_status(&self) -> Status {
        match self {
            Self::Unreadable(message) => Status::bad_request(message.clone()),
            Self::Invalid { kind, error } => {
                Status::invalid(&GroupKind::new("meta.k8s.io", *kind), "", std::slice::from_ref(error))
            }
        }
    }
}

/// A decoded query string; the first value of a key counts, as in Go's conversions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=b&c=d` with `+` and percent escapes.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Every value of `key`.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A boolean: anything but absence, `false` and `0` is true (apimachinery `Convert_Slice_string_To_bool`).
    pub fn flag(&self, key: &str) -> bool {
        self.tristate(key).unwrap_or(false)
    }

    fn tristate(&self, key: &str) -> Option<bool> {
        self.get(key).map(|v| v != "false" && v != "0")
    }

    fn integer(&self, key: &str) -> Result<Option<i64>, OptionsError> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| OptionsError::Unreadable(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
        }
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escaped = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3)).flatten();
        match (bytes[i], escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What to do about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and say so in `Warning` headers: the default.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

/// Options of create, update and patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Decide everything, store nothing.
    pub dry_run: bool,
    /// The field manager asked for, empty if none.
    pub field_manager: String,
    /// Treatment of unknown fields.
    pub field_validation: FieldValidation,
    /// Server-side apply takes fields from other managers.
    pub force: bool,
}

impl WriteOptions {
    /// Reads and validates; `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub fn parse(query: &Query, kind: &'static str) -> Result<Self, OptionsError> {
        let dry_run = parse_dry_run(query.all("dryRun").filter(|v| !v.is_empty()), kind)?;
        let field_validation = match query.get("fieldValidation").unwrap_or("") {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let supported = ["Ignore", "Strict", "Warn"];
                return Err(OptionsError::not_supported(kind, "fieldValidation", other, &supported));
            }
        };
        let field_manager = query.get("fieldManager").unwrap_or("").to_owned();
        if field_manager.len() > FIELD_MANAGER_BYTES_MAX {
            let error = field::Error::too_long(&Path::new("fieldManager"), FIELD_MANAGER_BYTES_MAX);
            return Err(OptionsError::Invalid { kind, error });
        }
        if field_manager.chars().any(char::is_control) {
            let path = Path::new("fieldManager");
            let error = field::Error::invalid(&path, field_manager, "should not contain control characters");
            return Err(OptionsError::Invalid { kind, error });
        }
        Ok(Self { dry_run, field_manager, field_validation, force: query.flag("force") })
    }
}

fn parse_dry_run<'a>(values: impl Iterator<Item = &'a str>, kind: &'static str) -> Result<bool, OptionsError> {
    let mut dry_run = false;
    for value in values {
        if value != "All" {
            return Err(OptionsError::not_supported(kind, "dryRun", value, &["All"]));
        }
        dry_run = true;
    }
    Ok(dry_run)
}

/// How a requested resourceVersion binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceVersionMatch {
    /// Data at least as new.
    NotOlderThan,
    /// Data exactly as of then.
    Exact,
}

/// Options of list, watch and deletecollection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Unparsed label selector.
    pub label_selector: String,
    /// Unparsed field selector.
    pub field_selector: String,
    /// Stay and stream changes.
    pub watch: bool,
    /// The client understands BOOKMARK events.
    pub allow_watch_bookmarks: bool,
    /// The resourceVersion as given, empty if none.
    pub resource_version: String,
    /// How `resource_version` binds.
    pub resource_version_match: Option<ResourceVersionMatch>,
    /// When the server ends the watch.
    pub timeout_seconds: Option<u64>,
    /// Most items of one answer; 0 means all.
    pub limit: u64,
    /// The continue token of the previous answer.
    pub continue_token: String,
    /// KEP-3157: a watch begins with synthetic ADDED events.
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and validates (apimachinery `internalversion/validation.ValidateListOptions`).
    pub fn parse(query: &Query, watch: bool) -> Result<Self, OptionsError> {
        let text = |key: &str| query.get(key).unwrap_or("").to_owned();
        let resource_version_match = match query.get("resourceVersionMatch").unwrap_or("") {
            "" => None,
            "NotOlderThan" => Some(ResourceVersionMatch::NotOlderThan),
            "Exact" => Some(ResourceVersionMatch::Exact),
            other => {
                let supported = ["Exact", "NotOlderThan", ""];
                return Err(OptionsError::not_supported("ListOptions", "resourceVersionMatch", other, &supported));
            }
        };
        let options = Self {
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            watch,
            allow_watch_bookmarks: query.flag("allowWatchBookmarks"),
            resource_version: text("resourceVersion"),
            resource_version_match,
            timeout_seconds: query.integer("timeoutSeconds")?.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0),
            limit: query.integer("limit")?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            continue_token: text("continue"),
            send_initial_events: query.tristate("sendInitialEvents"),
        };
        options.validate()?;
        Ok(options)
    }

    fn validate(&self) -> Result<(), OptionsError> {
        let forbidden = |parameter, why: &str| Err(OptionsError::forbidden("ListOptions", parameter, why));
        if self.watch {
            if self.send_initial_events.is_some() {
                return match self.resource_version_match {
                    Some(ResourceVersionMatch::NotOlderThan) => Ok(()),
                    None => forbidden(
                        "resourceVersionMatch",
                        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                    ),
                    Some(ResourceVersionMatch::Exact) => Err(OptionsError::not_supported(
                        "ListOptions",
                        "resourceVersionMatch",
                        "Exact",
                        &["NotOlderThan"],
                    )),
                };
            }
            if self.resource_version_match.is_some() {
                return forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            return Ok(());
        }
        if self.send_initial_events.is_some() {
            return forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        let Some(rule) = self.resource_version_match else { return Ok(()) };
        if self.resource_version.is_empty() {
            return forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if !self.continue_token.is_empty() {
            return forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
        }
        if rule == ResourceVersionMatch::Exact && self.resource_version == "0" {
            return forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
        Ok(())
    }
}

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents lose their owner and stay.
    Orphan,
    /// The garbage collector deletes dependents afterwards.
    Background,
    /// The object stays until its dependents are gone.
    Foreground,
}

/// Options of delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Decide everything, delete nothing.
    pub dry_run: bool,
    /// Seconds between the wish and the removal; absent means the kind's default.
    pub grace_period_seconds: Option<i64>,
    /// Treatment of dependents; absent means the kind's default.
    pub propagation: Option<Propagation>,
    /// Delete only this incarnation.
    pub uid: Option<String>,
    /// Delete only this version.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// From the query, where there is no body.
    pub fn from_query(query: &Query) -> Result<Self, OptionsError> {
        let mut body = serde_json::Map::new();
        if let Some(grace) = query.integer("gracePeriodSeconds")? {
            body.insert("gracePeriodSeconds".into(), grace.into());
        }
        if let Some(policy) = query.get("propagationPolicy").filter(|p| !p.is_empty()) {
            body.insert("propagationPolicy".into(), policy.into());
        }
        if let Some(orphan) = query.tristate("orphanDependents") {
            body.insert("orphanDependents".into(), orphan.into());
        }
        let dry_run: Vec<&str> = query.all("dryRun").filter(|v| !v.is_empty()).collect();
        body.insert("dryRun".into(), dry_run.into());
        Self::from_body(&Value::Object(body))
    }

    /// From a decoded `DeleteOptions` body (apimachinery `ValidateDeleteOptions`).
    pub fn from_body(body: &Value) -> Result<Self, OptionsError> {
        let dry_run =
            parse_dry_run(meta::list_at(body, &["dryRun"]).iter().filter_map(Value::as_str), "DeleteOptions")?;
        let policy = body.get("propagationPolicy").and_then(Value::as_str);
        let orphan = body.get("orphanDependents").and_then(Value::as_bool);
        let propagation = match (policy, orphan) {
            (Some(_), Some(_)) => {
                let why = "orphanDependents and deletionPropagation cannot be both set";
                let error = field::Error::invalid(&Path::new("propagationPolicy"), policy.unwrap_or_default(), why);
                return Err(OptionsError::Invalid { kind: "DeleteOptions", error });
            }
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some(other), _) => {
                let supported = ["Background", "Foreground", "Orphan", "nil"];
                return Err(OptionsError::not_supported("DeleteOptions", "propagationPolicy", other, &supported));
            }
            (None, None) => None,
        };
        let precondition =
            |key: &str| Some(meta::str_at(body, &["preconditions", key]).to_owned()).filter(|v| !v.is_empty());
        Ok(Self {
            dry_run,
            grace_period_seconds: meta::i64_at(body, &["gracePeriodSeconds"]),
            propagation,
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn queries_decode_and_the_first_value_counts() {
        let q = Query::parse("a=1&a=2&labelSelector=app%3Dweb%2Cx+in+(y)&watch&bad=%zz");
        assert_eq!(q.get("a"), Some("1"));
        assert_eq!(q.get("labelSelector"), Some("app=web,x in (y)"));
        assert_eq!(q.get("bad"), Some("%zz"));
        assert!(q.flag("watch"));
        assert!(!q.flag("absent"));
    }

    fn list(query: &str, watch: bool) -> Result<ListOptions, String> {
        ListOptions::parse(&Query::parse(query), watch).map_err(|e| e.to_string())
    }

    #[test]
    fn list_options_refuse_contradictions() {
        assert!(list("resourceVersion=5&resourceVersionMatch=Exact&limit=2", false).is_ok());
        for (query, watch) in [
            ("resourceVersionMatch=Exact", false),
            ("resourceVersion=0&resourceVersionMatch=Exact", false),
            ("resourceVersionMatch=Nope&resourceVersion=1", false),
            ("sendInitialEvents=true", false),
            ("sendInitialEvents=true", true),
            ("resourceVersionMatch=NotOlderThan&resourceVersion=1", true),
            ("limit=x", false),
        ] {
            assert!(list(query, watch).is_err(), "{query}");
        }
        assert!(list("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true).is_ok());
    }

    #[test]
    fn delete_options_are_read_from_query_and_body() {
        let q =
            DeleteOptions::from_query(&Query::parse("gracePeriodSeconds=0&propagationPolicy=Foreground&dryRun=All"));
        assert_eq!(
            q,
            Ok(DeleteOptions {
                dry_run: true,
                grace_period_seconds: Some(0),
                propagation: Some(Propagation::Foreground),
                ..Default::default()
            })
        );
        let b =
            DeleteOptions::from_body(&json!({"preconditions": {"uid": "u"}, "orphanDependents": true})).expect("valid");
        assert_eq!((b.uid.as_deref(), b.propagation), (Some("u"), Some(Propagation::Orphan)));
        assert!(DeleteOptions::from_body(&json!({"propagationPolicy": "Never"})).is_err());
    }

    #[test]
    fn write_options_refuse_unknown_values() {
        let refusal =
            WriteOptions::parse(&Query::parse("dryRun=Some"), "CreateOptions").expect_err("refused").to_status();
        let message =
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"Some\": supported values: \"All\"";
        assert_eq!((refusal.code, refusal.message.as_str()), (422, message));
        let details = refusal.details.expect("details");
        assert_eq!(
            (details.kind.as_str(), details.causes[0].reason.as_str()),
            ("CreateOptions", "FieldValueNotSupported")
        );
        assert!(WriteOptions::parse(&Query::parse("fieldValidation=Maybe"), "CreateOptions").is_err());
        let ok = WriteOptions::parse(&Query::parse("fieldManager=me&force=true"), "PatchOptions").expect("valid");
        assert!(ok.force && ok.field_manager == "me" && !ok.dry_run);
    }
}
