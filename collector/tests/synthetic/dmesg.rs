// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log of machines whose log is known.

use collector::dmesg::{self, DmesgError, Summary};
use collector::{IoError, MEMORY_BYTES, OPEN_BYTES, Vmcore};

use crate::machine::{Config, File, Machine, MapKind, PAGE};
use crate::mixed::V6_12;
use crate::ring::{Entry, Ring};

const PLAIN: Ring = Ring {
    count_bits: 7,
    size_bits: 13,
    first_id: 0,
    first_position: 0,
    fills_end: false,
};

fn machine() -> Machine {
    let config = Config {
        map: MapKind::VmemmapSmall,
        ..V6_12
    };
    Machine::new(config, &[(0x100 * PAGE, 0x200 * PAGE)], 0x140..0x200)
}

pub(crate) fn file(ring: &Ring, entries: &[Entry]) -> (File, usize) {
    let mut machine = machine();
    let gone = ring.write(&mut machine, entries);
    machine.finish();
    (machine.vmcore(), gone)
}

pub(crate) fn read(file: File) -> (String, Result<Summary, DmesgError>) {
    let mut open_memory = vec![0; OPEN_BYTES];
    let mut memory = vec![0xaa; MEMORY_BYTES];
    let mut vmcore = Vmcore::open(file, &mut open_memory).unwrap();
    let mut out = Vec::new();
    let result = dmesg::write(&mut vmcore, &mut memory, &mut |text| {
        out.extend(text);
        Ok(())
    });
    (String::from_utf8(out).unwrap(), result)
}

fn log(ring: &Ring, entries: &[Entry]) -> (String, Summary) {
    let (text, result) = read(file(ring, entries).0);
    (text, result.unwrap())
}

/// Lines that tell their number, of all lengths up to 90.
fn numbered(count: u64) -> Vec<Entry> {
    (0..count)
        .map(|number| {
            let filler = "x".repeat((number * 37 % 83) as usize);
            Entry::new(number * 1_000_001_000, &format!("line {number} {filler}"))
        })
        .collect()
}

fn expected(entries: &[Entry]) -> String {
    entries
        .iter()
        .map(|entry| {
            let text = String::from_utf8(entry.text.clone()).unwrap();
            let micros = entry.time_ns / 1000;
            format!(
                "[{:5}.{:06}] {text}\n",
                micros / 1_000_000,
                micros % 1_000_000
            )
        })
        .collect()
}

#[test]
fn a_plain_log_is_lines_with_times() {
    let entries = [
        Entry::new(0, "Linux version 6.12"),
        Entry::new(1_234_567_890, "two\nlines"),
        Entry::new(123_456_000_999_000, "tab\there, bell\x07 there, caf\u{e9}"),
        Entry::new(123_457_000_000_000, ""),
    ];
    let (text, summary) = log(&PLAIN, &entries);
    assert_eq!(
        text,
        "[    0.000000] Linux version 6.12\n\
         [    1.234567] two\n               lines\n\
         [123456.000999] tab\there, bell\\x07 there, caf\\xc3\\xa9\n"
    );
    assert_eq!((summary.records, summary.bytes), (3, text.len() as u64));
    assert_eq!(summary.panic_line, "");
}

#[test]
fn a_ring_that_went_round_begins_with_its_oldest_record() {
    for first_position in [0, 8, 0x1ff8, 0x2000 - 64, u64::MAX - 0x1_0000_0000 - 7] {
        for fills_end in [false, true] {
            let ring = Ring {
                first_position,
                fills_end,
                ..PLAIN
            };
            let entries = numbered(400);
            let (file, gone) = file(&ring, &entries);
            assert!(gone > 200 && gone < 380, "{gone}");
            let (text, result) = read(file);
            assert_eq!(text, expected(&entries[gone..]), "{first_position:#x}");
            assert_eq!(result.unwrap().records, (400 - gone) as u64);
        }
    }
}

#[test]
fn a_block_that_ends_with_the_ring_is_not_lost() {
    let ring = Ring {
        size_bits: 12,
        first_position: 4096 - 64,
        fills_end: true,
        ..PLAIN
    };
    let entries = [
        Entry::new(1000, &"e".repeat(56)),
        Entry::new(2000, "at the start again"),
    ];
    assert_eq!(log(&ring, &entries).0, expected(&entries));
}

#[test]
fn ids_wrap_within_their_62_bits() {
    let ring = Ring {
        first_id: (1 << 62) - 50,
        ..PLAIN
    };
    let entries = numbered(90);
    assert_eq!(log(&ring, &entries).0, expected(&entries));
}

#[test]
fn records_that_were_being_written_are_left_out() {
    let mut entries = numbered(40);
    entries[7].state = 0;
    entries[8].state = 3;
    entries[39].state = 1;
    let (text, _) = log(&PLAIN, &entries);
    entries.drain(7..9);
    assert_eq!(text, expected(&entries));
}

#[test]
fn the_line_that_stopped_the_kernel_is_found() {
    let line = |texts: &[&str]| {
        let entries: Vec<Entry> = texts
            .iter()
            .map(|text| Entry::new(5_000_000, text))
            .collect();
        log(&PLAIN, &entries).1.panic_line.to_string()
    };
    let panic = "Kernel panic - not syncing: sysrq triggered crash";
    assert_eq!(
        line(&[
            "sysrq: Trigger a crash",
            panic,
            "CPU: 0 PID: 1",
            "Kernel panic - not syncing: 2"
        ]),
        panic
    );
    let bug = "BUG: kernel NULL pointer dereference, address: 0000000000000000";
    assert_eq!(
        line(&[
            "BUG: soft lockup, survived",
            bug,
            "#PF: x",
            "Oops: 0002 [#1] PREEMPT"
        ]),
        bug
    );
    assert_eq!(
        line(&["Oops: general protection fault, maybe [#1]"]),
        "Oops: general protection fault, maybe [#1]"
    );
    assert_eq!(line(&["says: Kernel panic - not syncing"]), "");
    let long = format!("BUG: {}\nsecond line", "\u{1}y".repeat(200));
    let kept = line(&[&long]);
    assert_eq!(kept.len(), 200);
    assert!(kept.starts_with("BUG: ?y?y"));
}

#[test]
fn an_output_that_fails_is_an_error() {
    let (file, _) = file(&PLAIN, &numbered(60));
    let mut open_memory = vec![0; OPEN_BYTES];
    let mut memory = vec![0; MEMORY_BYTES];
    let mut vmcore = Vmcore::open(file, &mut open_memory).unwrap();
    let result = dmesg::write(&mut vmcore, &mut memory, &mut |_| Err(IoError::NO_SPACE));
    assert_eq!(result, Err(DmesgError::Output(IoError::NO_SPACE)));
}

#[test]
fn a_kernel_without_the_ring_is_named() {
    let mut machine = machine();
    machine.finish();
    let (_, result) = read(machine.vmcore());
    let error = result.unwrap_err();
    assert!(matches!(error, DmesgError::MissingKey(_)), "{error:?}");
    assert!(error.to_string().contains("log_first_idx"), "{error}");
}

#[test]
fn a_ring_whose_variables_are_wrong_is_found_by_its_records() {
    for first_id in [0, 77, (1 << 62) - 150] {
        let ring = Ring { first_id, ..PLAIN };
        let entries = numbered(400);
        let mut machine = machine();
        let gone = ring.write(&mut machine, &entries);
        let pointer = machine
            .info
            .iter()
            .find(|(key, _)| key == "SYMBOL(prb)")
            .map(|(_, value)| u64::from_str_radix(value, 16).unwrap())
            .unwrap();
        machine.finish();
        let mut file = machine.vmcore();
        // The ring's first page is the one that was taken first; head_id and tail_id are at 24 and 32.
        let prb = file.offset_of(pointer - machine.direct(0)) as usize;
        let ring_address = u64::from_le_bytes(file.bytes[prb..prb + 8].try_into().unwrap());
        let variables = file.offset_of(ring_address - machine.direct(0)) as usize;
        file.bytes[variables + 24..variables + 40].fill(0x3c);
        let (text, result) = read(file);
        assert_eq!(text, expected(&entries[gone..]), "{first_id:#x}");
        assert_eq!(result.unwrap().lost, 1);
    }
}

#[test]
fn records_that_cannot_be_read_are_left_out_and_counted() {
    let entries = numbered(100);
    let mut machine = machine();
    let first_page = machine.take_page() + 1;
    assert_eq!(PLAIN.write(&mut machine, &entries), 0);
    machine.finish();
    let mut file = machine.vmcore();
    // The ring's variables take a page, 128 descriptors one, their infos three; then there is the text.
    let offset = file.offset_of((first_page + 5) * PAGE);
    file.unreadable.push((offset, offset + PAGE));
    let (text, result) = read(file);
    let summary = result.unwrap();
    assert!(summary.lost > 20, "{}", summary.lost);
    assert_eq!(summary.lost + summary.records, 100);
    let whole = expected(&entries);
    assert!(whole.ends_with(&text), "{text}");
}

#[test]
fn the_log_is_read_through_the_segments_when_page_tables_are_gone() {
    let entries = numbered(50);
    let mut machine = machine();
    PLAIN.write(&mut machine, &entries);
    machine.finish();
    machine
        .info
        .retain(|(key, _)| key != "SYMBOL(swapper_pg_dir)");
    assert_eq!(read(machine.vmcore()).0, expected(&entries));
}
