//! A violation, drawn.

use super::{
    axis::{LEFT, RIGHT, WIDTH, escape, length, write_to},
    lanes::open,
};
use crate::verdict::{Bar, Violation};

/// Height of an operation.
const ROW: f64 = 22.0;
/// Operations that are drawn.
const ROWS_MAX: usize = 60;
/// Room for a bar's label beside it before it is put on the other side.
const LETTER: f64 = 6.4;

/// A violation with its operations over time.
pub(super) fn draw(checker: &str, violation: &Violation) -> String {
    let mut out = format!(
        "<article class=violation><h3>{}</h3><p class=by>found by <b>{}</b></p><p>{}</p>",
        escape(&violation.anomaly),
        escape(checker),
        escape(&violation.explanation)
    );
    if !violation.timeline.bars.is_empty() {
        out += &picture(violation);
        write_to(
            &mut out,
            format_args!(
                "<details><summary>as text</summary><pre>{}</pre></details>",
                escape(&violation.timeline.to_string())
            ),
        );
    }
    out + "</article>"
}

fn picture(violation: &Violation) -> String {
    let bars = &violation.timeline.bars;
    let shown = bars.len().min(ROWS_MAX);
    let height = ROW * shown as f64;
    let x = positions(bars);
    let mut out = open(height + 20.0, "The operations that suffice");
    for (row, bar) in bars.iter().take(ROWS_MAX).enumerate() {
        let y = ROW * row as f64;
        let begin = x(bar.begin);
        let end = bar.end.map_or(WIDTH - RIGHT, &x).max(begin + 3.0);
        let class = match (bar.guilty, bar.end) {
            (true, _) => "op guilty",
            (false, None) => "op open",
            (false, Some(_)) => "op",
        };
        let tip = match bar.end {
            Some(end) => format!("{} · {} · took {}", bar.row, bar.label, length(end - bar.begin)),
            None => format!("{} · {} · outcome unknown", bar.row, bar.label),
        };
        write_to(
            &mut out,
            format_args!(
                r#"<rect class="{class}" x="{begin:.1}" y="{:.1}" width="{:.1}" height="{:.1}" rx="3" data-tip="{}"/>"#,
                y + 3.0,
                end - begin,
                ROW - 6.0,
                escape(&tip)
            ),
        );
        write_to(
            &mut out,
            format_args!(
                r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                LEFT - 6.0,
                y + 15.0,
                escape(&bar.row)
            ),
        );
        let room = bar.label.chars().count() as f64 * LETTER;
        let (at, anchor) = match () {
            () if room < end - begin - 8.0 => (begin + 6.0, "start"),
            () if end + room + 6.0 < WIDTH => (end + 6.0, "start"),
            () if begin - room - 6.0 > LEFT => (begin - 6.0, "end"),
            () => (begin + 6.0, "start"),
        };
        write_to(
            &mut out,
            format_args!(
                r#"<text class="label" x="{at:.1}" y="{:.1}" text-anchor="{anchor}">{}</text>"#,
                y + 15.0,
                escape(&bar.label)
            ),
        );
    }
    let (first, last) = violation.timeline.range();
    write_to(
        &mut out,
        format_args!(
            r#"<text class="tick" x="{LEFT}" y="{0:.1}">{1}</text><text class="tick" x="{2}" y="{0:.1}" text-anchor="end">{3}</text>"#,
            height + 14.0,
            moment(first),
            WIDTH - RIGHT,
            moment(last)
        ),
    );
    out + "</svg>"
}

/// Every begin and end gets the same room: what matters is their order, and lengths differ by orders of magnitude.
fn positions(bars: &[Bar]) -> impl Fn(u64) -> f64 + use<> {
    let mut moments: Vec<u64> = bars.iter().flat_map(|bar| [Some(bar.begin), bar.end]).flatten().collect();
    moments.sort_unstable();
    moments.dedup();
    let steps = (moments.len() as f64 - 1.0).max(1.0);
    move |time| {
        let index = moments.partition_point(|moment| *moment < time) as f64;
        LEFT + (WIDTH - LEFT - RIGHT) * 0.92 * index / steps
    }
}

fn moment(nanoseconds: u64) -> String {
    format!("{}.{:06} s", nanoseconds / 1_000_000_000, nanoseconds / 1_000 % 1_000_000)
}
