// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shipped binary is one static file that needs nothing: read from the ELF itself, by a reader that is not ours.

use object::elf::{
    ET_EXEC, FileHeader64, PF_W, PF_X, PT_DYNAMIC, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_TLS,
    SHN_UNDEF, SHT_DYNAMIC, SHT_DYNSYM, SHT_REL, SHT_RELA,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, SymbolIndex};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The most that a stripped init may have.
const MAX_BYTES: usize = 1 << 20;

type Header = FileHeader64<Endianness>;

/// The builds, the smallest first, and what each says that it has besides disks: NFS; ssh, and encryption.
const BUILDS: [(&str, bool, bool); 3] = [
    ("init-local", false, false),
    ("init-nfs", true, false),
    ("init", true, true),
];

/// Builds the release binaries where cargo puts them for everybody, and returns the folder.
fn release_builds() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the folder lies in the target folder");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--bins"])
        .args(["--package", env!("CARGO_PKG_NAME")])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the release build failed");
    target.join("release")
}

/// What holds for every build of the binary.
fn check_static(bytes: &[u8]) {
    let header = Header::parse(bytes).expect("it is ELF");
    let endian = header.endian().expect("it has a byte order");
    assert_eq!(header.e_type(endian), ET_EXEC, "it runs at fixed addresses");

    let segments = header.program_headers(endian, bytes).expect("segments");
    for segment in segments {
        let kind = segment.p_type(endian);
        assert_ne!(kind, PT_INTERP, "it needs an interpreter");
        assert_ne!(kind, PT_DYNAMIC, "it is linked dynamically");
        assert_ne!(kind, PT_TLS, "it needs thread-local storage");
        if kind == PT_LOAD || kind == PT_GNU_STACK {
            let flags = segment.p_flags(endian);
            assert!(
                !(flags & PF_W == PF_W && flags & PF_X == PF_X),
                "what can be written can be executed"
            );
        }
    }
    assert!(
        segments
            .iter()
            .any(|segment| segment.p_type(endian) == PT_GNU_STACK),
        "without it the stack is executable"
    );

    let sections = header.sections(endian, bytes).expect("sections");
    for section in sections.iter() {
        let kind = section.sh_type(endian);
        for (unwanted, what) in [
            (SHT_REL, "relocations"),
            (SHT_RELA, "relocations"),
            (SHT_DYNAMIC, "a dynamic section"),
            (SHT_DYNSYM, "dynamic symbols"),
        ] {
            assert_ne!(kind, unwanted, "it has {what}");
        }
    }
}

#[test]
fn the_release_binaries_are_static_and_small() {
    let folder = release_builds();
    let sizes = BUILDS.map(|(name, ..)| {
        let bytes = std::fs::read(folder.join(name)).expect("the release binary is there");
        check_static(&bytes);
        check_stripped(&bytes);
        println!("{name}: {} bytes", bytes.len());
        bytes.len()
    });
    assert!(sizes.is_sorted(), "the builder takes the smallest first");
    assert!(
        sizes.iter().all(|&size| size <= MAX_BYTES),
        "{sizes:?}: more than {MAX_BYTES}"
    );
    assert!(
        sizes[0] * 3 < sizes[2] * 2,
        "{sizes:?}: the network is in the build that has no use for it"
    );
}

#[test]
fn each_release_binary_says_what_it_reaches() {
    let folder = release_builds();
    for (name, nfs, ssh) in BUILDS {
        let bytes = std::fs::read(folder.join(name)).expect("the release binary is there");
        let header = Header::parse(&*bytes).expect("it is ELF");
        let endian = header.endian().expect("it has a byte order");
        let sections = header.sections(endian, &*bytes).expect("sections");
        let (_, section) = sections
            .section_by_name(endian, b".note.kdumprd")
            .expect("a note");
        let mut notes = section
            .notes(endian, &*bytes)
            .expect("it can be read")
            .expect("it is of the type for notes");
        let note = notes.next().expect("it can be read").expect("one");
        assert_eq!(note.name(), b"kdumprd");
        assert_eq!(
            config::Build::from_description(note.desc()),
            Some(config::Build::new(nfs, ssh, ssh)),
            "{name}"
        );
    }
}

/// What an image must not carry.
fn check_stripped(bytes: &[u8]) {
    let header = Header::parse(bytes).expect("it is ELF");
    let endian = header.endian().expect("it has a byte order");
    let sections = header.sections(endian, bytes).expect("sections");
    let names: Vec<_> = sections
        .iter()
        .map(|section| sections.section_name(endian, section).expect("a name"))
        .collect();
    for unwanted in [&b".symtab"[..], b".debug_info", b".eh_frame", b".comment"] {
        assert!(
            !names.contains(&unwanted),
            "it has {}",
            String::from_utf8_lossy(unwanted)
        );
    }
}

#[test]
fn the_debug_binary_is_static_and_names_nothing_that_it_lacks() {
    let bytes = std::fs::read(env!("CARGO_BIN_EXE_init")).expect("cargo built it");
    check_static(&bytes);
    let header = Header::parse(&*bytes).expect("it is ELF");
    let endian = header.endian().expect("it has a byte order");
    let sections = header.sections(endian, &*bytes).expect("sections");
    let symbols = sections
        .symbols(endian, &*bytes, object::elf::SHT_SYMTAB)
        .expect("a symbol table");
    let mut seen = Vec::new();
    for (index, symbol) in symbols.enumerate() {
        let name = symbols.symbol_name(endian, symbol).expect("a name");
        if index != SymbolIndex(0) && symbol.st_shndx(endian) == SHN_UNDEF {
            panic!("undefined: {}", String::from_utf8_lossy(name));
        }
        seen.push(name.to_vec());
    }
    for wanted in [&b"_start"[..], b"memcpy", b"memmove", b"memset", b"memcmp"] {
        assert!(
            seen.iter().any(|name| name == wanted),
            "{} is not in the symbol table, which this test relies on",
            String::from_utf8_lossy(wanted)
        );
    }
    for name in &seen {
        assert!(
            !name.starts_with(b"__libc") && !name.starts_with(b"_IO_"),
            "a piece of a C library: {}",
            String::from_utf8_lossy(name)
        );
    }
}
