// SPDX-License-Identifier: MIT OR Apache-2.0
//! There is no heap: every allocation is refused. Only builds with debug assertions have this file.
//!
//! A check of the whole workspace turns features on for all that only host programs ask for, among them `alloc` of the
//! hash that the ssh client shares with the builder's decompressor; the compiler then wants an allocator, whether it is
//! used or not. The shipped binary is built by itself and without this file: if anything in it used a heap, it would not
//! link.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};

struct NoHeap;

// SAFETY: a null pointer is the answer of an allocator that has nothing, and no memory is ever handed out.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static NO_HEAP: NoHeap = NoHeap;
