// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shipped binary is one static file that needs nothing: read from the ELF itself, by a reader that is not ours.

use object::elf::{
    ET_EXEC, FileHeader64, PF_W, PF_X, PT_DYNAMIC, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_TLS,
    SHN_UNDEF, SHT_DYNAMIC, SHT_DYNSYM, SHT_REL, SHT_RELA,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, SymbolIndex};
use std::path::Path;
use std::process::Command;

/// The most that a stripped init may have.
const MAX_BYTES: usize = 1 << 20;

type Header = FileHeader64<Endianness>;

/// Builds the release binary where cargo puts it for everybody.
fn release_init() -> Vec<u8> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the folder lies in the target folder");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--bin", "init"])
        .args(["--package", env!("CARGO_PKG_NAME")])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the release build failed");
    std::fs::read(target.join("release/init")).expect("the release binary is there")
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
fn the_release_binary_is_static_and_small() {
    let bytes = release_init();
    check_static(&bytes);
    println!("init: {} bytes", bytes.len());
    assert!(
        bytes.len() <= MAX_BYTES,
        "{} bytes are more than {MAX_BYTES}",
        bytes.len()
    );
    let header = Header::parse(&*bytes).expect("it is ELF");
    let endian = header.endian().expect("it has a byte order");
    let sections = header.sections(endian, &*bytes).expect("sections");
    let names: Vec<_> = sections
        .iter()
        .map(|section| sections.section_name(endian, section).expect("a name"))
        .collect();
    for unwanted in [&b".symtab"[..], b".debug_info", b".comment.debug"] {
        assert!(!names.contains(&unwanted), "it is not stripped");
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
