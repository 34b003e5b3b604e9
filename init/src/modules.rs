// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads the kernel modules of the record, in its order, in a child.
//!
//! A module that crashes or hangs takes its child with it and no more: the next child goes on behind it.

use crate::fault::Faults;
use crate::log;
use crate::report::{Report, Step};
use crate::supervise::{self, DONE, Ended};
use collector::IoError;
use config::{Module, Record};
use heapless::CString;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// A module's path or parameters.
type Text = CString<1024>;

/// Loads all modules. Whether a child was left behind.
///
/// A module that cannot be loaded is logged and passed over: the attempts may not need it.
pub fn load_all(record: &Record<'_>, report: &Report, faults: &Faults) -> bool {
    let mut left_behind = false;
    let mut next = 0;
    while next < record.modules.len() {
        let outcome = supervise::run(&record.deadlines, report, c"kdump-modules", &mut || {
            load_from(record, next, report, faults)
        });
        if outcome.is_done() {
            break;
        }
        let stuck = usize::try_from(outcome.item).unwrap_or(next).max(next);
        let name = record.modules.get(stuck).map_or("?", |module| module.name);
        log!("module {name}: {outcome}; next: the modules behind it");
        supervise::tell_left_behind(&outcome);
        left_behind |= outcome.left_behind;
        if matches!(outcome.ended, Ended::NotStarted(_)) {
            break;
        }
        next = stuck.saturating_add(1);
    }
    left_behind
}

/// The child: loads the modules from `first` on.
fn load_from(record: &Record<'_>, first: usize, report: &Report, faults: &Faults) -> u8 {
    for (index, module) in record.modules.iter().enumerate().skip(first) {
        report.enter(Step::Module, u32::try_from(index).unwrap_or(u32::MAX));
        if index == 0 {
            faults.strike(Step::Module, 0);
        }
        if let Err(errno) = load(module) {
            // As for insmod(8), ENOENT is most often not the file.
            let hint = match errno {
                Errno::NOENT => " (its file, or a symbol of another module, is missing)",
                _ => "",
            };
            log!(
                "module {} cannot be loaded: {}{hint}; next: the modules behind it",
                module.name,
                IoError(errno.raw_os_error())
            );
        }
    }
    DONE
}

/// Loads one module and removes its file: in an initramfs a file is memory, and nothing needs it any more.
fn load(module: &Module<'_>) -> Result<(), Errno> {
    let path = text(&["/lib/modules/", module.name, ".ko"])?;
    let options = text(&[module.options])?;
    let file = rustix::fs::open(
        path.as_c_str(),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    match rustix::system::finit_module(&file, &options, 0) {
        // Loaded already, or made for a processor that this is not (crc32c-intel): nobody is missing anything.
        Ok(()) | Err(Errno::EXIST | Errno::NODEV) => {}
        Err(errno) => return Err(errno),
    }
    let _ = rustix::fs::unlink(path.as_c_str());
    Ok(())
}

/// `parts` one behind the other.
fn text(parts: &[&str]) -> Result<Text, Errno> {
    let mut text = Text::new();
    for part in parts {
        text.extend_from_bytes(part.as_bytes())
            .map_err(|_| Errno::NAMETOOLONG)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_put_together_or_refused() {
        let path = text(&["/lib/modules/", "ext4", ".ko"]).unwrap();
        assert_eq!(path.as_c_str(), c"/lib/modules/ext4.ko");
        let long = "x".repeat(1024);
        assert_eq!(text(&["a", &long]), Err(Errno::NAMETOOLONG));
        assert_eq!(text(&["a\0b"]), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn a_module_that_is_not_there_is_named_with_its_error() {
        let module = Module {
            name: "kdumprd-no-such-module",
            options: "",
        };
        assert_eq!(load(&module), Err(Errno::NOENT));
    }
}
