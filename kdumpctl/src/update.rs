// SPDX-License-Identifier: MIT OR Apache-2.0
//! `auto_reset_crashkernel`: a reservation that is a default follows the default of a newer version.
//!
//! The default that was last seen is kept in a file. When this version has another one, a machine whose command line has
//! the old one gets the new one; a value that an administrator chose stays.

use crate::setup::{Setup, below};
use initramfs_builder::error::Mistake;
use std::fs;
use std::io::ErrorKind;

/// The default of the version that ran last.
const SEEN: &str = "/var/lib/kdump/crashkernel-default";

/// Whether the reservation is to be set to `default`: it was that of an older version, and nobody said to leave it.
///
/// # Errors
/// The file cannot be read.
pub fn is_due(setup: &Setup, default: &str) -> Result<bool, Mistake> {
    let path = below(&setup.root, SEEN);
    let seen = match fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(Mistake::new(format!("reading {}: {error}", path.display())));
        }
    };
    let is_wanted = setup
        .directives
        .auto_reset_crashkernel
        .is_none_or(|at| at.value);
    let line = fs::read_to_string(below(&setup.root, "/proc/cmdline")).unwrap_or_default();
    let given = line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("crashkernel="))
        .next_back();
    Ok(is_wanted && seen != default && given == Some(seen.as_str()))
}

/// Keeps the default of this version for the next one.
///
/// # Errors
/// The file cannot be written.
pub fn keep(setup: &Setup, default: &str) -> Result<(), Mistake> {
    let path = below(&setup.root, SEEN);
    if fs::read_to_string(&path).is_ok_and(|text| text.trim() == default) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .map_err(|error| Mistake::new(format!("making {}: {error}", folder.display())))?;
    }
    initramfs_builder::image::write(&path, format!("{default}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::tests::Tree;

    #[test]
    fn only_the_default_of_an_older_version_is_replaced_and_only_where_that_is_wanted() {
        const CONF: &str = "raw /dev/vda\n";
        let tree = Tree::new(CONF);
        tree.write(
            "proc/cmdline",
            "root=/dev/vda crashkernel=1G crashkernel=256M\n",
        );
        let due = |default: &str| is_due(&tree.setup(), default).unwrap();
        assert!(!due("256M"), "nothing was seen before");
        keep(&tree.setup(), "256M").unwrap();
        assert!(!due("256M"), "the same");
        assert!(due("320M"));
        tree.write("proc/cmdline", "crashkernel=512M\n");
        assert!(!due("320M"), "somebody chose it");
        tree.write("proc/cmdline", "crashkernel=256M\n");
        tree.write(
            "etc/kdump.conf",
            format!("{CONF}auto_reset_crashkernel no\n"),
        );
        assert!(!due("320M"), "somebody forbade it");
    }
}
