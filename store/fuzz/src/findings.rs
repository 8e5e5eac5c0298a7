//! Inputs that were found, as text files that people can read and git can compare.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::input::{Input, Part};

/// Writes an input as text: `#` begins a comment, each part is a line of its kind and its bytes, escaped as in Rust.
#[must_use]
pub fn to_text(input: &Input, comment: &str) -> String {
    let mut text: String = comment.lines().map(|line| format!("# {line}\n")).collect();
    for part in &input.parts {
        text.push_str(&format!("{} {}\n", part.kind, part.bytes.escape_ascii()));
    }
    text
}

/// Reads what [`to_text`] wrote.
#[must_use]
pub fn from_text(text: &str) -> Option<Input> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let part = |line: &str| {
        let (kind, escaped) = line.split_once(' ')?;
        Some(Part::new(kind.parse().ok()?, unescape(escaped)?))
    };
    lines.map(part).collect::<Option<_>>().map(|parts| Input { parts })
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other @ (b'\\' | b'\'' | b'"') => other,
            _ => return None,
        });
    }
    Some(out)
}

/// Where a target's inputs that once failed are kept.
#[must_use]
pub fn regressions_dir(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target)
}

/// Reads an input from its file.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path) -> Result<Input> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    from_text(&text).with_context(|| format!("{}: not an input", path.display()))
}

/// Writes an input to `dir`, under a name that follows from it.
///
/// # Errors
/// If it cannot be written.
pub fn write(dir: &Path, input: &Input, comment: &str) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let path = dir.join(format!("{:08x}.txt", crc32c::crc32c(&input.encode())));
    fs::write(&path, to_text(input, comment)).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// The inputs in `dir`, by name; none if there is no such directory.
///
/// # Errors
/// If one cannot be read.
pub fn read_all(dir: &Path) -> Result<Vec<(PathBuf, Input)>> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(Vec::new()) };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().map(|path| read(&path).map(|input| (path, input))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_reads_back_from_its_text() {
        let all: Vec<u8> = (0..=255).collect();
        let input = Input { parts: vec![Part::new(3, all), Part::new(0, []), Part::new(9, *b"a 'b' # \"c\"")] };
        assert_eq!(from_text(&to_text(&input, "why\nit is here")), Some(input));
        assert_eq!(from_text("x y"), None);
    }
}
