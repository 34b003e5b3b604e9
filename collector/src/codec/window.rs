// SPDX-License-Identifier: MIT OR Apache-2.0
//! A page in memory of a fixed length, so that any 16 bit number is a place in it.

/// The longest page there is, in bytes.
pub(super) const MAX_PAGE: usize = 1 << 16;
/// What can be read behind the last place: literals are copied this many at a time.
pub(super) const SLACK: usize = 16;

const MASK: usize = MAX_PAGE - 1;

/// The bytes that an encoder looks at. Places beyond the page's end can be read and mean nothing.
#[derive(Debug)]
pub(super) struct Window<'m> {
    bytes: &'m mut [u8; MAX_PAGE + SLACK],
    len: usize,
}

impl<'m> Window<'m> {
    /// Bytes of memory that a window needs. Of them only as many are touched as the page has.
    pub(super) const MEMORY_BYTES: usize = MAX_PAGE + SLACK;

    /// A window at the front of `memory`, and the rest; none when there is not enough of it.
    pub(super) fn new(memory: &'m mut [u8]) -> Option<(Self, &'m mut [u8])> {
        let (bytes, rest) = memory.split_first_chunk_mut()?;
        Some((Self { bytes, len: 0 }, rest))
    }

    /// Takes a page; `false` when it is longer than pages are.
    pub(super) fn fill(&mut self, page: &[u8]) -> bool {
        let Some(place) = self.bytes[..MAX_PAGE].get_mut(..page.len()) else {
            return false;
        };
        place.copy_from_slice(page);
        self.len = page.len();
        self.bytes[page.len()..][..SLACK].fill(0);
        true
    }

    /// The page's length.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the page.
    pub(super) fn bytes(&self, from: usize, to: usize) -> &[u8] {
        &self.bytes[from..to]
    }

    /// One byte.
    #[inline(always)]
    pub(super) const fn byte(&self, at: usize) -> u8 {
        self.bytes[at & MASK]
    }

    /// Four bytes from `at` on.
    #[inline(always)]
    pub(super) fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(*self.chunk(at))
    }

    /// Eight bytes from `at` on.
    #[inline(always)]
    pub(super) fn double_word(&self, at: usize) -> u64 {
        u64::from_le_bytes(*self.chunk(at))
    }

    /// Up to [`SLACK`] bytes from `at` on.
    #[inline(always)]
    pub(super) fn chunk<const N: usize>(&self, at: usize) -> &[u8; N] {
        const { assert!(N <= SLACK) };
        let at = at & MASK;
        match self.bytes[at..at + SLACK].first_chunk() {
            Some(chunk) => chunk,
            None => &[0; N],
        }
    }

    /// How many bytes from `at` on equal those from `earlier` on, of which `known` do.
    #[inline(always)]
    pub(super) fn match_length(&self, earlier: usize, at: usize, known: usize) -> usize {
        self.match_length_to(earlier, at, known, self.len)
    }

    /// The same for no bytes beyond `end`.
    #[inline(always)]
    pub(super) fn match_length_to(
        &self,
        earlier: usize,
        at: usize,
        known: usize,
        end: usize,
    ) -> usize {
        let most = end - at;
        let mut length = known;
        while length < most {
            let differing = self.double_word(earlier + length) ^ self.double_word(at + length);
            if differing != 0 {
                length += (differing.trailing_zeros() >> 3) as usize;
                break;
            }
            length += 8;
        }
        length.min(most)
    }
}
