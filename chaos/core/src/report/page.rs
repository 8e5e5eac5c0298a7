//! The page.

use super::{
    axis::{Time, escape, length, whole, write_to},
    counterexample,
    figures::{Distribution, Figures},
    gaps, lanes, panels, spread,
};
use crate::{
    history::{FORMAT_VERSION, History},
    verdict::{Judgement, Verdict},
};

const STYLE: &str = include_str!("style.css");
/// Shows an element's `data-tip` beside the pointer; the page says everything without it.
const HOVER: &str = include_str!("hover.js");

/// Draws a run. The same history and verdicts give the same page.
pub fn render(history: &History, verdicts: &[Verdict]) -> String {
    let figures = Figures::of(history);
    let time = Time { begin: 0, end: figures.duration };
    let good = verdicts.iter().all(Verdict::passes) && !verdicts.is_empty();
    let title = if good { "Nothing was lost" } else { "Not everything held" };
    let mut out = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <meta name=color-scheme content=\"light dark\"><title>{title}: Xebec chaos, seed {}</title><style>{STYLE}</style><main>",
        history.header.seed
    );
    out += &head(history, verdicts, &figures, good);
    out += &verdict_table(verdicts);
    let violations =
        || verdicts.iter().flat_map(|verdict| verdict.violations.iter().map(move |found| (verdict, found)));
    if violations().next().is_some() {
        out += "<section><h2>Counterexamples</h2>";
        for (verdict, violation) in violations() {
            out += &counterexample::draw(&verdict.checker, violation);
        }
        out += "</section>";
    }
    out += &over_time(history, &figures, time);
    if !figures.faults.is_empty() {
        out += "<section><h2>How long nobody could write</h2><p class=hint>For each fault, the longest silence between two \
                acknowledged writes that touches it or the five seconds after it.</p>";
        out += &gaps::strips(&figures);
        out += &gaps::table(&figures);
        out += &gaps::list(&figures);
        out += "</section>";
    }
    let spreads = spread::spreads(history, &figures);
    if !spreads.is_empty() {
        out += "<section><h2>Figures</h2><p class=hint>Of every fault of a kind: the longest time without an acknowledged write, an \
                answered read, a pod placed or a change taken up by its controller, and how long it took to recover.</p>";
        out += &spread::table(&spreads);
        out += "</section>";
    }
    out += &operations(&figures);
    out += &footer(history);
    out + &format!("</main><div id=tip hidden></div><script>{HOVER}</script></html>\n")
}

fn head(history: &History, verdicts: &[Verdict], figures: &Figures, good: bool) -> String {
    let header = &history.header;
    let count = verdicts.iter().filter(|verdict| verdict.passes()).count();
    let (class, sentence) = match (good, verdicts.is_empty()) {
        (true, _) if count == 1 => ("good", "The one check holds".to_owned()),
        (true, _) => ("good", format!("All {count} checks hold")),
        (false, true) => ("bad", "Nothing was checked".to_owned()),
        (false, false) => ("bad", format!("Not held: {} of {} checks", verdicts.len() - count, verdicts.len())),
    };
    let mut out = format!(
        "<header><p class=brand>Xebec chaos</p><h1 class={class}><span class=mark>{}</span> {sentence}</h1>\
         <p class=lead>{} operations in {} on {}, {} faults.</p>",
        if good { "✓" } else { "✗" },
        whole(figures.operations),
        length(figures.duration),
        escape(if header.system.is_empty() { "an unnamed system" } else { &header.system }),
        figures.faults.len(),
    );
    out += "<dl class=tiles>";
    let tiles = [
        ("acknowledged", whole(figures.answered)),
        ("refused", whole(figures.failed)),
        ("unknown", whole(figures.unknown)),
        ("longest write gap", length(figures.write_gap)),
        ("longest read gap", length(figures.read_gap)),
    ];
    for (name, value) in tiles {
        write_to(&mut out, format_args!("<div><dt>{name}<dd>{value}</div>"));
    }
    out + "</dl></header>"
}

fn verdict_table(verdicts: &[Verdict]) -> String {
    let mut out =
        "<section><h2>Verdicts</h2><table><thead><tr><th>check<th>verdict<th>looked at</tr></thead><tbody>".to_owned();
    for verdict in verdicts {
        let (class, text) = match verdict.outcome {
            Judgement::Holds => ("good", "✓ holds".to_owned()),
            Judgement::Empty => ("none", "nothing to check".to_owned()),
            Judgement::Undecided => ("bad", "? undecided".to_owned()),
            Judgement::Violated if verdict.violations_total == 1 => ("bad", "✗ 1 violation".to_owned()),
            Judgement::Violated => ("bad", format!("✗ {} violations", verdict.violations_total)),
        };
        let (name, summary) = (escape(&verdict.checker), escape(&verdict.summary));
        write_to(
            &mut out,
            format_args!("<tr><td>{name}<td><span class=\"badge {class}\">{text}</span><td>{summary}</tr>"),
        );
    }
    out + "</tbody></table></section>"
}

fn over_time(history: &History, figures: &Figures, time: Time) -> String {
    let mut out = "<section><h2>Over time</h2>".to_owned();
    let legend = |percentiles: bool| {
        let note = if percentiles { "<span class=note>solid p99, dashed p50</span>" } else { "" };
        let band = if figures.faults.is_empty() { "" } else { "<span class=key><i class=band></i>a fault</span>" };
        format!(
            "<span class=legend><span class=key><i class=writes></i>writes</span>\
             <span class=key><i class=reads></i>reads</span>{band}{note}</span>"
        )
    };
    if !figures.faults.is_empty() {
        write_to(&mut out, format_args!("<h3>Faults</h3>{}", lanes::faults(&figures.faults, time)));
    }
    let slice = length(figures.slice);
    write_to(
        &mut out,
        format_args!("<h3>Answers a second {}</h3>{}", legend(false), panels::throughput(figures, time)),
    );
    write_to(&mut out, format_args!("<h3>Latency, by {slice} {}</h3>{}", legend(true), panels::latency(figures, time)));
    if history.leaderships.iter().any(|observation| observation.leader.is_some()) {
        write_to(&mut out, format_args!("<h3>Who led</h3>{}", lanes::leadership(&history.leaderships, time)));
    }
    out + "</section>"
}

fn operations(figures: &Figures) -> String {
    let mut out =
        "<section><h2>Operations</h2><table><thead><tr><th>operation<th class=n>acknowledged<th class=n>refused\
                   <th class=n>unknown<th class=n>p50<th class=n>p99<th class=n>longest</tr></thead><tbody>"
            .to_owned();
    for (name, row) in &figures.actions {
        let cell = |values: &Distribution, percent| values.percentile(percent).map_or_else(|| "–".to_owned(), length);
        write_to(
            &mut out,
            format_args!(
                "<tr><td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}</tr>",
                escape(name),
                whole(row.answered.count()),
                whole(row.failed),
                whole(row.unknown),
                cell(&row.answered, 50),
                cell(&row.answered, 99),
                cell(&row.answered, 100)
            ),
        );
    }
    out + "</tbody></table></section>"
}

fn footer(history: &History) -> String {
    let header = &history.header;
    let mut out = "<section><h2>To repeat it</h2>".to_owned();
    if !header.command.is_empty() {
        write_to(&mut out, format_args!("<pre>{}</pre>", escape(&header.command)));
    }
    out += "<dl class=facts>";
    let facts = [
        ("seed", header.seed.to_string()),
        ("started", header.started.clone()),
        ("machine", header.machine.clone()),
        ("history", format!("history.jsonl beside this page, format {FORMAT_VERSION}")),
    ];
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        write_to(&mut out, format_args!("<dt>{name}<dd>{}", escape(value)));
    }
    out + "</dl></section>"
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
