use std::path::Path;

use serde_json::json;
use xebec_store_snapshot::{Database, Status, status};

use super::{OperateError, WriteOut};

const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];

/// Checks a snapshot and prints what etcdutl prints of it.
pub(super) fn print(path: &Path, write_out: WriteOut) -> Result<(), OperateError> {
    let status = status(&Database::open(path)?)?;
    println!("{}", render(&status, write_out));
    Ok(())
}

fn render(status: &Status, write_out: WriteOut) -> String {
    let Status { hash, revision, total_keys, total_bytes, version } = status;
    match write_out {
        WriteOut::Json => json!({
            "hash": hash, "revision": revision, "totalKey": total_keys, "totalSize": total_bytes, "version": version,
        })
        .to_string(),
        WriteOut::Simple => format!("{hash:x}, {revision}, {total_keys}, {}, {version}", size(*total_bytes)),
        WriteOut::Table => {
            let cells = [
                format!("{hash:x}"),
                revision.to_string(),
                total_keys.to_string(),
                size(*total_bytes),
                version.clone(),
            ];
            table(&["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"], &cells)
        }
    }
}

fn table(heads: &[&str], cells: &[String]) -> String {
    let widths: Vec<usize> = heads.iter().zip(cells).map(|(head, cell)| head.len().max(cell.len())).collect();
    let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect::<String>() + "+";
    let line = |row: &mut dyn Iterator<Item = &str>| {
        row.zip(&widths).map(|(cell, width)| format!("| {cell:>width$} ")).collect::<String>() + "|"
    };
    let head = line(&mut heads.iter().copied());
    let body = line(&mut cells.iter().map(String::as_str));
    format!("{rule}\n{head}\n{rule}\n{body}\n{rule}")
}

/// As etcd's tools round: powers of a thousand, one digit below ten.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit > 0 && value < 10.0 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_looks_as_etcds_tools_print_it() {
        let status =
            Status { hash: 0xfe01_cf57, revision: 10, total_keys: 7, total_bytes: 2_100_000, version: String::new() };
        assert_eq!(render(&status, WriteOut::Simple), "fe01cf57, 10, 7, 2.1 MB, ");
        let table = render(&status, WriteOut::Table);
        assert!(
            table.starts_with("+----------+----------+------------+------------+---------+\n|     HASH |"),
            "{table}"
        );
        assert!(table.contains("| fe01cf57 |       10 |          7 |     2.1 MB |         |"), "{table}");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(25_000), "25 kB");
    }
}
