// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the C library would bring: the way from the kernel's entry to the library, the memory functions, and the panic
//! handler. Every build of init has it.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod entry;
#[cfg(debug_assertions)]
mod heap;
mod mem;

/// Reads what the kernel left on the stack and runs the library.
///
/// # Safety
/// `stack` is the stack pointer as the kernel handed it over; only [`entry`] calls this, once.
unsafe extern "C" fn rust_start(stack: *const usize) -> ! {
    // SAFETY: `execve(2)` puts argc at the stack pointer and argc pointers to NUL-terminated strings behind it; they live
    // as long as the process. Source: System V ABI, AMD64 supplement 1.0, section 3.4.1 (other processors agree).
    let arguments = unsafe { init::sys::Arguments::from_stack(stack) };
    init::run(arguments, &crate::REACH)
}

/// The note that the builder reads; see [`config::build`].
#[used]
#[unsafe(link_section = ".note.kdumprd")]
static NOTE: Note = Note(crate::REACH.build().note());

/// As notes are aligned.
#[repr(C, align(4))]
struct Note([u8; 28]);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    init::panicked(info)
}

/// Named by the tables that the prebuilt `core` brings into an unoptimised build. Never called: a panic does not unwind.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    init::sys::exit(101)
}

/// See [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    init::sys::exit(101)
}
