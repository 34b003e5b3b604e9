// SPDX-License-Identifier: MIT OR Apache-2.0
//! An allocator that ends the process when one piece of memory is far larger than any input: only a size that was taken
//! from the input can ask for that.

use std::alloc::{GlobalAlloc, Layout, System};

/// Seeds and the collector's own memory are smaller.
const MOST: usize = 96 << 20;

struct Limited;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

// SAFETY: every call goes to `System` with the arguments that it came with.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller keeps to this function's contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        // SAFETY: as above; `memory` came from `System`, as all memory here does.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn check(size: usize) {
    if size > MOST {
        eprintln!("{size} bytes are asked for at once: a size from the input");
        crate::mutate::keep_input();
        std::process::abort();
    }
}
