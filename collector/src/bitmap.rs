// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bit for each pfn, made a window at a time so that memory use is bounded.
//!
//! The bytes are as the dumpfile has them: the lowest pfn in the lowest bit of the first byte.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

/// Pfns of one word.
const WORD_PFNS: u64 = 64;
/// What a window's length, and so its start, is a multiple of: the filter looks at `struct page`s in such batches.
pub(crate) const GRAIN_PFNS: u64 = 512;

/// The bits of the pfns from `start` to `end`.
pub(crate) struct Window<'m> {
    words: &'m mut [[u8; 8]],
    start: u64,
    end: u64,
}

impl<'m> Window<'m> {
    /// A window without pfns, in this memory.
    pub(crate) const fn new(memory: &'m mut [u8]) -> Self {
        Self {
            words: memory.as_chunks_mut::<8>().0,
            start: 0,
            end: 0,
        }
    }

    /// The most pfns that fit, in whole grains.
    pub(crate) fn capacity(&self) -> u64 {
        let pfns = u64::try_from(self.words.len())
            .unwrap_or(0)
            .saturating_mul(WORD_PFNS);
        pfns.saturating_sub(pfns % GRAIN_PFNS)
    }

    /// Makes this the window from `start` to `end` with all bits clear. What does not fit is cut off.
    pub(crate) fn restart(&mut self, start: u64, end: u64) {
        self.start = start;
        self.end = end.min(start.saturating_add(self.capacity())).max(start);
        let used = self.index(self.end.saturating_add(WORD_PFNS.wrapping_sub(1)));
        if let Some(words) = self.words.get_mut(..used) {
            words.fill([0; 8]);
        }
    }

    /// The first pfn.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// One past the last pfn.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// The bits as bytes; the last byte may have bits behind the end, which are clear.
    pub(crate) fn bytes(&self) -> &[u8] {
        let bytes = usize::try_from(self.end.saturating_sub(self.start).div_ceil(8)).unwrap_or(0);
        self.words.as_flattened().get(..bytes).unwrap_or_default()
    }

    /// Sets the bits from `from` to `to`, as far as they are in the window.
    pub(crate) fn set(&mut self, from: u64, to: u64) {
        self.change(from, to, |word, mask| word | mask);
    }

    /// Clears the bits from `from` to `to`, as far as they are in the window. Returns how many were set.
    pub(crate) fn clear(&mut self, from: u64, to: u64) -> u64 {
        let mut cleared = 0_u64;
        self.change(from, to, |word, mask| {
            cleared = cleared.wrapping_add(u64::from((word & mask).count_ones()));
            word & !mask
        });
        cleared
    }

    fn change(&mut self, from: u64, to: u64, mut edit: impl FnMut(u64, u64) -> u64) {
        let from = from.max(self.start);
        let to = to.min(self.end);
        if from >= to {
            return;
        }
        let first = self.index(from);
        let last = self.index(to.saturating_sub(1));
        let first_mask = u64::MAX << (self.bit(from));
        let last_mask = u64::MAX >> (63_u32.wrapping_sub(self.bit(to.saturating_sub(1))));
        let Some(words) = self.words.get_mut(first..=last) else {
            return;
        };
        let mut apply = |word: &mut [u8; 8], mask| {
            *word = edit(u64::from_le_bytes(*word), mask).to_le_bytes();
        };
        match words {
            [] => {}
            [only] => apply(only, first_mask & last_mask),
            [head, middle @ .., tail] => {
                apply(head, first_mask);
                for word in middle {
                    apply(word, u64::MAX);
                }
                apply(tail, last_mask);
            }
        }
    }

    /// How many bits are set.
    pub(crate) fn count(&self) -> u64 {
        let used = self.index(self.end.saturating_add(WORD_PFNS.wrapping_sub(1)));
        let words = self.words.get(..used).unwrap_or_default();
        words
            .iter()
            .map(|word| u64::from(u64::from_le_bytes(*word).count_ones()))
            .fold(0, u64::wrapping_add)
    }

    /// How many are set among the pfns from `start` to `end`.
    pub(crate) fn count_between(&self, start: u64, end: u64) -> u64 {
        let mut sum = 0_u64;
        let mut from = start;
        while let Some((first, behind)) = self.next_run(from) {
            if first >= end {
                break;
            }
            sum = sum.saturating_add(behind.min(end).saturating_sub(first));
            from = behind;
        }
        sum
    }

    /// The first run of set bits at or behind `from`: its first pfn, and the one past its last.
    pub(crate) fn next_run(&self, from: u64) -> Option<(u64, u64)> {
        let start = self.find(from.max(self.start), |word| word)?;
        let end = self.find(start, |word| !word).unwrap_or(self.end);
        Some((start, end))
    }

    /// The first pfn from `from` on whose bit is set in what `look` makes of its word.
    fn find(&self, from: u64, look: impl Fn(u64) -> u64) -> Option<u64> {
        if from >= self.end {
            return None;
        }
        let first = self.index(from);
        let mut mask = u64::MAX << (self.bit(from));
        let mut base = from.saturating_sub(u64::from(self.bit(from)));
        for word in self.words.get(first..)? {
            let bits = look(u64::from_le_bytes(*word)) & mask;
            if bits != 0 {
                let pfn = base.saturating_add(u64::from(bits.trailing_zeros()));
                return (pfn < self.end).then_some(pfn);
            }
            mask = u64::MAX;
            base = base.saturating_add(WORD_PFNS);
            if base >= self.end {
                return None;
            }
        }
        None
    }

    /// The word that a pfn's bit is in.
    fn index(&self, pfn: u64) -> usize {
        usize::try_from(pfn.saturating_sub(self.start) >> 6).unwrap_or(usize::MAX)
    }

    /// Where in its word a pfn's bit is: 0 to 63. The window starts at a word's first bit.
    fn bit(&self, pfn: u64) -> u32 {
        u32::try_from(pfn.saturating_sub(self.start) & 63).unwrap_or(0)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::as_conversions)]
mod tests {
    use super::*;

    const START: u64 = 3 * GRAIN_PFNS;

    #[test]
    fn ranges_agree_with_a_plain_list_of_bits() {
        let mut memory = vec![0xff; 1024 / 8];
        let mut window = Window::new(&mut memory);
        assert_eq!(window.capacity(), 1024);
        window.restart(START, START + 1000);
        let mut model = vec![false; 1000];
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for step in 0..2000 {
            let from = random(1040);
            let to = from + random(if step % 2 == 0 { 8 } else { 300 });
            let inside = from.min(1000) as usize..to.min(1000) as usize;
            let (from, to) = (START + from, START + to);
            if random(2) == 0 {
                window.set(from, to);
                model[inside].fill(true);
            } else {
                let expected = model[inside.clone()].iter().filter(|&&bit| bit).count();
                assert_eq!(window.clear(from, to), expected as u64);
                model[inside].fill(false);
            }
            assert_eq!(
                window.count(),
                model.iter().filter(|&&bit| bit).count() as u64
            );
            let mut seen = vec![false; 1000];
            let mut from = 0;
            while let Some((start, end)) = window.next_run(from) {
                assert!(start < end && end <= window.end());
                seen[(start - START) as usize..(end - START) as usize].fill(true);
                from = end;
            }
            assert_eq!(seen, model);
        }
    }

    #[test]
    fn bytes_are_in_the_dumpfiles_order() {
        let mut memory = vec![0; 1024 / 8];
        let mut window = Window::new(&mut memory);
        window.restart(0, 20);
        window.set(0, 1);
        window.set(9, 11);
        window.set(19, 64);
        assert_eq!(window.bytes(), [0x01, 0x06, 0x08]);
    }

    #[test]
    fn a_window_starts_clear_and_keeps_within_its_memory() {
        let mut memory = vec![0xff; 1000 / 8];
        let mut window = Window::new(&mut memory);
        assert_eq!(window.capacity(), GRAIN_PFNS);
        window.restart(0, u64::MAX);
        assert_eq!((window.start(), window.end()), (0, GRAIN_PFNS));
        assert_eq!((window.count(), window.next_run(0)), (0, None));
        window.set(0, u64::MAX);
        assert_eq!(window.next_run(7), Some((7, GRAIN_PFNS)));
    }
}
