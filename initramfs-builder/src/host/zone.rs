// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time zone's rule from a TZif file: its footer, a POSIX `TZ` string.
//!
//! Source: RFC 9636 sections 3.1 to 3.3.

/// The rule; none when the bytes are no TZif file of version 2 or later, or have an empty footer.
pub(super) fn posix_rule(bytes: &[u8]) -> Option<String> {
    let (version, first_block) = block(bytes, 4)?;
    if version < b'2' {
        return None;
    }
    let second = bytes.get(first_block..)?;
    let (_, second_block) = block(second, 8)?;
    let footer = second.get(second_block..)?.strip_prefix(b"\n")?;
    let end = footer.iter().position(|&byte| byte == b'\n')?;
    let rule = std::str::from_utf8(&footer[..end]).ok()?;
    let fine =
        !rule.is_empty() && rule.len() <= 64 && rule.bytes().all(|byte| byte.is_ascii_graphic());
    fine.then(|| rule.to_owned())
}

/// The version that a header names, and the length of the header and its data, whose times have `time_bytes`.
fn block(bytes: &[u8], time_bytes: usize) -> Option<(u8, usize)> {
    const HEADER_BYTES: usize = 44;
    let header = bytes.get(..HEADER_BYTES)?;
    if !header.starts_with(b"TZif") {
        return None;
    }
    let count = |number: usize| -> Option<usize> {
        let at = 20 + 4 * number;
        let bytes: [u8; 4] = header.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    };
    let (is_ut, is_std, leap, times, types, letters) = (
        count(0)?,
        count(1)?,
        count(2)?,
        count(3)?,
        count(4)?,
        count(5)?,
    );
    let data = [
        times.checked_mul(time_bytes + 1)?,
        types.checked_mul(6)?,
        letters,
        leap.checked_mul(time_bytes + 4)?,
        is_std,
        is_ut,
    ]
    .into_iter()
    .try_fold(HEADER_BYTES, usize::checked_add)?;
    Some((header[4], data))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A TZif file of version 2 with two transitions and this footer, written byte by byte.
    pub(crate) fn sample(rule: &str) -> Vec<u8> {
        let mut file = Vec::new();
        for time_bytes in [4, 8] {
            file.extend(b"TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
            for count in [0_u32, 0, 1, 2, 1, 4] {
                file.extend(count.to_be_bytes());
            }
            file.extend(vec![7; 2 * time_bytes + 2 + 6 + 4 + time_bytes + 4]);
        }
        file.extend(format!("\n{rule}\n").bytes());
        file
    }

    #[test]
    fn the_footer_is_the_rule() {
        assert_eq!(
            posix_rule(&sample("CET-1CEST,M3.5.0,M10.5.0/3")).as_deref(),
            Some("CET-1CEST,M3.5.0,M10.5.0/3")
        );
        assert_eq!(
            posix_rule(&sample("<+0545>-5:45")).as_deref(),
            Some("<+0545>-5:45")
        );
    }

    #[test]
    fn other_bytes_are_no_rule() {
        let good = sample("UTC0");
        for length in 0..good.len() {
            assert_eq!(posix_rule(&good[..length]), None, "{length}");
        }
        for position in 0..good.len() {
            for bit in 0..8 {
                let mut flipped = good.clone();
                flipped[position] ^= 1 << bit;
                let _ = posix_rule(&flipped);
            }
        }
        assert_eq!(posix_rule(&sample("")), None);
        assert_eq!(posix_rule(&sample("A\tB")), None);
        let mut old = good;
        old[4] = 0;
        assert_eq!(posix_rule(&old), None);
    }
}
