// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes that read and compress for the attempt, on all of the capture kernel's CPUs; the attempt itself only finds out
//! which pages, and writes them.
//!
//! They share nothing with the attempt but a [`Board`], so that one that crashes, hangs or is killed for memory costs
//! nothing but time: its batch goes to another, and a page on which two have died is stored as it is. When none is left, the
//! attempt reads and compresses by itself. Before that it does not, even where it has nothing else to do: what kills a
//! worker would be the end of the attempt.

use crate::clock;
use crate::fault::Faults;
use crate::files;
use crate::log;
use crate::progress::Mib;
use crate::supervise::{FAILED, SignalName, set_oom_score};
use crate::sys::board::{Board, Claim, DONE, FIRST_WORKER, OURS, READY};
use crate::sys::{self, Memory};
use crate::vmcore::{Access, VmcoreFile};
use collector::{Batch, SCRATCH_BYTES, Workers, codec};
use config::Compression;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, Ordering};
use heapless::Vec;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process,
    set_parent_process_death_signal, waitpid,
};
use rustix::thread::futex;

/// More are not used, however many CPUs there are: the attempt itself has to write for all of them.
const MAX_WORKERS: usize = 8;
/// Each worker has a batch, and another to go on with while the attempt writes.
const BATCHES_EACH: usize = 2;
/// What else is being filled, or waits to be written because one before it is not done.
const SPARE_BATCHES: usize = 4;
const MAX_BATCHES: usize = batch_count(MAX_WORKERS);
/// What a process takes besides the board: its page tables, its stack, the codec's memory, and what it reads into where the
/// vmcore cannot be mapped.
const PROCESS_BYTES: usize = 448 << 10;
/// How often the attempt looks for workers that died, while it waits for a batch.
const LOOK_MS: u64 = 100;
/// A page takes microseconds, and a read of some pages milliseconds. A worker that is on one page for so long is killed.
const STUCK_MS: u64 = if cfg!(test) { 500 } else { 10_000 };
/// So many workers are replaced. A defect that kills more than that would kill all.
const MAX_REPLACEMENTS: usize = 16;
/// How long killed workers may take to go.
const GONE_MS: u64 = 1000;

/// How many batches so many workers have.
const fn batch_count(workers: usize) -> usize {
    workers * BATCHES_EACH + SPARE_BATCHES
}

/// The board for as many workers as there are CPUs and memory for; `None` where one CPU does everything.
#[must_use]
pub fn take_board() -> Option<Board> {
    let cpus = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    let cpus = usize::try_from(cpus).unwrap_or(1).min(MAX_WORKERS);
    // What the first dump needs besides is not known, so that most of it is left.
    let affordable_bytes = available_bytes() / 4;
    let count = (2..=cpus).rev().find(|&count| {
        let bytes = Board::size_bytes(batch_count(count)) + count * PROCESS_BYTES;
        bytes <= affordable_bytes
    });
    let Some(count) = count else {
        if cpus > 1 {
            log!("{cpus} CPUs, but memory for one to compress");
        }
        return None;
    };
    match Board::take(batch_count(count)) {
        Ok(board) => {
            let bytes = Board::size_bytes(batch_count(count));
            let bytes = u64::try_from(bytes).unwrap_or(0);
            log!("{count} workers compress; they share {}", Mib(bytes));
            Some(board)
        }
        Err(errno) => {
            log!(
                "no memory for workers: {}; next: without them",
                crate::vmcore::error(errno)
            );
            None
        }
    }
}

/// What the kernel says could be had without swapping.
fn available_bytes() -> usize {
    let mut buffer = [0; 2048];
    let text = files::read_text(c"/proc/meminfo", &mut buffer).unwrap_or("");
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse::<usize>().ok())
        .map_or(0, |kib| kib.saturating_mul(1024))
}

/// The attempt's side: its workers, and the batches that it has itself.
pub struct Processes<'b> {
    board: &'b Board,
    compression: Compression,
    /// Where the vmcore is, and how workers that start from now on read it.
    vmcore: &'b CStr,
    access: Access,
    faults: Faults,
    held: Vec<Option<Claim<'b>>, MAX_BATCHES>,
    /// For each batch the page on which a worker died.
    suspects: [Option<u32>; MAX_BATCHES],
    /// `None` where there is none any more.
    workers: [Option<Worker>; MAX_WORKERS],
    replacements: usize,
    /// For each batch what was last seen of it.
    seen: [Seen; MAX_BATCHES],
}

/// Whose a batch was, at which page, and since when.
#[derive(Clone, Copy, Default)]
struct Seen {
    owner: u32,
    page: u32,
    since_ms: u64,
}

#[derive(Clone, Copy)]
struct Worker {
    pid: Pid,
    /// We killed it ourselves, because it was stuck.
    killed: bool,
}

impl<'b> Processes<'b> {
    /// Starts the workers, each of which opens the vmcore at this path; `None` when not even one can be. What an earlier
    /// attempt left on the board is forgotten, so it must have ended, and its workers with it.
    #[must_use]
    pub fn start(
        board: &'b Board,
        compression: Compression,
        vmcore: &'b CStr,
        access: Access,
        faults: &Faults,
    ) -> Option<Self> {
        let mut held = Vec::new();
        for slot in board.slots().iter().take(MAX_BATCHES) {
            // An owner that changes now is no owner that has ended.
            held.push(Some(slot.claim(slot.owner(), OURS)?)).ok()?;
        }
        let mut this = Self {
            board,
            compression,
            vmcore,
            access,
            faults: faults.clone(),
            suspects: [None; MAX_BATCHES],
            workers: [None; MAX_WORKERS],
            replacements: 0,
            seen: [Seen::default(); MAX_BATCHES],
            held,
        };
        let count = this.held.len().saturating_sub(SPARE_BATCHES) / BATCHES_EACH;
        for number in 0..count.min(MAX_WORKERS) {
            this.start_worker(number);
        }
        // The OOM killer is to take one of them first.
        set_oom_score(b"900");
        this.any_left().then_some(this)
    }

    fn start_worker(&mut self, number: usize) {
        let parent = getpid();
        let (board, compression) = (self.board, self.compression);
        let (vmcore, access) = (self.vmcore, self.access);
        let (faults, first) = (&self.faults, number == 0 && self.replacements == 0);
        let worker = match sys::fork(|| {
            if !belongs_to(parent) {
                return FAILED;
            }
            let Ok(vmcore) = VmcoreFile::open(vmcore, access) else {
                return FAILED;
            };
            work(board, number, compression, vmcore, &|page| {
                faults.strike_worker(page, first)
            })
        }) {
            Ok(pid) => Some(Worker { pid, killed: false }),
            Err(errno) => {
                log!(
                    "no worker could be started: {}",
                    crate::vmcore::error(errno)
                );
                None
            }
        };
        if let Some(place) = self.workers.get_mut(number) {
            *place = worker;
        }
    }

    fn any_left(&self) -> bool {
        self.workers.iter().any(Option::is_some)
    }

    /// Looks for workers that have ended, which none does of itself.
    fn reap(&mut self) {
        for number in 0..MAX_WORKERS {
            let Some(worker) = self.workers.get(number).copied().flatten() else {
                continue;
            };
            let status = match waitpid(Some(worker.pid), WaitOptions::NOHANG) {
                Ok(None) => continue,
                Ok(Some((_, status))) => Some(status),
                Err(_) => None,
            };
            if let Some(place) = self.workers.get_mut(number) {
                *place = None;
            }
            self.bury(number, worker, status);
        }
    }

    /// Gives the batch of a worker that is no more to another, and replaces it.
    fn bury(&mut self, number: usize, worker: Worker, status: Option<WaitStatus>) {
        let signal = status.and_then(|status| status.terminating_signal());
        // Killed by others: for memory, which is not the page's fault, and there is none for another worker.
        let for_memory = signal == Some(Signal::KILL.as_raw()) && !worker.killed;
        // Memory of the crashed machine is broken: an error of one read, where it is not mapped.
        if signal == Some(Signal::BUS.as_raw()) {
            self.access = Access::Read;
        }
        let board = self.board;
        let owner = owner(number);
        let mut page = None;
        for (slot, suspect) in board.slots().iter().zip(&mut self.suspects) {
            let Some(mut batch) = slot.claim(owner, OURS) else {
                continue;
            };
            page = Some(slot.page());
            if !for_memory {
                if *suspect == page {
                    batch.give_up(slot.page());
                }
                *suspect = page;
            }
            batch.pass(READY);
            wake(board.started());
        }
        let is_replaced = !for_memory && self.replacements < MAX_REPLACEMENTS;
        let next = if is_replaced {
            "another in its place"
        } else if self.any_left() {
            "without it"
        } else {
            "the attempt goes on by itself"
        };
        let place = PageOf(page);
        match signal {
            _ if worker.killed => log!("a worker was stuck{place}, and was killed; next: {next}"),
            Some(signal) => log!(
                "a worker was killed by {}{place}; next: {next}",
                SignalName(signal)
            ),
            None => log!("a worker ended{place}, a defect of kdumprd; next: {next}"),
        }
        if is_replaced {
            self.replacements += 1;
            self.start_worker(number);
        }
    }

    /// Kills workers that have been on one page for too long.
    fn kill_stuck(&mut self) {
        let now_ms = clock::now_ms();
        for (slot, seen) in self.board.slots().iter().zip(&mut self.seen) {
            let (owner, page) = (slot.owner(), slot.page());
            if (seen.owner, seen.page) != (owner, page) {
                *seen = Seen {
                    owner,
                    page,
                    since_ms: now_ms,
                };
                continue;
            }
            let worker = owner.checked_sub(FIRST_WORKER).and_then(|number| {
                self.workers
                    .get_mut(usize::try_from(number).ok()?)?
                    .as_mut()
            });
            if let Some(worker) = worker
                && now_ms.saturating_sub(seen.since_ms) >= STUCK_MS
            {
                worker.killed = true;
                let _ = kill_process(worker.pid, Signal::KILL);
            }
        }
    }
}

impl Workers for Processes<'_> {
    fn compression(&self) -> Compression {
        self.compression
    }

    fn batch_count(&self) -> usize {
        self.held.len()
    }

    fn batch(&mut self, index: usize) -> &mut Batch {
        self.held
            .get_mut(index)
            .and_then(Option::as_mut)
            .expect("it was not started, or wait() has returned for it")
    }

    fn start(&mut self, index: usize) {
        if let Some(suspect) = self.suspects.get_mut(index) {
            *suspect = None;
        }
        if let Some(batch) = self.held.get_mut(index).and_then(Option::take) {
            batch.pass(READY);
            wake(self.board.started());
        }
    }

    fn wait(&mut self, index: usize) -> Option<usize> {
        let board = self.board;
        let (Some(slot), Some(None)) = (board.slots().get(index), self.held.get(index)) else {
            return None;
        };
        board.set_oldest(index);
        let (batch, undone) = loop {
            let done = board.done().load(Ordering::Acquire);
            if let Some(batch) = slot.claim(DONE, OURS) {
                break (batch, None);
            }
            if !self.any_left()
                && let Some(mut batch) = slot.claim(READY, OURS)
            {
                if let Some(page) = self.suspects.get(index).copied().flatten() {
                    batch.give_up(page);
                }
                break (batch, Some(index));
            }
            let time = clock::timespec(LOOK_MS);
            match futex::wait(board.done(), futex::Flags::empty(), done, Some(&time)) {
                Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(_) => {
                    self.reap();
                    self.kill_stuck();
                }
            }
        };
        if let Some(place) = self.held.get_mut(index) {
            *place = Some(batch);
        }
        undone
    }
}

impl Drop for Processes<'_> {
    /// The workers end, so that the board is free for another attempt.
    fn drop(&mut self) {
        for worker in self.workers.iter().flatten() {
            let _ = kill_process(worker.pid, Signal::KILL);
        }
        let end_ms = clock::now_ms().saturating_add(GONE_MS);
        for worker in self.workers.iter().flatten() {
            while let Ok(None) = waitpid(Some(worker.pid), WaitOptions::NOHANG) {
                if clock::now_ms() >= end_ms {
                    return;
                }
                let _ = rustix::event::poll(&mut [], Some(&clock::timespec(2)));
            }
        }
    }
}

/// Makes this process one that ends with its parent; not if that has ended already.
fn belongs_to(parent: Pid) -> bool {
    let _ = rustix::thread::set_name(c"kdump-worker");
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // A dumpfile or a device that is open here would outlive the attempt by a moment.
    sys::close_inherited();
    set_oom_score(b"1000");
    getppid() == Some(parent)
}

/// A worker: reads and compresses what is ready, until it is killed. `starting` is told the page of its batch that comes next.
fn work(
    board: &Board,
    number: usize,
    compression: Compression,
    mut vmcore: VmcoreFile,
    starting: &dyn Fn(u32),
) -> u8 {
    let (Ok(mut memory), Ok(mut scratch)) = (
        Memory::take_own(codec::MEMORY_BYTES),
        Memory::take_own(SCRATCH_BYTES),
    ) else {
        return FAILED;
    };
    codec::with(compression, memory.bytes(), |mut codec| {
        loop {
            let started = board.started().load(Ordering::Acquire);
            let (newer, older) = board
                .slots()
                .split_at(board.oldest().min(board.slots().len()));
            let mut in_order = older.iter().chain(newer);
            let found = in_order.find_map(|slot| Some((slot, slot.claim(READY, owner(number))?)));
            let Some((slot, mut batch)) = found else {
                let _ = futex::wait(board.started(), futex::Flags::empty(), started, None);
                continue;
            };
            batch.encode(&mut vmcore, &mut codec, scratch.bytes(), &mut |page| {
                slot.set_page(page);
                starting(page);
            });
            batch.pass(DONE);
            wake(board.done());
        }
    });
    FAILED
}

/// The owner that worker `number` is.
fn owner(number: usize) -> u32 {
    u32::try_from(number).map_or(u32::MAX, |number| FIRST_WORKER.saturating_add(number))
}

/// Changes the word, and wakes one who sleeps on it.
fn wake(word: &AtomicU32) {
    word.fetch_add(1, Ordering::Release);
    let _ = futex::wake(word, futex::Flags::empty(), 1);
}

/// `" at page 5 of a batch"`; nothing for a worker that had none.
struct PageOf(Option<u32>);

impl core::fmt::Display for PageOf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(page) => write!(f, " at page {page} of a batch"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use collector::address::Pfn;
    use collector::kdump::Reader;
    use collector::{
        BATCH_PAGES, IoError, MEMORY_BYTES, Means, OPEN_BYTES, Sink, Source, Vmcore, collect_with,
    };
    use config::{CollectOptions, DumpLevel};
    use std::ffi::CString;
    use std::os::fd::AsRawFd as _;
    use std::sync::OnceLock;

    const PAGE: usize = 4096;
    /// Some batches more than fit on the board, and a part of one.
    const PAGES: usize = 13 * BATCH_PAGES + 7;
    /// Of an ELF file with one segment.
    const HEADERS: usize = 64 + 56;

    /// A vmcore of an unknown machine: an ELF file with one piece of memory from address 0 on.
    fn vmcore() -> std::vec::Vec<u8> {
        let mut bytes = std::vec![0_u8; HEADERS];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let words = [(16, 4_u16), (18, 62), (54, 56), (56, 1)];
        for (place, word) in words {
            bytes[place..place + 2].copy_from_slice(&word.to_le_bytes());
        }
        let size = (PAGES * PAGE) as u64;
        let fields = [
            (32, 64),
            (64, 1),
            (72, HEADERS as u64),
            (96, size),
            (104, size),
        ];
        for (place, field) in fields {
            bytes[place..place + 8].copy_from_slice(&field.to_le_bytes());
        }
        let mut state = 1_u32;
        for page in 0..PAGES {
            // Zero, hard, and all between.
            let hard = page * 37 % (PAGE + 1);
            bytes.extend((0..PAGE).map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match page % 11 {
                    0 => 0,
                    _ if at < hard => (state >> 24) as u8,
                    _ => page as u8,
                }
            }));
        }
        bytes
    }

    struct File(std::vec::Vec<u8>);

    impl Source for File {
        fn size_bytes(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
            let start = offset as usize;
            let bytes = self.0.get(start..start + buf.len()).ok_or(IoError::END)?;
            buf.copy_from_slice(bytes);
            Ok(())
        }
    }

    impl Sink for File {
        fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
            let end = offset as usize + data.len();
            self.0.resize(self.0.len().max(end), 0);
            self.0[offset as usize..end].copy_from_slice(data);
            Ok(())
        }

        fn sync(&mut self) -> Result<(), IoError> {
            Ok(())
        }
    }

    fn dump(workers: Option<&mut dyn Workers>) -> std::vec::Vec<u8> {
        let mut open_memory = std::vec![0; OPEN_BYTES];
        let mut memory = std::vec![0; MEMORY_BYTES];
        let mut vmcore = Vmcore::open(File(vmcore()), &mut open_memory).unwrap();
        let means = Means {
            workers: match workers {
                Some(workers) => Some(workers),
                None => None,
            },
            ..Means::new(&mut memory)
        };
        let mut out = File(std::vec![]);
        let options = CollectOptions::standard();
        let level = DumpLevel::new(1).unwrap();
        let stats = collect_with(&mut vmcore, &options, level, means, &mut out, &mut ()).unwrap();
        assert_eq!(stats.kept + stats.zero, PAGES as u64);
        out.0
    }

    /// The path of a file with the vmcore. It has no name, so that nothing is left of it.
    fn path() -> &'static CStr {
        static FILE: OnceLock<(std::fs::File, CString)> = OnceLock::new();
        let (_, path) = FILE.get_or_init(|| {
            let name = std::format!("kdumprd-workers-{}", std::process::id());
            let named = std::env::temp_dir().join(name);
            std::fs::write(&named, vmcore()).unwrap();
            let file = std::fs::File::open(&named).unwrap();
            std::fs::remove_file(&named).unwrap();
            // By way of this process: workers close what they inherit.
            let path = std::format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            (file, CString::new(path).unwrap())
        });
        path
    }

    fn start<'b>(board: &'b Board, faults: &Faults) -> Processes<'b> {
        Processes::start(board, Compression::Zlib, path(), Access::Map, faults).unwrap()
    }

    /// The dump that workers make, with such a fault, and how many were replaced.
    fn dump_by(workers: usize, fault: &str) -> (std::vec::Vec<u8>, usize, usize) {
        let board = Board::take(batch_count(workers)).unwrap();
        let faults = Faults::from_command_line(fault);
        let mut processes = start(&board, &faults);
        let bytes = dump(Some(&mut processes));
        let left = processes.workers.iter().flatten().count();
        (bytes, processes.replacements, left)
    }

    fn assert_has_every_page(dumpfile: std::vec::Vec<u8>) {
        let mut memory = std::vec![0; Reader::<File>::MEMORY_BYTES];
        let mut reader = Reader::open(File(dumpfile), &mut memory).unwrap();
        let expected = vmcore();
        let mut page = [0; PAGE];
        for (pfn, expected) in (0..).zip(expected[HEADERS..].chunks(PAGE)) {
            reader.read_page(Pfn(pfn), &mut page).unwrap();
            assert!(page == expected, "{pfn}");
        }
    }

    #[test]
    fn processes_make_the_same_dumpfile_as_one_cpu() {
        let one = dump(None);
        assert_has_every_page(one.clone());
        for workers in [1, 2, 3, MAX_WORKERS] {
            let (bytes, replacements, left) = dump_by(workers, "");
            assert!(bytes == one, "{workers}");
            assert_eq!((replacements, left), (0, workers));
        }
    }

    #[test]
    fn a_worker_that_crashes_is_replaced_and_costs_nothing() {
        let (bytes, replacements, left) = dump_by(2, "kdumprd.fault=segv@worker");
        assert!(bytes == dump(None));
        assert_eq!((replacements, left), (1, 2));
    }

    #[test]
    fn a_worker_that_is_killed_for_memory_is_not_replaced() {
        let (bytes, replacements, left) = dump_by(2, "kdumprd.fault=kill@worker");
        assert!(bytes == dump(None));
        assert_eq!((replacements, left), (0, 1));
    }

    #[test]
    fn a_worker_that_hangs_is_killed_and_replaced() {
        let (bytes, replacements, left) = dump_by(1, "kdumprd.fault=hang@worker");
        assert!(bytes == dump(None));
        assert_eq!((replacements, left), (1, 1));
    }

    #[test]
    fn without_workers_the_attempt_goes_on_alone() {
        let (bytes, replacements, left) = dump_by(2, "kdumprd.fault=kill@worker*");
        assert!(bytes == dump(None));
        assert_eq!((replacements, left), (0, 0));
    }

    #[test]
    fn a_page_that_costs_two_workers_is_stored_as_it_is() {
        // Every worker dies at page 5 of every batch; when all that may be replaced were, the attempt is alone.
        let (bytes, replacements, left) = dump_by(2, "kdumprd.fault=segv@worker*");
        assert_eq!((replacements, left), (MAX_REPLACEMENTS, 0));
        assert!(bytes.len() > dump(None).len());
        assert_has_every_page(bytes);
    }

    #[test]
    fn a_board_serves_another_attempt() {
        let board = Board::take(batch_count(2)).unwrap();
        let faults = Faults::default();
        // It ends while its workers have batches.
        let mut processes = start(&board, &faults);
        processes.start(0);
        processes.start(1);
        drop(processes);
        let mut processes = start(&board, &faults);
        assert!(dump(Some(&mut processes)) == dump(None));
    }
}
