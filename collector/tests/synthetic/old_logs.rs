// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logs of kernels before 5.10: text in a ring, and records in a buffer that is used in turns.

use collector::dmesg::{self, Part, Summary};
use collector::{MEMORY_BYTES, OPEN_BYTES, Vmcore};

use crate::dmesg::read;
use crate::log_buffers::{Records, buffer, install_text, variable};
use crate::machine::{Config, File, Machine, MapKind, PAGE};
use crate::mixed::V6_1;

fn machine() -> Machine {
    let config = Config {
        map: MapKind::VmemmapSmall,
        ..V6_1
    };
    Machine::new(config, &[(0x100 * PAGE, 0x200 * PAGE)], 0x140..0x200)
}

/// A machine that has logged this text into a ring of 4 KiB, whose `log_end` is of so many bytes.
fn classic(text: &str, end_bytes: usize) -> (File, u64) {
    let mut machine = machine();
    let place = install_text(&mut machine, text, end_bytes);
    machine.finish();
    (machine.vmcore(), place)
}

#[test]
fn text_in_a_ring_is_copied_from_its_oldest_letter_on() {
    let line = |number: u32| format!("<6>[{number:5}.000000] line {number}\n");
    let short: String = (0..20).map(line).collect();
    let long: String = (0..400).map(line).collect();
    let (text, result) = read(classic(&short, 4).0);
    assert_eq!(text, short);
    assert_eq!(result.unwrap().records, 20);
    let (text, result) = read(classic(&long, 4).0);
    assert_eq!(text, long[long.len() - 4096..]);
    assert_eq!(result.unwrap().lost, 0);
}

#[test]
fn the_line_that_stopped_an_old_kernel_is_found() {
    let panic = "Kernel panic - not syncing: Fatal exception";
    for start in ["<0>", "<0>[   12.345678] ", ""] {
        let text = format!("<6>[    0.000000] Linux\n{start}{panic}\n<4>Pid: 1\n");
        let (_, result) = read(classic(&text, 4).0);
        assert_eq!(result.unwrap().panic_line, panic, "{start}");
    }
    // The last line need not be complete.
    let (_, result) = read(classic(&format!("<0>{panic}"), 4).0);
    assert_eq!(result.unwrap().panic_line, panic);
}

#[test]
fn the_end_was_a_long_until_2_6_24() {
    let text = "x\n".repeat(3000);
    let (mut file, _) = classic(&text, 8);
    // The release stands in VMCOREINFO, in the headers.
    let release = b"OSRELEASE=6.1.0-synthetic";
    let place = file.bytes[..file.headers_bytes as usize]
        .windows(release.len())
        .position(|window| window == release)
        .unwrap();
    file.bytes[place..][..release.len()].copy_from_slice(b"OSRELEASE=2.6.24-12345678");
    assert_eq!(read(file).0, "x\n".repeat(2048));
}

#[test]
fn a_page_of_the_ring_that_cannot_be_read_is_left_out() {
    let mut machine = machine();
    let text: Vec<u8> = b"0123456\n".repeat(2048);
    let place = buffer(&mut machine, &text);
    variable(&mut machine, "log_end", &(text.len() as u32).to_le_bytes());
    machine.finish();
    let mut file = machine.vmcore();
    let offset = file.offset_of(place + PAGE);
    file.unreadable.push((offset, offset + PAGE));
    let (text, result) = read(file);
    assert_eq!(text, "0123456\n".repeat(1536));
    assert_eq!(result.unwrap().lost, 1);
}

impl Records {
    fn file(&self, name: &str) -> File {
        let mut machine = machine();
        self.install(&mut machine, name);
        machine.finish();
        machine.vmcore()
    }
}

fn text_of(number: u64) -> String {
    format!(
        "record {number} {}",
        "y".repeat((number * 31 % 70) as usize)
    )
}

/// So many records of all lengths up to 90, some with a dictionary behind the text.
fn filled(count: u64, size: usize, header_bytes: usize) -> Records {
    let mut records = Records::new(size, header_bytes);
    for number in 0..count {
        let dictionary = ["", "SUBSYSTEM=pci\0DEVICE=+pci:0"][usize::from(number % 3 == 0)];
        records.put(number * 1_000_000, &text_of(number), dictionary);
    }
    records
}

fn lines(numbers: impl IntoIterator<Item = u64>) -> String {
    numbers
        .into_iter()
        .map(|number| {
            let micros = number * 1000;
            let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
            format!("[{seconds:5}.{rest:06}] {}\n", text_of(number))
        })
        .collect()
}

fn left(records: &Records) -> Vec<u64> {
    records
        .places
        .iter()
        .map(|place| place.1 / 1_000_000)
        .collect()
}

#[test]
fn records_are_lines_with_times() {
    let mut records = Records::new(4096, 16);
    records.put(1_234_567_890, "two\nlines", "A=b");
    records.put(123_456_000_999_000, "bell\x07 caf\u{e9}", "");
    let (text, result) = read(records.file("printk_log"));
    assert_eq!(
        text,
        "[    1.234567] two\n               lines\n[123456.000999] bell\\x07 caf\\xc3\\xa9\n"
    );
    let expected = Summary {
        bytes: text.len() as u64,
        records: 2,
        ..Summary::default()
    };
    assert_eq!(result.unwrap(), expected);
}

#[test]
fn a_buffer_that_went_round_begins_with_its_oldest_record() {
    for (name, header_bytes) in [("log", 16), ("printk_log", 16), ("printk_log", 20)] {
        for count in [5, 30, 200, 201, 202, 203, 204, 205, 1000] {
            let records = filled(count, 8192, header_bytes);
            let (text, result) = read(records.file(name));
            assert_eq!(text, lines(left(&records)), "{name} {header_bytes} {count}");
            assert_eq!(result.unwrap().lost, 0);
        }
    }
}

#[test]
fn a_damaged_record_costs_itself_and_not_what_follows() {
    for count in [30, 400] {
        let mut records = filled(count, 8192, 16);
        let numbers = left(&records);
        let (place, time) = records.places[10];
        records.bytes[place + 8] = 0xff;
        records.bytes[place + 9] = 0xff;
        let (text, result) = read(records.file("printk_log"));
        let kept = numbers
            .iter()
            .copied()
            .filter(|&number| number != time / 1_000_000);
        assert_eq!(text, lines(kept), "{count}");
        assert_eq!(result.unwrap().lost, 1);
    }
}

#[test]
fn wrong_ends_give_all_that_the_buffer_has() {
    let records = filled(400, 8192, 16);
    let mut machine = machine();
    records.install(&mut machine, "printk_log");
    for (key, value) in &mut machine.info {
        if key == "SYMBOL(log_first_idx)" {
            // No record begins there.
            *value = format!("{:x}", u64::from_str_radix(value, 16).unwrap() + 1);
        }
    }
    machine.finish();
    let mut expected: Vec<(usize, u64)> = records.places.clone();
    expected.sort_unstable();
    let (text, result) = read(machine.vmcore());
    // What was half overwritten may be there as well.
    for (_, time) in expected {
        assert!(text.contains(&lines([time / 1_000_000])), "{time}");
    }
    assert!(result.unwrap().lost > 0);
}

#[test]
fn only_what_came_after_the_log_was_cleared() {
    let records = filled(30, 8192, 16);
    let mut machine = machine();
    records.install(&mut machine, "printk_log");
    variable(
        &mut machine,
        "clear_idx",
        &(records.places[20].0 as u32).to_le_bytes(),
    );
    machine.finish();
    let mut open_memory = vec![0; OPEN_BYTES];
    let mut memory = vec![0; MEMORY_BYTES];
    let mut vmcore = Vmcore::open(machine.vmcore(), &mut open_memory).unwrap();
    let mut out = Vec::new();
    dmesg::write_part(&mut vmcore, Part::SinceClear, &mut memory, &mut |text| {
        out.extend(text);
        Ok(())
    })
    .unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), lines(20..30));
}

#[test]
fn every_flipped_byte_of_a_log_is_an_error_or_text() {
    let records = filled(60, 2048, 16);
    let mut machine = machine();
    let place = records.install(&mut machine, "printk_log");
    machine.finish();
    let file = machine.vmcore();
    let start = file.offset_of(place) as usize;
    for position in start..start + 2048 {
        let mut damaged = file.clone();
        damaged.bytes[position] ^= if position % 3 == 0 {
            0xff
        } else {
            1 << (position % 8)
        };
        let (text, result) = read(damaged);
        assert!(result.is_ok());
        assert!(text.len() < 3 * 2048, "{position:#x}");
    }
}
