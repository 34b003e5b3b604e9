// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls that rustix keeps to itself, and what maps memory: the only unsafe code of the library.
//!
//! rustix's module for process start-up (`fork`, `execve`, `exit_group`, signals) is hidden on purpose from 1.1.5 on, so
//! these calls are made here.
#![allow(unsafe_code)]

use crate::report::Report;
use core::ffi::{CStr, c_char};
use core::ptr;
use core::sync::atomic::{AtomicI32, Ordering};
use linux_raw_sys::general as raw;
use rustix::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use rustix::process::{Pid, Signal};

#[cfg(target_arch = "x86_64")]
#[path = "sys/x86_64.rs"]
mod arch;
pub mod board;
pub mod watchdog;

/// The numbers below this are looked at for descriptors to be closed.
const MOST_FDS: i32 = 64;

/// The bytes of a page that mappings are aligned to; every file mapping here starts at a multiple of it.
pub const PAGE_BYTES: u64 = 4096;

/// The arguments that the program was started with.
#[derive(Clone, Copy)]
pub struct Arguments {
    count: usize,
    first: *const *const c_char,
}

impl Arguments {
    /// The arguments from the stack pointer that the kernel handed over.
    ///
    /// # Safety
    /// `stack` points to a count and that many pointers to NUL-terminated strings, which live for ever.
    #[must_use]
    pub unsafe fn from_stack(stack: *const usize) -> Self {
        Self {
            // SAFETY: the caller's promise.
            count: unsafe { *stack },
            first: stack.wrapping_add(1).cast(),
        }
    }

    /// Argument `index`; 0 is the program's own name.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'static CStr> {
        if index >= self.count {
            return None;
        }
        // SAFETY: `from_stack`'s caller promised `count` pointers to strings that live for ever.
        Some(unsafe { CStr::from_ptr(*self.first.add(index)) })
    }
}

fn check(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| {
        // Error numbers are 1 to 4095, so both conversions keep the value.
        Errno::from_raw_os_error(i32::try_from(result.wrapping_neg()).unwrap_or(5))
    })
}

/// Ends this process.
pub fn exit(code: u8) -> ! {
    loop {
        // SAFETY: the call takes no pointer, and does not return.
        let _ = unsafe { arch::syscall(raw::__NR_exit_group, [usize::from(code), 0, 0, 0, 0, 0]) };
    }
}

/// Runs `child` in a copy of this process, which ends with the code that it returns.
///
/// The copy starts with no signal blocked. It has one thread, so `child` must not wait for a lock that another thread
/// may have held: true of everything in this crate, which has no locks and no heap.
///
/// # Errors
/// The kernel has no room for another process.
pub fn fork(child: impl FnOnce() -> u8) -> Result<Pid, Errno> {
    // SAFETY: without CLONE_VM and without a new stack this is fork(2): the child goes on here with a copy of everything.
    let result = unsafe {
        arch::syscall(
            raw::__NR_clone,
            [usize::try_from(raw::SIGCHLD).unwrap_or(17), 0, 0, 0, 0, 0],
        )
    };
    match check(result)? {
        0 => {
            set_blocked_signals(0);
            exit(child())
        }
        pid => i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(Errno::INVAL),
    }
}

/// Replaces this process by `program`. Returns only with the reason why it cannot.
///
/// `arguments` and `environment` are cut to 15 each.
pub fn execve(program: &CStr, arguments: &[&CStr], environment: &[&CStr]) -> Errno {
    let list = |texts: &[&CStr]| {
        let mut pointers = [ptr::null::<c_char>(); 16];
        // The last place stays null, which ends the list.
        for (place, text) in pointers.iter_mut().take(15).zip(texts) {
            *place = text.as_ptr();
        }
        pointers
    };
    let (arguments, environment) = (list(arguments), list(environment));
    // SAFETY: all strings end with NUL, both lists with a null pointer, and they live until the call returns.
    let result = unsafe {
        arch::syscall(
            raw::__NR_execve,
            [
                program.as_ptr().addr(),
                arguments.as_ptr().addr(),
                environment.as_ptr().addr(),
                0,
                0,
                0,
            ],
        )
    };
    check(result).err().unwrap_or(Errno::INVAL)
}

/// Which signals of the list are blocked: bit `n - 1` for signal `n`.
fn set_blocked_signals(set: u64) {
    // SAFETY: the set is eight bytes, as the last argument says, and nothing is written back.
    let _ = unsafe {
        arch::syscall(
            raw::__NR_rt_sigprocmask,
            [
                usize::try_from(raw::SIG_SETMASK).unwrap_or(2),
                ptr::from_ref(&set).addr(),
                0,
                size_of::<u64>(),
                0,
                0,
            ],
        )
    };
}

/// Blocks every signal in this process, so that it takes them when it asks for them.
pub fn block_signals() {
    set_blocked_signals(u64::MAX);
}

/// Unblocks every signal, as a program expects it at its start.
pub fn unblock_signals() {
    set_blocked_signals(0);
}

/// Takes the next of `signals`, which must be blocked, or `None` after `timeout_ms`. Without a timeout it waits.
#[must_use]
pub fn wait_signal(signals: &[Signal], timeout_ms: Option<u64>) -> Option<Signal> {
    let set = signals.iter().fold(0_u64, |set, signal| {
        set | 1_u64
            .checked_shl(signal.as_raw().unsigned_abs().wrapping_sub(1))
            .unwrap_or(0)
    });
    let timeout = timeout_ms.map(|ms| raw::__kernel_timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
    });
    let timeout_address = timeout
        .as_ref()
        .map_or(0, |time| ptr::from_ref(time).addr());
    // SAFETY: the set is eight bytes, as the last argument says; the timeout lives until the call returns.
    let result = unsafe {
        arch::syscall(
            raw::__NR_rt_sigtimedwait,
            [
                ptr::from_ref(&set).addr(),
                0,
                timeout_address,
                size_of::<u64>(),
                0,
                0,
            ],
        )
    };
    let number = i32::try_from(check(result).ok()?).ok()?;
    signals
        .iter()
        .copied()
        .find(|signal| signal.as_raw() == number)
}

/// The descriptor that log lines go to; standard error until it is set.
static LOG: AtomicI32 = AtomicI32::new(2);

/// Sends all log lines to `fd` from here on. The descriptor stays open until the process ends.
pub fn set_log(fd: OwnedFd) {
    LOG.store(fd.into_raw_fd(), Ordering::Relaxed);
}

/// Writes a log line as a whole; one that cannot be written is lost.
pub fn write_log(line: &[u8]) {
    // SAFETY: `set_log` gave its descriptor away for good, and nothing here closes standard error.
    let fd = unsafe { BorrowedFd::borrow_raw(LOG.load(Ordering::Relaxed)) };
    let _ = rustix::io::write(fd, line);
}

/// Closes what this process inherited besides its standard streams and the log.
///
/// Nothing that it goes on to do may use a descriptor that was open before.
pub fn close_inherited() {
    let log = LOG.load(Ordering::Relaxed);
    // An attempt has about a dozen open.
    for fd in (3..MOST_FDS).filter(|&fd| fd != log) {
        // SAFETY: the call takes no pointer, and a number that is not open is EBADF. By the caller's promise nobody uses one
        // that is.
        let _ = unsafe {
            arch::syscall(
                raw::__NR_close,
                [usize::try_from(fd).unwrap_or(0), 0, 0, 0, 0, 0],
            )
        };
    }
}

/// Standard input, output or error of this process.
fn standard(number: i32) -> BorrowedFd<'static> {
    // SAFETY: nothing here closes one of the three; where the kernel opened none, a call on it is EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Reads a line from standard input, as the terminal gives it.
///
/// # Errors
/// What the kernel says.
pub fn read_stdin(buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::read(standard(0), buffer)
}

/// Writes all of `bytes` to standard output.
///
/// # Errors
/// What the kernel says.
pub fn write_stdout(mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(standard(1), bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(length) => bytes = bytes.get(length..).unwrap_or(&[]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Makes `fd` the standard input, output and error of this process.
///
/// # Errors
/// What the kernel says.
pub fn set_standard_streams(fd: impl AsFd) -> Result<(), Errno> {
    rustix::stdio::dup2_stdin(&fd)?;
    rustix::stdio::dup2_stdout(&fd)?;
    rustix::stdio::dup2_stderr(&fd)
}

/// A report that this process and its children share.
///
/// # Errors
/// The kernel has no page for it.
pub fn shared_report() -> Result<&'static Report, Errno> {
    // SAFETY: the kernel picks a free range, so that no other object is touched.
    let address = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            size_of::<Report>(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::POPULATE,
        )
    }?;
    // SAFETY: the mapping is page-aligned, as long as a Report, never unmapped, and zero, which is a valid Report because
    // it consists of atomic integers only.
    Ok(unsafe { &*address.cast::<Report>() })
}

/// Memory from the kernel.
pub struct Memory {
    address: *mut u8,
    size_bytes: usize,
}

impl Memory {
    /// Takes `size_bytes` that this process and its children share, at once.
    ///
    /// # Errors
    /// The kernel has not that much.
    pub fn take(size_bytes: usize) -> Result<Self, Errno> {
        Self::map(size_bytes, MapFlags::SHARED | MapFlags::POPULATE)
    }

    /// Takes `size_bytes` for this process alone. What is never touched of it costs nothing.
    ///
    /// # Errors
    /// The kernel has no addresses left.
    pub fn take_own(size_bytes: usize) -> Result<Self, Errno> {
        Self::map(size_bytes, MapFlags::PRIVATE)
    }

    fn map(size_bytes: usize, flags: MapFlags) -> Result<Self, Errno> {
        // SAFETY: the kernel picks a free range, so that no other object is touched.
        let address = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                size_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        }?;
        Ok(Self {
            address: address.cast(),
            size_bytes,
        })
    }

    /// The memory. A child that works in it must have ended before another works in it: the supervisor sees to that, or
    /// has sent it a signal after which none of its instructions runs.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `take` mapped that many bytes, and the mutable borrow makes this the only reference in this process.
        unsafe { core::slice::from_raw_parts_mut(self.address, self.size_bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `take` mapped exactly this range, and every reference into it borrowed `self`.
        let _ = unsafe { munmap(self.address.cast(), self.size_bytes) };
    }
}

/// A part of a file, mapped for reading.
pub struct FileWindow {
    address: *const u8,
    size_bytes: usize,
}

impl FileWindow {
    /// Maps `size_bytes` of `fd` from `offset` on, which is a multiple of [`PAGE_BYTES`].
    ///
    /// # Errors
    /// What the kernel says; the file can be read all the same then.
    pub fn map(fd: impl AsFd, offset: u64, size_bytes: usize) -> Result<Self, Errno> {
        // SAFETY: the kernel picks a free range, so that no other object is touched.
        let address = unsafe {
            mmap(
                ptr::null_mut(),
                size_bytes,
                ProtFlags::READ,
                MapFlags::PRIVATE,
                fd,
                offset,
            )
        }?;
        Ok(Self {
            address: address.cast_const().cast(),
            size_bytes,
        })
    }

    /// What is mapped.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `map` mapped that many bytes for reading until the drop. They belong to a crashed kernel of which no
        // instruction runs any more; no code of this program writes them.
        unsafe { core::slice::from_raw_parts(self.address, self.size_bytes) }
    }
}

impl Drop for FileWindow {
    fn drop(&mut self) {
        // SAFETY: `map` mapped exactly this range, and every reference into it borrowed `self`.
        let _ = unsafe { munmap(self.address.cast_mut().cast(), self.size_bytes) };
    }
}

/// Writes to an address that is never mapped: the test of what follows a child's SIGSEGV.
pub fn segfault() {
    // SAFETY: none is possible; the fault is the purpose, and only a child that a fault word names comes here.
    unsafe { ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitOptions, waitpid};

    #[test]
    fn a_child_returns_its_code_and_shares_the_memory() {
        let mut memory = Memory::take(8192).unwrap();
        let pid = fork(|| {
            memory.bytes()[5000] = 42;
            7
        })
        .unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(7));
        assert_eq!(memory.bytes()[5000], 42);
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_that_returns() {
        assert_eq!(execve(c"/does/not/exist", &[c"x"], &[]), Errno::NOENT);
    }

    #[test]
    fn execve_hands_over_arguments_and_environment() {
        let pid = fork(|| {
            execve(
                c"/bin/sh",
                &[c"sh", c"-c", c"test \"$1$WORD\" = ab", c"sh", c"a"],
                &[c"WORD=b"],
            );
            99
        })
        .unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }

    #[test]
    fn a_signal_that_does_not_come_is_not_waited_for_longer_than_asked() {
        let pid = fork(|| {
            block_signals();
            let quiet = wait_signal(&[Signal::USR1], Some(20)).is_none();
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, Signal::USR1);
            let seen = wait_signal(&[Signal::CHILD, Signal::USR1], Some(2000));
            u8::from(!(quiet && seen == Some(Signal::USR1)))
        })
        .unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }

    #[test]
    fn a_file_window_shows_the_file() {
        let path = std::env::temp_dir().join(format!("kdumprd-window-{}", std::process::id()));
        let bytes: Vec<u8> = (0..8192_u32).map(|i| (i / 7) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = rustix::fs::open(
            path.to_str().unwrap(),
            rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        let window = FileWindow::map(&file, PAGE_BYTES, 4096).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(window.bytes(), &bytes[4096..]);
    }
}
