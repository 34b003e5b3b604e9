// SPDX-License-Identifier: MIT OR Apache-2.0
//! A dumpfile in the making: the windows of the pfns, gone through to count and to write, and the notes.

use config::DumpLevel;

use crate::address::Pfn;
use crate::bitmap::Window;
use crate::counters::Counters;
use crate::filter::Filter;
use crate::kdump::{self, Bitmap, Extent, Facts, WriteError, Writer};
use crate::layout::Layout;
use crate::pages::{Ends, Pages};
use crate::workers::Queue;
use crate::{CollectError, Observer, Progress, Sink, Source, Stage, Stats, Vmcore};

/// A kdump-compressed file in the making.
pub(crate) struct Dump<'a, 'm, S> {
    pub(crate) vmcore: &'a mut Vmcore<'m, S>,
    pub(crate) utsname: kdump::Utsname,
    pub(crate) filter: Option<Filter>,
    pub(crate) counters: Counters,
    pub(crate) window: Window<'a>,
    pub(crate) scratch: &'a mut [u8],
    pub(crate) observer: &'a mut dyn Observer,
    pub(crate) stats: Stats,
    /// The pfns whose pages are written, where that is not all.
    pub(crate) part: Option<(Pfn, Pfn)>,
}

impl<'a, 'm, S: Source> Dump<'a, 'm, S> {
    /// A dump of all pages that `level` keeps, as far as this kernel's layout can be told.
    pub(crate) fn new(
        vmcore: &'a mut Vmcore<'m, S>,
        level: DumpLevel,
        window: &'a mut [u8],
        scratch: &'a mut [u8],
        observer: &'a mut dyn Observer,
    ) -> Self {
        let layout = Layout::resolve(vmcore, level, scratch, observer);
        Self {
            vmcore,
            utsname: layout.utsname,
            filter: layout.filter,
            counters: layout.counters,
            window: Window::new(window),
            scratch,
            observer,
            stats: Stats::new(layout.level),
            part: None,
        }
    }

    pub(crate) fn write<K: Sink>(
        mut self,
        mut queue: Queue<'_, '_>,
        writer_memory: &mut [u8],
        sink: &mut K,
    ) -> Result<Stats, CollectError> {
        let max_mapnr = self.vmcore.max_mapnr();
        self.stats.present = self.vmcore.present_pages();
        if self.stats.present == 0 {
            return Err(CollectError::Damaged("it has no memory at all"));
        }
        let (page_count, dump_page_count) = self.count_checked(max_mapnr);

        let notes_bytes = self.notes_bytes();
        let facts = Facts {
            abi: self.vmcore.abi(),
            utsname: &self.utsname,
            crash_time_s: self.vmcore.crash_time_s().unwrap_or(0),
            page_bytes: u32::try_from(self.vmcore.page_size()).unwrap_or(0),
            max_mapnr,
            page_count,
            nr_cpus: self.vmcore.cpu_count(),
            phys_base: self.vmcore.phys_base().cast_unsigned(),
            compression: queue.compression(),
            dump_level: self.stats.level_used,
            notes_bytes,
            vmcoreinfo: self.vmcoreinfo_in_notes(),
            part: self.part.map(|(start, end)| kdump::Part {
                start,
                end,
                dump_page_count,
            }),
            incomplete: self.vmcore.is_incomplete(),
        };
        let mut writer = Writer::begin(sink, &facts, writer_memory)?;
        self.put_notes(&mut writer)?;
        self.put_present(&mut writer, max_mapnr)?;

        let mut pages = Pages::new(self.vmcore.page_size(), page_count);
        let mut bitmap_done = 0;
        let copied = self.put_windows(&mut writer, &mut queue, &mut pages, &mut bitmap_done);
        pages.tell_unreadable(self.observer);
        if let Err(error) = copied {
            // What is already there can still be read, if the rest of the bitmap says that there is no more.
            if self.put_clear(&mut writer, bitmap_done, max_mapnr).is_ok() {
                let _best_effort = writer.finish_incomplete();
            }
            return Err(error.into());
        }
        self.observer.progress(Progress {
            stage: Stage::Sync,
            done_pages: page_count,
            total_pages: page_count,
            written_bytes: writer.written_bytes(),
        });
        let summary = match writer.finish() {
            Ok(summary) => summary,
            Err(error) => {
                // The last pages did not fit.
                let _best_effort = writer.finish_incomplete();
                return Err(error.into());
            }
        };
        self.stats.written_bytes = summary.file_bytes;
        Ok(self.stats)
    }

    /// Counts the pages that will be written. Where a rule would leave out pages that the first kernel does not count,
    /// it is taken away, and what is left out is counted again.
    pub(crate) fn count_checked(&mut self, max_mapnr: u64) -> (u64, u64) {
        let before = self.stats;
        loop {
            let counts = self.count(max_mapnr);
            let Some(filter) = &mut self.filter else {
                return counts;
            };
            let observer = &mut *self.observer;
            let doubts = self
                .counters
                .doubts(&self.stats, filter.huge_pages(), &mut |mismatch| {
                    observer.warn(format_args!("{mismatch}"));
                });
            filter.restart();
            if doubts.is_empty() {
                return counts;
            }
            // No kind is doubted twice, as it is kept from here on.
            filter.keep(&doubts);
            let level = doubts.taken_from(self.stats.level_used);
            self.observer.warn(format_args!(
                "dump level {} is lowered to {level}, as these pages would not be what they seem to be",
                self.stats.level_used
            ));
            self.stats = Stats {
                level_used: level,
                ..before
            };
        }
    }

    /// Goes through all windows and counts the pages that will be written, and those of the whole dump. With a single window, that is left as the
    /// pages are to be written.
    fn count(&mut self, max_mapnr: u64) -> (u64, u64) {
        let mut stats = self.stats;
        let (mut page_count, mut dump_page_count) = (0_u64, 0_u64);
        let mut start = 0_u64;
        while let Some((present, _)) = self.vmcore.present_from(Pfn(start)) {
            // Memory can begin again far up; windows without a page need no look.
            let empty = present.0.saturating_sub(start) / self.window.capacity().max(1);
            start = start.saturating_add(empty.saturating_mul(self.window.capacity()));
            self.fill_window(start, max_mapnr, &mut stats);
            let whole = self.window.count();
            dump_page_count = dump_page_count.saturating_add(whole);
            page_count = page_count.saturating_add(match self.part {
                None => whole,
                Some((first, end)) => self.window.count_between(first.0, end.0),
            });
            start = self.window.end();
        }
        self.stats = stats;
        if let Some(filter) = &mut self.filter {
            if filter.unknown_pages() > 0 {
                self.observer.warn(format_args!(
                    "{} pages are kept, as their struct page cannot be read",
                    filter.unknown_pages()
                ));
            }
            if filter.broken_lists() > 0 {
                self.observer.warn(format_args!(
                    "{} lists of free pages are damaged; what they do not lead to is kept",
                    filter.broken_lists()
                ));
            }
        }
        (page_count, dump_page_count)
    }

    /// Makes the window that begins at `start`: sets what is present, clears what is left out.
    pub(crate) fn fill_window(&mut self, start: u64, max_mapnr: u64, stats: &mut Stats) {
        self.window.restart(start, max_mapnr);
        set_present(self.vmcore, &mut self.window);
        let missing = clear_holes(self.vmcore, &mut self.window);
        stats.missing = stats.missing.saturating_add(missing);
        if let Some(filter) = &mut self.filter {
            let observer = &mut *self.observer;
            filter.pass(
                self.vmcore,
                &mut self.window,
                self.scratch,
                stats,
                &mut |pfn| {
                    observer.progress(Progress {
                        stage: Stage::Classify,
                        done_pages: pfn,
                        total_pages: max_mapnr,
                        written_bytes: 0,
                    });
                },
            );
        }
    }

    /// Writes the 2nd bitmap and the pages, window by window. `bitmap_done` is the pfn up to which the bitmap is written.
    fn put_windows<K: Sink>(
        &mut self,
        writer: &mut Writer<'_, K>,
        queue: &mut Queue<'_, '_>,
        pages: &mut Pages,
        bitmap_done: &mut u64,
    ) -> Result<(), WriteError> {
        let max_mapnr = self.vmcore.max_mapnr();
        let single = self.window.start() == 0 && self.window.end() == max_mapnr;
        // The kinds were counted before.
        let mut counted = Stats::new(self.stats.level_used);
        let mut start = 0;
        while start < max_mapnr {
            if !single {
                self.fill_window(start, max_mapnr, &mut counted);
            }
            writer.put_bitmap(Bitmap::Dumpable, start / 8, self.window.bytes())?;
            start = self.window.end();
            *bitmap_done = start;
            if let Some((first, end)) = self.part {
                self.window.clear(0, first.0);
                self.window.clear(end.0, max_mapnr);
            }
            let (window, mut ends) = self.copying(writer);
            pages.copy_window(queue, window, &mut ends)?;
        }
        pages.finish(queue, &mut self.copying(writer).1)
    }

    /// The window, and where its pages come from and go.
    fn copying<'b, 'w, K: Sink>(
        &'b mut self,
        writer: &'b mut Writer<'w, K>,
    ) -> (&'b Window<'a>, Ends<'b, 'm, 'w, S, K>) {
        let ends = Ends {
            vmcore: self.vmcore,
            scratch: self.scratch,
            writer,
            stats: &mut self.stats,
            observer: self.observer,
        };
        (&self.window, ends)
    }

    /// Writes the 1st bitmap.
    fn put_present<K: Sink>(
        &mut self,
        writer: &mut Writer<'_, K>,
        max_mapnr: u64,
    ) -> Result<(), WriteError> {
        let mut window = Window::new(self.scratch);
        let mut start = 0;
        while start < max_mapnr {
            window.restart(start, max_mapnr);
            set_present(self.vmcore, &mut window);
            writer.put_bitmap(Bitmap::Present, start / 8, window.bytes())?;
            start = window.end();
        }
        Ok(())
    }

    /// Writes the 2nd bitmap from `start` on as one without pages.
    fn put_clear<K: Sink>(
        &mut self,
        writer: &mut Writer<'_, K>,
        mut start: u64,
        max_mapnr: u64,
    ) -> Result<(), WriteError> {
        let mut window = Window::new(self.scratch);
        while start < max_mapnr {
            window.restart(start, max_mapnr);
            writer.put_bitmap(Bitmap::Dumpable, start / 8, window.bytes())?;
            start = window.end();
        }
        Ok(())
    }

    /// Bytes of the notes that go into the dumpfile.
    pub(crate) fn notes_bytes(&self) -> u64 {
        self.vmcore.notes().iter().fold(0_u64, |sum, segment| {
            sum.saturating_add(segment.bytes.next_multiple_of(4))
        })
    }

    /// Copies the notes.
    fn put_notes<K: Sink>(&mut self, writer: &mut Writer<'_, K>) -> Result<(), WriteError> {
        self.each_note_part(&mut |part| writer.put_notes(part))
    }

    /// Reads the notes, a part at a time. What cannot be read of them is zero, which ends them for a reader.
    pub(crate) fn each_note_part<E>(
        &mut self,
        put: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let count = self.vmcore.notes().len();
        for index in 0..count {
            let Some(segment) = self.vmcore.notes().get(index).copied() else {
                break;
            };
            let mut done = 0_u64;
            while done < segment.bytes {
                let left =
                    usize::try_from(segment.bytes.saturating_sub(done)).unwrap_or(usize::MAX);
                let len = left.min(self.scratch.len());
                let part = self.scratch.get_mut(..len).unwrap_or_default();
                let offset = segment.offset.saturating_add(done);
                if let Err(error) = self.vmcore.source().read_at(offset, part) {
                    part.fill(0);
                    self.observer.warn(format_args!(
                        "the vmcore's notes are not complete: reading at byte {offset}: {error}"
                    ));
                }
                put(part)?;
                done = done.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
            }
            let padding = segment
                .bytes
                .next_multiple_of(4)
                .saturating_sub(segment.bytes);
            let padding = usize::try_from(padding).unwrap_or(0);
            put([0; 4].get(..padding).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Where VMCOREINFO will be in the dumpfile's notes.
    fn vmcoreinfo_in_notes(&self) -> Extent {
        let Some(info) = self.vmcore.vmcoreinfo_extent() else {
            return Extent::default();
        };
        let mut before = 0_u64;
        for segment in self.vmcore.notes() {
            if let Some(inside) = info.offset.checked_sub(segment.offset)
                && inside < segment.bytes
            {
                return Extent {
                    offset: before.saturating_add(inside),
                    bytes: info.bytes,
                };
            }
            before = before.saturating_add(segment.bytes.next_multiple_of(4));
        }
        Extent::default()
    }
}

/// Sets the bits of the pages that the vmcore has.
fn set_present<S: Source>(vmcore: &Vmcore<'_, S>, window: &mut Window<'_>) {
    let mut from = Pfn(window.start());
    while let Some((start, end)) = vmcore.present_from(from) {
        if start.0 >= window.end() {
            break;
        }
        window.set(start.0, end.0);
        from = end;
    }
}

/// Clears the bits of the pages that the vmcore was written without, and returns how many those are.
fn clear_holes<S: Source>(vmcore: &mut Vmcore<'_, S>, window: &mut Window<'_>) -> u64 {
    let mut missing = 0_u64;
    let mut from = Pfn(window.start());
    let window_end = Pfn(window.end());
    while let Some((start, end)) = vmcore.hole_from(from, window_end) {
        missing = missing.saturating_add(window.clear(start.0, end.0));
        // A hole that is no longer than nothing would be found again.
        from = end.max(Pfn(from.0.saturating_add(1)));
    }
    missing
}
