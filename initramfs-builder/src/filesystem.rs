// SPDX-License-Identifier: MIT OR Apache-2.0
//! The types of file systems that a dump can go to, and what each needs of the builder.

/// What the capture side needs to know about a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type {
    /// The word of `kdump.conf`, of `blkid` and of `mount(2)`.
    pub word: &'static str,
    /// Options that a mount in the capture kernel gets.
    pub options: &'static str,
    /// Modules that the driver asks user space for while it mounts, where nobody answers.
    pub modules: &'static [&'static str],
    /// A name may not have a colon.
    pub forbids_colons: bool,
}

const PLAIN: Type = Type {
    word: "",
    options: "",
    modules: &[],
    forbids_colons: false,
};

/// Every type, the ext family first.
pub const TYPES: [Type; 8] = [
    Type {
        word: "ext2",
        ..PLAIN
    },
    Type {
        word: "ext3",
        ..PLAIN
    },
    Type {
        word: "ext4",
        ..PLAIN
    },
    Type {
        word: "xfs",
        ..PLAIN
    },
    Type {
        word: "btrfs",
        ..PLAIN
    },
    // The driver's own choice of character sets is a matter of the kernel's configuration; these two every kernel has. It
    // knows no modes, and the dump is root's alone.
    Type {
        word: "vfat",
        options: "codepage=437,iocharset=ascii,umask=0077",
        modules: &["nls_cp437", "nls_ascii"],
        forbids_colons: true,
    },
    Type {
        word: "exfat",
        options: "iocharset=utf8,umask=0077",
        forbids_colons: true,
        ..PLAIN
    },
    Type {
        word: "minix",
        ..PLAIN
    },
];

impl Type {
    /// The type of this word.
    pub fn of(word: &str) -> Option<Self> {
        TYPES.into_iter().find(|known| known.word == word)
    }

    /// The driver of `self` mounts `other` as well.
    pub fn takes(self, other: &str) -> bool {
        self.word == other || (self.word == "ext4" && matches!(other, "ext2" | "ext3"))
    }
}

/// The words of all types, for a message.
pub fn words() -> String {
    TYPES.map(|known| known.word).join(", ")
}

/// The options with which btrfs shows the directory of a subvolume as its root.
///
/// # Errors
/// The name cannot stand among the options.
pub fn subvolume(directory: &str) -> Result<String, String> {
    if directory.contains([',', '\n']) {
        return Err(format!(
            "the subvolume {directory} has a comma or a line break in its name, which no mount option can have"
        ));
    }
    Ok(format!("subvol={directory}"))
}

/// The option with which btrfs shows all subvolumes below its top.
pub const TOP_SUBVOLUME: &str = "subvolid=5";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ext4_takes_its_elders_and_nobody_else_does() {
        let takes = |word, other| Type::of(word).unwrap().takes(other);
        assert!(takes("ext4", "ext2") && takes("ext4", "ext4"));
        assert!(!takes("ext2", "ext3") && !takes("xfs", "ext4"));
        assert_eq!(Type::of("swap"), None);
    }

    #[test]
    fn a_subvolume_with_a_comma_is_refused() {
        assert_eq!(subvolume("/@"), Ok("subvol=/@".to_owned()));
        assert!(subvolume("/a,b").unwrap_err().contains("comma"));
    }
}
