//! From times and values to places in a picture.

use std::fmt::Write as _;

/// Width of every picture, in the picture's units.
pub(super) const WIDTH: f64 = 1_040.0;
/// Room for labels at the left.
pub(super) const LEFT: f64 = 118.0;
/// Room at the right.
pub(super) const RIGHT: f64 = 12.0;

/// Time from left to right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) begin: u64,
    pub(super) end: u64,
}

impl Time {
    pub(super) fn x(self, time: u64) -> f64 {
        let share = time.saturating_sub(self.begin) as f64 / (self.end - self.begin).max(1) as f64;
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// Times that read well, about eight of them.
    pub(super) fn ticks(self) -> Vec<u64> {
        let span = self.end - self.begin;
        let seconds = [1_u64, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400];
        let step =
            seconds.iter().map(|second| second * 1_000_000_000).find(|step| span / step <= 10).unwrap_or(span.max(1));
        (0..=span / step)
            .map(|count| self.begin.next_multiple_of(step) + count * step)
            .filter(|t| *t <= self.end)
            .collect()
    }

    /// The axis' labels, with their baseline at `y`.
    pub(super) fn labels(self, y: f64) -> String {
        let mut out = String::new();
        for tick in self.ticks() {
            let x = self.x(tick);
            write_to(
                &mut out,
                format_args!(r#"<text class="tick" x="{x:.1}" y="{y:.1}" text-anchor="middle">{}</text>"#, clock(tick)),
            );
        }
        out
    }

    /// Vertical lines from `top` to `bottom`.
    pub(super) fn grid(self, top: f64, bottom: f64) -> String {
        let mut out = String::new();
        for tick in self.ticks() {
            let x = self.x(tick);
            write_to(
                &mut out,
                format_args!(r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{top:.1}" y2="{bottom:.1}"/>"#),
            );
        }
        out
    }
}

/// Appends; a `String` takes everything.
pub(super) fn write_to(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}

/// `m:ss` since the start.
pub(super) fn clock(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    if seconds >= 3_600 {
        return format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    }
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// A length of time with about three digits.
pub(super) fn length(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.0} µs", value / 1e3),
        1_000_000..10_000_000 => format!("{:.1} ms", value / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} ms", value / 1e6),
        1_000_000_000..100_000_000_000 => format!("{:.2} s", value / 1e9),
        _ => format!("{:.1} min", value / 6e10),
    }
}

/// A whole number with spaces between thousands.
pub(super) fn whole(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Text as HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([999, 1_000, 1_234_567].map(whole), ["999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
        assert_eq!(
            [12_000, 3_400_000, 340_000_000, 1_250_000_000].map(length),
            ["12 µs", "3.4 ms", "340 ms", "1.25 s"]
        );
        assert_eq!([61_000_000_000, 3_661_000_000_000].map(clock), ["1:01", "1:01:01"]);
    }

    #[test]
    fn ticks_lie_inside() {
        let time = Time { begin: 0, end: 600_000_000_000 };
        assert_eq!(time.ticks().len(), 11);
        assert!((time.x(time.end) - (WIDTH - RIGHT)).abs() < 1e-9);
    }
}
