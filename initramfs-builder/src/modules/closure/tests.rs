// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is taken in, in which order, and what is said of what is missing.

use super::*;
use crate::compress::ImageCompression;
use crate::modules::modinfo::tests::module_file;
use std::sync::atomic::{AtomicU32, Ordering};

/// A module directory made for one test.
struct Directory(PathBuf);

impl Directory {
    fn new(files: &[(&str, Vec<u8>)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root =
            std::env::temp_dir().join(format!("mkkdumprd-closure-{}-{number}", std::process::id()));
        for (name, bytes) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Self(root)
    }

    fn close_without(&self, blacklist: &str, needs: &[Need]) -> Closure {
        let kernel = self.kernel(false, blacklist);
        close(&Index::read(&self.0).unwrap(), &kernel, needs).unwrap()
    }

    fn kernel(&self, takes_unsigned: bool, blacklist: &str) -> Kernel<'static> {
        Kernel {
            release: "6.1.0",
            firmware_directories: vec![self.0.join("firmware")],
            takes_unsigned,
            blacklist: blacklist.split_whitespace().map(str::to_owned).collect(),
        }
    }

    fn close_for(&self, needs: &[Need], takes_unsigned: bool) -> Result<Closure, Mistakes> {
        let kernel = self.kernel(takes_unsigned, "");
        close(&Index::read(&self.0).unwrap(), &kernel, needs)
    }

    fn close(&self, needs: &[Need]) -> Result<Closure, Mistakes> {
        self.close_for(needs, false)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn module(more: &str) -> Vec<u8> {
    module_file(&format!("vermagic=6.1.0 SMP\0{more}"))
}

fn need(want: Want) -> Need {
    Need {
        want,
        by: "the test".to_owned(),
        place: None,
    }
}

fn named(name: &str) -> Need {
    need(Want::Name(name.to_owned()))
}

fn names(closure: &Closure) -> Vec<&str> {
    closure
        .modules
        .iter()
        .map(|chosen| chosen.name.as_str())
        .collect()
}

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[test]
fn what_is_blacklisted_stays_out_and_is_named() {
    let directory = Directory::new(&[
        (
            "modules.dep",
            text("kernel/drivers/net/a-b.ko: kernel/lib/c.ko\nkernel/lib/c.ko:\n"),
        ),
        ("kernel/drivers/net/a-b.ko", module("depends=c\0")),
        ("kernel/lib/c.ko", module("")),
    ]);
    let needs = [named("a-b")];
    assert_eq!(names(&directory.close_without("", &needs)), ["c", "a-b"]);
    assert_eq!(names(&directory.close_without("c", &needs)), ["a-b"]);
    for blacklist in ["a_b", "a-b", "drivers/net", "/kernel/drivers/net/"] {
        let closure = directory.close_without(blacklist, &needs);
        assert!(names(&closure).is_empty(), "{blacklist}");
        assert!(
            closure.warnings[0].contains("the test needs, stays out: it is blacklisted"),
            "{:?}",
            closure.warnings
        );
    }
    assert_eq!(
        names(&directory.close_without("drivers/ne x/y", &needs)),
        ["c", "a-b"]
    );
}

#[test]
fn ext3_brings_ext4_its_dependencies_and_the_portable_crc32c() {
    let directory = Directory::new(&[
        (
            "modules.dep",
            text(
                "k/ext4.ko: k/jbd2.ko k/mbcache.ko\nk/jbd2.ko:\nk/mbcache.ko:\nk/crc32c_generic.ko:\nk/crc32c-intel.ko:\n",
            ),
        ),
        ("modules.builtin", text("kernel/lib/crc16.ko\n")),
        (
            "modules.alias",
            text(
                "alias fs-ext3 ext4\nalias crypto-crc32c crc32c_intel\nalias crypto-crc32c crc32c_generic\n",
            ),
        ),
        ("modules.softdep", text("softdep ext4 pre: crypto-crc32c\n")),
        (
            "k/ext4.ko",
            module("depends=jbd2,mbcache,crc16\0softdep=pre: crypto-crc32c\0"),
        ),
        ("k/jbd2.ko", module("")),
        ("k/mbcache.ko", module("")),
        ("k/crc32c_generic.ko", module("")),
        ("k/crc32c-intel.ko", module("")),
    ]);
    let closure = directory
        .close(&[need(Want::Filesystem("ext3".to_owned()))])
        .unwrap();
    assert_eq!(
        names(&closure),
        ["mbcache", "jbd2", "crc32c_generic", "ext4"]
    );
    assert_eq!(closure.builtins.keys().collect::<Vec<_>>(), ["crc16"]);
    assert_eq!(closure.modules[2].by, "ext4");
    assert_eq!(closure.modules[3].by, "the test");
}

#[test]
fn a_built_in_file_system_still_gets_what_it_wants_before_it() {
    let directory = Directory::new(&[
        ("modules.dep", text("k/crc32c_generic.ko.xz:\n")),
        ("modules.builtin", text("kernel/fs/ext4/ext4.ko\n")),
        (
            "modules.builtin.modinfo",
            text("ext4.alias=fs-ext4\0ext4.softdep=pre: crypto-crc32c\0"),
        ),
        (
            "modules.alias",
            text("alias crypto-crc32c crc32c_generic\n"),
        ),
        (
            "k/crc32c_generic.ko.xz",
            ImageCompression::Xz.compress(&module("")).unwrap(),
        ),
    ]);
    let closure = directory
        .close(&[need(Want::Filesystem("ext4".to_owned()))])
        .unwrap();
    assert_eq!(names(&closure), ["crc32c_generic"]);
    assert!(closure.builtins.contains_key("ext4"));
    assert_eq!(closure.modules[0].bytes, module(""));
}

#[test]
fn a_driver_is_found_by_module_name_or_by_what_the_device_says_of_itself() {
    let directory = Directory::new(&[
        (
            "modules.dep",
            text("k/virtio-blk.ko.gz: k/virtio.ko\nk/virtio.ko:\nk/ahci.ko:\nk/ata_generic.ko:\n"),
        ),
        (
            "modules.alias",
            text(
                "alias virtio:d00000002v* virtio_blk\nalias pci:*cc0106* ahci\nalias pci:*cc01* ata_generic\n",
            ),
        ),
        (
            "k/virtio-blk.ko.gz",
            ImageCompression::Gzip.compress(&module("")).unwrap(),
        ),
        ("k/virtio.ko", module("")),
        ("k/ahci.ko", module("")),
        ("k/ata_generic.ko", module("")),
    ]);
    let driver = |module: Option<&str>, name: Option<&str>, modalias: Option<&str>| {
        need(Want::Driver(Driver {
            module: module.map(str::to_owned),
            name: name.map(str::to_owned),
            modalias: modalias.map(str::to_owned),
            at: "0000:00:03.0".to_owned(),
        }))
    };
    for (need, expected) in [
        (
            driver(Some("virtio_blk"), None, None),
            &["virtio", "virtio-blk"][..],
        ),
        (
            driver(None, Some("virtio_blk"), Some("virtio:d00000002v00001AF4")),
            &["virtio", "virtio-blk"],
        ),
        // Another name on the host than in the capture kernel: the alias decides.
        (
            driver(Some("virtio_old"), None, Some("virtio:d00000002v1")),
            &["virtio", "virtio-blk"],
        ),
        (driver(None, Some("ahci"), Some("pci:xcc0106x")), &["ahci"]),
        (
            driver(None, None, Some("pci:xcc0106x")),
            &["ahci", "ata_generic"],
        ),
        (driver(None, Some("pcieport"), Some("pci:bridge")), &[]),
    ] {
        assert_eq!(
            names(&directory.close(std::slice::from_ref(&need)).unwrap()),
            expected,
            "{need:?}"
        );
    }
    let error = directory
        .close(&[driver(Some("megaraid"), None, None)])
        .unwrap_err()
        .to_string();
    for part in ["`megaraid`", "0000:00:03.0", "the test", "looked in"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn circles_of_dependencies_are_refused_and_circles_of_wishes_are_not() {
    let directory = Directory::new(&[
        (
            "modules.dep",
            text("k/a.ko: k/b.ko\nk/b.ko: k/c.ko\nk/c.ko: k/b.ko\nk/d.ko:\nk/e.ko:\n"),
        ),
        (
            "modules.softdep",
            text("softdep d pre: e\nsoftdep e pre: d\n"),
        ),
        ("k/a.ko", module("")),
        ("k/b.ko", module("")),
        ("k/c.ko", module("")),
        ("k/d.ko", module("")),
        ("k/e.ko", module("")),
    ]);
    let error = directory.close(&[named("a")]).unwrap_err().to_string();
    assert!(error.contains("b -> c -> b"), "{error}");
    assert_eq!(names(&directory.close(&[named("d")]).unwrap()), ["e", "d"]);
    assert_eq!(
        names(&directory.close(&[named("e"), named("d")]).unwrap()),
        ["d", "e"]
    );
}

#[test]
fn a_missing_module_is_named_with_who_needs_it_and_where_it_was_looked_for() {
    let directory = Directory::new(&[
        (
            "modules.dep",
            text("k/a.ko: k/b.ko\nk/b.ko:\nk/other.ko:\nk/text.ko:\nk/stale.ko:\n"),
        ),
        ("k/a.ko", module("")),
        ("k/other.ko", module_file("vermagic=6.2.0 SMP\0")),
        ("k/text.ko", text("hello")),
        ("k/stale.ko", module("depends=unlisted\0")),
    ]);
    for (name, parts) in [
        (
            "a",
            &["the module b", "k/b.ko", "which a needs", "No such file"][..],
        ),
        (
            "nix",
            &["`nix`", "6.1.0", "which the test needs", "looked in"],
        ),
        ("other", &["the module other", "`6.2.0`", "for 6.1.0"]),
        ("text", &["the module text", "not an ELF file"]),
        (
            "stale",
            &[
                "the module unlisted",
                "which stale needs",
                "modules.dep",
                "depmod",
            ],
        ),
    ] {
        let error = directory.close(&[named(name)]).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{name}: {part:?} is not in: {error}");
        }
    }
    let error = directory
        .close(&[named("a"), named("nix"), named("nix")])
        .unwrap_err();
    assert_eq!(error.0.len(), 2, "each once, and all of them: {error}");
}

#[test]
fn signatures_stay_unless_the_kernel_does_without() {
    let mut signed = module("");
    signed.extend(
        b"sig\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x03~Module signature appended~\n",
    );
    let directory = Directory::new(&[
        ("modules.dep", text("k/a.ko:\n")),
        ("k/a.ko", signed.clone()),
    ]);
    assert!(directory.close_for(&[named("a")], false).unwrap().modules[0].bytes == signed);
    assert!(directory.close_for(&[named("a")], true).unwrap().modules[0].bytes == module(""));
}

#[test]
fn firmware_is_taken_decompressed_and_what_is_missing_is_a_warning() {
    let directory = Directory::new(&[
        ("modules.dep", text("k/a.ko:\n")),
        (
            "k/a.ko",
            module(
                "firmware=x/one.bin\0firmware=two.bin\0firmware=three.bin\0firmware=../modules.dep\0",
            ),
        ),
        ("firmware/x/one.bin", text("one")),
        (
            "firmware/two.bin.xz",
            ImageCompression::Xz.compress(b"two").unwrap(),
        ),
    ]);
    let closure = directory.close(&[named("a")]).unwrap();
    let firmware: Vec<_> = closure
        .firmware
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    assert_eq!(firmware, [("two.bin", &b"two"[..]), ("x/one.bin", b"one")]);
    assert_eq!(closure.warnings.len(), 2, "{:?}", closure.warnings);
    assert!(closure.warnings[0].contains("three.bin"));
}

#[test]
fn what_is_wanted_behind_comes_behind_and_a_wish_without_an_answer_is_a_warning() {
    let directory = Directory::new(&[
        ("modules.dep", text("k/a.ko:\nk/b.ko:\n")),
        ("modules.softdep", text("softdep a pre: nowhere post: b\n")),
        ("k/a.ko", module("")),
        ("k/b.ko", module("")),
    ]);
    let closure = directory.close(&[named("a")]).unwrap();
    assert_eq!(names(&closure), ["a", "b"]);
    assert!(
        closure.warnings[0].contains("`nowhere`"),
        "{:?}",
        closure.warnings
    );
}

#[test]
fn an_algorithm_is_the_portable_module_and_what_makes_it_faster_may_be_missing() {
    let directory = Directory::new(&[
        (
            "modules.dep",
            text("k/xts.ko:\nk/aesni-intel.ko: k/cryptd.ko\nk/cryptd.ko:\n"),
        ),
        (
            "modules.builtin",
            text(
                "kernel/crypto/aes_generic.ko\nkernel/crypto/sha256_generic.ko\nkernel/crypto/cbc.ko\n",
            ),
        ),
        (
            "modules.alias",
            text("alias crypto-xts xts\nalias crypto-aes aesni_intel\n"),
        ),
        (
            "modules.builtin.modinfo",
            text("aes_generic.alias=crypto-aes\0"),
        ),
        ("k/xts.ko", module("")),
        ("k/aesni-intel.ko", module("depends=cryptd\0")),
        ("k/cryptd.ko", module("")),
    ]);
    let algorithm = |name: &str| need(Want::Algorithm(name.to_owned()));
    let faster = |name: &str| need(Want::Faster(name.to_owned()));
    // The last two are of a kernel that lists no aliases of what is built in.
    let plain = ["aes", "xts", "sha256", "cbc"].map(algorithm);
    let closure = directory.close(&plain).unwrap();
    assert_eq!(names(&closure), ["xts"]);
    assert_eq!(
        closure.builtins.keys().collect::<Vec<_>>(),
        ["aes_generic", "cbc", "sha256_generic"]
    );
    let quick = [algorithm("aes"), faster("aesni_intel"), faster("vaes")];
    let closure = directory.close(&quick).unwrap();
    assert_eq!(names(&closure), ["cryptd", "aesni-intel"]);
    let said = directory.close(&[algorithm("serpent")]).unwrap_err();
    assert!(
        said.to_string().contains(
            "for the algorithm serpent (crypto-serpent, serpent_generic, serpent), which the test needs"
        ),
        "{said}"
    );
}
