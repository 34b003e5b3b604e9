// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines about kernel modules.

use super::Directives;
use super::line::{BLANKS, Line};
use crate::error::At;

const NAMES: &str = "names of modules with blanks between";

/// A word as `lsmod` shows modules.
fn is_name(word: &str) -> bool {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | ':');
    !word.is_empty() && word.chars().all(fine)
}

fn no_name(word: &str) -> String {
    format!(
        "`{word}` is no name of a module; accepted are names as `lsmod` shows them, without directory and `.ko`"
    )
}

/// Several lines add up, as the RHEL 5 and RHEL 6 dialects have it.
pub(super) fn take_extra_modules(
    directives: &mut Directives,
    line: &Line<'_>,
) -> Result<(), String> {
    for name in line.words(NAMES)? {
        if !is_name(name) {
            return Err(no_name(name));
        }
        directives.extra_modules.push(line.at(name.to_owned()));
    }
    Ok(())
}

/// Modules, and directories below `/lib/modules/RELEASE`: RHEL 6 takes both.
pub(super) fn take_blacklist(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    for word in line.words("names of modules, or directories of modules, with blanks between")? {
        let is_directory = word.contains('/')
            && word
                .split('/')
                .all(|part| part.is_empty() || (part != ".." && is_name(&part.replace('.', "_"))));
        if !is_name(word) && !is_directory {
            return Err(no_name(word));
        }
        directives.blacklist.push(line.at(word.to_owned()));
    }
    Ok(())
}

/// A module and its parameters, as modprobe.d(5) has them.
pub(super) fn take_options(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    const ACCEPTED: &str = "a module and its parameters: options scsi_mod max_luns=1";
    let value = line.some(ACCEPTED)?;
    let (module, parameters) = value
        .split_once(BLANKS)
        .map(|(module, parameters)| (module, parameters.trim_matches(BLANKS)))
        .ok_or_else(|| format!("`{value}` has no parameters; accepted is {ACCEPTED}"))?;
    if !is_name(module) {
        return Err(no_name(module));
    }
    if let Some(At { line: before, .. }) = directives.options.iter().find(|at| at.value.0 == module)
    {
        return Err(format!(
            "the options of {module} were set before, in line {before}; put them on one line"
        ));
    }
    directives
        .options
        .push(line.at((module.to_owned(), parameters.to_owned())));
    Ok(())
}
