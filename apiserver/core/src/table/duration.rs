//! Ages as people read them (apimachinery `util/duration.HumanDuration`).

use jiff::Timestamp;
use xebec_api::time;

/// At most two units, the finer one only while it matters.
pub fn human_duration(seconds: i64) -> String {
    // A clock a little ahead of the object is forgiven.
    if seconds < -1 {
        return "<invalid>".into();
    }
    if seconds < 0 {
        return "0s".into();
    }
    let pair = |big: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => pair(days, 'd', hours % 24, 'h'),
        () if hours < 24 * 365 * 2 => format!("{days}d"),
        () if hours < 24 * 365 * 8 => pair(years, 'y', days % 365, 'd'),
        () => format!("{years}y"),
    }
}

/// The age of an RFC 3339 time, `<unknown>` where there is none.
pub fn since(text: Option<&str>, now: Timestamp) -> String {
    let parsed = text.and_then(|text| time::parse_micro_time(text).or_else(|_| time::parse_time(text)).ok());
    parsed.map_or_else(|| "<unknown>".into(), |then| human_duration(now.as_second() - then.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_upstream() {
        const DAY: i64 = 86_400;
        for (seconds, text) in [
            (-2, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (599, "9m59s"),
            (600, "10m"),
            (179 * 60, "179m"),
            (180 * 60, "3h"),
            (200 * 60, "3h20m"),
            (8 * 3600, "8h"),
            (47 * 3600, "47h"),
            (48 * 3600, "2d"),
            (51 * 3600, "2d3h"),
            (8 * DAY, "8d"),
            (729 * DAY, "729d"),
            (730 * DAY, "2y"),
            (731 * DAY, "2y1d"),
            (9 * 365 * DAY, "9y"),
        ] {
            assert_eq!(human_duration(seconds), text);
        }
        assert_eq!(since(None, Timestamp::UNIX_EPOCH), "<unknown>");
    }
}
