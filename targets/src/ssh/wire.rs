// SPDX-License-Identifier: MIT OR Apache-2.0
//! The values that SSH messages are made of, out of bytes and into bytes.
//!
//! Source: RFC 4251 section 5.

/// Takes values from the front of a message. None where the message ends before the value does.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn bool(&mut self) -> Option<bool> {
        self.u8().map(|value| value != 0)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string, which is any bytes.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.bytes(len)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The names of a name-list.
pub(crate) fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',')
        .filter(|name| !name.is_empty())
}

/// Puts values behind each other. What does not fit is remembered and makes the whole worthless.
pub(crate) struct Writer<'a> {
    buf: &'a mut [u8],
    len: usize,
    overflowed: bool,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(buf: &'a mut [u8]) -> Self {
        Self {
            buf,
            len: 0,
            overflowed: false,
        }
    }

    /// How much was written; none when it did not fit.
    pub(crate) const fn len(&self) -> Option<usize> {
        if self.overflowed {
            None
        } else {
            Some(self.len)
        }
    }

    /// The whole; none when it did not fit.
    pub(crate) fn done(self) -> Option<&'a [u8]> {
        if self.overflowed {
            return None;
        }
        self.buf.get(..self.len)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        match self.buf.get_mut(self.len..end) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.len = end;
            }
            None => self.overflowed = true,
        }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn length(&mut self, len: usize) {
        match u32::try_from(len) {
            Ok(len) => self.u32(len),
            Err(_) => self.overflowed = true,
        }
    }

    pub(crate) fn string(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.bytes(bytes);
    }

    /// A string that is written in parts: its length is put in when they are there.
    pub(crate) fn string_of(&mut self, parts: impl FnOnce(&mut Self)) {
        let start = self.len;
        self.u32(0);
        let from = self.len;
        parts(self);
        let written = self.len.saturating_sub(from);
        let Ok(length) = u32::try_from(written) else {
            self.overflowed = true;
            return;
        };
        if let Some(place) = self.buf.get_mut(start..from).filter(|_| !self.overflowed) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// A number of any size, given as big-endian bytes.
    pub(crate) fn mpint(&mut self, number: &[u8]) {
        let zeros = number.iter().take_while(|&&byte| byte == 0).count();
        let number = number.get(zeros..).unwrap_or_default();
        let is_high = number.first().is_some_and(|&byte| byte >= 0x80);
        self.length(number.len().saturating_add(usize::from(is_high)));
        if is_high {
            self.u8(0);
        }
        self.bytes(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        // RFC 4251 section 5, its examples of positive numbers.
        for (number, bytes) in [
            (&[][..], &[0, 0, 0, 0][..]),
            (&[0, 0], &[0, 0, 0, 0]),
            (
                &[0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7],
                &[0, 0, 0, 8, 0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7],
            ),
            (&[0, 0x80], &[0, 0, 0, 2, 0, 0x80]),
        ] {
            let mut buf = [0; 32];
            let mut writer = Writer::new(&mut buf);
            writer.mpint(number);
            assert_eq!(writer.done().unwrap(), bytes);
        }
    }

    #[test]
    fn what_ends_too_early_is_no_value() {
        let mut buf = [0; 32];
        let mut writer = Writer::new(&mut buf);
        writer.u8(7);
        writer.string_of(|inner| {
            inner.bytes(b"ab");
            inner.u32(9);
        });
        writer.u64(5);
        let whole = writer.done().unwrap();
        let read = |bytes| {
            let mut reader = Reader(bytes);
            Some((
                reader.u8()?,
                reader.string()?.to_vec(),
                reader.u64()?,
                reader.is_empty(),
            ))
        };
        assert_eq!(read(whole), Some((7, b"ab\0\0\0\x09".to_vec(), 5, true)));
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len]), None, "{len}");
        }
    }

    #[test]
    fn what_does_not_fit_makes_the_whole_worthless() {
        let mut buf = [0; 6];
        let mut writer = Writer::new(&mut buf);
        writer.string(b"abc");
        writer.u8(1);
        assert_eq!(writer.len(), None);
        assert!(writer.done().is_none());
    }
}
