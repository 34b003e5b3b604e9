// SPDX-License-Identifier: MIT OR Apache-2.0
//! `docs/bounds.md`: it has every bound with its value, and the tests that it names exist.
#![allow(
    clippy::unwrap_used,
    reason = "what fails here fails the test; helpers are no tests to clippy"
)]

mod named_tests;

use config::Deadlines;

const PAGE: &str = include_str!("../../docs/bounds.md");

/// The cells of each row.
fn rows() -> Vec<Vec<&'static str>> {
    PAGE.lines()
        .filter_map(|line| line.strip_prefix("| "))
        .skip(1)
        .map(|line| line.trim_end_matches(" |").split(" | ").collect())
        .collect()
}

#[test]
fn every_bound_is_on_the_page_with_its_value() {
    let bounds: Vec<&str> = rows().iter().map(|row| row[1]).collect();
    for (word, seconds) in Deadlines::DEFAULT.named() {
        let (short, long) = (format!("{seconds} s"), format!("{} h", seconds / 3600));
        let is_there = |bound: &&str| bound.starts_with(&short) || bound.starts_with(&long);
        assert!(bounds.iter().any(is_there), "{word}, {seconds} s");
    }
}

#[test]
fn every_row_names_tests_that_exist() {
    for row in rows() {
        let mut file = "table.rs";
        let mut named = 0;
        for word in row.last().unwrap().split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                file = word;
                continue;
            }
            // Names without a file are of the table of faults, or of the supervision.
            let is_there = [file, "table.rs", "supervise.rs"]
                .iter()
                .any(|file| named_tests::is_there(file, word, false));
            assert!(is_there, "{word}: {row:?}");
            named += 1;
        }
        assert!(named > 0, "{row:?}");
    }
}
