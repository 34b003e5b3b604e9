// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines that name programs: the collector, hooks, and what else the image is to have.

use super::Directives;
use super::line::{BLANKS, Line};
use config::CollectOptions;
use config::collect::Problem;

/// What collects the vmcore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collector {
    /// The collector of init, with these options.
    BuiltIn(CollectOptions),
    /// A program of the host and its arguments, with blanks between.
    Program(String),
}

pub(super) fn take_core_collector(
    directives: &mut Directives,
    line: &Line<'_>,
) -> Result<(), String> {
    let value = line.some("makedumpfile with its options, cp, dd, scp, or another program")?;
    let collector = match CollectOptions::parse_core_collector(value) {
        Ok(options) => Collector::BuiltIn(options),
        // What is misspelt shows when the program is looked for.
        Err(error) if error.problem == Problem::UnknownProgram => Collector::Program(
            value
                .split(BLANKS)
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" "),
        ),
        Err(error) => return Err(format!("`core_collector`: {error}")),
    };
    line.once(&mut directives.core_collector, collector)
}

pub(super) fn take_hook(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let value = file(line.one("the file of a program: /etc/kdump/hook.sh")?)?.to_owned();
    let slot = match line.word {
        "kdump_pre" => &mut directives.kdump_pre,
        "kdump_post" => &mut directives.kdump_post,
        _ => &mut directives.kdump_emergency,
    };
    line.once(slot, value)
}

/// Several lines add up, as in the RHEL 5 and RHEL 6 dialects.
pub(super) fn take_extra_bins(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    for path in line.words("files of programs with blanks between: /sbin/lvm /usr/bin/vim")? {
        directives.extra_bins.push(line.at(file(path)?.to_owned()));
    }
    Ok(())
}

fn file(path: &str) -> Result<&str, String> {
    if !path.starts_with('/') || path.ends_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!(
            "`{path}` is no file by its absolute path; accepted is one as /usr/bin/vim"
        ));
    }
    Ok(path)
}
