// SPDX-License-Identifier: MIT OR Apache-2.0
//! `debug_mem_level`: how much of its memory the capture kernel shows.

use crate::files;
use crate::log;

/// The lines of `/proc/meminfo` that levels 1 and 2 show.
const FIRST: [&str; 3] = ["MemTotal", "MemFree", "MemAvailable"];
const SECOND: [&str; 6] = [
    "Slab",
    "SUnreclaim",
    "KernelStack",
    "PageTables",
    "Percpu",
    "Shmem",
];

/// Logs the state of the memory: at level 1 what is free, at 2 what the kernel took, at 3 everything it says.
pub fn show(level: u8, stage: &str) {
    if level == 0 {
        return;
    }
    let mut buffer = [0; 4096];
    let text = files::read_text(c"/proc/meminfo", &mut buffer).unwrap_or("");
    for line in lines(text, level) {
        log!("memory {stage}: {line}");
    }
}

fn lines(text: &str, level: u8) -> impl Iterator<Item = &str> {
    text.lines().filter(move |line| {
        let name = line.split(':').next().unwrap_or("");
        level >= 3 || FIRST.contains(&name) || (level == 2 && SECOND.contains(&name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_shows_more() {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let counts = [1, 2, 3].map(|level| lines(&text, level).count());
        assert_eq!((counts[0], counts[2]), (3, text.lines().count()));
        assert!(counts[1] > counts[0] && counts[1] < counts[2], "{counts:?}");
    }
}
