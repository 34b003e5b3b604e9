// SPDX-License-Identifier: MIT OR Apache-2.0
//! `memcpy` and its kin on x86_64, with SSE2, which every x86_64 has.
//!
//! No string instructions: `rep movsb` is slow below some hundred bytes on most processors, and byte by byte under an
//! emulator. Small sizes, which are the most calls, use two overlapping moves and no loop.

use core::arch::naked_asm;

/// Copies `length` bytes that do not overlap; returns `to`.
///
/// # Safety
/// As C's `memcpy`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // The forward half of memmove is all that memcpy needs.
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jb 30f",
        "cmp rdx, 32",
        "ja 10f",
        // 16 to 32: both ends, overlapping in the middle.
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm1",
        "ret",
        // More: 64 at a time while more than 64 are left, then what is left as up to four moves from the end.
        "10:",
        "cmp rdx, 64",
        "jbe 20f",
        "11:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "add rsi, 64",
        "add rdi, 64",
        "sub rdx, 64",
        "cmp rdx, 64",
        "ja 11b",
        "cmp rdx, 32",
        "ja 20f",
        // 1 to 32 are left, and at least 33 bytes lie before: the 32 bytes that end at the end.
        "movups xmm0, [rsi + rdx - 32]",
        "movups xmm1, [rsi + rdx - 16]",
        "movups [rdi + rdx - 32], xmm0",
        "movups [rdi + rdx - 16], xmm1",
        "ret",
        // 33 to 64: 32 from the front, 32 from the end.
        "20:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + rdx - 32]",
        "movups xmm3, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + rdx - 32], xmm2",
        "movups [rdi + rdx - 16], xmm3",
        "ret",
        // Below 16.
        "30:",
        "cmp edx, 8",
        "jb 31f",
        "mov rcx, [rsi]",
        "mov r8, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], r8",
        "ret",
        "31:",
        "cmp edx, 4",
        "jb 32f",
        "mov ecx, [rsi]",
        "mov r8d, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], r8d",
        "ret",
        "32:",
        "test edx, edx",
        "jz 33f",
        // 1 to 3: first, last, middle.
        "movzx ecx, byte ptr [rsi]",
        "movzx r8d, byte ptr [rsi + rdx - 1]",
        "mov r9, rdx",
        "shr r9, 1",
        "movzx r10d, byte ptr [rsi + r9]",
        "mov [rdi], cl",
        "mov [rdi + r9], r10b",
        "mov [rdi + rdx - 1], r8b",
        "33:",
        "ret",
    )
}

/// Copies `length` bytes that may overlap; returns `to`.
///
/// # Safety
/// As C's `memmove`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    naked_asm!(
        // Up to 64 bytes memcpy loads everything before it stores anything, so overlap does no harm.
        "cmp rdx, 64",
        "jbe {memcpy}",
        "mov rax, rdi",
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jb 20f",
        // Forward. The last 64 bytes are loaded first: the loop may overwrite them.
        "movups xmm4, [rsi + rdx - 64]",
        "movups xmm5, [rsi + rdx - 48]",
        "movups xmm6, [rsi + rdx - 32]",
        "movups xmm7, [rsi + rdx - 16]",
        "lea r8, [rdi + rdx - 64]",
        "11:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "add rsi, 64",
        "add rdi, 64",
        "cmp rdi, r8",
        "jb 11b",
        "movups [r8], xmm4",
        "movups [r8 + 16], xmm5",
        "movups [r8 + 32], xmm6",
        "movups [r8 + 48], xmm7",
        "ret",
        // Backward, the first 64 bytes loaded first.
        "20:",
        "movups xmm4, [rsi]",
        "movups xmm5, [rsi + 16]",
        "movups xmm6, [rsi + 32]",
        "movups xmm7, [rsi + 48]",
        "21:",
        "movups xmm0, [rsi + rdx - 16]",
        "movups xmm1, [rsi + rdx - 32]",
        "movups xmm2, [rsi + rdx - 48]",
        "movups xmm3, [rsi + rdx - 64]",
        "movups [rdi + rdx - 16], xmm0",
        "movups [rdi + rdx - 32], xmm1",
        "movups [rdi + rdx - 48], xmm2",
        "movups [rdi + rdx - 64], xmm3",
        "sub rdx, 64",
        "cmp rdx, 64",
        "ja 21b",
        "movups [rdi], xmm4",
        "movups [rdi + 16], xmm5",
        "movups [rdi + 32], xmm6",
        "movups [rdi + 48], xmm7",
        "ret",
        memcpy = sym memcpy,
    )
}

/// Sets `length` bytes to the low byte of `value`; returns `to`.
///
/// # Safety
/// As C's `memset`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        // The byte, eight times.
        "movzx ecx, sil",
        "mov r8, 0x0101010101010101",
        "imul rcx, r8",
        "cmp rdx, 16",
        "jb 30f",
        "movq xmm0, rcx",
        "punpcklqdq xmm0, xmm0",
        "movups [rdi + rdx - 16], xmm0",
        "cmp rdx, 64",
        "jb 20f",
        "11:",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm0",
        "movups [rdi + 32], xmm0",
        "movups [rdi + 48], xmm0",
        "add rdi, 64",
        "sub rdx, 64",
        "cmp rdx, 64",
        "jae 11b",
        "20:",
        // Up to 63 are left, of which the last 16 are done.
        "cmp rdx, 16",
        "jbe 21f",
        "movups [rdi], xmm0",
        "add rdi, 16",
        "sub rdx, 16",
        "jmp 20b",
        "21:",
        "ret",
        "30:",
        "cmp edx, 8",
        "jb 31f",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], rcx",
        "ret",
        "31:",
        "cmp edx, 4",
        "jb 32f",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], ecx",
        "ret",
        "32:",
        "test edx, edx",
        "jz 33f",
        "mov [rdi], cl",
        "mov [rdi + rdx - 1], cl",
        "shr rdx, 1",
        "mov [rdi + rdx], cl",
        "33:",
        "ret",
    )
}

/// Compares `length` bytes: negative, zero or positive by the first that differs.
///
/// # Safety
/// As C's `memcmp`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    naked_asm!(
        "10:",
        "cmp rdx, 8",
        "jb 20f",
        "mov rax, [rdi]",
        "mov rcx, [rsi]",
        "cmp rax, rcx",
        "jne 30f",
        "add rdi, 8",
        "add rsi, 8",
        "sub rdx, 8",
        "jmp 10b",
        "20:",
        "test rdx, rdx",
        "jz 40f",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "sub eax, ecx",
        "jnz 50f",
        "inc rdi",
        "inc rsi",
        "dec rdx",
        "jmp 20b",
        // As big-endian numbers eight bytes compare like their first difference.
        "30:",
        "bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        "sbb eax, eax",
        "or eax, 1",
        "ret",
        "40:",
        "xor eax, eax",
        "50:",
        "ret",
    )
}

/// Zero when `length` bytes are the same.
///
/// # Safety
/// As `memcmp`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

/// The bytes before the first zero.
///
/// # Safety
/// As C's `strlen`.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn strlen(text: *const u8) -> usize {
    naked_asm!(
        "xor eax, eax",
        "10:",
        "cmp byte ptr [rdi + rax], 0",
        "je 20f",
        "inc rax",
        "jmp 10b",
        "20:",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(length: usize, seed: usize) -> Vec<u8> {
        (0..length)
            .map(|i| ((i * 131 + seed * 29) >> 2) as u8)
            .collect()
    }

    const LENGTHS: std::ops::Range<usize> = 0..300;

    #[test]
    fn memcpy_copies_every_length_and_nothing_beside() {
        for length in LENGTHS {
            for (to, from) in [(0, 0), (1, 0), (0, 3), (5, 11)] {
                let source = pattern(length + 16, length);
                let mut target = std::vec![0xee; length + 32];
                // SAFETY: both ranges lie inside their vectors, which are two.
                let back = unsafe {
                    memcpy(
                        target.as_mut_ptr().add(to),
                        source.as_ptr().add(from),
                        length,
                    )
                };
                assert_eq!(back, target[to..].as_mut_ptr());
                assert_eq!(
                    target[to..to + length],
                    source[from..from + length],
                    "{length}"
                );
                assert!(target[..to].iter().all(|&byte| byte == 0xee));
                assert!(
                    target[to + length..].iter().all(|&byte| byte == 0xee),
                    "{length}"
                );
            }
        }
    }

    #[test]
    fn memmove_agrees_with_the_standard_library_at_every_overlap() {
        for length in LENGTHS.step_by(7).chain(60..70).chain(126..132) {
            for shift in [0, 1, 7, 15, 16, 17, 63, 64, 65, 150] {
                for (to, from) in [(shift, 0), (0, shift)] {
                    let mut ours = pattern(length + shift + 8, 3);
                    let mut theirs = ours.clone();
                    theirs.copy_within(from..from + length, to);
                    let base = ours.as_mut_ptr();
                    // SAFETY: both ranges lie inside the one vector.
                    unsafe { memmove(base.add(to), base.add(from), length) };
                    assert_eq!(ours, theirs, "{length} bytes from {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn memset_fills_every_length_and_nothing_beside() {
        for length in LENGTHS {
            let mut target = std::vec![0x11; length + 20];
            // SAFETY: the range lies inside the vector.
            unsafe { memset(target.as_mut_ptr().add(3), 0x5a5, length) };
            assert!(
                target[3..3 + length].iter().all(|&byte| byte == 0xa5),
                "{length}"
            );
            assert!(target[..3].iter().all(|&byte| byte == 0x11));
            assert!(
                target[3 + length..].iter().all(|&byte| byte == 0x11),
                "{length}"
            );
        }
    }

    #[test]
    fn memcmp_orders_by_the_first_difference() {
        for length in 1..40 {
            let one = pattern(length, 9);
            // SAFETY: the vectors have `length` bytes.
            let compare = |a: &[u8], b: &[u8]| unsafe { memcmp(a.as_ptr(), b.as_ptr(), length) };
            assert_eq!(compare(&one, &one), 0);
            for position in 0..length {
                let mut other = one.clone();
                other[position] ^= 0x80;
                let expected = one.cmp(&other) as i32;
                assert_eq!(
                    compare(&one, &other).signum(),
                    expected,
                    "{length} {position}"
                );
                // SAFETY: as above.
                assert_ne!(unsafe { bcmp(one.as_ptr(), other.as_ptr(), length) }, 0);
            }
        }
        // SAFETY: the text ends with a zero.
        assert_eq!(unsafe { strlen(c"kdump".as_ptr().cast()) }, 5);
    }
}
