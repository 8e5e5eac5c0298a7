//! What sources may not say: clocks and environment in pure crates, sleeping and ignored tests.

use std::{fs, path::Path};

use anyhow::Result;

use crate::build;

/// Effects that pure crates reach without a dependency.
const IMPURE: [&str; 8] = [
    "SystemTime::now",
    "Instant::now",
    "std::env",
    "std::fs",
    "std::net::Tcp",
    "std::process",
    "std::thread",
    "Timestamp::now",
];

pub fn check() -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for path in rust_files(&build::root())? {
        let text = fs::read_to_string(&path)?;
        let shown = path.strip_prefix(build::root()).unwrap_or(&path).display().to_string();
        breaches.extend(judge(&shown, &text));
    }
    Ok(breaches)
}

fn judge(path: &str, text: &str) -> Vec<String> {
    let pure = path.contains("/core/src/") || path.starts_with("api/src/");
    let test_file = path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs");
    let mut breaches = Vec::new();
    let mut in_tests = test_file;
    for (number, line) in text.lines().enumerate() {
        in_tests |= line.trim() == "#[cfg(test)]";
        let code = line.split("//").next().unwrap_or_default();
        let at = format!("{path}:{}", number + 1);
        if in_tests && (code.contains("sleep(") || code.trim_start().starts_with("#[ignore")) {
            breaches.push(format!("{at}: a test must wait for a condition, not sleep, and is never ignored"));
        }
        if pure && !in_tests && IMPURE.iter().any(|word| code.contains(word)) {
            breaches.push(format!("{at}: pure code knows no clock, environment, file or thread"));
        }
    }
    breaches
}

/// Every Rust source of the checkout.
pub fn rust_files(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            if !["target", ".git"].contains(&name.to_string_lossy().as_ref()) {
                found.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::judge;

    /// In pieces, since this file is judged too.
    const WAITING: &str = concat!("tokio::time::sle", "ep(d).await;\n");

    #[test]
    fn clocks_in_pure_code_and_sleeping_tests_are_found() {
        assert_eq!(judge("store/core/src/a.rs", "let t = Instant::now();\n").len(), 1);
        assert_eq!(judge("store/server/tests/a.rs", WAITING).len(), 1);
        assert_eq!(judge("node/core/src/dns_tests.rs", WAITING).len(), 1);
        assert_eq!(judge("node/runtime/src/a.rs", "#[cfg(test)]\nmod tests {\n#[ignore]\n}\n").len(), 1);
    }

    #[test]
    fn shells_may_look_at_the_clock() {
        assert!(judge("store/server/src/a.rs", &format!("let t = Instant::now();\n{WAITING}")).is_empty());
    }

    #[test]
    fn tests_of_pure_code_may_run_programs() {
        assert!(judge("node/core/src/proxy_tests.rs", "use std::process::Command;\n").is_empty());
        assert!(judge("api/src/tests.rs", "std::fs::read(path);\n").is_empty());
    }
}
