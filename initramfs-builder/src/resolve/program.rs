// SPDX-License-Identifier: MIT OR Apache-2.0
//! The collector, the hooks and the other programs of the host that the image is to have.

use super::Work;
use crate::conf::Collector;
use crate::error::{At, Mistake};
use crate::modules::normalised;
use crate::programs::FOLDERS;
use config::{CollectOptions, HookKind};
use std::collections::BTreeMap;
use std::fs;

/// What collects.
pub(super) struct Collecting {
    pub(super) options: CollectOptions,
    /// The program that does so instead of init, with its arguments.
    pub(super) program: Option<String>,
}

impl Work<'_> {
    /// What `core_collector` asks for.
    pub(super) fn collect(&mut self) -> Collecting {
        let built_in = |options| Collecting {
            options,
            program: None,
        };
        let Some(At { line, value }) = &self.directives.core_collector else {
            return built_in(CollectOptions::standard());
        };
        match value {
            Collector::BuiltIn(options) => built_in(options.clone()),
            Collector::Program(command) => match self.collector_program(command, *line) {
                Ok(command) => Collecting {
                    options: CollectOptions::copy(),
                    program: Some(command),
                },
                Err(message) => {
                    self.mistake(*line, message);
                    built_in(CollectOptions::copy())
                }
            },
        }
    }

    /// The parameters of modules by their names.
    pub(super) fn module_options(&self) -> BTreeMap<String, String> {
        self.directives
            .options
            .iter()
            .map(|at| (normalised(&at.value.0), at.value.1.clone()))
            .collect()
    }

    fn collector_program(&mut self, command: &str, line: u32) -> Result<String, String> {
        let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
        let candidates: Vec<String> = if program.starts_with('/') {
            vec![program.to_owned()]
        } else {
            FOLDERS.map(|folder| format!("{folder}/{program}")).to_vec()
        };
        let path = candidates
            .iter()
            .find(|path| self.host.inside(path).is_file())
            .ok_or_else(|| {
                format!(
                    "`core_collector`: there is no program `{program}` (looked for {}); built in are makedumpfile with \
                     options, cp, dd and scp",
                    candidates.join(", ")
                )
            })?;
        self.take_program(path, "core_collector", Some(line));
        Ok(format!("{path} {arguments}").trim_end().to_owned())
    }

    /// The hooks in the order in which they run, and the other programs.
    pub(super) fn take_programs(&mut self) -> Vec<(HookKind, String)> {
        let directives = self.directives;
        let mut hooks: Vec<(HookKind, String)> = Vec::new();
        for kind in HookKind::ALL {
            let by = kind.word();
            let line = match kind {
                HookKind::Pre => &directives.kdump_pre,
                HookKind::Post => &directives.kdump_post,
                HookKind::Emergency => &directives.kdump_emergency,
                HookKind::PreFolder | HookKind::PostFolder | HookKind::EmergencyFolder => {
                    for path in self.programs_of(&format!("/etc/kdump/{by}")) {
                        self.take_program(&path, by, None);
                        hooks.push((kind, path));
                    }
                    continue;
                }
            };
            if let Some(at) = line {
                self.take_program(&at.value, by, Some(at.line));
                hooks.push((kind, at.value.clone()));
            }
        }
        for at in &directives.extra_bins {
            if let Err(message) = self.programs.add(self.host, &at.value, "extra_bins") {
                self.mistake(at.line, message);
            }
        }
        hooks
    }

    /// What can be run in a folder, in the order of the names.
    fn programs_of(&mut self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.host.inside(folder)) else {
            return Vec::new();
        };
        let mut paths: Vec<String> = entries
            .flatten()
            .filter_map(|entry| Some(format!("{folder}/{}", entry.file_name().to_str()?)))
            .collect();
        paths.sort();
        let mut passed_over = Vec::new();
        paths.retain(|path| {
            let runs = self.programs.is_executable(self.host, path);
            if !runs {
                passed_over.push(format!(
                    "{path} is not executable and is passed over; `chmod +x {path}` makes it a hook"
                ));
            }
            runs
        });
        self.warnings.append(&mut passed_over);
        paths
    }

    /// A program that init will start.
    fn take_program(&mut self, path: &str, by: &str, line: Option<u32>) {
        let taken =
            if self.host.inside(path).is_file() && !self.programs.is_executable(self.host, path) {
                Err(format!(
                    "{path} is not executable; `chmod +x {path}` makes it so"
                ))
            } else {
                self.programs.add(self.host, path, by)
            };
        if let Err(message) = taken {
            let message = format!("`{by}`: {message}");
            match line {
                Some(line) => self.mistake(line, message),
                None => self.mistakes.0.push(Mistake::new(message)),
            }
        }
    }
}
