// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command on a described host with a kernel's modules made for the test.

#![allow(
    clippy::unwrap_used,
    reason = "what fails here fails the test; helpers are no tests to clippy"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

const RELEASE: &str = "6.1.0-99-test";

const DEVICES: &str = "\
/dev/vda   size=1073741824 bus_path=pci-0000:00:03.0 modules=virtio_pci,virtio_blk
/dev/vda1  parent=/dev/vda size=1072693248 fstype=ext4 uuid=5a7c2f3e-0d7e-4b55-9a52-1f8de0f6a9f4
/dev/vdb   size=1073741824 bus_path=pci-0000:00:04.0 modules=virtio_pci,virtio_blk
/dev/vdb1  parent=/dev/vdb size=104857600 fstype=ext3 uuid=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11 label=\"my dumps\"
/dev/vdb2  parent=/dev/vdb size=104857600 partuuid=1a2b3c4d-02
";

const CONF: &str =
    "ext3 LABEL=\"my dumps\"\nraw /dev/vdb2\ncore_collector makedumpfile -c -d 1,31\n";

/// A host, a kernel's modules, an init and a configuration, in a directory of this test's own.
struct Ground {
    root: PathBuf,
}

impl Ground {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("ground-{}-{number}", std::process::id()));
        let ground = Self { root };
        ground.write("host/kdump.devices", DEVICES.as_bytes());
        ground.write("host/proc/mounts", b"/dev/vda1 / ext4 rw 0 0\n");
        ground.write("host/etc/hostname", b"db7\n");
        ground.write("init", &init_file(1, 3));
        ground.write("kdump.conf", CONF.as_bytes());
        let modules = format!("host/lib/modules/{RELEASE}");
        ground.write(
            &format!("{modules}/modules.dep"),
            b"k/virtio-pci.ko.zst: k/virtio_ring.ko k/virtio.ko\nk/virtio.ko: k/virtio_ring.ko\nk/virtio_ring.ko:\n\
              k/virtio_blk.ko: k/virtio_ring.ko k/virtio.ko\nk/unused.ko:\nk/crc32c_generic.ko:\nk/crc32c-intel.ko:\n",
        );
        ground.write(
            &format!("{modules}/modules.builtin"),
            b"kernel/fs/ext4/ext4.ko\n",
        );
        ground.write(
            &format!("{modules}/modules.builtin.modinfo"),
            b"ext4.alias=fs-ext3\0ext4.alias=fs-ext4\0ext4.softdep=pre: crypto-crc32c\0",
        );
        ground.write(
            &format!("{modules}/modules.alias"),
            b"alias crypto-crc32c crc32c_intel\nalias crypto-crc32c crc32c_generic\n",
        );
        for name in [
            "virtio_ring",
            "virtio",
            "virtio_blk",
            "unused",
            "crc32c_generic",
            "crc32c-intel",
        ] {
            ground.write(&format!("{modules}/k/{name}.ko"), &module_file(name));
        }
        ground.write(
            &format!("{modules}/k/virtio-pci.ko.zst"),
            &zstd(&module_file("virtio_pci")),
        );
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// `mkkdumprd`, `plan` or nothing, with the options that all builds here have.
    fn command(&self, word: &str) -> Command {
        self.command_with_init(word, "init")
    }

    fn command_with_init(&self, word: &str, init: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkkdumprd"));
        if !word.is_empty() {
            command.arg(word);
        }
        command
            .args(["--kver", RELEASE, "--conf"])
            .arg(self.path("kdump.conf"))
            .arg("--host-root")
            .arg(self.path("host"))
            .arg("--init")
            .arg(self.path(init));
        command
    }

    fn build(&self, image: &str) -> Output {
        self.command("")
            .arg("-o")
            .arg(self.path(image))
            .output()
            .unwrap()
    }

    fn look(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_mkkdumprd"))
            .args(arguments)
            .current_dir(&self.root)
            .output()
            .unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// An ELF64 file with a `.modinfo`, written byte by byte.
fn module_file(name: &str) -> Vec<u8> {
    let modinfo = format!("name={name}\0vermagic={RELEASE} SMP mod_unload \0");
    elf_file(".modinfo", 1, modinfo.as_bytes())
}

/// An init that reads records of a version. Source of the note's form: System V ABI, section "Note Section".
fn init_file(record_version: u32, reach: u32) -> Vec<u8> {
    let mut note = Vec::new();
    for number in [8_u32, 8, 1] {
        note.extend(number.to_le_bytes());
    }
    note.extend(b"kdumprd\0");
    note.extend(record_version.to_le_bytes());
    note.extend(reach.to_le_bytes());
    elf_file(".note.kdumprd", 7, &note)
}

/// A file with one section besides that of the names.
fn elf_file(section: &str, section_type: u8, content: &[u8]) -> Vec<u8> {
    let names = format!("\0{section}\0.shstrtab\0");
    let names_name = u8::try_from(section.len() + 2).unwrap();
    let table = (64 + content.len() + names.len()).next_multiple_of(8);
    let mut file = vec![0; table + 3 * 64];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[1, 0, 62, 0, 1]);
    put(40, &(table as u64).to_le_bytes());
    put(52, &[64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
    put(64, content);
    put(64 + content.len(), names.as_bytes());
    for (number, name_at, kind, start, length) in [
        (1, 1_u8, section_type, 64, content.len()),
        (2, names_name, 3, 64 + content.len(), names.len()),
    ] {
        let header = table + 64 * number;
        put(header, &[name_at]);
        put(header + 4, &[kind]);
        put(header + 24, &(start as u64).to_le_bytes());
        put(header + 32, &(length as u64).to_le_bytes());
        put(header + 48, &[1]);
    }
    file
}

/// A zstd frame of one raw block. Source: RFC 8878 section 3.1.1.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    let mut frame = b"\x28\xb5\x2f\xfd\xa0".to_vec();
    frame.extend(length.to_le_bytes());
    frame.extend(&(length << 3 | 1).to_le_bytes()[..3]);
    frame.extend(bytes);
    frame
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn two_builds_are_byte_identical_and_private() {
    let ground = Ground::new();
    for image in ["one.img", "two.img"] {
        let output = ground.build(image);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let (one, two) = (
        fs::read(ground.path("one.img")).unwrap(),
        fs::read(ground.path("two.img")).unwrap(),
    );
    assert!(one == two, "the images differ");
    let mode = fs::metadata(ground.path("one.img"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn a_description_gives_the_image_that_the_machine_would() {
    let ground = Ground::new();
    assert!(ground.build("own.img").status.success());
    let described = Command::new(env!("CARGO_BIN_EXE_mkkdumprd"))
        .args(["describe", "--host-root"])
        .arg(ground.path("host"))
        .arg(ground.path("described"))
        .output()
        .unwrap();
    assert!(described.status.success(), "{}", stderr(&described));
    let built = Command::new(env!("CARGO_BIN_EXE_mkkdumprd"))
        .args(["--kver", RELEASE, "--conf"])
        .arg(ground.path("kdump.conf"))
        .arg("--host-root")
        .arg(ground.path("described"))
        .arg("--modules-dir")
        .arg(ground.path(&format!("host/lib/modules/{RELEASE}")))
        .arg("--init")
        .arg(ground.path("init"))
        .arg("-o")
        .arg(ground.path("elsewhere.img"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", stderr(&built));
    let image = |name: &str| fs::read(ground.path(name)).unwrap();
    assert!(image("own.img") == image("elsewhere.img"));
}

#[test]
fn ls_shows_what_the_plan_needs_and_nothing_more() {
    let ground = Ground::new();
    for compression in ["none", "gzip", "xz"] {
        let output = ground
            .command("")
            .args(["--compress", compression, "-o"])
            .arg(ground.path("i.img"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let listed = stdout(&ground.look(&["ls", "i.img"]));
        let names: Vec<&str> = listed
            .lines()
            .filter_map(|line| line.split_once('/'))
            .map(|(_, name)| name)
            .collect();
        assert_eq!(
            names,
            [
                "dev",
                "dev/console (5, 1)",
                "etc",
                "etc/kdump.record",
                "init",
                "lib",
                "lib/modules",
                "lib/modules/crc32c_generic.ko",
                "lib/modules/virtio-pci.ko",
                "lib/modules/virtio.ko",
                "lib/modules/virtio_blk.ko",
                "lib/modules/virtio_ring.ko",
                "mnt",
                "proc",
                "sys"
            ],
            "{compression}"
        );
        let init = format!("-rwxr-xr-x {:>10} /init\n", init_file(1, 3).len());
        assert!(listed.contains(&init), "{listed}");
    }
}

#[test]
fn the_smallest_init_of_a_folder_that_reaches_every_target_is_taken() {
    let ground = Ground::new();
    let build = |place: &str| {
        let mut command = ground.command_with_init("", place);
        command
            .arg("-o")
            .arg(ground.path("i.img"))
            .output()
            .unwrap()
    };
    let refused = |place: &str, part: &str| {
        let output = build(place);
        assert_eq!(output.status.code(), Some(1), "{place}");
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
        assert!(!ground.path("i.img").exists(), "{place}");
    };
    fs::create_dir(ground.path("builds")).unwrap();
    refused("builds", "has no init; name one");
    refused("nowhere", "nowhere: No such file or directory");
    refused("kdump.conf", "is no init of kdumprd");

    // Of another version.
    ground.write("builds/init-local", &init_file(2, 0));
    refused(
        "builds",
        "init-local reads records of version 2, and this mkkdumprd writes version 1",
    );

    // Each is one byte longer than the last, to be told apart in the image.
    let longer = |bytes: Vec<u8>, by: usize| [bytes, vec![0; by]].concat();
    ground.write("builds/init-nfs", &longer(init_file(1, 1), 1));
    ground.write("builds/init", &longer(init_file(1, 3), 2));
    let taken = |place: &str| {
        let output = build(place);
        assert!(output.status.success(), "{}", stderr(&output));
        let init = ground.look(&["cat", "i.img", "init"]).stdout.len();
        fs::remove_file(ground.path("i.img")).unwrap();
        init - init_file(1, 0).len()
    };
    assert_eq!(taken("builds"), 1, "an outdated one is passed over");
    ground.write("builds/init-local", &init_file(1, 0));
    assert_eq!(taken("builds"), 0);
    assert_eq!(taken("builds/init"), 2, "a file that is named is taken");
}

#[test]
fn cat_prints_files_as_they_went_in() {
    let ground = Ground::new();
    assert!(ground.build("i.img").status.success());
    let record = stdout(&ground.look(&["cat", "i.img", "/etc/kdump.record"]));
    let record = config::record::parse(&record).unwrap_or_else(|error| panic!("{error}: {record}"));
    assert_eq!(
        (record.kernel, record.hostname, record.zone),
        (RELEASE, "db7", "UTC0")
    );
    let modules: Vec<_> = record.modules.iter().map(|module| module.name).collect();
    assert_eq!(
        modules,
        [
            "virtio_ring",
            "virtio",
            "virtio-pci",
            "virtio_blk",
            "crc32c_generic"
        ]
    );
    let attempts: Vec<_> = record
        .attempts
        .iter()
        .map(|attempt| format!("{} {}", attempt.role, attempt.target))
        .collect();
    assert_eq!(
        attempts,
        [
            "configured ext3 UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11 (/dev/vdb1), save path /var/crash",
            "configured raw PARTUUID=1a2b3c4d-02 (/dev/vdb2)",
            "dump_to_rootfs ext4 UUID=5a7c2f3e-0d7e-4b55-9a52-1f8de0f6a9f4 (/dev/vda1), save path /var/crash"
        ]
    );
    // The compressed module lies in the image as the kernel loads it.
    let module = ground.look(&["cat", "i.img", "lib/modules/virtio-pci.ko"]);
    assert!(module.stdout == module_file("virtio_pci"));
    let missing = ground.look(&["cat", "i.img", "nix"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        stderr(&missing).contains("there is no /nix in i.img"),
        "{}",
        stderr(&missing)
    );
}

#[test]
fn the_plan_names_every_device_module_deadline_and_what_follows() {
    let ground = Ground::new();
    ground.write(
        "kdump.conf",
        format!("{CONF}disk_timeout 7\nstall_timeout 9\nfinal_action poweroff\n").as_bytes(),
    );
    let plan = stdout(&ground.command("plan").output().unwrap());
    for part in [
        "Plan for db7 (zone UTC0), capture kernel 6.1.0-99-test",
        "  virtio_ring ",
        "for disk /dev/vdb\n",
        "crc32c_generic               336 B  for ext4\n",
        "ext4                      built in  for file system of /dev/vdb1\n",
        "Attempt 1 of 3, ",
        "kdump.conf:1\n",
        "  ext3 UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11 (/dev/vdb1), save path /var/crash\n",
        "  device: 104857600 bytes (100 MiB); LABEL=my dumps is /dev/vdb1; the file system's UUID\n",
        "level 1, and when the target is full 31\n",
        "at most 7 s     else attempt 2\n",
        "at most 9 s     else attempt 3\n",
        "Attempt 3 of 3 (dump_to_rootfs), as no `default` is set\n",
        "at most 6 h     else poweroff\n",
        "When an attempt succeeds\n  power off\n",
        "the poweroff have 30 s",
        "  all of it takes at most 18 h ",
        "  /init\n",
    ] {
        assert!(plan.contains(part), "{part:?} is not in:\n{plan}");
    }
    assert!(
        !plan.contains("unused") && !plan.contains("crc32c-intel"),
        "{plan}"
    );
}

#[test]
fn the_plan_as_json_has_what_the_text_has() {
    let ground = Ground::new();
    ground.write(
        "kdump.conf",
        format!("{CONF}disk_timeout 7\nfinal_action poweroff\nfence_kdump_nodes db7\n").as_bytes(),
    );
    let output = ground.command("plan").arg("--json").output().unwrap();
    let plan: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let at = |pointer: &str| {
        plan.pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer} is not in {plan:#}"))
            .to_string()
    };
    for (pointer, expected) in [
        ("/kernel", "\"6.1.0-99-test\""),
        ("/hostname", "\"db7\""),
        ("/deadlines_s/device", "7"),
        ("/deadlines_s/dump", "21600"),
        ("/attempts/0/target/kind", "\"filesystem\""),
        ("/attempts/0/target/path", "\"/var/crash\""),
        ("/attempts/0/device/node", "\"/dev/vdb1\""),
        (
            "/attempts/0/device/id",
            "\"UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\"",
        ),
        ("/attempts/0/device/size_bytes", "104857600"),
        ("/attempts/0/dumpfile/levels", "[1,31]"),
        ("/attempts/0/steps/0/deadline_s", "7"),
        ("/attempts/0/else", "\"attempt 2\""),
        ("/attempts/0/network", "null"),
        ("/attempts/2/is_dump_to_rootfs", "true"),
        ("/attempts/2/else", "\"poweroff\""),
        ("/failure_action", "\"dump_to_rootfs\""),
        ("/final_action", "\"poweroff\""),
        ("/root", "null"),
        ("/image/compression", "\"gzip\""),
    ] {
        assert_eq!(at(pointer), expected, "{pointer}");
    }
    assert!(at("/warnings").contains("db7 is this machine"), "{plan:#}");
    // Three attempts with six hours each.
    assert!(
        at("/whole_s").parse::<u64>().unwrap() > 3 * 21600,
        "{plan:#}"
    );
    let help = stdout(&ground.look(&["--help"]));
    for object in ["", "/attempts/0", "/image"] {
        for key in plan.pointer(object).unwrap().as_object().unwrap().keys() {
            let is_in_help = help
                .split(|letter: char| !letter.is_ascii_lowercase() && letter != '_')
                .any(|word| word == key);
            assert!(is_in_help, "{key}: {help}");
        }
    }
    let names = |pointer: &str, key: &str| -> Vec<String> {
        let list = plan.pointer(pointer).unwrap().as_array().unwrap();
        list.iter()
            .map(|one| one[key].as_str().unwrap().to_owned())
            .collect()
    };
    let text = stdout(&ground.command("plan").output().unwrap());
    let modules = names("/modules", "name");
    assert!(modules.contains(&"virtio_blk".to_owned()), "{modules:?}");
    let files = names("/image/files", "name");
    assert_eq!(
        files.iter().filter(|name| name.ends_with(".ko")).count(),
        modules.len()
    );
    for name in modules.iter().chain(&files) {
        assert!(text.contains(name), "{name}: {text}");
    }
    ground.build("i.img");
    let written = fs::metadata(ground.path("i.img")).unwrap().len();
    assert_eq!(at("/image/size_bytes"), written.to_string());
}

#[test]
fn a_mistake_builds_no_image_and_says_where() {
    let ground = Ground::new();
    ground.write(
        "kdump.conf",
        b"ext3 /dev/vdb1\ndefualt shell\nfinal_action rebot\n",
    );
    let output = ground.build("i.img");
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("kdump.conf:2: unknown directive `defualt`; did you mean `default`?"),
        "{said}"
    );
    assert!(
        said.contains("kdump.conf:3: `final_action` cannot be `rebot`; did you mean `reboot`?"),
        "{said}"
    );
    assert!(!ground.path("i.img").exists());

    ground.write("kdump.conf", b"raw /dev/vda1\n");
    let output = ground.build("i.img");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("kdump.conf:1: /dev/vda1 is mounted on /"),
        "{}",
        stderr(&output)
    );
    assert!(!ground.path("i.img").exists());
}

#[test]
fn a_missing_module_builds_no_image_and_leaves_the_older_one() {
    let ground = Ground::new();
    ground.write("i.img", b"the older one");
    fs::remove_file(ground.path(&format!("host/lib/modules/{RELEASE}/k/virtio.ko"))).unwrap();
    let output = ground.build("i.img");
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    for part in [
        "the module virtio ",
        "k/virtio.ko",
        "which virtio_pci needs",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(fs::read(ground.path("i.img")).unwrap(), b"the older one");

    ground.write("kdump.conf", b"ext3 /dev/vdb1\nextra_modules nix unused\n");
    let said = stderr(&ground.build("i.img"));
    assert!(
        said.contains("kdump.conf:2: ") && said.contains("`nix`, which extra_modules needs"),
        "{said}"
    );

    fs::remove_file(ground.path(&format!("host/lib/modules/{RELEASE}/modules.dep"))).unwrap();
    let said = stderr(&ground.build("i.img"));
    assert!(said.contains(&format!("depmod {RELEASE}")), "{said}");
}

#[test]
fn a_full_file_system_keeps_the_older_image_and_says_what_to_do() {
    let ground = Ground::new();
    // A mount of this process alone: 8 KiB, less than the image takes.
    let small = ground.path("boot");
    fs::create_dir_all(&small).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=8k tmpfs {0} && echo older > {0}/i.img && {1} --conf {2} --kver {RELEASE} --host-root {3} \
         --init {4} --compress none -o {0}/i.img; echo status $?; ls {0}; cat {0}/i.img",
        small.display(),
        env!("CARGO_BIN_EXE_mkkdumprd"),
        ground.path("kdump.conf").display(),
        ground.path("host").display(),
        ground.path("init").display(),
    );
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .output()
        .unwrap();
    let said = stderr(&output);
    for part in [
        "writing ",
        "i.img: No space left on device",
        " KiB, and one that is there stays",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(stdout(&output), "status 1\ni.img\nolder\n", "{said}");
}

#[test]
fn the_shell_brings_busybox_only_where_it_is_static_and_wanted() {
    let ground = Ground::new();
    // An ELF64 program without program headers, and the same with an interpreter.
    let mut program = module_file("busybox");
    program[16] = 2;
    program[54] = 56;
    ground.write("host/bin/busybox", &program);
    let has_busybox = |image: &str| stdout(&ground.look(&["ls", image])).contains("/bin/busybox");
    assert!(ground.build("before.img").status.success());
    assert!(!has_busybox("before.img"), "nobody asked for a shell");

    ground.write("kdump.conf", b"ext3 /dev/vdb1\ndefault shell\n");
    assert!(ground.build("i.img").status.success());
    assert!(has_busybox("i.img"));

    let differ = ground.look(&["diff", "before.img", "i.img"]);
    assert_eq!(differ.status.code(), Some(1), "{}", stderr(&differ));
    let told = String::from_utf8_lossy(&differ.stdout);
    for line in [
        "+ /bin/busybox, ",
        "! /etc/kdump.record: ",
        "    + failure_action shell\n",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let alike = ground.look(&["diff", "i.img", "i.img"]);
    assert!(alike.status.success() && alike.stdout.is_empty());

    let header = program.len() as u64;
    program.extend([3, 0, 0, 0]);
    program.extend([0; 52]);
    program[32..40].copy_from_slice(&header.to_le_bytes());
    program[56] = 1;
    ground.write("host/bin/busybox", &program);
    let output = ground.build("i.img");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("no static busybox"),
        "{}",
        stderr(&output)
    );
    assert!(!has_busybox("i.img"));
}

#[test]
fn settings_of_another_kdump_are_a_plan_and_can_be_converted() {
    let ground = Ground::new();
    ground.write(
        "kdump.conf",
        b"# /etc/sysconfig/kdump\nKDUMP_SAVEDIR=\"file:///var/crash\"\nKDUMP_DUMPFORMAT=\"lzo\"\nKDUMP_CPUS=4\n",
    );
    let plan = ground.command("plan").output().unwrap();
    let text = stdout(&plan);
    for part in [
        "compression lzo, level 31",
        "kdump.conf:4: `KDUMP_CPUS` has no effect: ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let output = ground.look(&["convert", "--conf", "kdump.conf", "--to", "debian"]);
    assert_eq!(
        stdout(&output),
        "USE_KDUMP=\"1\"\nKDUMP_COREDIR=\"/var/crash\"\nMAKEDUMP_ARGS=\"-l -d 31\"\n"
    );
    assert!(
        stderr(&output).contains("KDUMP_CPUS"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    let ground = Ground::new();
    assert_eq!(ground.look(&["--frob"]).status.code(), Some(2));
    assert_eq!(ground.look(&["-o", "x.img"]).status.code(), Some(2));
    assert!(stdout(&ground.look(&["--help"])).starts_with("Usage: mkkdumprd"));
    assert!(stdout(&ground.look(&["--version"])).starts_with("mkkdumprd (kdumprd) "));
    assert_eq!(ground.look(&["ls", "kdump.conf"]).status.code(), Some(1));
}
