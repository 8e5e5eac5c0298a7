//! Lanes over time: faults, and who led.

use std::collections::BTreeMap;

use super::{
    axis::{LEFT, Time, WIDTH, clock, escape, length, write_to},
    figures::FaultGap,
};
use crate::history::Leadership;

/// Height of a lane.
const LANE: f64 = 20.0;
/// Characters of a label take about this much room each.
const LETTER: f64 = 6.2;

/// Bands over a panel where something was broken.
pub(super) fn bands(faults: &[FaultGap], time: Time, top: f64, bottom: f64) -> String {
    let mut out = String::new();
    for fault in faults {
        let (x, width) = place(time, fault.begin, fault.end);
        let height = bottom - top;
        write_to(
            &mut out,
            format_args!(r#"<rect class="band" x="{x:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"/>"#),
        );
    }
    out
}

fn place(time: Time, begin: u64, end: u64) -> (f64, f64) {
    let x = time.x(begin);
    (x, (time.x(end) - x).max(1.5))
}

/// A lane for each kind of fault.
pub(super) fn faults(faults: &[FaultGap], time: Time) -> String {
    let mut kinds: BTreeMap<&str, Vec<&FaultGap>> = BTreeMap::new();
    for fault in faults {
        kinds.entry(&fault.name).or_default().push(fault);
    }
    let height = LANE * kinds.len() as f64;
    let mut out = open(height + 4.0, "Faults over time");
    out += &time.grid(0.0, height);
    for (lane, (name, faults)) in kinds.iter().enumerate() {
        let y = lane as f64 * LANE;
        for fault in faults {
            let (x, width) = place(time, fault.begin, fault.end);
            let tip = format!(
                "{} {} · {} for {} · write gap {}",
                fault.name,
                fault.detail,
                clock(fault.begin),
                length(fault.end - fault.begin),
                length(fault.write_gap)
            );
            write_to(
                &mut out,
                format_args!(
                    r#"<rect class="fault" x="{x:.1}" y="{:.1}" width="{width:.1}" height="{:.1}" rx="2" data-tip="{}"/>"#,
                    y + 4.0,
                    LANE - 8.0,
                    escape(&tip)
                ),
            );
        }
        label(&mut out, name, y);
    }
    out + "</svg>"
}

/// A lane for each member, filled while somebody said that it led.
pub(super) fn leadership(observations: &[Leadership], time: Time) -> String {
    let mut members: BTreeMap<&str, Vec<(u64, u64, u64)>> = BTreeMap::new();
    for (at, observation) in observations.iter().enumerate() {
        let Some(leader) = &observation.leader else { continue };
        let next = observations[at + 1..].iter().find(|next| next.observer == observation.observer);
        let end = next.map_or(time.end, |next| next.time);
        let spans = members.entry(leader).or_default();
        match spans.last_mut().filter(|(_, last, term)| *last >= observation.time && *term == observation.term) {
            Some(span) => span.1 = span.1.max(end),
            None => spans.push((observation.time, end, observation.term)),
        }
    }
    let height = LANE * members.len() as f64;
    let mut out = open(height + 22.0, "Leadership over time");
    out += &time.grid(0.0, height);
    for (lane, (member, spans)) in members.iter().enumerate() {
        let y = lane as f64 * LANE;
        for (begin, end, term) in spans {
            let (x, width) = place(time, *begin, *end);
            let tip = format!("{member} led in term {term} · {} to {}", clock(*begin), clock(*end));
            write_to(
                &mut out,
                format_args!(
                    r#"<rect class="leader" x="{x:.1}" y="{:.1}" width="{width:.1}" height="{:.1}" rx="2" data-tip="{}"/>"#,
                    y + 3.0,
                    LANE - 6.0,
                    escape(&tip)
                ),
            );
            let text = format!("term {term}");
            if width > text.len() as f64 * LETTER + 8.0 {
                write_to(
                    &mut out,
                    format_args!(r#"<text class="inside" x="{:.1}" y="{:.1}">{text}</text>"#, x + 4.0, y + 14.0),
                );
            }
        }
        label(&mut out, member, y);
    }
    out += &time.labels(height + 16.0);
    out + "</svg>"
}

fn label(out: &mut String, text: &str, y: f64) {
    // Long names are cut: the whole name is in the tip.
    let letters = ((LEFT - 8.0) / LETTER) as usize;
    let shown: String = if text.chars().count() > letters {
        text.chars().take(letters - 1).chain(['…']).collect()
    } else {
        text.to_owned()
    };
    let (x, y) = (LEFT - 6.0, y + 14.0);
    write_to(
        out,
        format_args!(
            r#"<text class="tick" x="{x:.1}" y="{y:.1}" text-anchor="end">{}<title>{}</title></text>"#,
            escape(&shown),
            escape(text)
        ),
    );
}

/// The beginning of a picture as wide as all others.
pub(super) fn open(height: f64, title: &str) -> String {
    format!(r#"<svg viewBox="0 0 {WIDTH:.0} {height:.0}" role="img" aria-label="{}">"#, escape(title))
}
