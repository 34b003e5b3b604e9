// SPDX-License-Identifier: MIT OR Apache-2.0
//! Short text that can be copied: names in errors, UUIDs and labels, without a heap.

use core::fmt;

/// At most `N` bytes of text, `N` being at most 255. What does not fit is left out and shows as `…`; control bytes show as `?`.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: u8,
    cut: bool,
}

/// A name in a message: a node, a file, a directory.
pub type Name = Text<64>;

impl<const N: usize> Text<N> {
    const LENGTH_FITS: () = assert!(N <= 255);

    /// No text.
    pub const EMPTY: Self = Self {
        bytes: [0; N],
        len: 0,
        cut: false,
    };

    /// The text of `bytes`, as much of it as fits.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut text = Self::EMPTY;
        text.push(bytes);
        text
    }

    /// The formatted text, as much of it as fits.
    #[must_use]
    pub fn format(arguments: fmt::Arguments<'_>) -> Self {
        let mut text = Self::EMPTY;
        // Writing into a Text cannot fail: what does not fit is cut.
        let _ = fmt::write(&mut text, arguments);
        text
    }

    /// Appends `bytes`, as much of them as fits.
    pub fn push(&mut self, bytes: &[u8]) {
        let () = Self::LENGTH_FITS;
        let room = self
            .bytes
            .get_mut(usize::from(self.len)..)
            .unwrap_or_default();
        self.cut |= room.len() < bytes.len();
        for (place, byte) in room.iter_mut().zip(bytes) {
            *place = *byte;
            self.len = self.len.saturating_add(1);
        }
    }

    /// The bytes as they came.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The text, where it is UTF-8 in full.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(self.as_bytes()).ok()
    }

    /// There is no text.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Something did not fit.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> PartialEq for Text<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes() && self.cut == other.cut
    }
}

impl<const N: usize> Eq for Text<N> {}

impl<const N: usize> PartialEq<str> for Text<N> {
    fn eq(&self, other: &str) -> bool {
        !self.cut && self.as_bytes() == other.as_bytes()
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        // Labels and directory names come from disks: nothing in them may move the cursor of a console.
        for chunk in self.as_bytes().utf8_chunks() {
            for character in chunk.valid().chars() {
                f.write_char(if character.is_control() {
                    '?'
                } else {
                    character
                })?;
            }
            if !chunk.invalid().is_empty() {
                f.write_char('?')?;
            }
        }
        if self.cut {
            f.write_char('…')?;
        }
        Ok(())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_and_shows() {
        let text = Text::<4>::new(b"abcdef");
        assert_eq!(text.to_string(), "abcd…");
        assert!(text != *"abcd");
        assert!(Text::<4>::new(b"abcd") == *"abcd");
    }

    #[test]
    fn control_and_broken_bytes_do_not_reach_a_console() {
        let text = Name::new(b"a\x1b[2Jb\xff\n");
        assert_eq!(text.to_string(), "a?[2Jb??");
        assert_eq!(text.as_str(), None);
    }

    #[test]
    fn formats_as_far_as_it_fits() {
        assert_eq!(
            Text::<5>::format(format_args!("{}-{}", 12, 3456)).to_string(),
            "12-34…"
        );
    }
}
