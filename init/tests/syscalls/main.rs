// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each system call of a whole run of init fails once, in turn: init never hangs, never ends, and always comes to a final
//! action.
//!
//! What runs is the built binary, as PID 1 of a namespace of its own, in a folder with a vmcore, a record, and files that
//! stand for devices. It runs step by step under ptrace(2), so that nothing in init has to be made for this test: the
//! binary's calls are rustix's and its own, and a seam above them would test another program. Mounts are answered with
//! success and not carried out, and reboot(2) is never: it ends the run.
//!
//! The user is nobody, in a user namespace without any user, so that nothing of this machine can be changed by a call that
//! went astray.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; clippy takes only functions with #[test] for tests"
)]

/// The generators of the collector's tests.
#[path = "../../../collector/tests/synthetic"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the collector's tests use more of it"
)]
mod synthetic {
    pub(crate) mod machine;
    pub(crate) mod mixed;
    pub(crate) mod ring;
}
// As they name each other.
pub(crate) use synthetic::{machine, mixed, ring};

mod root;
mod trace;

use root::Root;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use trace::{End, Fault, Run};

/// A process that is traced holds every file that was open when it began, for all of its run; a build of init that another
/// test is just writing could then not be started. So they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn my_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run of what the calls that are to fail are taken from, without faults and with one processor.
fn whole_run(root: &Root) -> Run {
    let run = trace::run(root, None);
    assert_eq!(run.end, End::Rebooted, "{}", root.log());
    assert!(
        root.log().contains("attempt 1 of 2 done: /dev/vdb"),
        "{}",
        root.log()
    );
    run
}

/// What a call can be answered with, besides what it should be.
fn errors(call: i64) -> &'static [i32] {
    match call {
        libc::SYS_read | libc::SYS_pread64 => &[libc::EIO, libc::EINTR],
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_pwritev => {
            &[libc::ENOSPC, libc::EIO, libc::EINTR]
        }
        libc::SYS_mmap | libc::SYS_munmap | libc::SYS_mprotect => &[libc::ENOMEM],
        libc::SYS_clone | libc::SYS_fork => &[libc::EAGAIN, libc::ENOMEM],
        libc::SYS_openat | libc::SYS_open => &[libc::ENOMEM, libc::EIO, libc::EINTR],
        libc::SYS_wait4 | libc::SYS_poll | libc::SYS_ppoll | libc::SYS_rt_sigtimedwait => {
            &[libc::EINTR]
        }
        libc::SYS_socket => &[libc::EMFILE],
        _ => &[libc::EIO],
    }
}

/// Calls that have no error, whatever happens. close(2) has, but the shipped build passes over it, and a build for tests
/// has rustix assert that there is none.
fn cannot_fail(call: i64) -> bool {
    matches!(
        call,
        libc::SYS_exit
            | libc::SYS_exit_group
            | libc::SYS_rt_sigreturn
            | libc::SYS_close
            | libc::SYS_getpid
            | libc::SYS_getppid
            | libc::SYS_getpgrp
            | libc::SYS_clock_gettime
            | libc::SYS_umask
            | libc::SYS_sync
    )
}

/// The faults of a whole run: each call of each process, with each of its errors; of calls that come again and again in a
/// process, as writing the dump's pieces does, the first few and the last.
fn faults(run: &Run) -> Vec<Fault> {
    const FEW: usize = 6;
    let mut faults = Vec::new();
    for (process, calls) in run.calls.iter().enumerate() {
        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        for call in calls {
            *counts.entry(*call).or_default() += 1;
        }
        for (call, count) in counts {
            if cannot_fail(call) {
                continue;
            }
            let all = std::env::var_os("KDUMPRD_FULL").is_some();
            for nth in (0..count).filter(|nth| all || *nth < FEW || nth + 1 == count) {
                for &errno in errors(call) {
                    faults.push(Fault {
                        process,
                        call,
                        nth,
                        errno,
                    });
                }
            }
        }
    }
    faults
}

#[test]
fn each_call_fails_once_and_init_comes_to_its_end() {
    let _turn = my_turn();
    let root = Root::make("each", env!("CARGO_BIN_EXE_init-local"), "");
    let run = whole_run(&root);
    let calls: usize = run.calls.iter().map(Vec::len).sum();
    let faults = faults(&run);
    println!(
        "{calls} calls of {} processes, {} faults",
        run.calls.len(),
        faults.len()
    );
    let (mut saved, mut struck, mut wrong) = (0, 0, Vec::new());
    for fault in &faults {
        root.reset();
        let run = trace::run(&root, Some(fault));
        let log = root.log();
        let told = |why: &str| {
            let reached = if run.struck { "" } else { ", not reached" };
            format!("{fault:?}{reached}: {why}\n{log}")
        };
        struck += usize::from(run.struck);
        saved += usize::from(log.contains(" done: "));
        match run.end {
            End::Rebooted | End::Forced if log.contains("PID 1 panicked") => {
                wrong.push(told("PID 1 panicked"));
            }
            End::Rebooted | End::Forced => {}
            End::Ended => wrong.push(told("PID 1 ended without a final action")),
            End::Hung => wrong.push(told("no final action in time")),
        }
    }
    println!(
        "{struck} of {} faults struck; {saved} runs saved a dump",
        faults.len()
    );
    assert!(
        wrong.is_empty(),
        "{} runs:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // How often something is waited for differs a little from run to run.
    assert!(
        struck * 10 > faults.len() * 9,
        "{struck} of {}",
        faults.len()
    );
    assert!(
        saved * 2 > faults.len(),
        "{saved} of {} runs saved a dump",
        faults.len()
    );
}

/// The whole of an encrypted run: what is on the disk is for the key's holder, and nothing of the crashed kernel is on the
/// console.
#[test]
fn an_encrypted_run_leaves_nothing_for_others() {
    let _turn = my_turn();
    let key: age::Identity =
        "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0"
            .parse()
            .unwrap();
    let line = format!("encrypt_to {}\n", key.recipient());
    let root = Root::make("sealed", env!("CARGO_BIN_EXE_init"), &line);
    let run = trace::run(&root, None);
    let log = root.log();
    assert_eq!(run.end, End::Rebooted, "{log}");
    assert!(log.contains("vmcore-dmesg.txt.age saved: "), "{log}");
    assert!(log.contains("attempt 1 of 2 done: /dev/vdb"), "{log}");
    let disk = std::fs::read(root.0.join("dev/vdb")).unwrap();
    for text in ["made up", "OSRELEASE", "KDUMP   "] {
        let shows = disk.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!shows && !log.contains(text), "{text}: {log}");
    }

    // The control block says where the dumpfile ends.
    let start = usize::try_from(collector::raw::area_start(disk.len() as u64).unwrap()).unwrap();
    let block = disk[start..].first_chunk().unwrap();
    let control = collector::raw::Control::decode(block, disk.len() as u64).unwrap();
    let dump = opened(&disk[..usize::try_from(control.dump_bytes).unwrap()], &key);
    assert!(collector::flattened::is_stream(&dump));
    assert!(dump.ends_with(&collector::flattened::END_MARK));
    assert!(dump.windows(8).any(|part| part == b"KDUMP   "));
    let log_bytes = usize::try_from(control.part(collector::raw::Part::Dmesg).bytes).unwrap();
    let dmesg = opened(&disk[start + (64 << 10)..][..log_bytes], &key);
    assert!(String::from_utf8_lossy(&dmesg).contains("Kernel panic - not syncing: made up"));
}

/// What is in an encrypted file that is whole.
fn opened(file: &[u8], key: &age::Identity) -> Vec<u8> {
    let header = age::Header::parse(file).unwrap();
    let mut chunks = header.unlock(std::slice::from_ref(key)).unwrap();
    let mut plain = Vec::new();
    let mut pieces = file[header.bytes()..]
        .chunks(age::CHUNK_BYTES + age::TAG_BYTES)
        .peekable();
    while let Some(piece) = pieces.next() {
        let (body, tag) = piece.split_at(piece.len() - age::TAG_BYTES);
        let mut body = body.to_vec();
        chunks
            .open(pieces.peek().is_none(), &mut body, tag)
            .unwrap();
        plain.extend(body);
    }
    plain
}
