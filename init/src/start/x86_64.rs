// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first instructions on x86_64.

// The outermost frame has no caller (rbp = 0); the ABI wants the stack at a multiple of 16 before a call.
// Source: System V ABI, AMD64 supplement 1.0, sections 3.2.2 and 3.4.1.
core::arch::global_asm!(
    ".globl _start",
    ".type _start, @function",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {rust_start}",
    "ud2",
    rust_start = sym super::rust_start,
);
