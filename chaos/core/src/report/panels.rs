//! Throughput, latency and unanswered operations over time.

use super::{
    axis::{LEFT, RIGHT, Time, WIDTH, clock, escape, length, whole, write_to},
    figures::{Distribution, Figures, Slice},
    lanes::{bands, open},
};

/// Height of a panel's drawing.
const HEIGHT: f64 = 150.0;
/// Room above it.
const TOP: f64 = 8.0;
/// Nanoseconds at the bottom of the latency axis.
const LATENCY_MIN: f64 = 1e5;

/// Answers a second.
pub(super) fn throughput(figures: &Figures, time: Time) -> String {
    let seconds = figures.slice as f64 / 1e9;
    let rate = |values: &Distribution| values.count() as f64 / seconds;
    let highest = figures.slices.iter().flat_map(|slice| [rate(&slice.reads), rate(&slice.writes)]).fold(1.0, f64::max);
    let (top, step) = nice_top(highest);
    let y = |value: f64| TOP + HEIGHT * (1.0 - value / top);
    let mut out = panel(figures, time, "Answers a second");
    let mut mark = 0.0;
    while mark <= top {
        rule(&mut out, y(mark), &whole(mark as usize));
        mark += step;
    }
    for (class, pick) in [("reads", reads as fn(&Slice) -> &Distribution), ("writes", writes)] {
        let points = figures.slices.iter().map(|slice| Some(y(rate(pick(slice)))));
        line(&mut out, class, "", figures, time, points);
    }
    out + &hits(figures, time) + "</svg>"
}

/// p50 and p99 of what was answered, on a logarithmic axis.
pub(super) fn latency(figures: &Figures, time: Time) -> String {
    let highest = figures.slices.iter().flat_map(|slice| [slice.reads.percentile(100), slice.writes.percentile(100)]);
    let highest = highest.flatten().max().unwrap_or(0) as f64;
    let decades = (highest / LATENCY_MIN).log10().ceil().max(1.0);
    let y = |value: u64| TOP + HEIGHT * (1.0 - ((value as f64 / LATENCY_MIN).log10() / decades).clamp(0.0, 1.0));
    let mut out = panel(figures, time, "Latency");
    for decade in 0..=decades as i32 {
        let value = (LATENCY_MIN * 10_f64.powi(decade)) as u64;
        rule(&mut out, y(value), &length(value));
    }
    for (class, pick) in [("reads", reads as fn(&Slice) -> &Distribution), ("writes", writes)] {
        for (percent, dash) in [(50, " dashed"), (99, "")] {
            let points = figures.slices.iter().map(|slice| pick(slice).percentile(percent).map(y));
            line(&mut out, class, dash, figures, time, points);
        }
    }
    out + &hits(figures, time) + "</svg>"
}

fn reads(slice: &Slice) -> &Distribution {
    &slice.reads
}

fn writes(slice: &Slice) -> &Distribution {
    &slice.writes
}

/// A round number above `highest`, and the distance of its marks.
fn nice_top(highest: f64) -> (f64, f64) {
    let power = 10_f64.powf(highest.log10().floor());
    let step = [0.25, 0.5, 1.0, 2.5].map(|step| step * power).into_iter().find(|step| highest / step <= 5.0);
    let step = step.unwrap_or(2.5 * power).max(1.0);
    ((highest / step).ceil() * step, step)
}

fn panel(figures: &Figures, time: Time, title: &str) -> String {
    let mut out = open(TOP + HEIGHT + 20.0, title);
    out += &bands(&figures.faults, time, TOP, TOP + HEIGHT);
    out += &time.grid(TOP, TOP + HEIGHT);
    out + &time.labels(TOP + HEIGHT + 16.0)
}

fn rule(out: &mut String, y: f64, label: &str) {
    let (right, text) = (WIDTH - RIGHT, LEFT - 6.0);
    write_to(out, format_args!(r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/>"#));
    write_to(
        out,
        format_args!(r#"<text class="tick" x="{text}" y="{:.1}" text-anchor="end">{}</text>"#, y + 4.0, escape(label)),
    );
}

/// A line that is interrupted where nothing was answered.
fn line(
    out: &mut String,
    class: &str,
    dash: &str,
    figures: &Figures,
    time: Time,
    points: impl Iterator<Item = Option<f64>>,
) {
    let (mut path, mut drawing) = (String::new(), false);
    for (index, point) in (0_u64..).zip(points) {
        let x = time.x(index * figures.slice + figures.slice / 2);
        if let Some(y) = point {
            write_to(&mut path, format_args!("{}{x:.1} {y:.1}", if drawing { 'L' } else { 'M' }));
        }
        drawing = point.is_some();
    }
    write_to(out, format_args!(r#"<path class="line {class}{dash}" d="{path}"/>"#));
}

/// An invisible strip for each slice that tells its numbers.
fn hits(figures: &Figures, time: Time) -> String {
    let mut out = String::new();
    for (index, slice) in (0_u64..).zip(&figures.slices) {
        let begin = index * figures.slice;
        let (x, next) = (time.x(begin), time.x(begin + figures.slice));
        let side = |name: &str, values: &Distribution| match (values.percentile(50), values.percentile(99)) {
            (Some(p50), Some(p99)) => {
                let rate = values.count() as f64 / (figures.slice as f64 / 1e9);
                format!("{name} {}/s, p50 {}, p99 {}", whole(rate as usize), length(p50), length(p99))
            }
            _ => format!("{name} none"),
        };
        let tip = format!(
            "{} · {} · {} · {} failed, {} unknown",
            clock(begin),
            side("writes", &slice.writes),
            side("reads", &slice.reads),
            slice.failed,
            slice.unknown
        );
        let width = next - x;
        write_to(
            &mut out,
            format_args!(
                r#"<rect class="hit" x="{x:.1}" y="{TOP}" width="{width:.1}" height="{HEIGHT}" data-tip="{}"/>"#,
                escape(&tip)
            ),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::nice_top;

    #[test]
    fn axes_end_at_round_numbers() {
        for (highest, expected) in
            [(1.0, (1.0, 1.0)), (340.0, (400.0, 100.0)), (1_200.0, (1_250.0, 250.0)), (9.0, (10.0, 2.5))]
        {
            assert_eq!(nice_top(highest), expected);
        }
    }
}
