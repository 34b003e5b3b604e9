// SPDX-License-Identifier: MIT OR Apache-2.0
//! Batches in memory that the attempt and its workers share, each with a word that says whose it is.

use collector::Batch;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// The attempt's own: it is filled, written, or free.
pub const OURS: u32 = 0;
/// To be compressed by whoever comes first.
pub const READY: u32 = 1;
/// Compressed.
pub const DONE: u32 = 2;
/// And so many more than the number of the worker that has it.
pub const FIRST_WORKER: u32 = 3;

/// A batch, and whose it is.
#[repr(C)]
pub struct Slot {
    owner: AtomicU32,
    /// The page that is being compressed.
    page: AtomicU32,
    batch: UnsafeCell<Batch>,
}

impl Slot {
    /// Whose the batch is.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.owner.load(Ordering::Acquire)
    }

    /// The page that is being compressed, or was last.
    #[must_use]
    pub fn page(&self) -> u32 {
        self.page.load(Ordering::Relaxed)
    }

    /// Notes that the compression of a page begins.
    pub fn set_page(&self, page: u32) {
        self.page.store(page, Ordering::Relaxed);
    }

    /// The batch, when it is `from`'s, who gives it up for `to`: who succeeds has it alone until it is passed on.
    ///
    /// What is a worker's may be claimed from it only when that process is no more, and what is [`OURS`] only by the attempt
    /// that begins.
    #[must_use]
    pub fn claim(&self, from: u32, to: u32) -> Option<Claim<'_>> {
        self.owner
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .ok()?;
        Some(Claim(self))
    }
}

/// A batch that the caller has alone.
pub struct Claim<'b>(&'b Slot);

impl Claim<'_> {
    /// Passes the batch on.
    pub fn pass(self, to: u32) {
        self.0.owner.store(to, Ordering::Release);
    }
}

impl Deref for Claim<'_> {
    type Target = Batch;

    fn deref(&self) -> &Batch {
        // SAFETY: `claim` changed the owner to the holder of this, and every other one who wants the batch first has to
        // find an owner there that it is not.
        unsafe { &*self.0.batch.get() }
    }
}

impl DerefMut for Claim<'_> {
    fn deref_mut(&mut self) -> &mut Batch {
        // SAFETY: as above, and the mutable borrow makes this the only reference that the holder has.
        unsafe { &mut *self.0.batch.get() }
    }
}

/// What stands before the slots.
#[repr(C, align(64))]
struct Head {
    started: AtomicU32,
    done: AtomicU32,
    oldest: AtomicU32,
}

/// The slots, and the words that the processes sleep on.
pub struct Board {
    head: *const Head,
    slots: *const Slot,
    slot_count: usize,
    bytes: usize,
}

impl Board {
    /// The bytes of a board for so many batches.
    #[must_use]
    pub const fn size_bytes(slot_count: usize) -> usize {
        size_of::<Head>().saturating_add(slot_count.saturating_mul(size_of::<Slot>()))
    }

    /// Takes the memory of a board from the kernel at once.
    ///
    /// # Errors
    /// The kernel has not that much.
    pub fn take(slot_count: usize) -> Result<Self, Errno> {
        let bytes = Self::size_bytes(slot_count);
        // SAFETY: the kernel picks a free range, so that no other object is touched.
        let address = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
            )
        }?;
        let head = address.cast_const().cast::<Head>();
        // The head has 64 bytes, so that what follows it is aligned for integers.
        let slots = head.wrapping_add(1).cast::<Slot>();
        Ok(Self {
            head,
            slots,
            slot_count,
            bytes,
        })
    }

    /// The slots.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        // SAFETY: `take` mapped that many until the drop; all zero is a valid Slot, as it has integers only, and what
        // several processes touch at a time is atomic or behind a claim.
        unsafe { core::slice::from_raw_parts(self.slots, self.slot_count) }
    }

    /// Changes whenever a batch becomes ready: what workers sleep on.
    #[must_use]
    pub fn started(&self) -> &AtomicU32 {
        &self.head().started
    }

    /// Changes whenever a batch is done: what the attempt sleeps on.
    #[must_use]
    pub fn done(&self) -> &AtomicU32 {
        &self.head().done
    }

    /// The number of the batch that the attempt needs first.
    #[must_use]
    pub fn oldest(&self) -> usize {
        usize::try_from(self.head().oldest.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Says which batch the attempt needs first.
    pub fn set_oldest(&self, slot: usize) {
        let slot = u32::try_from(slot).unwrap_or(0);
        self.head().oldest.store(slot, Ordering::Relaxed);
    }

    fn head(&self) -> &Head {
        // SAFETY: `take` mapped it until the drop, at the start of a page; zero is valid, and the integers are atomic.
        unsafe { &*self.head }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: `take` mapped exactly this range, and every reference into it borrowed `self`.
        let _ = unsafe { munmap(self.head.cast_mut().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_one_owner_at_a_time() {
        let board = Board::take(3).unwrap();
        assert_eq!(board.slots().len(), 3);
        let slot = &board.slots()[1];
        assert_eq!(slot.owner(), OURS);
        let ours = slot.claim(OURS, OURS).unwrap();
        assert_eq!(ours.count(), 0);
        ours.pass(READY);
        let worker = slot.claim(READY, FIRST_WORKER).unwrap();
        assert!(slot.claim(READY, FIRST_WORKER + 1).is_none());
        worker.pass(DONE);
        assert!(slot.claim(DONE, OURS).is_some());
    }
}
