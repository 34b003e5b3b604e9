// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page encoder beside C zlib as makedumpfile uses it, on real pages: `cargo bench --bench zlib -- FILE…`.
//!
//! A file is cut into pages of 4 KiB, whose zero pages are left out, as a dump leaves them out. Each page is one call.
//! Time is this process's CPU time, the best of three rounds; only ratios carry from one machine to another. Both
//! outputs count as a page where they are not shorter than it.

#![allow(missing_docs, reason = "a benchmark")]

use collector::codec::zlib::Encoder;
use flate2::{Compress, Compression, FlushCompress};
use std::hint::black_box;
use std::time::Instant;

const PAGE: usize = 4096;

struct Result {
    seconds: f64,
    out_bytes: u64,
}

fn measure(pages: &[&[u8]], mut compress: impl FnMut(&[u8], &mut [u8]) -> Option<usize>) -> Result {
    let mut out = [0; PAGE + 64];
    let mut best = f64::INFINITY;
    let mut out_bytes = 0;
    for _ in 0..rounds() {
        out_bytes = 0;
        let start = Instant::now();
        for page in pages {
            let bytes = compress(black_box(page), &mut out).filter(|&bytes| bytes < PAGE);
            out_bytes += bytes.unwrap_or(PAGE) as u64;
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    Result {
        seconds: best,
        out_bytes,
    }
}

/// compress2(level 1): a state for each call.
fn c_zlib(page: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut zlib = Compress::new(Compression::new(1), true);
    match zlib.compress(page, out, FlushCompress::Finish) {
        Ok(flate2::Status::StreamEnd) => usize::try_from(zlib.total_out()).ok(),
        _ => None,
    }
}

fn main() {
    let files = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"));
    let only = std::env::var("ONLY").unwrap_or_default();
    for file in files {
        let bytes = std::fs::read(&file).expect("the file can be read");
        let pages: Vec<&[u8]> = bytes
            .chunks_exact(PAGE)
            .filter(|page| page.iter().any(|&byte| byte != 0))
            .collect();
        let mut encoder = Encoder::new();
        let megabytes = (pages.len() * PAGE) as f64 / 1e6;
        println!("{file}: {} pages", pages.len());
        let mut c = None;
        if only != "ours" {
            let r = measure(&pages, c_zlib);
            println!(
                "  C zlib 1: {:7.1} MB/s  {:5.2} %",
                megabytes / r.seconds,
                r.out_bytes as f64 / megabytes / 1e4
            );
            c = Some(r);
        }
        if only != "c" {
            let r = measure(&pages, |page, out| encoder.compress(page, out));
            print!(
                "  ours:     {:7.1} MB/s  {:5.2} %",
                megabytes / r.seconds,
                r.out_bytes as f64 / megabytes / 1e4
            );
            if let Some(c) = c {
                print!(
                    "   {:.2} times as fast, {:.4} of the size",
                    c.seconds / r.seconds,
                    r.out_bytes as f64 / c.out_bytes as f64
                );
            }
            println!();
        }
    }
}

fn rounds() -> usize {
    std::env::var("ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(3)
}
