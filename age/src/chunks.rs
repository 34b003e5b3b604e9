// SPDX-License-Identifier: MIT OR Apache-2.0
//! What follows a header: chunks, each with its number and its tag.

use crate::derive::derive;
use packet_cipher::{Forged, chunk};

/// The bytes of every chunk but the last, without its tag.
pub const CHUNK_BYTES: usize = 64 << 10;
/// The bytes of a chunk's tag.
pub const TAG_BYTES: usize = packet_cipher::TAG_BYTES;
pub(crate) const NONCE_BYTES: usize = 16;

/// The chunks of a file, in their order.
pub struct Chunks {
    key: [u8; 32],
    next: u64,
}

impl Chunks {
    pub(crate) fn new(file_key: &[u8; 16], nonce: &[u8; NONCE_BYTES]) -> Self {
        Self {
            key: derive(file_key, &[nonce], b"payload"),
            next: 0,
        }
    }

    /// Makes the next chunk unreadable, and returns its tag, which stands behind it.
    ///
    /// Every chunk has [`CHUNK_BYTES`] but the last, which has fewer or as many; none, where the file is empty.
    ///
    /// # Errors
    /// [`Forged`] after more chunks than any file has.
    pub fn seal(&mut self, is_last: bool, chunk: &mut [u8]) -> Result<[u8; TAG_BYTES], Forged> {
        let tag = chunk::seal(&self.key, self.next, is_last, chunk)?;
        self.pass();
        Ok(tag)
    }

    /// Makes the next chunk readable again.
    ///
    /// # Errors
    /// [`Forged`]: it is not what was written, or it is not the last one but should be, or the other way round. It stays the
    /// next one.
    pub fn open(&mut self, is_last: bool, chunk: &mut [u8], tag: &[u8]) -> Result<(), Forged> {
        chunk::open(&self.key, self.next, is_last, chunk, tag)?;
        self.pass();
        Ok(())
    }

    /// Goes on behind the next chunk, which nobody can read: those behind it are protected by themselves.
    pub const fn pass(&mut self) {
        self.next = self.next.saturating_add(1);
    }
}
