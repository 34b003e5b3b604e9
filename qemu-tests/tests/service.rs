// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kdumpctl` in a real first kernel: it builds the image there, loads it, says so, and the crash is captured.

use std::fs;

use anyhow::{Result, ensure};
use qemu_tests::cycle::Cycle;
use qemu_tests::machine::{Machine, Made};
use qemu_tests::scene::Stage;
use qemu_tests::vm::End;
use qemu_tests::{artifacts, guest};

const STAGE: Stage = Stage::SMALL;

/// A guest with one disk that has the service installed; `load` is what it does with it.
fn with_the_service(machine: &mut Machine, load: &str) -> Result<(Made, Cycle)> {
    let kernel = STAGE.kernel()?;
    let disk = machine.add(&STAGE.ext("ext4", 256))?;
    // Nothing loads it: were it loaded, its init would say so.
    let image = machine.work().join("unused.img");
    fs::write(&image, guest::empty_capture_image()?)?;
    let mut cycle = Cycle::new("service", &kernel, image);
    cycle.disks = vec![disk.disk.clone()];
    let modules = ["virtio_pci", "virtio_blk", "ext4", "crc32c"];
    cycle.first.modules = modules[..2].to_vec();
    cycle.first.files = guest::installed_kernel(&kernel, &modules)?;
    cycle.first_arguments = "quiet".to_owned();
    cycle.first.load = Some(load.to_owned());
    let conf = format!("ext4 {}\ndefault reboot\n", disk.node);
    for (name, bytes) in [
        ("/sbin/kdumpctl", fs::read(artifacts::kdumpctl()?)?),
        (
            "/usr/lib/kdumprd/init-local",
            fs::read(artifacts::inits()?.join("init-local"))?,
        ),
        ("/etc/hostname", b"guest\n".to_vec()),
        ("/etc/kdump.conf", conf.into_bytes()),
        (
            "/etc/sysconfig/kdump",
            b"KDUMP_COMMANDLINE_REMOVE=\"quiet\"\nKDUMP_STDLOGLVL=4\n".to_vec(),
        ),
    ] {
        cycle.first.files.push((name.to_owned(), bytes));
    }
    Ok((disk, cycle))
}

/// Each step's exit status is asked for, and what it says goes to the console.
const USE: &str = r#"
run() {
    expected=$1
    shift
    /sbin/kdumpctl "$@" > /harness/said 2>&1
    status=$?
    while read -r line; do say "$* -> $line"; done < /harness/said
    [ $status = "$expected" ] || fail "kdumpctl $*: exit status $status and not $expected"
}
run 3 status
run 0 showmem
run 0 start
run 0 status
run 0 start
run 0 stop
run 3 status
echo 'rwa /dev/vda' > /etc/kdump.conf.wrong
mv /etc/kdump.conf /etc/kdump.conf.right
mv /etc/kdump.conf.wrong /etc/kdump.conf
run 1 start
run 3 status
mv /etc/kdump.conf.right /etc/kdump.conf
run 0 restart
run 0 reload
run 0 status --verbose
run 0 status --json
"#;

#[test]
fn the_service_builds_loads_and_says_so_and_the_crash_is_captured() -> Result<()> {
    let mut machine = Machine::new("service")?;
    let (disk, cycle) = with_the_service(&mut machine, USE)?;
    let outcome = cycle.run()?;
    // The service's own lines begin as init's do.
    for expected in [
        "crashed kernel: Kernel panic",
        "attempt 1 of 1: ext4 ",
        "attempt 1 of 1 done: ",
        "final action: reboot",
    ] {
        outcome.line(&format!("kdump: {expected}"))?;
    }
    let mut said = outcome
        .lines
        .iter()
        .filter_map(|line| line.text.split_once("harness: ").map(|(_, said)| said));
    for expected in [
        "status -> Kdump is not operational",
        "showmem -> Reserved 128MB memory for crash kernel",
        "start -> kdump: /boot/initrd-",
        "start -> kdump: command line: console=ttyS0",
        "start -> kdump: Starting kdump: [OK]",
        "status -> Kdump is operational",
        "start -> kdump: Kdump already running: [WARNING]",
        "stop -> kdump: Stopping kdump: [OK]",
        "status -> Kdump is not operational",
        "start -> kdump: /etc/kdump.conf:1: unknown directive `rwa`",
        "start -> kdump: Starting kdump: [FAILED]",
        "status -> Kdump is not operational",
        "restart -> kdump: /boot/initrd-",
        "restart -> kdump: Restarting kdump: [OK]",
        "reload -> kdump: Reloading kdump: [OK]",
        "status --verbose -> Kdump is operational",
        "status --verbose -> reserved:     128 MB",
        "status --verbose -> command line: console=ttyS0",
        "status --json -> {",
    ] {
        ensure!(
            said.any(|line| line.starts_with(expected)),
            "no line `{expected}` in its place; console: {}",
            outcome.log.display()
        );
    }
    // The second start found the image as it should be.
    outcome.line("harness: restart -> kdump: /boot/initrd-.*kdump.img is as it should be")?;
    let json = outcome.line("harness: status --json -> ")?;
    let json = json
        .text
        .split_once("--json -> ")
        .map_or("", |(_, json)| json);
    let json: serde_json::Value = serde_json::from_str(json.trim())?;
    assert_eq!(
        (
            &json["operational"],
            &json["reserved_bytes"],
            &json["image_is_there"]
        ),
        (&true.into(), &(128_u64 << 20).into(), &true.into())
    );
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    STAGE.dump_is_on(&machine, &disk, 1)?;
    Ok(())
}
