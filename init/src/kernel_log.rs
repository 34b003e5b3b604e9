// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel's own log, for `kexec-dmesg.log` and the shell's `dmesg`.

use collector::IoError;
use core::fmt::Write as _;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::log::Line;
use crate::vmcore::error;

/// The most bytes of one record. Source: Linux 6.1 kernel/printk/printk.c, `CONSOLE_EXT_LOG_MAX`.
const RECORD_BYTES: usize = 8192;
/// The most bytes of one line of ours.
const LINE_BYTES: usize = 1200;
/// More records than any log buffer holds: the reading ends even if the kernel logs as fast as it is read.
const MAX_RECORDS: usize = 1 << 20;

/// Gives each line of the capture kernel's log to `out`, as `dmesg` prints it, with its line break.
///
/// # Errors
/// What reading `/dev/kmsg` said, or `out`.
pub fn each_line(out: &mut dyn FnMut(&[u8]) -> Result<(), IoError>) -> Result<(), IoError> {
    let fd = rustix::fs::open(
        c"/dev/kmsg",
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(error)?;
    let mut buffer = [0; RECORD_BYTES];
    for _ in 0..MAX_RECORDS {
        match rustix::io::read(&fd, &mut buffer) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(length) => {
                let mut line = Line::<LINE_BYTES>::new();
                format(buffer.get(..length).unwrap_or(&[]), &mut line);
                out(line.ended())?;
            }
            // EPIPE: the oldest records were overwritten while we read; the next read goes on behind the gap.
            Err(Errno::INTR | Errno::PIPE) => {}
            Err(errno) => return Err(error(errno)),
        }
    }
    Ok(())
}

/// `prefix,sequence,microseconds,flags;text` as `[    1.234567] text`. Lines behind the first are properties.
///
/// Source: Linux Documentation/ABI/testing/dev-kmsg.
fn format(record: &[u8], line: &mut Line<LINE_BYTES>) {
    let first = record.split(|&byte| byte == b'\n').next().unwrap_or(&[]);
    let mut halves = first.splitn(2, |&byte| byte == b';');
    let (head, text) = (halves.next().unwrap_or(&[]), halves.next().unwrap_or(&[]));
    let micros: u64 = core::str::from_utf8(head)
        .ok()
        .and_then(|head| head.split(',').nth(2))
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    let _ = write!(
        line,
        "[{:5}.{:06}] ",
        micros / 1_000_000,
        micros % 1_000_000
    );
    for chunk in text.utf8_chunks() {
        let _ = line.write_str(chunk.valid());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(record: &[u8]) -> String {
        let mut line = Line::new();
        format(record, &mut line);
        line.text().to_string()
    }

    #[test]
    fn a_record_becomes_a_line_of_dmesg() {
        assert_eq!(
            formatted(b"6,339,5140900,-;NET: Registered PF_INET\n SUBSYSTEM=net\n DEVICE=+a:b\n"),
            "[    5.140900] NET: Registered PF_INET"
        );
        assert_eq!(
            formatted(b"2,1,12345678901,c,caller=T1;a;b,c\n"),
            "[12345.678901] a;b,c"
        );
    }

    #[test]
    fn what_is_no_record_is_a_line_all_the_same() {
        assert_eq!(formatted(b""), "[    0.000000] ");
        assert_eq!(formatted(b"\xff;\xffx"), "[    0.000000] x");
    }
}
