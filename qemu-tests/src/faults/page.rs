// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page in `docs/` with what was seen of each cell.

use std::fmt::Write as _;

use serde_json::Value;

use super::Kind;
use super::table::{ELSEWHERE, ROWS};

/// The page with these results.
#[must_use]
pub fn table(results: &[Value], date: &str) -> String {
    let (mut passed, mut failed, mut missing) = (0, 0, 0);
    let mut lines = String::new();
    let mut console = String::new();
    for row in ROWS {
        let _ = write!(lines, "\n| {}: {} |", row.fault.replace('_', " "), row.how);
        for kind in Kind::ALL {
            let Some(cell) = row.cells.iter().find(|cell| cell.kind == kind) else {
                lines += " |";
                continue;
            };
            let result = results
                .iter()
                .find(|one| one["fault"] == row.fault && one["kind"] == kind.word());
            let Some(result) = result else {
                missing += 1;
                lines += " not run |";
                continue;
            };
            if let Some(error) = result["error"].as_str() {
                failed += 1;
                lines += " FAILED |";
                let why = error.lines().next().unwrap_or("no reason given");
                // Where the log lies is of this machine, and of no use to a reader.
                let why = why.split("; console: ").next().unwrap_or(why);
                let _ = writeln!(console, "- {}, {}: FAILED: {why}", row.fault, kind.word());
                continue;
            }
            passed += 1;
            let (seconds, bound) = (&result["seconds"], &result["bound_s"]);
            let _ = write!(lines, " {}; {seconds} of {bound} s |", cell.must);
            let said = result["said"].as_str().unwrap_or_default();
            let left = match result["left"].as_str().unwrap_or_default() {
                "" => String::new(),
                left => format!(" (left there: {left})"),
            };
            let _ = writeln!(console, "- {}, {}: `{said}`{left}", row.fault, kind.word());
        }
    }
    let mut elsewhere = String::new();
    for (fault, kind, file, test) in ELSEWHERE {
        let _ = writeln!(
            elsewhere,
            "- {fault}, {}: `tests/{file}.rs`, {test}",
            kind.word()
        );
    }
    let heads: String = Kind::ALL
        .iter()
        .map(|kind| format!(" {} |", kind.word()))
        .collect();
    format!(
        "# Faults at capture\n\n\
         Written by `cargo verify --table` on {date}: {passed} cells as they must be, {failed} not, {missing} did not run.\n\n\
         A cell is one panic of a real kernel in QEMU with one fault, and what came of it: the complete dump at the target,\n\
         the complete dump at the next target (an ext3 on another disk), an incomplete dump that says so where there is no\n\
         other target, or a restart where no dump can be had. Complete dumps were read by makedumpfile and held against the\n\
         saved log. The seconds are those from init's start to the machine's end, beside the most that `mkkdumprd plan` stated.\n\n\
         | fault |{heads}\n| --- |{}{lines}\n\n\
         ## What the console said\n\n{console}\n\
         ## Elsewhere\n\nFaults with a test of their own, which checks more:\n\n{elsewhere}",
        " --- |".repeat(Kind::ALL.len())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_has_outcomes_failures_and_what_did_not_run() {
        let page = table(
            &[
                json!({"fault": "disk_missing", "kind": "ext", "seconds": 9, "bound_s": 700, "said": "no device", "left": ""}),
                json!({"fault": "full_at_50", "kind": "ssh", "seconds": 9, "bound_s": 700, "said": "ENOSPC", "left": "the log"}),
                json!({"fault": "disk_missing", "kind": "raw", "error": "no line; console: /x/y\nmore"}),
            ],
            "today",
        );
        for part in [
            "on today: 2 cells as they must be, 1 not, ",
            "| disk missing: the disk is not there | next target; 9 of 700 s | FAILED | | |\n",
            "- disk_missing, raw: FAILED: no line\n",
            "- full_at_50, ssh: `ENOSPC` (left there: the log)\n",
            " not run |",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }
}
