//! The results as a Markdown table.

use std::fmt::Write as _;

use crate::side::{Cell, Measured};

/// Renders what was measured; with two sides each figure has its ratio, first to second.
pub fn render(sides: &[Measured]) -> String {
    let mut text = String::new();
    let head = "| work | clients | side | per second | p50 ms | p99 ms | p99.9 ms | CPU s per 1,000 | written bytes each | resident MiB |";
    let _infallible = writeln!(text, "{head}\n|---|---|---|---|---|---|---|---|---|---|");
    let count = sides.first().map_or(0, |side| side.cells.len());
    for index in 0..count {
        let cells: Vec<&Cell> = sides.iter().map(|side| &side.cells[index]).collect();
        for (side, cell) in sides.iter().zip(&cells) {
            line(&mut text, cell, side.name, &figures(cell).map(|(value, decimals)| format!("{value:.decimals$}")));
        }
        if let [ours, theirs] = cells[..] {
            let (ours_figures, theirs_figures) = (figures(ours), figures(theirs));
            let ratios = std::array::from_fn(|at| {
                let (ours, theirs) = (ours_figures[at].0, theirs_figures[at].0);
                if theirs > 0.0 { format!("**{:.2}**", ours / theirs) } else { "-".to_owned() }
            });
            line(&mut text, ours, "ratio", &ratios);
        }
    }
    for side in sides {
        let mut gaps: Vec<f64> = side.gaps.iter().map(std::time::Duration::as_secs_f64).collect();
        gaps.sort_by(f64::total_cmp);
        if let (Some(middle), Some(longest)) = (gaps.get(gaps.len() / 2), gaps.last()) {
            let _infallible = write!(
                text,
                "\n{}: write gap after kill -9 of the leader: median {middle:.2} s, longest {longest:.2} s of {}",
                side.name,
                gaps.len()
            );
        }
        let mib = side.resident_bytes as f64 / 1_048_576.0;
        let _infallible =
            writeln!(text, "\n{}: resident memory of the largest member at the end: {mib:.0} MiB", side.name);
    }
    text
}

fn line(text: &mut String, cell: &Cell, side: &str, figures: &[String; 7]) {
    let _infallible = writeln!(text, "| {} | {} | {side} | {} |", cell.row.title(), cell.clients, figures.join(" | "));
}

/// Each figure with its decimals.
fn figures(cell: &Cell) -> [(f64, usize); 7] {
    let millis = |quantile| cell.load.latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let operations = cell.load.operations as f64;
    [
        (operations / cell.load.seconds, 0),
        (millis(0.5), 2),
        (millis(0.99), 2),
        (millis(0.999), 2),
        (cell.usage.cpu_seconds * 1_000.0 / operations, 3),
        (cell.usage.written_bytes as f64 / operations, 0),
        (cell.usage.resident_bytes as f64 / 1_048_576.0, 0),
    ]
}
