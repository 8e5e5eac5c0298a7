//! The size ratchet: a file has at most 600 lines without its tests. Files that were longer when the rule came stand in
//! `xtask/sizes.txt` with the length they may not exceed; a file that shrinks takes its allowance down with it.

use std::{collections::BTreeMap, fs};

use anyhow::Result;

use super::sources::rust_files;
use crate::build;

/// Lines a file may have, its tests not counted.
const LINES_MAX: usize = 600;

pub fn check() -> Result<Vec<String>> {
    let root = build::root();
    let allowances = parse(&fs::read_to_string(root.join("xtask/sizes.txt")).unwrap_or_default());
    let mut breaches = Vec::new();
    for path in rust_files(&root)? {
        let shown = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        let lines = lines_without_tests(&fs::read_to_string(&path)?);
        breaches.extend(judge(&shown, lines, allowances.get(&shown).copied()));
    }
    Ok(breaches)
}

fn judge(path: &str, lines: usize, allowance: Option<usize>) -> Option<String> {
    match allowance {
        None if lines > LINES_MAX => Some(format!("{path} has {lines} lines (at most {LINES_MAX}): split it")),
        Some(allowed) if lines > allowed => Some(format!("{path} grew from {allowed} to {lines} lines: split it")),
        Some(allowed) if lines < allowed => {
            Some(format!("{path} shrank from {allowed} to {lines} lines: lower its line in xtask/sizes.txt"))
        }
        _ => None,
    }
}

fn lines_without_tests(text: &str) -> usize {
    text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count()
}

fn parse(text: &str) -> BTreeMap<String, usize> {
    let pair = |line: &str| {
        let (path, lines) = line.split_once(' ')?;
        Some((path.to_owned(), lines.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::{judge, lines_without_tests};

    #[test]
    fn long_files_and_stale_allowances_are_found() {
        assert!(judge("a.rs", 601, None).is_some());
        assert!(judge("a.rs", 800, Some(700)).is_some());
        assert!(judge("a.rs", 650, Some(700)).is_some());
    }

    #[test]
    fn short_files_and_kept_allowances_pass() {
        assert_eq!(judge("a.rs", 600, None), None);
        assert_eq!(judge("a.rs", 700, Some(700)), None);
        assert_eq!(lines_without_tests("a\nb\n#[cfg(test)]\nmod tests {}\n"), 2);
    }
}
