// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manual page of the file that is parsed here. It is a text beside the parser, held to it by the tests below.

const TEXT: &str = include_str!("kdump.conf.txt");

/// kdump.conf(5), in roff.
#[must_use]
pub fn page() -> String {
    manual::file_page(
        "kdump.conf",
        "where the dumps of crashed kernels go, and how",
        TEXT,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::{DIRECTIVES, NOT_YET, parse};
    use config::{Deadlines, FailureAction};
    use manual::{Part, parts, terms};

    /// The headings below which no term is a directive.
    const OTHERS: [&str; 3] = ["ACTIONS", "ENCRYPTED DUMPS", "FILES"];
    const REFUSED: &str = "REFUSED";

    /// The directives that a term is about: `ext3, ext4 DEVICE`.
    fn words(term: &str) -> Vec<&str> {
        let mut found = Vec::new();
        for word in term.split(' ') {
            found.push(word.trim_end_matches(','));
            if !word.ends_with(',') {
                break;
            }
        }
        found
    }

    fn below(is_wanted: impl Fn(&str) -> bool) -> Vec<&'static str> {
        let mut found: Vec<&str> = terms(TEXT)
            .into_iter()
            .filter(|(heading, _)| is_wanted(heading))
            .flat_map(|(_, term)| words(term))
            .collect();
        found.sort_unstable();
        found
    }

    fn sorted(words: impl IntoIterator<Item = &'static str>) -> Vec<&'static str> {
        let mut words: Vec<&str> = words.into_iter().collect();
        words.sort_unstable();
        words
    }

    #[test]
    fn the_page_has_each_directive_of_the_parser_once_and_no_other() {
        let obeyed = below(|heading| heading != REFUSED && !OTHERS.contains(&heading));
        assert_eq!(obeyed, sorted(DIRECTIVES.map(|(word, _)| word)));
        assert_eq!(below(|heading| heading == REFUSED), sorted(NOT_YET));
        assert_eq!(
            below(|heading| heading == "ACTIONS"),
            sorted(FailureAction::ALL.map(FailureAction::word))
        );
    }

    #[test]
    fn the_examples_are_files_that_parse() {
        let mut examples: Vec<String> = Vec::new();
        let mut was_example = false;
        for part in parts(TEXT) {
            let Part::Example(line) = part else {
                was_example = false;
                continue;
            };
            if !was_example {
                examples.push(String::new());
            }
            was_example = true;
            let example = examples.last_mut().unwrap();
            example.push_str(line);
            example.push('\n');
        }
        assert_eq!(examples.len(), 3);
        for example in &examples {
            let directives = parse("example", example.as_bytes())
                .unwrap_or_else(|mistakes| panic!("{example}{mistakes}"));
            assert!(!directives.targets.is_empty(), "{example}");
        }
    }

    #[test]
    fn the_defaults_are_those_that_hold() {
        let text: Vec<&str> = TEXT.split_whitespace().collect();
        let text = text.join(" ");
        let bounds = Deadlines::DEFAULT;
        for (directive, seconds) in [
            ("disk_timeout", bounds.device_s),
            ("network_timeout", bounds.network_s),
            ("dump_deadline", bounds.dump_s),
            ("stall_timeout", bounds.stall_s),
        ] {
            let (_, meaning) = text
                .split_once(&format!(" {directive} SECONDS "))
                .unwrap_or_else(|| panic!("{directive}"));
            let (meaning, _) = meaning.split_once("without this line").unwrap();
            assert!(meaning.contains(&format!("; {seconds}")), "{meaning}");
        }
        let silence = format!(
            "{} where no other line changes a bound",
            bounds.longest_silence_s()
        );
        assert!(text.contains(&silence), "{silence}");
        assert!(text.contains("/var/crash without this line"));
        assert_eq!(
            config::CollectOptions::parse_core_collector("makedumpfile -c -d 31").unwrap(),
            config::CollectOptions::standard()
        );
        assert!(text.contains("makedumpfile -c -d 31 without this line"));
    }
}
