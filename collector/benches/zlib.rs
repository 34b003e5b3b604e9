// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page encoder beside C zlib as makedumpfile uses it: `cargo bench -p kdumprd-collector --bench zlib -- FILE…`.
//!
//! Of a dumpfile, whatever wrote it, all pages are taken; any other file is cut into pages of 4 KiB. Zero pages are left
//! out, as a dump leaves them out. Each page is one call, and what does not get shorter counts as a page.
//!
//! Both encoders take turns on the same 2048 pages; of each turn the fastest of some rounds counts, by the processor's time.
//! So another program that runs at the same time costs both the same, and mostly little. The pages are so many that neither
//! caches nor branch predictors know them from the round before. Only the ratios carry to another machine.
//!
//! `ONLY=ours` or `ONLY=peer` runs one encoder, and `ROUNDS=1` runs it once: for counting instructions with
//! `valgrind --tool=callgrind`.

#![allow(missing_docs, reason = "a benchmark")]

use collector::codec::zlib::Encoder;
use collector::kdump::{ReadError, Reader};
use collector::{IoError, Source, address::Pfn};
use flate2::{Compress, Compression, FlushCompress};
use std::env;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::Duration;

const PAGE: usize = 4096;
const BATCH: usize = 2048;

struct Disk(File);

impl Source for Disk {
    fn size_bytes(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.0.read_exact_at(buf, offset).map_err(|_| IoError::END)
    }
}

/// All pages of a dumpfile, or of a file that is none.
fn pages(path: &str) -> Vec<u8> {
    let file = File::open(path).unwrap_or_else(|error| panic!("opening {path}: {error}"));
    let mut memory = vec![0; Reader::<Disk>::MEMORY_BYTES];
    let mut reader = match Reader::open(Disk(file), &mut memory) {
        Ok(reader) => reader,
        Err(ReadError::Header(_) | ReadError::Io(..)) => {
            return std::fs::read(path).unwrap_or_else(|error| panic!("reading {path}: {error}"));
        }
        Err(error) => panic!("reading {path}: {error}"),
    };
    let mut all = Vec::new();
    let mut page = vec![0; reader.page_bytes()];
    let mut from = Pfn(0);
    while let Some(pfn) = reader.next_page(from).expect("the bitmap can be read") {
        match reader.read_page(pfn, &mut page) {
            Ok(()) => all.extend_from_slice(&page),
            Err(error) => panic!("reading {path}: {error}"),
        }
        from = Pfn(pfn.0 + 1);
    }
    all
}

/// What this thread has had of a processor: the first number that the kernel tells of it, in nanoseconds. Giving way brings
/// it up to date.
fn cpu_time() -> Duration {
    thread::yield_now();
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("reading the time from {path}: {error}"));
    let first = text.split_whitespace().next().map(str::parse);
    Duration::from_nanos(first.and_then(Result::ok).expect("a number of nanoseconds"))
}

/// One encoder's account.
#[derive(Default)]
struct Account {
    time: Duration,
    bytes: usize,
}

impl Account {
    /// Encodes all pages and returns how long that took and how many bytes it made.
    fn turn(batch: &[&[u8]], mut encode: impl FnMut(&[u8], &mut [u8]) -> Option<usize>) -> Self {
        let mut out = [0; PAGE + 64];
        let start = cpu_time();
        let mut bytes = 0;
        for page in batch {
            let length = encode(black_box(page), &mut out).unwrap_or(PAGE);
            bytes += length.min(PAGE);
        }
        Self {
            time: cpu_time() - start,
            bytes,
        }
    }

    fn print(&self, name: &str, pages: usize) {
        let megabytes = (pages * PAGE) as f64 / 1e6;
        println!(
            "  {name}: {:6.1} MB/s, {:5.2} % of the size",
            megabytes / self.time.as_secs_f64(),
            self.bytes as f64 * 100.0 / (pages * PAGE) as f64
        );
    }
}

/// compress2() at level 1, but for its memory, which is not allocated anew for each page: how long that takes depends
/// on the rest of the heap, and makedumpfile mostly has it cheap.
fn peer(zlib: &mut Compress, page: &[u8], out: &mut [u8]) -> Option<usize> {
    zlib.reset();
    match zlib.compress(page, out, FlushCompress::Finish) {
        Ok(flate2::Status::StreamEnd) => usize::try_from(zlib.total_out()).ok(),
        _ => None,
    }
}

fn main() {
    let rounds = env::var("ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    let rounds: usize = rounds.unwrap_or(5);
    let only = env::var("ONLY").unwrap_or_default();
    let files: Vec<String> = env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    if files.is_empty() {
        println!("zlib: give one or more dumpfiles, or any files, as arguments");
    }
    for file in files {
        let bytes = pages(&file);
        let pages: Vec<&[u8]> = bytes
            .chunks_exact(PAGE)
            .filter(|page| page.iter().any(|&byte| byte != 0))
            .collect();
        let mut encoder = Encoder::new();
        let mut zlib = Compress::new(Compression::new(1), true);
        let (mut ours_all, mut peer_all) = (Account::default(), Account::default());
        for batch in pages.chunks(BATCH) {
            let (mut ours_best, mut peer_best) = (Duration::MAX, Duration::MAX);
            for round in 0..rounds {
                if only != "peer" {
                    let ours = Account::turn(batch, |page, out| encoder.compress(page, out));
                    ours_best = ours_best.min(ours.time);
                    ours_all.bytes += if round == 0 { ours.bytes } else { 0 };
                }
                if only != "ours" {
                    let peer = Account::turn(batch, |page, out| peer(&mut zlib, page, out));
                    peer_best = peer_best.min(peer.time);
                    peer_all.bytes += if round == 0 { peer.bytes } else { 0 };
                }
            }
            ours_all.time += if only == "peer" {
                Duration::ZERO
            } else {
                ours_best
            };
            peer_all.time += if only == "ours" {
                Duration::ZERO
            } else {
                peer_best
            };
        }
        println!("{file}: {} pages", pages.len());
        if only != "ours" {
            peer_all.print("zlib 1", pages.len());
        }
        if only != "peer" {
            ours_all.print("ours  ", pages.len());
        }
        if only.is_empty() {
            println!(
                "  {:.2} times as fast, {:.4} of the size",
                peer_all.time.as_secs_f64() / ours_all.time.as_secs_f64(),
                ours_all.bytes as f64 / peer_all.bytes as f64
            );
        }
    }
}
