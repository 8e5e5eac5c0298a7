//! Dependencies point one way: `core/` crates are pure, `api` and `proto` know nobody, and only the store and the API
//! server know the store.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::build::cargo;

/// What pure crates may not know.
const EFFECTS: [&str; 16] = [
    "tokio",
    "tonic",
    "hyper",
    "hyper-util",
    "axum",
    "tower",
    "rocksdb",
    "rand",
    "nix",
    "kube",
    "rustls",
    "openraft",
    "tracing-subscriber",
    "tempfile",
    "uuid",
    "ring",
];

pub fn check() -> Result<Vec<String>> {
    let output = cargo(&["metadata", "--format-version=1", "--no-deps"])?.output().context("cannot run cargo")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let mut breaches = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // A null kind is a normal dependency; tests may know whom they like.
            if dependency["kind"].is_null() {
                breaches.extend(judge(name, dependency["name"].as_str().unwrap_or_default()));
            }
        }
    }
    Ok(breaches)
}

fn judge(package: &str, dependency: &str) -> Option<String> {
    let ours = dependency.starts_with("xebec-");
    let pure = package.ends_with("-core") || package == "xebec-api";
    if pure && EFFECTS.contains(&dependency) {
        return Some(format!("{package} decides, in pure code, and must not depend on {dependency}"));
    }
    if pure && ours && !(dependency.ends_with("-core") || dependency == "xebec-api") {
        return Some(format!("{package} is pure and must not depend on the shell crate {dependency}"));
    }
    if ["xebec-api", "xebec-proto", "xebec-pki", "xebec-planted"].contains(&package) && ours {
        return Some(format!("{package} knows nobody, but depends on {dependency}"));
    }
    let client = ["xebec-client", "xebec-scheduler", "xebec-controllers", "xebec-node"]
        .iter()
        .any(|prefix| package.starts_with(prefix));
    let server = dependency.starts_with("xebec-store") || dependency.starts_with("xebec-apiserver");
    (client && server).then(|| format!("{package} is an ordinary API client and must not depend on {dependency}"))
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn directions_that_are_forbidden_are_found() {
        for (package, dependency) in [
            ("xebec-store-core", "tokio"),
            ("xebec-api", "rand"),
            ("xebec-api", "xebec-proto"),
            ("xebec-node-core", "xebec-client"),
            ("xebec-scheduler", "xebec-store"),
            ("xebec-proto", "xebec-api"),
            ("xebec-planted", "xebec-store-core"),
            ("xebec-store-core", "xebec-planted"),
        ] {
            assert!(judge(package, dependency).is_some(), "{package} -> {dependency}");
        }
    }

    #[test]
    fn directions_that_are_meant_pass() {
        for (package, dependency) in [
            ("xebec-store", "tokio"),
            ("xebec-apiserver-core", "xebec-api"),
            ("xebec-node", "xebec-client"),
            ("xebec-apiserver", "xebec-proto"),
            ("xebec-cli", "xebec-store"),
        ] {
            assert_eq!(judge(package, dependency), None, "{package} -> {dependency}");
        }
    }
}
