// SPDX-License-Identifier: MIT OR Apache-2.0
//! What LUKS encrypted: whether the image has the volume key of it, and what the capture kernel needs to use that.

use super::Work;
use super::secret::others_may;
use crate::conf::{KeySource, VolumeKey};
use crate::host::{Device, Maker, read_luks};
use crate::modules::closure::Want;
use config::luks::MOST_KEY_BYTES;
use std::fs;
use std::path::Path;
use targets::layer::luks::Header;
use targets::layer::with_active_key;

/// The kind of a device that LUKS encrypted, as `blkid` has it.
const LUKS: &str = "crypto_LUKS";

/// A LUKS device that the capture kernel may open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// The device with the header.
    node: String,
    header: Header,
    key: Vec<u8>,
    line: u32,
    is_used: bool,
}

/// A LUKS device as its header describes it, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Encrypted {
    pub(super) header: Header,
    pub(super) digest: String,
    pub(super) key_bytes: usize,
}

/// What a mapping of the device mapper has in its UUID when `cryptsetup` made it of a LUKS device.
pub(super) fn is_luks(mapping: &str) -> bool {
    ["CRYPT-LUKS1-", "CRYPT-LUKS2-"]
        .iter()
        .any(|kind| mapping.starts_with(kind))
}

impl Work<'_> {
    /// Reads the volume keys that the configuration wants in the image.
    pub(super) fn take_volume_keys(&mut self) {
        let directives = self.directives;
        for at in &directives.volume_keys {
            match self.volume_key(&at.value, at.line) {
                Ok(opened) => self.opened.push(opened),
                Err(message) => {
                    self.mistake(at.line, format!("`luks_volume_key`: {message}"));
                }
            }
        }
    }

    fn volume_key(&mut self, wanted: &VolumeKey, line: u32) -> Result<Opened, String> {
        let name = &wanted.device;
        let devices = self.host.devices_of_tag(&name.to_string());
        let device = match devices.as_slice() {
            [device] => *device,
            [] => return Err(format!("there is no {name}; {}", self.seen())),
            [one, other, ..] => {
                return Err(format!(
                    "{name} is on {} and {}; name the one by its node",
                    one.node, other.node
                ));
            }
        };
        let node = &device.node;
        if device.kind() != Some(LUKS) {
            return Err(format!(
                "{node} has no LUKS header that can be read, but is {}; name the encrypted device, as `cryptsetup status` has it",
                device.kind().unwrap_or("of no known kind")
            ));
        }
        let header = read_luks(&self.host.inside(node))
            .map_err(|message| format!("{node}: {message}; a target of its own is needed"))?;
        let key = match &wanted.source {
            KeySource::File(file) => self.key_of_file(file, node)?,
            KeySource::Active => self.active_key(device)?,
        };
        let from = match &wanted.source {
            KeySource::File(file) => file.as_str(),
            KeySource::Active => "what the active mapping has",
        };
        match header.digest.is_of(&key) {
            Some(true) => {}
            Some(false) => {
                return Err(format!(
                    "{from} is not the volume key of {node}: its header knows another, as after `cryptsetup reencrypt`; {}",
                    remedy(&wanted.source, node, "rm FILE && ")
                ));
            }
            None => self.warnings.push(format!(
                "whether {from} is the volume key of {node} cannot be told by its header, which has an unusual digest"
            )),
        }
        Ok(Opened {
            node: node.clone(),
            header,
            key,
            line,
            is_used: false,
        })
    }

    fn key_of_file(&self, file: &str, node: &str) -> Result<Vec<u8>, String> {
        let source = KeySource::File(file.to_owned());
        let remedy = remedy(&source, node, "");
        let path = self.host.inside(file);
        // A key is a few bytes; what is larger is read no further than to see that.
        let length = fs::metadata(&path).map_or(0, |found| found.len());
        if length > MOST_KEY_BYTES as u64 {
            return Err(format!(
                "{file} has {length} bytes, and no volume key has more than {MOST_KEY_BYTES}; {remedy}"
            ));
        }
        let key = fs::read(&path)
            .map_err(|error| format!("reading the volume key {file}: {error}; {remedy}"))?;
        if key.is_empty() || key.len() > MOST_KEY_BYTES {
            return Err(format!("{file} has no volume key; {remedy}"));
        }
        if let Some(mode) = others_may(&path) {
            return Err(format!(
                "the volume key {file} can be read or changed by others (its mode is {mode:04o}), who may have it by now; \
                 encrypt the device anew (`cryptsetup reencrypt {node}`), or, where nobody could, `chmod 600 {file}`"
            ));
        }
        Ok(key)
    }

    /// The key of the mapping that is active on this machine.
    fn active_key(&self, device: &Device) -> Result<Vec<u8>, String> {
        let node = &device.node;
        let instead = format!("instead {}", remedy(&KeySource::Active, node, ""));
        if self.host.root != Path::new("/") {
            return Err(format!(
                "`active` is for the machine at hand, and this is a described one; {instead}"
            ));
        }
        let mapping = self.host.devices.iter().find_map(|mapping| {
            let made = mapping.made.as_ref()?;
            match &made.by {
                Maker::Mapper { name, uuid } if is_luks(uuid) && made.of.contains(node) => {
                    Some(name)
                }
                _ => None,
            }
        });
        let mapping =
            mapping.ok_or_else(|| format!("no mapping of {node} is active; {instead}"))?;
        let mut key = Vec::new();
        with_active_key("/dev", mapping, &mut |bytes| key.extend_from_slice(bytes))
            .map_err(|error| format!("the volume key of {mapping}: {error}; {instead}"))?;
        Ok(key)
    }

    /// Refuses what LUKS encrypted when the image has no key of it. `parts` is what the mapping is on.
    pub(super) fn check_luks(
        &self,
        mapping: &Device,
        name: &str,
        parts: &[&Device],
    ) -> Result<(), String> {
        let node = &mapping.node;
        let [part] = parts else {
            return Err(format!("{node} ({name}) is on more than one device"));
        };
        let is_it = |opened: &&Opened| opened.node == part.node;
        if let Some(opened) = self.opened.iter().find(is_it) {
            let cipher = opened.header.cipher.to_string();
            return algorithms(&cipher)
                .map(|_| ())
                .map_err(|message| format!("{node} ({name}): {message}"));
        }
        let directives = &self.directives.volume_keys;
        let wish = directives.iter().find(|at| {
            let named = self.host.devices_of_tag(&at.value.device.to_string());
            named.iter().any(|device| device.node == part.node)
        });
        if let Some(at) = wish {
            return Err(format!(
                "{node} ({name}) is encrypted (dm-crypt), and `luks_volume_key` in line {} gives no key",
                at.line
            ));
        }
        let refused = format!(
            "{node} ({name}) is encrypted (dm-crypt), and the capture kernel has no key for it; a dump has all the secrets that \
             encryption keeps, so a target of its own is needed: a partition, `nfs` or `ssh`"
        );
        let Some(uuid) = part.uuid().filter(|_| part.kind() == Some(LUKS)) else {
            return Err(format!(
                "{refused}; {} shows no LUKS header, without which its key cannot be taken along either",
                part.node
            ));
        };
        Err(format!(
            "{refused}; or, by explicit wish, `luks_volume_key UUID={uuid} FILE` has the image open it, and whoever can read \
             the image: `cryptsetup luksDump --dump-volume-key --volume-key-file FILE {}` writes that file",
            part.node
        ))
    }

    /// The LUKS device below a mapping, with what the capture kernel needs to open it.
    pub(super) fn encrypted(&mut self, part: &Device, by: &str) -> Option<Encrypted> {
        let opened = self
            .opened
            .iter_mut()
            .find(|opened| opened.node == part.node)?;
        opened.is_used = true;
        let encrypted = Encrypted {
            header: opened.header.clone(),
            digest: opened.header.digest.to_string(),
            key_bytes: opened.key.len(),
        };
        let cipher = opened.header.cipher.to_string();
        for module in ["dm_mod", "dm_crypt"] {
            self.need(Want::Name(module.to_owned()), by.to_owned());
        }
        let algorithms = algorithms(&cipher).unwrap_or_default();
        for algorithm in &algorithms {
            self.need(Want::Algorithm(algorithm.clone()), by.to_owned());
        }
        for module in self.accelerators(&algorithms) {
            self.need(Want::Faster(module), by.to_owned());
        }
        Some(encrypted)
    }

    /// The modules that do these algorithms on the running machine: those of its processor, where it has them.
    fn accelerators(&self, algorithms: &[String]) -> Vec<String> {
        let text = self.host.text("/proc/crypto").unwrap_or_default();
        let mut modules: Vec<String> = Vec::new();
        for block in text.split("\n\n") {
            let value = |key: &str| {
                block.lines().find_map(|line| {
                    let (found, value) = line.split_once(':')?;
                    (found.trim() == key).then(|| value.trim())
                })
            };
            // `aes`, and `xts(aes)`.
            let is_wanted = value("name").is_some_and(|name| {
                name.trim_end_matches(')')
                    .split('(')
                    .all(|part| algorithms.iter().any(|wanted| wanted == part))
            });
            if let Some(module) = value("module").filter(|&module| is_wanted && module != "kernel")
                && !modules.iter().any(|known| known == module)
            {
                modules.push(module.to_owned());
            }
        }
        modules
    }

    /// The keys that the plan needs, each with its device's UUID; and warnings of what that means.
    pub(super) fn used_keys(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut keys = Vec::new();
        for opened in &self.opened {
            let place = format!("{}:{}", self.directives.file, opened.line);
            let node = &opened.node;
            if opened.is_used {
                keys.push((opened.header.uuid.to_string(), opened.key.clone()));
                self.warnings.push(format!(
                    "{place}: the image has the volume key of {node}: whoever can read the image can read that disk; keep it \
                     where only root can, on an encrypted file system, which /boot often is not"
                ));
            } else {
                self.warnings.push(format!(
                    "{place}: `luks_volume_key` has no effect: nothing of the plan is on {node}, and its key stays out"
                ));
            }
        }
        keys
    }
}

/// What writes a file with the key that can be used.
fn remedy(source: &KeySource, node: &str, before: &str) -> String {
    let file = match source {
        KeySource::File(file) => file.as_str(),
        KeySource::Active => "FILE",
    };
    format!(
        "`{}cryptsetup luksDump --dump-volume-key --volume-key-file {file} {node}` writes it",
        before.replace("FILE", file)
    )
}

/// What the kernel's crypto layer calls the parts of a cipher in dm-crypt's words: `aes-xts-plain64`, `aes-cbc-essiv:sha256`.
///
/// Source: Linux 6.12 `drivers/md/dm-crypt.c`, `crypt_ctr_cipher_old` and `crypt_ctr_ivmode`; `crypto/adiantum.c`.
fn algorithms(cipher: &str) -> Result<Vec<String>, String> {
    let words: Vec<&str> = cipher.split('-').collect();
    let [ciphers, mode, iv] = words.as_slice() else {
        return Err(format!(
            "its cipher `{cipher}` is not supported; accepted are such as aes-xts-plain64"
        ));
    };
    let mut names: Vec<&str> = ciphers.split(',').collect();
    names.push(mode);
    if *mode == "adiantum" {
        names.push("nhpoly1305");
    }
    match iv.split_once(':') {
        None if matches!(*iv, "plain" | "plain64" | "plain64be" | "benbi" | "null") => {}
        Some(("essiv", hash)) => names.extend(["essiv", hash]),
        _ => {
            return Err(format!(
                "its cipher `{cipher}` has the initialisation vector `{iv}`, which is not supported; accepted are plain, \
                 plain64, plain64be, benbi, null and essiv"
            ));
        }
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{Resolved, resolve};
    use super::algorithms;
    use crate::conf;
    use crate::host::tests::Tree;
    use crate::modules::closure::Want;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    const UUID: &str = "0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11";
    /// PBKDF2-HMAC-SHA256 of the bytes 0 to 31 with a salt of 32 bytes 7, 1000 rounds, by Python's hashlib.
    const DIGEST: [u8; 20] = [
        0x57, 0xcb, 0x56, 0x95, 0xb2, 0xa6, 0xae, 0x61, 0xc0, 0x06, 0x0a, 0xa7, 0x29, 0x29, 0xd0,
        0x82, 0x22, 0x94, 0x83, 0x6d,
    ];
    const DEVICES: &str = "/dev/vda size=9000000 modules=virtio_blk\n\
        /dev/vda3 parent=/dev/vda size=8000000\n\
        /dev/dm-0 size=6000000 made_of=/dev/vda3 dm_name=crypt dm_uuid=CRYPT-LUKS1-x-crypt fstype=ext4 uuid=root-1\n\
        /dev/vdb size=9000000 modules=virtio_blk fstype=ext3 uuid=other-1\n";
    const CONF: &str = "ext4 UUID=root-1\nluks_volume_key UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11 /root/luks.key\ndefault reboot\n";

    fn header(mode: &str) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        for (at, field) in [
            (0, &b"LUKS\xba\xbe\0\x01"[..]),
            (8, b"aes"),
            (40, mode.as_bytes()),
            (72, b"sha256"),
            (104, &4096_u32.to_be_bytes()),
            (108, &32_u32.to_be_bytes()),
            (112, &DIGEST),
            (132, &[7; 32]),
            (164, &1000_u32.to_be_bytes()),
            (168, UUID.as_bytes()),
        ] {
            bytes[at..at + field.len()].copy_from_slice(field);
        }
        bytes
    }

    /// A machine with an encrypted file system, and the volume key in a file of this mode.
    fn tree(key: &[u8], mode: u32) -> Tree {
        let tree = Tree::new(&[("kdump.devices", DEVICES)]);
        tree.write("/dev/vda3", &header("cbc-essiv:sha256"));
        tree.write("/root/luks.key", key);
        let file = tree.0.join("root/luks.key");
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        tree
    }

    fn key() -> Vec<u8> {
        (0..32).collect()
    }

    fn on(tree: &Tree, conf: &str) -> Result<Resolved, String> {
        let directives = conf::parse("kdump.conf", conf.as_bytes()).unwrap();
        resolve(&directives, &tree.host(), "6.1.0").map_err(|mistakes| mistakes.to_string())
    }

    fn names(plan: &Resolved) -> Vec<&str> {
        plan.needs
            .iter()
            .filter_map(|need| match &need.want {
                Want::Name(name) | Want::Algorithm(name) | Want::Faster(name) => {
                    Some(name.as_str())
                }
                Want::Driver(_) | Want::Filesystem(_) => None,
            })
            .collect()
    }

    #[test]
    fn a_device_whose_key_is_wished_for_is_opened() {
        let tree = tree(&key(), 0o400);
        tree.write(
            "/proc/crypto",
            b"name         : essiv(cbc(aes),sha256)\ndriver       : x\nmodule       : essiv\n\n\
              name         : cbc(aes)\ndriver       : cbc-aes-aesni\nmodule       : aesni_intel\n\n\
              name         : xts(aes)\nmodule       : other\n\n\
              name         : aes\nmodule       : kernel\n",
        );
        let plan = on(&tree, CONF).unwrap();
        let digest: String = DIGEST.iter().map(|byte| format!("{byte:02x}")).collect();
        let record = plan.record(&[]).unwrap().to_string();
        let line = format!(
            "layer luks {UUID} 1 aes-cbc-essiv:sha256 32 4096 dynamic 0 512 {digest} crypt\n"
        );
        assert!(record.contains(&line), "{record}");
        assert_eq!(config::record::parse(&record).unwrap().layers.len(), 1);
        assert_eq!(
            plan.attempts[0].place.device().unwrap().layers.to_string(),
            "0"
        );
        assert_eq!(
            names(&plan),
            [
                "dm_mod",
                "dm_crypt",
                "aes",
                "cbc",
                "essiv",
                "sha256",
                "aesni_intel"
            ]
        );
        assert_eq!(plan.volume_keys, [(UUID.to_owned(), key())]);
        let warned = |words: &str| plan.warnings.iter().any(|warning| warning.contains(words));
        assert!(warned("whoever can read the image can read that disk"));
    }

    #[test]
    fn a_volume_on_an_encrypted_disk_comes_behind_it() {
        let tree = tree(&key(), 0o600);
        let volume = "aaaaaabbbbccccddddeeeeffffgggggg11111122223333444455556666777777";
        let devices = DEVICES.replace("fstype=ext4 uuid=root-1", "fstype=LVM2_member uuid=pv")
            + &format!(
                "/dev/dm-1 size=5000000 made_of=/dev/dm-0 dm_name=vg0-root dm_uuid=LVM-{volume} fstype=ext4 uuid=root-1\n"
            );
        tree.write("kdump.devices", devices.as_bytes());
        let plan = on(&tree, CONF).unwrap();
        let kinds: Vec<String> = plan
            .layers
            .iter()
            .map(|layer| {
                layer
                    .spec()
                    .to_string()
                    .split(' ')
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(kinds, ["luks", "lvm"]);
        assert_eq!(
            plan.attempts[0].place.device().unwrap().layers.to_string(),
            "0 1"
        );
    }

    #[test]
    fn without_the_wish_the_message_says_how_to_have_it() {
        let said = on(&tree(&key(), 0o400), "ext4 UUID=root-1\ndefault reboot\n").unwrap_err();
        for words in [
            "kdump.conf:1: /dev/dm-0 (crypt) is encrypted (dm-crypt)",
            &format!("`luks_volume_key UUID={UUID} FILE`"),
            "`cryptsetup luksDump --dump-volume-key --volume-key-file FILE /dev/vda3`",
        ] {
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_is_refused_with_the_next_step() {
        let refused = |tree: &Tree, conf: &str, words: &[&str]| {
            let said = on(tree, conf).unwrap_err();
            assert!(said.contains("kdump.conf:2: `luks_volume_key`: "), "{said}");
            for words in words {
                assert!(said.contains(words), "{words}: {said}");
            }
        };
        let mut other = key();
        other[5] ^= 1;
        refused(
            &tree(&other, 0o400),
            CONF,
            &[
                "as after `cryptsetup reencrypt`",
                "`rm /root/luks.key && cryptsetup luksDump",
            ],
        );
        refused(
            &tree(&key(), 0o440),
            CONF,
            &["its mode is 0440", "`chmod 600 /root/luks.key`"],
        );
        refused(&tree(&[1; 65], 0o400), CONF, &["has 65 bytes", "luksDump"]);
        refused(&tree(&[], 0o400), CONF, &["has no volume key", "luksDump"]);
        let tree = tree(&key(), 0o400);
        let with =
            |line: &str| format!("ext4 UUID=root-1\nluks_volume_key {line}\ndefault reboot\n");
        refused(
            &tree,
            &with("/dev/vda3 /root/none"),
            &[
                "reading the volume key /root/none: ",
                "--volume-key-file /root/none /dev/vda3`",
            ],
        );
        refused(
            &tree,
            &with("/dev/vda3 active"),
            &["for the machine at hand", "luksDump"],
        );
        refused(
            &tree,
            &with("/dev/vdb /root/luks.key"),
            &["/dev/vdb has no LUKS header", "is ext3"],
        );
        refused(
            &tree,
            &with("UUID=9 /root/luks.key"),
            &["there is no UUID=9; there are /dev/vda"],
        );
        tree.write("/dev/vda3", &header("xts-random"));
        let said = on(&tree, CONF).unwrap_err();
        assert!(
            said.contains("kdump.conf:1: ") && said.contains("initialisation vector `random`"),
            "{said}"
        );
    }

    #[test]
    fn a_key_that_nothing_needs_stays_out() {
        let conf = CONF.replace("ext4 UUID=root-1", "ext3 UUID=other-1");
        let plan = on(&tree(&key(), 0o400), &conf).unwrap();
        assert!(plan.volume_keys.is_empty() && plan.layers.is_empty());
        let warned = |words: &str| plan.warnings.iter().any(|warning| warning.contains(words));
        assert!(warned(
            "nothing of the plan is on /dev/vda3, and its key stays out"
        ));
    }

    #[test]
    fn the_parts_of_a_cipher_are_named_as_the_kernel_names_them() {
        for (cipher, parts) in [
            ("aes-xts-plain64", "aes xts"),
            ("serpent-cbc-essiv:sha256", "serpent cbc essiv sha256"),
            (
                "xchacha12,aes-adiantum-plain64",
                "xchacha12 aes adiantum nhpoly1305",
            ),
        ] {
            assert_eq!(algorithms(cipher).unwrap().join(" "), parts);
        }
        for cipher in ["aes", "capi:xts(aes)-plain64", "aes-xts-lmk", "aes-ecb"] {
            assert!(algorithms(cipher).is_err(), "{cipher}");
        }
    }
}
