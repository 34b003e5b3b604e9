// SPDX-License-Identifier: MIT OR Apache-2.0
//! `diff A B`: which pages two files have differently, whatever their formats.

use std::path::Path;

use super::Failure;
use super::messages::say;
use super::pages::{Page, Pages, runs};

/// Runs of pfns that are printed of each kind of difference.
const SHOWN: usize = 16;
/// Pfns of each kind that are remembered for that; all are counted.
const REMEMBERED: usize = 1 << 16;

/// One kind of difference.
struct Difference {
    what: &'static str,
    count: u64,
    pfns: Vec<u64>,
}

impl Difference {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            count: 0,
            pfns: Vec::new(),
        }
    }

    fn add(&mut self, pfn: u64) {
        self.count += 1;
        if self.pfns.len() < REMEMBERED {
            self.pfns.push(pfn);
        }
    }
}

/// Compares, prints, and says whether all pages are the same.
pub(crate) fn diff(a: &Path, b: &Path) -> Result<bool, Failure> {
    let open = |path| Pages::open(path).map_err(Failure::trouble);
    let (mut left, mut right) = (open(a)?, open(b)?);
    if left.page_bytes() != right.page_bytes() {
        return Err(Failure::trouble(format!(
            "{} has pages of {} bytes, {} of {}",
            a.display(),
            left.page_bytes(),
            b.display(),
            right.page_bytes()
        )));
    }
    let mut same = 0_u64;
    let mut different = Difference::new("differ");
    let mut only_a = Difference::new("only in A");
    let mut only_b = Difference::new("only in B");
    let mut damaged = Difference::new("cannot be read");
    let mut page_a = vec![0; left.page_bytes()];
    let mut page_b = page_a.clone();
    let in_path = |path: &Path| {
        let path = path.display().to_string();
        move |message: String| Failure::trouble(format!("{path}: {message}"))
    };
    let (mut next_a, mut next_b) = (Some(0), Some(0));
    let mut pfn = 0;
    loop {
        // Only where one of the two has something.
        if next_a.is_some_and(|next| next <= pfn) {
            next_a = left.next(pfn).map_err(in_path(a))?;
        }
        if next_b.is_some_and(|next| next <= pfn) {
            next_b = right.next(pfn).map_err(in_path(b))?;
        }
        let Some(next) = next_a.into_iter().chain(next_b).min() else {
            break;
        };
        pfn = next;
        let here = (left.read(pfn, &mut page_a), right.read(pfn, &mut page_b));
        match here {
            (Page::Damaged(_), _) | (_, Page::Damaged(_)) => damaged.add(pfn),
            (Page::Here, Page::Here) if page_a == page_b => same += 1,
            (Page::Here, Page::Here) => different.add(pfn),
            (Page::Here, _) => only_a.add(pfn),
            (_, Page::Here) => only_b.add(pfn),
            _ => {}
        }
        pfn += 1;
    }
    say!("A: {}\nB: {}", a.display(), b.display());
    say!("{same} pages are the same");
    let mut equal = true;
    for difference in [different, only_a, only_b, damaged] {
        if difference.count > 0 {
            equal = false;
            say!(
                "{} pages {}: {}",
                difference.count,
                difference.what,
                runs(&difference.pfns, SHOWN)
            );
        }
    }
    Ok(equal)
}
