// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a server exports by NFS: its options as the host mounts it, and the modules of the kernel's client.

use super::Work;
use super::goal::Place;
use crate::modules::closure::Want;

/// As `mount`(8) has it, with an IPv6 address in brackets.
fn source(server: &str, export: &str) -> String {
    if server.contains(':') {
        format!("[{server}]:{export}")
    } else {
        format!("{server}:{export}")
    }
}

impl Work<'_> {
    /// The place of a dump on an export.
    pub(super) fn nfs(
        &mut self,
        server: &str,
        export: &str,
        is_version_4: bool,
        path: &str,
    ) -> Result<Place, String> {
        let found = self.way_to(server)?;
        let source = source(server, export);
        let mut options =
            self.host_options(&source, &self::source(&found.address.to_string(), export));
        if let Some(security) = options
            .split(',')
            .find(|option| option.starts_with("sec=") && *option != "sec=sys")
        {
            return Err(format!(
                "{source} is mounted with {security}, whose tickets the capture kernel cannot get; export a directory with \
                 sec=sys for the dumps"
            ));
        }
        let is_version = |option: &&str| {
            let key = option.split('=').next();
            matches!(key, Some("vers" | "nfsvers" | "minorversion"))
        };
        let mut version = options
            .split(',')
            .find(|option| is_version(option) && !option.starts_with("minor"))
            .and_then(|option| option.split('=').nth(1))
            .map(str::to_owned);
        if is_version_4
            && !version
                .as_deref()
                .is_some_and(|version| version.starts_with('4'))
        {
            // The capture side takes the highest that the server has.
            options = std::iter::once("vers=4")
                .chain(options.split(',').filter(|option| !is_version(option)))
                .collect::<Vec<_>>()
                .join(",");
            version = Some("4".to_owned());
        }
        let by = format!("nfs {source}");
        self.need(Want::Filesystem("nfs".to_owned()), by.clone());
        // The kernel would ask user space for them, where nobody answers.
        for (module, wanted) in [
            (
                "nfsv3",
                !is_version_4
                    && version
                        .as_deref()
                        .is_none_or(|version| version.starts_with('3')),
            ),
            (
                "nfsv4",
                version
                    .as_deref()
                    .is_none_or(|version| version.starts_with('4')),
            ),
        ] {
            if wanted {
                self.need(Want::Name(module.to_owned()), by.clone());
            }
        }
        Ok(Place::Nfs {
            server: server.to_owned(),
            address: found.address,
            export: export.to_owned(),
            mount_options: options.trim_matches(',').to_owned(),
            path: path.to_owned(),
            way: found.way,
        })
    }

    /// The options with which the host mounts the export, or would: those that the capture side may use.
    fn host_options(&self, source: &str, by_address: &str) -> String {
        let is_it = |other: &str| {
            let other = other.trim_end_matches('/');
            other == source.trim_end_matches('/') || other == by_address.trim_end_matches('/')
        };
        let mounted = self
            .host
            .mounts
            .iter()
            .find(|mount| is_it(&mount.source))
            .map(|mount| mount.options.as_str());
        let in_fstab = self
            .host
            .fstab
            .iter()
            .find(|entry| is_it(&entry.source))
            .map(|entry| entry.options.as_str());
        const KEPT: [&str; 16] = [
            "vers",
            "nfsvers",
            "port",
            "mountport",
            "mountvers",
            "mountproto",
            "proto",
            "rsize",
            "wsize",
            "timeo",
            "retrans",
            "soft",
            "hard",
            "sec",
            "nconnect",
            "minorversion",
        ];
        mounted
            .or(in_fstab)
            .unwrap_or("")
            .split(',')
            .filter(|option| {
                let key = option.split('=').next().unwrap_or(option);
                KEPT.contains(&key) && !option.contains(char::is_control)
            })
            .collect::<Vec<_>>()
            .join(",")
    }
}
