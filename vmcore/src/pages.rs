// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pages of any file that has some, by pfn: what `verify` and `diff` compare.

use std::path::Path;

use collector::address::Pfn;
use collector::kdump::{Bitmap, ReadError};
use collector::{Vmcore, vmcore};

use super::input::{Bytes, Dumpfile, Input, Shape, open_dumpfile, open_vmcore};

/// What a file has of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// The machine had no such page, as far as this file says.
    Absent,
    /// It was left out.
    LeftOut,
    /// It was lost when the file was cut short.
    Lost,
    /// It is in another file of the same dump.
    Elsewhere,
    /// It is here, in the buffer.
    Here,
    /// It is to be here, and cannot be read.
    Damaged(String),
}

/// A vmcore or a dumpfile.
pub(crate) enum Pages {
    Vmcore(Box<Vmcore<'static, Input>>),
    Dumpfile(Box<Dumpfile>),
}

impl Pages {
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let bytes = Bytes::open(path)?;
        Ok(match bytes.shape {
            Shape::Dumpfile => Self::Dumpfile(Box::new(open_dumpfile(path, bytes)?)),
            Shape::Elf => Self::Vmcore(Box::new(open_vmcore(path, None)?)),
        })
    }

    /// Bytes of a page.
    pub(crate) fn page_bytes(&self) -> usize {
        match self {
            Self::Vmcore(vmcore) => vmcore.page_size(),
            Self::Dumpfile(dumpfile) => dumpfile.page_bytes(),
        }
    }

    /// The first pfn at `from` or behind it that the machine had.
    pub(crate) fn next(&mut self, from: u64) -> Result<Option<u64>, String> {
        match self {
            Self::Vmcore(vmcore) => Ok(vmcore.present_from(Pfn(from)).map(|(start, _)| start.0)),
            Self::Dumpfile(dumpfile) => {
                let present = dumpfile.find(Bitmap::Present, Pfn(from), true);
                let dumpable = dumpfile.find(Bitmap::Dumpable, Pfn(from), true);
                match (present, dumpable) {
                    (Ok(present), Ok(dumpable)) => {
                        Ok(present.into_iter().chain(dumpable).map(|pfn| pfn.0).min())
                    }
                    (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
                }
            }
        }
    }

    /// Reads a page into `page`.
    pub(crate) fn read(&mut self, pfn: u64, page: &mut [u8]) -> Page {
        match self {
            Self::Vmcore(vmcore) => {
                if vmcore
                    .present_from(Pfn(pfn))
                    .is_none_or(|(start, _)| start.0 > pfn)
                {
                    return Page::Absent;
                }
                match vmcore.read_page(Pfn(pfn), page) {
                    Ok(()) => Page::Here,
                    Err(vmcore::ReadError::NotCaptured(_)) => Page::LeftOut,
                    Err(error) => Page::Damaged(error.to_string()),
                }
            }
            Self::Dumpfile(dumpfile) => match dumpfile.read_page(Pfn(pfn), page) {
                Ok(()) => Page::Here,
                Err(ReadError::NotPresent(_)) => Page::Absent,
                Err(ReadError::Excluded(_)) => Page::LeftOut,
                Err(ReadError::Lost(_)) => Page::Lost,
                Err(ReadError::Elsewhere(_)) => Page::Elsewhere,
                Err(error) => Page::Damaged(error.to_string()),
            },
        }
    }
}

/// Pfns that follow each other, as people read them.
pub(crate) fn runs(pfns: &[u64], most: usize) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &pfn in pfns {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == pfn => *end = pfn,
            _ => runs.push((pfn, pfn)),
        }
    }
    let mut words: Vec<String> = runs
        .iter()
        .take(most)
        .map(|(start, end)| match start == end {
            true => format!("{start:#x}"),
            false => format!("{start:#x}-{end:#x}"),
        })
        .collect();
    if runs.len() > most {
        words.push("…".to_owned());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn pfns_are_gathered_into_runs() {
        assert_eq!(runs(&[1, 2, 3, 7, 9, 10], 8), "0x1-0x3 0x7 0x9-0xa");
        assert_eq!(runs(&[1, 3, 5], 2), "0x1 0x3 …");
        assert_eq!(runs(&[], 2), "");
    }
}
