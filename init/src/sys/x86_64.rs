// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system call instruction of x86_64.
//!
//! Source: syscall(2), x86-64 row: number in rax, arguments in rdi, rsi, rdx, r10, r8, r9, result in rax; rcx and r11 are
//! lost.

/// Makes system call `number`; the result as the kernel gives it, an error as its negative number.
///
/// # Safety
/// What the system call asks for.
#[inline]
pub(super) unsafe fn syscall(number: u32, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result;
    // SAFETY: the registers are those of the convention, and what the call does to memory is the caller's promise.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as usize => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
