// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses of the first kernel's symbols, from its own table of them.
//!
//! Names are compressed: each is a length and as many bytes, and each byte stands for a text of one or more letters in
//! a table of 256. The first letter of a name is its kind, as `nm` prints it. They stand in the order of their
//! addresses, which are in a second table.
//!
//! The names that are asked for are few, so the table is gone through once and nothing is kept of it: a name whose first
//! byte cannot begin any of them costs one look.
//!
//! Source: Linux 6.1 and 6.12 `kernel/kallsyms.c`, `scripts/kallsyms.c`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::address::VirtAddr;
use crate::bytes::Abi;
use crate::stream::{ReadVirtual, Stream};
use crate::vmcoreinfo::Vmcoreinfo;

/// What [`find`] needs of memory.
pub(crate) const KALLSYMS_BYTES: usize = TOKENS_BYTES + WINDOW_BYTES;

/// The texts of all 256 bytes; in real kernels they have 1 KiB.
const TOKENS_BYTES: usize = 16 << 10;
const WINDOW_BYTES: usize = 32 << 10;
/// The most symbols that can be meant; a kernel with everything built in has some 300,000.
const MAX_SYMBOLS: u32 = 1 << 22;
/// The kernel's longest name has 512 letters, and no byte stands for none.
const MAX_NAME_BYTES: usize = 1024;
/// The symbol whose address VMCOREINFO has too: it shows how the table stores addresses.
const WITNESS: &str = "_stext";
/// The most names that can be asked for, the witness included.
const MAX_NAMES: usize = 32;

/// Finds the addresses of `names`. `None` stands for a name that the kernel does not have; of one that it has twice,
/// the lower address is taken.
///
/// # Errors
/// Why the table cannot be read.
pub(crate) fn find(
    abi: Abi,
    info: &Vmcoreinfo<'_>,
    read: ReadVirtual<'_>,
    memory: &mut [u8],
    names: &[&str],
    found: &mut [Option<VirtAddr>],
) -> Result<(), &'static str> {
    let tables = Tables::resolve(abi, info)?;
    let witness_address = info
        .symbol(WITNESS)
        .ok_or("VMCOREINFO has no SYMBOL(_stext)")?;
    let (texts, window) = memory
        .split_at_mut_checked(TOKENS_BYTES)
        .ok_or("too little memory is given")?;
    let tokens = Tokens::read(&tables, read, texts)?;
    let mut wanted: heapless::Vec<&str, MAX_NAMES> = heapless::Vec::new();
    wanted.push(WITNESS).map_err(|_| "too many names")?;
    wanted
        .extend_from_slice(names)
        .map_err(|_| "too many names")?;
    let mut numbers: [Option<u32>; MAX_NAMES] = [None; MAX_NAMES];

    let mut count = [0; 4];
    if !read(tables.count, &mut count) {
        return Err("the number of symbols cannot be read");
    }
    let count = abi
        .u32_at(&count, 0)
        .filter(|count| (1..=MAX_SYMBOLS).contains(count))
        .ok_or("the number of symbols cannot be right")?;
    tokens.search(
        &mut Stream::new(read, window, tables.names, u64::MAX),
        count,
        &wanted,
        &mut numbers,
    )?;

    let number = numbers[0].ok_or("there is no _stext in it")?;
    let scheme = [
        Scheme::AbsolutePercpu,
        Scheme::Relative,
        Scheme::Place,
        Scheme::Whole,
    ]
    .into_iter()
    .find(|scheme| tables.address(read, *scheme, number) == Some(witness_address))
    .ok_or("its addresses are stored in an unknown way")?;
    for (number, place) in numbers.iter().skip(1).zip(found) {
        *place = number.and_then(|number| tables.address(read, scheme, number));
    }
    Ok(())
}

/// How addresses are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// 32 bits: what is not negative is the address itself, of a per-CPU variable; the rest counts up from the base in
    /// negative numbers.
    AbsolutePercpu,
    /// 32 bits from the base on.
    Relative,
    /// 32 bits from the place of the number itself: since 7.0.
    Place,
    /// A word each: until 6.10, on some architectures.
    Whole,
}

/// Where the kernel's tables are.
struct Tables {
    abi: Abi,
    names: VirtAddr,
    count: VirtAddr,
    token_table: VirtAddr,
    token_index: VirtAddr,
    offsets: Option<VirtAddr>,
    base: Option<VirtAddr>,
    addresses: Option<VirtAddr>,
}

impl Tables {
    fn resolve(abi: Abi, info: &Vmcoreinfo<'_>) -> Result<Self, &'static str> {
        let symbol = |name| {
            info.symbol(name)
                .ok_or("VMCOREINFO does not say where it is")
        };
        Ok(Self {
            abi,
            names: symbol("kallsyms_names")?,
            count: symbol("kallsyms_num_syms")?,
            token_table: symbol("kallsyms_token_table")?,
            token_index: symbol("kallsyms_token_index")?,
            offsets: info.symbol("kallsyms_offsets"),
            base: info.symbol("kallsyms_relative_base"),
            addresses: info.symbol("kallsyms_addresses"),
        })
    }

    /// The address of the symbol of this number.
    fn address(&self, read: ReadVirtual<'_>, scheme: Scheme, number: u32) -> Option<VirtAddr> {
        let place = |table: Option<VirtAddr>, bytes: u64| {
            table?.checked_add(u64::from(number).checked_mul(bytes)?)
        };
        let word_bytes = self.abi.word_bytes();
        let mut word = [0; 8];
        let word = word.get_mut(..word_bytes)?;
        if scheme == Scheme::Whole {
            return read(
                place(self.addresses, u64::try_from(word_bytes).ok()?)?,
                word,
            )
            .then(|| self.abi.word_at(word, 0).map(VirtAddr))?;
        }
        let at = place(self.offsets, 4)?;
        let mut half = [0; 4];
        if !read(at, &mut half) {
            return None;
        }
        let raw = self.abi.u32_at(&half, 0)?;
        let signed = i64::from(raw.cast_signed());
        if scheme == Scheme::Place {
            return Some(VirtAddr(
                self.abi.truncate(at.0.wrapping_add_signed(signed)),
            ));
        }
        if !read(self.base?, word) {
            return None;
        }
        let base = self.abi.word_at(word, 0)?;
        let address = match scheme {
            Scheme::AbsolutePercpu if signed >= 0 => signed.cast_unsigned(),
            Scheme::AbsolutePercpu => base.wrapping_sub(1).wrapping_sub(signed.cast_unsigned()),
            _ => base.wrapping_add(u64::from(raw)),
        };
        Some(VirtAddr(self.abi.truncate(address)))
    }
}

/// The texts that the bytes of a name stand for.
struct Tokens<'a> {
    texts: &'a [u8],
    starts: [u16; 256],
}

impl<'a> Tokens<'a> {
    fn read(
        tables: &Tables,
        read: ReadVirtual<'_>,
        buf: &'a mut [u8],
    ) -> Result<Self, &'static str> {
        let mut index = [0; 512];
        if !read(tables.token_index, &mut index) {
            return Err("its index of tokens cannot be read");
        }
        let mut starts = [0; 256];
        for (number, start) in starts.iter_mut().enumerate() {
            *start = tables
                .abi
                .u16_at(&index, number.wrapping_mul(2))
                .unwrap_or(0);
        }
        // Behind the start of the last there is one text more, and it is short.
        let last = starts.iter().copied().max().unwrap_or(0);
        let bytes = usize::from(last).saturating_add(64);
        let texts = buf
            .get_mut(..bytes)
            .ok_or("its tokens are longer than any kernel's")?;
        if !read(tables.token_table, texts) {
            return Err("its tokens cannot be read");
        }
        Ok(Self { texts, starts })
    }

    /// The text that a byte stands for.
    fn text(&self, token: u8) -> &[u8] {
        let start = self
            .starts
            .get(usize::from(token))
            .map_or(0, |&start| usize::from(start));
        let text = self.texts.get(start..).unwrap_or_default();
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(0);
        text.get(..end).unwrap_or_default()
    }

    /// Whether the bytes stand for this name, behind the letter of its kind.
    fn spells(&self, bytes: &[u8], name: &str) -> bool {
        let mut rest = name.as_bytes();
        for (position, &byte) in bytes.iter().enumerate() {
            let mut text = self.text(byte);
            if position == 0 {
                text = text.get(1..).unwrap_or_default();
            }
            match rest.strip_prefix(text) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        rest.is_empty()
    }

    /// Goes through all names and notes the numbers of those that are wanted.
    fn search(
        &self,
        names: &mut Stream<'_, '_>,
        count: u32,
        wanted: &[&str],
        numbers: &mut [Option<u32>; MAX_NAMES],
    ) -> Result<(), &'static str> {
        // For each byte, whether a name that begins with it can be a wanted one, and how many letters it stands for.
        let mut begins = [false; 256];
        let mut lengths = [0_usize; 256];
        let bytes = (0..=u8::MAX).zip(begins.iter_mut().zip(&mut lengths));
        for (token, (begins, length)) in bytes {
            let text = self.text(token);
            *length = text.len();
            let text = text.get(1..).unwrap_or_default();
            *begins = wanted.iter().any(|name| {
                let name = name.as_bytes();
                name.get(..text.len().min(name.len())) == Some(text)
            });
        }
        let mut left = wanted.len();
        let mut number = 0;
        let mut least = 1;
        while number < count && left > 0 {
            // As many names at a time as the window has.
            let window = names
                .peek(least)
                .ok_or("its names end before their number is reached")?;
            let mut rest = window;
            while number < count
                && let Some((length, behind)) = name_length(rest)
            {
                if length == 0 || length > MAX_NAME_BYTES {
                    return Err("a name in it has an impossible length");
                }
                let Some((bytes, behind)) = behind.split_at_checked(length) else {
                    break;
                };
                rest = behind;
                let first = bytes.first().copied().unwrap_or(0);
                if begins.get(usize::from(first)).copied().unwrap_or(false) {
                    // With the letter of its kind.
                    let letters = bytes.iter().fold(0_usize, |sum, &byte| {
                        sum.wrapping_add(lengths.get(usize::from(byte)).copied().unwrap_or(0))
                    });
                    for (name, place) in wanted.iter().zip(numbers.iter_mut()) {
                        if name.len().wrapping_add(1) == letters
                            && place.is_none()
                            && self.spells(bytes, name)
                        {
                            *place = Some(number);
                            left = left.saturating_sub(1);
                            break;
                        }
                    }
                }
                number = number.saturating_add(1);
            }
            let taken = window.len().saturating_sub(rest.len());
            least = match taken {
                0 => window.len().saturating_add(1),
                _ => 1,
            };
            let _ = names.take(taken);
        }
        Ok(())
    }
}

/// The length in front of a name, and what is behind it: a byte, and with the top bit of that set a second one.
fn name_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [low, rest @ ..] if low & 0x80 == 0 => Some((usize::from(*low), rest)),
        [low, high, rest @ ..] => Some((usize::from(low & 0x7f) | (usize::from(*high) << 7), rest)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::as_conversions)]
pub(crate) mod tests {
    use super::*;

    const BASE: u64 = 0xffff_ffff_8200_0000;
    /// Where the tables are put, one behind the other.
    const TABLES: u64 = 0xffff_ffff_8280_0000;

    /// Tables in memory, and the VMCOREINFO that leads to them.
    pub(crate) struct Sample {
        pub(crate) memory: Vec<u8>,
        pub(crate) info: String,
    }

    /// The tables of these symbols: kind, name, address. Pairs of letters that are in the list of tokens are one byte.
    fn sample(scheme: Scheme, symbols: &[(char, &str, u64)]) -> Sample {
        const PAIRS: [&str; 6] = ["T_", "vm", "st", "_s", "D_", "at_"];
        let mut tokens: Vec<String> = (0..=255_u8)
            .map(|byte| char::from(byte).to_string())
            .collect();
        for (place, pair) in (0x80..).zip(PAIRS) {
            tokens[place] = pair.to_owned();
        }
        let mut names = Vec::new();
        for (kind, name, _) in symbols {
            let mut text = format!("{kind}{name}");
            let mut bytes = Vec::new();
            while !text.is_empty() {
                let pair = PAIRS.iter().position(|pair| text.starts_with(pair));
                let (byte, used) = match pair {
                    Some(pair) => (0x80 + pair, PAIRS[pair].len()),
                    None => (usize::from(text.as_bytes()[0]), 1),
                };
                bytes.push(byte as u8);
                text.drain(..used);
            }
            if bytes.len() > 0x7f {
                names.push(bytes.len() as u8 | 0x80);
                names.push((bytes.len() >> 7) as u8);
            } else {
                names.push(bytes.len() as u8);
            }
            names.extend(bytes);
        }
        let (mut table, mut index) = (Vec::new(), Vec::new());
        for token in &tokens {
            index.extend((table.len() as u16).to_le_bytes());
            // The token of the byte 0 has no text in a real table either.
            table.extend(token.bytes().filter(|&byte| byte != 0));
            table.push(0);
        }
        table.resize(table.len() + 64, 0);
        let mut memory = Vec::new();
        let mut info = String::new();
        let mut put = |name: &str, bytes: &[u8]| {
            memory.resize(memory.len().next_multiple_of(8), 0);
            let address = TABLES + memory.len() as u64;
            info += &format!("SYMBOL(kallsyms_{name})={address:x}\n");
            memory.extend(bytes);
            address
        };
        put("num_syms", &(symbols.len() as u32).to_le_bytes());
        put("names", &names);
        put("token_table", &table);
        put("token_index", &index);
        if scheme == Scheme::Whole {
            let whole: Vec<u8> = symbols
                .iter()
                .flat_map(|symbol| symbol.2.to_le_bytes())
                .collect();
            put("addresses", &whole);
        } else {
            let place = put("relative_base", &BASE.to_le_bytes()) + 8;
            let halves: Vec<u8> = (0_u64..)
                .zip(symbols)
                .flat_map(|(number, &(.., address))| {
                    let half = match scheme {
                        Scheme::AbsolutePercpu if address < 1 << 31 => address,
                        Scheme::AbsolutePercpu => (BASE - 1).wrapping_sub(address),
                        Scheme::Relative => address - BASE,
                        _ => address.wrapping_sub(place + number * 4),
                    };
                    (half as u32).to_le_bytes()
                })
                .collect();
            assert_eq!(put("offsets", &halves), place);
        }
        info += &format!("SYMBOL(_stext)={:x}\n", BASE + 0x1000);
        Sample { memory, info }
    }

    fn symbols() -> Vec<(char, &'static str, u64)> {
        vec![
            ('T', "_text", BASE),
            ('T', "_stext", BASE + 0x1000),
            ('T', "_stext_not", BASE + 0x1001),
            ('t', "vm_st", BASE + 0x1002),
            ('D', "vm_node_stat", BASE + 0x20_0000),
            ('d', "vm_node_stat", BASE + 0x20_0008),
            ('R', "__start_BTF", BASE + 0x30_0000),
        ]
    }

    const ASKED: [&str; 4] = ["__start_BTF", "vm_node_stat", "vm_node", "missing"];

    fn ask(sample: &Sample) -> Result<[Option<u64>; 4], &'static str> {
        let mut read = |address: VirtAddr, buf: &mut [u8]| {
            // Behind the tables there is more of the image.
            let Some(start) = address.0.checked_sub(TABLES) else {
                return false;
            };
            let Ok(start) = usize::try_from(start) else {
                return false;
            };
            for (place, byte) in (start..).zip(buf) {
                *byte = sample.memory.get(place).copied().unwrap_or(0);
            }
            start < sample.memory.len()
        };
        let mut found = [None; 4];
        let mut memory = vec![0xaa; KALLSYMS_BYTES];
        find(
            Abi::LITTLE_64,
            &Vmcoreinfo::new(sample.info.as_bytes()),
            &mut read,
            &mut memory,
            &ASKED,
            &mut found,
        )?;
        Ok(found.map(|address| address.map(|address| address.0)))
    }

    #[test]
    fn addresses_are_found_however_they_are_stored() {
        for scheme in [
            Scheme::AbsolutePercpu,
            Scheme::Relative,
            Scheme::Place,
            Scheme::Whole,
        ] {
            let found = ask(&sample(scheme, &symbols()));
            let expected = [Some(BASE + 0x30_0000), Some(BASE + 0x20_0000), None, None];
            assert_eq!(found, Ok(expected), "{scheme:?}");
        }
    }

    #[test]
    fn long_names_have_lengths_of_two_bytes() {
        let long = "x".repeat(400);
        let mut symbols = symbols();
        symbols.insert(0, ('t', &long, BASE));
        let found = ask(&sample(Scheme::Relative, &symbols)).unwrap();
        assert_eq!(found[0], Some(BASE + 0x30_0000));
    }

    #[test]
    fn a_table_that_does_not_know_the_kernels_beginning_is_not_used() {
        let mut symbols = symbols();
        symbols[1].2 += 8;
        assert!(ask(&sample(Scheme::Relative, &symbols)).is_err());
        symbols.remove(1);
        assert!(ask(&sample(Scheme::Relative, &symbols)).is_err());
        let mut sample = sample(Scheme::Relative, &self::symbols());
        sample.info = sample.info.replace("_stext", "_other");
        assert!(ask(&sample).is_err());
    }

    #[test]
    fn every_truncation_and_flipped_byte_is_an_answer_or_an_error() {
        let whole = sample(Scheme::AbsolutePercpu, &symbols());
        for length in 0..whole.memory.len() {
            let _ = ask(&Sample {
                memory: whole.memory[..length].to_vec(),
                info: whole.info.clone(),
            });
        }
        let mut flipped = whole;
        for place in 0..flipped.memory.len() {
            for mask in [1, 0x80, 0xff] {
                flipped.memory[place] ^= mask;
                let _ = ask(&flipped);
                flipped.memory[place] ^= mask;
            }
        }
    }
}
