//! How long nobody could write, for each kind of fault.

use super::{
    axis::{LEFT, WIDTH, clock, escape, length, write_to},
    figures::{Distribution, Figures},
    lanes::open,
};

/// Height of a kind's strip.
const STRIP: f64 = 26.0;
/// Faults listed one by one, those with the longest write gaps.
const LISTED_MAX: usize = 25;
/// Nanoseconds: the target for the write gap after the leader's death, drawn as a line.
const TARGET: u64 = 1_000_000_000;

/// A dot for each fault, a row for each kind.
pub(super) fn strips(figures: &Figures) -> String {
    let kinds = figures.write_gaps();
    let longest = kinds.values().filter_map(|gaps| gaps.percentile(100)).max().unwrap_or(0).max(TARGET + TARGET / 4);
    let left = LEFT + 40.0;
    let right = WIDTH - 40.0;
    let x = |gap: u64| left + (right - left) * gap as f64 / longest as f64;
    let height = STRIP * kinds.len() as f64;
    let mut out = open(height + 22.0, "Write gap of every fault");
    for (row, (kind, gaps)) in kinds.iter().enumerate() {
        let y = STRIP * row as f64 + STRIP / 2.0;
        write_to(&mut out, format_args!(r#"<line class="grid" x1="{left}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/>"#));
        let text = format!("{} ({})", escape(kind), gaps.count());
        write_to(
            &mut out,
            format_args!(
                r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{text}</text>"#,
                left - 8.0,
                y + 4.0
            ),
        );
        for gap in gaps.values() {
            write_to(
                &mut out,
                format_args!(
                    r#"<circle class="dot" cx="{:.1}" cy="{y:.1}" r="4" data-tip="{}: {}"/>"#,
                    x(*gap),
                    escape(kind),
                    length(*gap)
                ),
            );
        }
    }
    write_to(
        &mut out,
        format_args!(r#"<line class="target" x1="{0:.1}" x2="{0:.1}" y1="0" y2="{height:.1}"/>"#, x(TARGET)),
    );
    for (value, anchor) in [(0, "middle"), (TARGET, "middle"), (longest, "middle")] {
        let near_target = value == longest && x(longest) - x(TARGET) < 90.0;
        if !near_target {
            let note = if value == TARGET { " (target)" } else { "" };
            write_to(
                &mut out,
                format_args!(
                    r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="{anchor}">{}{note}</text>"#,
                    x(value),
                    height + 16.0,
                    if value == 0 { "0".to_owned() } else { length(value) }
                ),
            );
        }
    }
    out + "</svg>"
}

/// Percentiles for each kind of fault.
pub(super) fn table(figures: &Figures) -> String {
    let mut out = "<table><thead><tr><th>fault<th class=n>times<th class=n>write gap p50<th class=n>p90<th class=n>p99\
                   <th class=n>longest<th class=n>read gap p50<th class=n>longest</tr></thead><tbody>"
        .to_owned();
    for (kind, writes) in figures.write_gaps() {
        let faults = figures.faults.iter().filter(|fault| fault.name == kind);
        let reads = Distribution::new(faults.map(|fault| fault.read_gap).collect());
        let cell = |values: &Distribution, percent| {
            format!("<td class=n>{}", values.percentile(percent).map_or_else(|| "–".to_owned(), length))
        };
        write_to(&mut out, format_args!("<tr><td>{}<td class=n>{}", escape(kind), writes.count()));
        for percent in [50, 90, 99, 100] {
            out += &cell(&writes, percent);
        }
        out += &cell(&reads, 50);
        out += &cell(&reads, 100);
        out += "</tr>";
    }
    out + "</tbody></table>"
}

/// The faults one by one.
pub(super) fn list(figures: &Figures) -> String {
    let mut faults: Vec<_> = figures.faults.iter().collect();
    faults.sort_by_key(|fault| std::cmp::Reverse(fault.write_gap));
    let shown = faults.len().min(LISTED_MAX);
    let mut out = format!(
        "<details><summary>The {shown} faults with the longest write gaps</summary><table><thead><tr><th>at<th>fault<th>where\
         <th class=n>lasted<th class=n>write gap<th class=n>read gap</tr></thead><tbody>"
    );
    for fault in faults.into_iter().take(LISTED_MAX) {
        write_to(
            &mut out,
            format_args!(
                "<tr><td>{}<td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{}</tr>",
                clock(fault.begin),
                escape(&fault.name),
                escape(&fault.detail),
                length(fault.end - fault.begin),
                length(fault.write_gap),
                length(fault.read_gap)
            ),
        );
    }
    out + "</tbody></table></details>"
}
