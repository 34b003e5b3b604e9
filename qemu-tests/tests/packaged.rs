// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packages: the deb in a Debian that systemd starts, from the installation to the purge with a crash between them, and
//! what the rpm holds.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu_tests::cycle::work_folder;
use qemu_tests::installed::{Flavour, INSTALL, Installed, PACKAGE, STEP, Start};
use qemu_tests::proof::{self, Known};
use qemu_tests::run::stdout;
use qemu_tests::saved::Saved;
use qemu_tests::vm::{End, Vm};
use qemu_tests::{artifacts, guest, setup};

/// The unit has done its part; nobody starts anything here.
const CRASH: &str = r#"
say "unit: $(systemctl is-enabled kdump) $(systemctl is-active kdump)"
kdumpctl disable > /dev/null 2>&1
say "disabled: $? $(systemctl is-enabled kdump)"
kdumpctl enable > /dev/null 2>&1
say "enabled: $? $(systemctl is-enabled kdump)"
mkkdumprd check --kver "$(uname -r)" > /run/said 2>&1
say "check: $? $(ls /var/crash | wc -l)"
each check
kdumpctl status > /run/said 2>&1
say "status: $?"
each status
sync
say "loaded"
kdumpctl test --force > /run/said 2>&1
each test
fail "no panic"
"#;

/// The story; processors that come; the hooks of kernels that come and go; the purge, and an installation without any
/// reserved memory.
const AFTER: &str = r#"
release=$(uname -r)
image=/boot/initrd-${release}kdump.img
kdumpctl status > /run/said 2>&1
say "status: $?"
each status

udevadm trigger --action=add /sys/devices/system/cpu/cpu0
for try in $(seq 30); do
    sleep 4
    journalctl -q -u kdump-reload -o cat > /run/said
    grep -q 'Reloading kdump: ' /run/said && break
done
each hot-plug
say "hot-plug: $(grep -c 'Reloading kdump: .OK' /run/said) loaded: $(cat /sys/kernel/kexec_crash_loaded)"

is_there() { [ -e "$image" ] && echo image || echo 'no image'; }
rm "$image"
run-parts --arg="$release" --arg="/boot/vmlinuz-$release" /etc/kernel/postinst.d > /run/said 2>&1
say "postinst.d: $? $(is_there)"
each postinst.d
DEB_MAINT_PARAMS='upgrade 2' run-parts --arg="$release" /etc/kernel/postrm.d > /run/said 2>&1
say "postrm.d upgrade: $? $(is_there)"
DEB_MAINT_PARAMS=remove run-parts --arg="$release" /etc/kernel/postrm.d > /run/said 2>&1
say "postrm.d remove: $? $(is_there)"
each postrm.d

dpkg --purge kdumprd > /run/said 2>&1
say "purge: $? loaded: $(cat /sys/kernel/kexec_crash_loaded) $(is_there)"
each purge
say "left: $(find /etc /usr /boot /lib/systemd /var/lib/kdump -name '*kdump*' ! -path '/usr/lib/modules/*' 2>/dev/null | tr '\n' ' ')"
say "dumps: $(ls /var/crash/*/vmcore | wc -l)"
echo 0 > /sys/kernel/kexec_crash_size
dpkg -i /root/kdumprd.deb > /run/said 2>&1
say "without memory: $? $(systemctl is-enabled kdump)"
each 'without memory'
systemctl start kdump
say "start without memory: $?"
journalctl -q -u kdump -n 5 -o cat > /run/said
each unit
kdumpctl status > /run/said 2>&1
say "status without memory: $?"
mkdir -p /boot/grub
# What grub-pc writes when it is installed.
cat > /etc/default/grub << 'END'
GRUB_DEFAULT=0
GRUB_TIMEOUT=5
GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX=""
END
kdumpctl reset-crashkernel > /run/said 2>&1
say "reset-crashkernel: $?"
each reset-crashkernel
menu=/boot/grub/grub.cfg
say "menu: $(grep -c '[[:space:]]linux[[:space:]].*vmlinuz' $menu) kernels, $(grep -c 'vmlinuz.* crashkernel=1G-2G:128M' $menu) reserve"
sync
poweroff
"#;

/// Waits for each of these lines of the harness, in this order.
fn says(vm: &mut Vm, expected: &[&str]) -> Result<()> {
    for line in expected {
        let found = vm.expect(&format!("harness: {line}|{}", guest::FAILED), STEP)?;
        ensure!(
            !found.text.contains(guest::FAILED),
            "waiting for `{line}`: {}; console: {}",
            found.text,
            vm.log().display()
        );
    }
    Ok(())
}

#[test]
fn the_deb_serves_from_its_installation_to_its_purge_and_the_crash_between_them_is_captured()
-> Result<()> {
    let kernel = setup::kernel(setup::Flavour::Cloud6_1)?;
    let machine = Installed::new("packaged", &kernel, Flavour::Plain)?;
    let deb = fs::read(artifacts::deb()?)?;

    let mut vm = machine.start(&Start {
        files: vec![(PACKAGE.to_owned(), deb)],
        before: INSTALL.to_owned(),
        after: CRASH.to_owned(),
        arguments: "crashkernel=128M".to_owned(),
    })?;
    says(
        &mut vm,
        &[
            "installed",
            "systemd is up",
            "unit: enabled active",
            "disabled: 0 disabled",
            "enabled: 0 enabled",
            "check: 0 0",
            "check -> .*: good: a file was written, synced, renamed, read back and removed below /var/crash; ",
            "status: 0",
            "status -> Kdump is operational",
            "loaded",
        ],
    )?;
    vm.expect("kdump: attempt 1 of 1: ext4 ", STEP)?;
    vm.expect("kdump: attempt 1 of 1 done: /var/crash/", STEP)?;
    vm.expect_end(&End::Reset, STEP)?;
    drop(vm);

    let out = machine
        .disk()?
        .copy_out("/var/crash", &machine.work().join("out"))?;
    let saved = Saved::only_in(&out)?;
    saved.check_complete()?;
    let dmesg = saved.dmesg()?;
    ensure!(
        dmesg.contains("sysrq: Trigger a crash"),
        "no panic in the saved log"
    );
    ensure!(
        dmesg.contains("systemd[1]:"),
        "this is no system that systemd started"
    );
    let known = Known {
        dmesg: Some(dmesg.as_bytes()),
        symbols: true,
        ..Known::of(&kernel)
    };
    proof::dump_is_good(&saved.file("vmcore"), &known, machine.work())?;

    let mut vm = machine.start(&Start {
        after: AFTER.to_owned(),
        arguments: "crashkernel=128M".to_owned(),
        ..Start::default()
    })?;
    says(
        &mut vm,
        &[
            "systemd is up",
            "status: 0",
            "status -> Kdump is operational",
            "status -> last crash: .*sysrq.*; complete dump in /var/crash/",
            "status -> last test, .*: good: .*; complete dump in /var/crash/",
            "status -> last check, .*: good: 1 of 1 targets can be reached",
            // One of udev at the start of the system may be among them.
            "hot-plug: [1-9][0-9]* loaded: 1",
            "postinst.d: 0 image",
            "postrm.d upgrade: 0 image",
            "postrm.d remove: 0 no image",
            "purge: 0 loaded: 0 no image",
            "left: *$",
            "dumps: 1",
            "without memory: 0 enabled",
            "without memory -> kdumprd: no memory is reserved yet",
            "start without memory: 1",
            "unit -> .*no memory is reserved for a capture kernel; `kdumpctl reset-crashkernel`",
            "status without memory: 3",
            "reset-crashkernel: 0",
            "menu: 3 kernels, 3 reserve",
        ],
    )?;
    vm.expect_end(&End::PowerOff, STEP)?;
    drop(vm);
    machine.clean_up()
}

#[test]
fn the_same_sources_make_the_same_packages() -> Result<()> {
    let folder = work_folder("packages-again")?;
    for first in [artifacts::deb()?, artifacts::rpm()?] {
        let format = first.extension().context("no extension")?;
        let again = artifacts::package(&format.to_string_lossy(), &folder)?;
        assert_eq!(again.file_name(), first.file_name());
        ensure!(
            fs::read(&again)? == fs::read(&first)?,
            "{} is another one than {}",
            again.display(),
            first.display()
        );
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// What the package says of itself.
fn query(arguments: &[&str]) -> Result<String> {
    stdout(
        setup::program("rpm")?
            .args(["-qp", "--nosignature"])
            .args(arguments)
            .arg(artifacts::rpm()?),
    )
}

#[test]
fn the_rpm_holds_what_the_deb_holds_but_for_what_belongs_to_one_distribution() -> Result<()> {
    let folders_or_files = |text: String, folder_mark: fn(&str) -> bool| -> BTreeSet<String> {
        text.lines()
            .filter(|line| !folder_mark(line))
            .filter_map(|line| line.split_whitespace().last())
            .map(|path| path.trim_start_matches('.').to_owned())
            .collect()
    };
    let is_folder: fn(&str) -> bool = |line| line.starts_with('d');
    let rpm = folders_or_files(query(&["-lv"])?, is_folder);
    let deb = stdout(Command::new("dpkg-deb").arg("-c").arg(artifacts::deb()?))?;
    let deb = folders_or_files(deb, is_folder);
    let difference = |one: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
        one.difference(other).cloned().collect()
    };
    assert_eq!(
        difference(&deb, &rpm),
        [
            "/etc/default/grub.d/kdumprd.cfg",
            "/etc/kernel/postinst.d/kdumprd",
            "/etc/kernel/postrm.d/kdumprd",
            "/usr/share/doc/kdumprd/copyright",
            "/usr/share/zsh/vendor-completions/_kdumpctl",
            "/usr/share/zsh/vendor-completions/_mkkdumprd",
            "/usr/share/zsh/vendor-completions/_vmcore",
        ]
    );
    assert_eq!(
        difference(&rpm, &deb),
        [
            "/usr/lib/kernel/install.d/60-kdumprd.install",
            "/usr/share/zsh/site-functions/_kdumpctl",
            "/usr/share/zsh/site-functions/_mkkdumprd",
            "/usr/share/zsh/site-functions/_vmcore",
        ]
    );
    for page in [
        "man8/kdumpctl.8",
        "man8/mkkdumprd.8",
        "man8/vmcore.8",
        "man8/kexec.8kdumprd",
        "man5/kdump.conf.5",
        "man5/kdump.sysconfig.5",
    ] {
        let page = format!("/usr/share/man/{page}.gz");
        ensure!(rpm.contains(&page), "no {page} in {rpm:?}");
    }
    Ok(())
}

#[test]
fn the_rpm_says_what_it_needs_keeps_what_was_edited_and_never_fails_an_installation() -> Result<()>
{
    let kept = query(&["-c"])?;
    assert_eq!(
        kept.lines().collect::<Vec<_>>(),
        ["/etc/kdump.conf", "/etc/sysconfig/kdump"]
    );
    let needs = query(&["--requires"])?;
    ensure!(needs.contains("libc.so.6(GLIBC_2."), "{needs}");
    let conflicts = query(&["--conflicts"])?;
    ensure!(conflicts.contains("kdump-utils"), "{conflicts}");
    let scripts = query(&["--scripts"])?;
    for script in ["postinstall", "preuninstall", "postuninstall"] {
        let mark = format!("{script} scriptlet (using /bin/sh):\n");
        let (_, text) = scripts
            .split_once(&mark)
            .with_context(|| format!("no {script} in {scripts}"))?;
        let end = text.find(" scriptlet (using ").unwrap_or(text.len());
        let last = text[..end]
            .lines()
            .rfind(|line| {
                !line.is_empty() && !line.ends_with("uninstall") && !line.ends_with("install")
            })
            .unwrap_or_default();
        // An rpm whose script ends otherwise than with 0 is half installed.
        assert_eq!(last, ":", "{script}: {text}");
    }
    let owners = query(&["--qf", "[%{FILEUSERNAME}:%{FILEGROUPNAME}\n]"])?;
    ensure!(owners.lines().all(|line| line == "root:root"), "{owners}");
    Ok(())
}
