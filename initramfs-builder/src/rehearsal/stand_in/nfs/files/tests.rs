// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls as a client makes them, and what becomes of the folder.

use super::super::rpc::tests::{body, call, words};
use super::*;

const SECRET: Secret = [0x5a; 16];

struct Client {
    files: Files,
    root: PathBuf,
}

impl Client {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("nfs-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let files = Files::new(root.clone(), "/export".to_owned(), SECRET);
        Self { files, root }
    }

    /// The answer's status and what is behind it; else the protocol's refusal.
    fn call(&mut self, procedure: u32, arguments: &Answer) -> Result<(u32, Vec<u8>), u32> {
        let record = call(NFS, VERSION, procedure, arguments);
        let body = body(&record, &mut |call, answer| self.files.answer(call, answer))?;
        let (status, rest) = body.split_first_chunk().unwrap();
        Ok((u32::from_be_bytes(*status), rest.to_vec()))
    }

    /// The handle that a procedure answers with as the first thing, or behind a word.
    fn handle(&mut self, procedure: u32, arguments: &Answer, skip: usize) -> Vec<u8> {
        let (status, rest) = self.call(procedure, arguments).unwrap();
        assert_eq!(status, 0, "procedure {procedure}");
        words(&rest[skip..]).bytes().unwrap().to_vec()
    }

    fn root_handle(&mut self) -> Vec<u8> {
        let mut path = Answer::default();
        path.bytes(b"/export");
        let record = call(MOUNT, VERSION, 1, &path);
        let body = body(&record, &mut |call, answer| self.files.answer(call, answer)).unwrap();
        assert_eq!(body[..4], [0; 4]);
        words(&body[4..]).bytes().unwrap().to_vec()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn at(handle: &[u8], name: &str) -> Answer {
    let mut arguments = Answer::default();
    arguments.bytes(handle);
    arguments.bytes(name.as_bytes());
    arguments
}

/// With this mode, and nothing else.
fn with_mode(mut arguments: Answer, mode: u32) -> Answer {
    for word in [1, mode, 0, 0, 0, 0, 0] {
        arguments.u32(word);
    }
    arguments
}

fn created(client: &mut Client, folder: &[u8], name: &str) -> Vec<u8> {
    let mut arguments = at(folder, name);
    arguments.u32(2);
    arguments.u64(99);
    client.handle(8, &arguments, 4)
}

fn writing(file: &[u8], offset: u64, bytes: &[u8]) -> Answer {
    let mut arguments = Answer::default();
    arguments.bytes(file);
    arguments.u64(offset);
    arguments.u32(u32::try_from(bytes.len()).unwrap());
    arguments.u32(0);
    arguments.bytes(bytes);
    arguments
}

#[test]
fn a_dump_is_written_renamed_with_its_folder_and_read_back() {
    let mut client = Client::new("dump");
    let root = client.root_handle();
    let folder = client.handle(9, &with_mode(at(&root, "var"), 0o700), 4);
    let file = created(&mut client, &folder, "vmcore-incomplete");
    // A second one of that name is refused.
    let mut again = at(&folder, "vmcore-incomplete");
    again.u32(2);
    again.u64(98);
    assert_eq!(client.call(8, &again).unwrap().0, 17);
    assert_eq!(client.call(7, &writing(&file, 3, b"def")).unwrap().0, 0);
    assert_eq!(client.call(7, &writing(&file, 0, b"abc")).unwrap().0, 0);
    let mut commit = Answer::default();
    commit.bytes(&file);
    commit.u64(0);
    commit.u32(0);
    let (status, rest) = client.call(21, &commit).unwrap();
    assert_eq!((status, &rest[rest.len() - 8..]), (0, &VERIFIER[..]));
    for (from, to, source, target) in [
        (&folder, &folder, "vmcore-incomplete", "vmcore"),
        (&root, &root, "var", "other"),
    ] {
        let mut arguments = at(from, source);
        arguments.append(&at(to, target));
        assert_eq!(client.call(14, &arguments).unwrap().0, 0);
    }
    // A second name for it, unless another file has that.
    for (name, status) in [("linked", 0), ("vmcore", 17)] {
        let mut arguments = Answer::default();
        arguments.bytes(&file);
        arguments.append(&at(&folder, name));
        assert_eq!(client.call(15, &arguments).unwrap().0, status);
    }
    assert_eq!(client.call(12, &at(&folder, "linked")).unwrap().0, 0);
    assert_eq!(
        fs::read(client.root.join("other/vmcore")).unwrap(),
        b"abcdef"
    );
    // The handle is the file's, wherever it is.
    let mut reading = Answer::default();
    reading.bytes(&file);
    reading.u64(2);
    reading.u32(100);
    let (status, rest) = client.call(6, &reading).unwrap();
    let mut words = words(&rest[4 + 84..]);
    assert_eq!(status, 0);
    assert_eq!((words.u32(), words.u32()), (Ok(4), Ok(1)));
    assert_eq!(words.bytes(), Ok(&b"cdef"[..]));
}

#[test]
fn a_folder_is_listed_in_pieces_and_each_file_once() {
    let mut client = Client::new("list");
    let root = client.root_handle();
    for number in 0..20 {
        fs::write(client.root.join(format!("file-{number:02}")), "").unwrap();
    }
    let (mut place, mut names) = (0, Vec::new());
    loop {
        let mut arguments = Answer::default();
        arguments.bytes(&root);
        arguments.u64(place);
        arguments.u64(0);
        arguments.u32(400);
        let (status, rest) = client.call(16, &arguments).unwrap();
        assert_eq!(status, 0);
        assert!(rest.len() <= 400, "{}", rest.len());
        let mut words = words(&rest[4 + 84 + 8..]);
        while words.u32() == Ok(1) {
            words.u64().unwrap();
            names.push(String::from_utf8(words.bytes().unwrap().to_vec()).unwrap());
            place = words.u64().unwrap();
        }
        // What is removed meanwhile moves nothing.
        let _ = fs::remove_file(client.root.join(names.last().unwrap()));
        if words.u32() == Ok(1) {
            break;
        }
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 22, "{names:?}");
}

#[test]
fn what_nobody_was_told_opens_nothing_and_no_name_leads_out() {
    let mut client = Client::new("closed");
    let mut path = Answer::default();
    path.bytes(b"/");
    let record = call(MOUNT, VERSION, 1, &path);
    let refused = body(&record, &mut |call, answer| {
        client.files.answer(call, answer)
    });
    assert_eq!(refused, Ok(NO_SUCH_EXPORT.to_be_bytes().to_vec()));
    let root = client.root_handle();
    let mut guessed = root.clone();
    guessed[3] ^= 1;
    for (handle, status) in [
        (&guessed[..], BAD_HANDLE),
        (&root[..20], BAD_HANDLE),
        (&[&root[..23], &[9]].concat(), STALE),
    ] {
        assert_eq!(client.call(3, &at(handle, "x")).unwrap().0, status);
    }
    for name in ["..", ".", "", "../x", "a/b", "a\0b"] {
        assert_eq!(client.call(3, &at(&root, name)).unwrap().0, 22, "{name:?}");
    }
    // Nor a link that somebody else made.
    fs::write(client.root.with_extension("outside"), "secret").unwrap();
    std::os::unix::fs::symlink(
        client.root.with_extension("outside"),
        client.root.join("link"),
    )
    .unwrap();
    let link = client.handle(3, &at(&root, "link"), 0);
    let mut reading = Answer::default();
    reading.bytes(&link);
    reading.u64(0);
    reading.u32(100);
    assert_ne!(client.call(6, &reading).unwrap().0, 0);
    fs::remove_file(client.root.with_extension("outside")).unwrap();
}

#[test]
fn every_truncation_and_every_flipped_byte_of_every_call_is_answered() {
    let mut client = Client::new("cut");
    let root = client.root_handle();
    for procedure in 0..24 {
        let file = created(&mut client, &root, &format!("file-{procedure}"));
        let mut whole = with_mode(at(&file, "name"), 0o600);
        whole.append(&at(&root, "other"));
        whole.fixed(&[0xff; 64]);
        let record = call(NFS, VERSION, procedure, &whole);
        let head = call(NFS, VERSION, procedure, &Answer::default()).len();
        let mut is_answered = |record: &[u8]| {
            let answered = body(record, &mut |call, answer| {
                client.files.answer(call, answer)
            });
            assert!(matches!(answered, Ok(_) | Err(3 | 4)), "{answered:?}");
        };
        for place in head..=record.len() {
            is_answered(&record[..place]);
        }
        for place in head..record.len() {
            for bits in [1, 0x80, 0xff] {
                let mut flipped = record.clone();
                flipped[place] ^= bits;
                is_answered(&flipped);
            }
        }
    }
}

#[test]
fn other_programs_and_versions_are_told_so() {
    let mut client = Client::new("others");
    for (program, version, refusal) in [(100_227, 3, 1), (NFS, 4, 2), (MOUNT, 1, 2)] {
        let record = call(program, version, 0, &Answer::default());
        let answered = body(&record, &mut |call, answer| {
            client.files.answer(call, answer)
        });
        assert_eq!(answered, Err(refusal), "{program} {version}");
    }
    assert_eq!(
        client.call(17, &Answer::default()).unwrap().0,
        NOT_SUPPORTED
    );
}
