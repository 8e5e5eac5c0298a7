//! A handful of operations over time, as text; the report draws the same as a picture.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Characters that the drawn part of a text timeline is wide.
const WIDTH: usize = 64;
/// Rows that a text timeline shows; a checker's counterexample is far below.
const ROWS_MAX: usize = 60;

/// Operations over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// In order of begin.
    pub bars: Vec<Bar>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Who: a process, a watcher, a fault.
    pub row: String,
    /// Nanoseconds since the start of the run.
    pub begin: u64,
    /// Nanoseconds; `None` while its end is unknown.
    pub end: Option<u64>,
    /// What.
    pub label: String,
    /// Whether this is the one that cannot be explained.
    pub guilty: bool,
}

impl Timeline {
    /// A timeline in order of begin.
    pub fn new(mut bars: Vec<Bar>) -> Self {
        bars.sort_by_key(|bar| (bar.begin, bar.end.unwrap_or(u64::MAX)));
        Self { bars }
    }

    /// First begin and last end that are known, in nanoseconds.
    pub fn range(&self) -> (u64, u64) {
        let first = self.bars.iter().map(|bar| bar.begin).min().unwrap_or(0);
        let last = self.bars.iter().map(|bar| bar.end.unwrap_or(bar.begin)).max().unwrap_or(first);
        (first, last.max(first + 1))
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bars.is_empty() {
            return Ok(());
        }
        let (first, last) = self.range();
        let scale = |time: u64| {
            let share = (time - first) as u128 * (WIDTH as u128 - 1) / u128::from(last - first);
            usize::try_from(share).unwrap_or(WIDTH - 1).min(WIDTH - 1)
        };
        let names = self.bars.iter().map(|bar| bar.row.chars().count()).max().unwrap_or(0);
        writeln!(out, "  from {} to {}", milliseconds(first), milliseconds(last))?;
        for bar in self.bars.iter().take(ROWS_MAX) {
            let mark = if bar.guilty { '>' } else { ' ' };
            let (begin, end) = (scale(bar.begin), bar.end.map_or(WIDTH - 1, scale));
            let mut line = vec![' '; WIDTH];
            line[begin..=end].fill('-');
            line[begin] = '|';
            line[end] = if bar.end.is_some() { '|' } else { '>' };
            let drawing: String = line.into_iter().collect();
            let end = bar.end.map_or_else(|| "?".to_owned(), milliseconds);
            writeln!(out, "{mark} {:<names$} {drawing} {} [{}, {end}]", bar.row, bar.label, milliseconds(bar.begin))?;
        }
        let hidden = self.bars.len().saturating_sub(ROWS_MAX);
        if hidden > 0 { writeln!(out, "  ... and {hidden} more") } else { Ok(()) }
    }
}

/// A time in milliseconds, as a person reads it.
fn milliseconds(nanoseconds: u64) -> String {
    format!("{}.{:03} ms", nanoseconds / 1_000_000, nanoseconds / 1_000 % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_lie_where_their_times_are() {
        let bar = |row: &str, begin, end, label: &str, guilty| {
            let (row, label) = (row.to_owned(), label.to_owned());
            Bar { row, begin, end, label, guilty }
        };
        let timeline = Timeline::new(vec![
            bar("p2", 3_000_000, Some(4_000_000), "read -> 1", true),
            bar("p1", 0, Some(2_000_000), "write 2", false),
            bar("p10", 1_000_000, None, "write 3", false),
        ]);
        let text = timeline.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "  from 0.000 ms to 4.000 ms");
        assert!(lines[1].starts_with("  p1  |---"), "{text}");
        assert!(lines[1].ends_with("write 2 [0.000 ms, 2.000 ms]"), "{text}");
        assert!(lines[2].contains("-> write 3 [1.000 ms, ?]"), "{text}");
        assert!(lines[3].starts_with("> p2 "), "{text}");
    }
}
