// SPDX-License-Identifier: MIT OR Apache-2.0
//! The notes of a core: name, type and content, each padded to 4 bytes.
//!
//! Source: gABI 4.1, chapter 5, "Note Section".

use super::vmcoreinfo::VmcoreInfo;

/// One note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// Who defined the type, without the closing zero.
    pub name: &'a [u8],
    /// What the content is.
    pub kind: u32,
    /// The content.
    pub content: &'a [u8],
}

/// The note's type that holds one CPU's registers.
pub const NT_PRSTATUS: u32 = 1;

/// All notes of the area, up to the first that does not fit in it.
#[must_use]
pub fn parse(area: &[u8]) -> Vec<Note<'_>> {
    let mut notes = Vec::new();
    let mut rest = area;
    while let Some((note, behind)) = first(rest) {
        // A null note ends an area that is longer than its notes.
        if note.name.is_empty() && note.content.is_empty() {
            break;
        }
        notes.push(note);
        rest = behind;
    }
    notes
}

fn first(area: &[u8]) -> Option<(Note<'_>, &[u8])> {
    let word = |index: usize| -> Option<u32> {
        let bytes = area.get(index * 4..index * 4 + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let name_size = word(0)? as usize;
    let content_size = word(1)? as usize;
    let name = area.get(12..12 + name_size)?;
    let content_at = 12 + name_size.next_multiple_of(4);
    let content = area.get(content_at..content_at + content_size)?;
    let behind = (content_at + content_size.next_multiple_of(4)).min(area.len());
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    let note = Note {
        name,
        kind: word(2)?,
        content,
    };
    Some((note, &area[behind..]))
}

/// The facts of the note that the kernel calls VMCOREINFO, where there is one.
#[must_use]
pub fn vmcoreinfo(area: &[u8]) -> Option<VmcoreInfo> {
    let notes = parse(area);
    let note = notes.iter().find(|note| note.name == b"VMCOREINFO")?;
    Some(VmcoreInfo::parse(note.content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_belongs_to_no_note() {
        let mut area = Vec::new();
        for (name, kind, content) in [
            (&b"CORE\0"[..], 1u32, &b"abcde"[..]),
            (b"VMCOREINFO\0", 0, b"OSRELEASE=6\n"),
        ] {
            area.extend((name.len() as u32).to_le_bytes());
            area.extend((content.len() as u32).to_le_bytes());
            area.extend(kind.to_le_bytes());
            area.extend(name);
            area.resize(area.len().next_multiple_of(4), 0);
            area.extend(content);
            area.resize(area.len().next_multiple_of(4), 0);
        }
        area.extend([0; 64]);
        let notes = parse(&area);
        assert_eq!(notes.len(), 2);
        assert_eq!(
            (notes[0].name, notes[0].kind, notes[0].content),
            (&b"CORE"[..], NT_PRSTATUS, &b"abcde"[..])
        );
        assert_eq!(vmcoreinfo(&area).unwrap().text("OSRELEASE"), Some("6"));
        assert_eq!(parse(&area[..14]), []);
    }
}
