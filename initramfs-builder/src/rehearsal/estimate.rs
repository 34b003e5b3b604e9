// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory `crashkernel=` has to reserve: measured in a virtual machine where there is QEMU, else computed.

use super::stage::{Plan, Stage};
use super::{Rehearsal, stand_in};
use crate::error::{Mistake, Mistakes};
use crate::modules::closure::Closure;
use serde_json::{Value, json};
use std::fmt;
use std::fs;

/// Between a reservation that is enough and one that is not.
const STEP_MIB: u64 = 8;
/// No kernel of today starts with less.
const LEAST_MIB: u64 = 32;
/// What a reservation is rounded to.
const ROUND_MIB: u64 = 16;
/// Beyond what was enough in a virtual machine: real hardware has more devices, each with its driver's buffers.
const SPARE_PART: u64 = 4;
/// A module in memory, as a multiple of its file: symbols and debugging are not loaded, tables and buffers come on top.
const MODULE_FACTOR: u64 = 2;
/// What the kernel has beyond its own code and data: page tables, per-processor data, slabs, the buffers of drivers.
const KERNEL_RUNS_MIB: u64 = 40;
/// What init's processes have at most, with workers and a connection.
const INIT_MIB: u64 = 12;

/// A reservation that is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// What to reserve, in MiB.
    pub recommended_mib: u64,
    /// What it rests on, where a crash was rehearsed.
    pub measured: Option<Measured>,
    /// Why nothing was measured, where nothing was.
    pub not_measured_because: Option<String>,
    /// The image in the file, in bytes.
    pub image_bytes: u64,
    /// The image when it is unpacked, in bytes.
    pub unpacked_bytes: u64,
    /// The modules of the plan, in bytes of their files.
    pub modules_bytes: u64,
    /// The kernel's code and data while it starts, in bytes; none when its file does not say.
    pub kernel_bytes: Option<u64>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The smallest reservation with which a dump was saved, in MiB.
    pub enough_mib: u64,
    /// The largest that was tried and was not enough, in MiB, and what happened.
    pub too_little: Option<(u64, String)>,
    /// The most memory that init's processes had with it, in KiB, where it said so.
    pub init_peak_kib: Option<u64>,
    /// Modules of the machine's own devices that the rehearsal had no use for, in bytes of their files.
    pub other_modules_bytes: u64,
    /// What stood in for the target.
    pub stand_in: String,
}

impl Estimate {
    /// As `--json` has it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let measured = self.measured.as_ref().map(|measured| {
            json!({
                "enough_mib": measured.enough_mib,
                "init_peak_kib": measured.init_peak_kib,
                "too_little_mib": measured.too_little.as_ref().map(|(mib, _)| mib),
                "other_modules_bytes": measured.other_modules_bytes,
                "stand_in": measured.stand_in,
            })
        });
        json!({
            "recommended_mib": self.recommended_mib,
            "measured": measured,
            "not_measured_because": self.not_measured_because,
            "image_bytes": self.image_bytes,
            "unpacked_bytes": self.unpacked_bytes,
            "modules_bytes": self.modules_bytes,
            "kernel_bytes": self.kernel_bytes,
        })
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "recommended: crashkernel={}M", self.recommended_mib)?;
        match &self.measured {
            Some(measured) => {
                writeln!(
                    f,
                    "measured:    {} MiB were enough in a virtual machine with {}",
                    measured.enough_mib, measured.stand_in
                )?;
                if let Some(kib) = measured.init_peak_kib {
                    writeln!(
                        f,
                        "             init's processes had {kib} KiB of that at most"
                    )?;
                }
                if let Some((mib, why)) = &measured.too_little {
                    writeln!(f, "             {mib} MiB were not: {why}")?;
                }
                writeln!(
                    f,
                    "added:       {} MiB for modules that the machine has no use for, and a quarter for the buffers of real devices",
                    mib(measured.other_modules_bytes * MODULE_FACTOR)
                )?;
            }
            None => writeln!(
                f,
                "computed, not measured: {}",
                self.not_measured_because.as_deref().unwrap_or("")
            )?,
        }
        if let Some(bytes) = self.kernel_bytes {
            writeln!(f, "kernel:      {} MiB while it starts", mib(bytes))?;
        }
        writeln!(
            f,
            "image:       {} KiB, {} KiB unpacked, of which {} KiB are modules",
            self.image_bytes >> 10,
            self.unpacked_bytes >> 10,
            self.modules_bytes >> 10
        )
    }
}

/// Finds a reservation that is enough; `tell` hears what is being done.
///
/// # Errors
/// The plan itself has mistakes.
pub fn estimate(rehearsal: &Rehearsal, tell: &mut dyn FnMut(&str)) -> Result<Estimate, Mistakes> {
    let plan = Plan::make(&rehearsal.request)?;
    let prepared = &plan.prepared;
    let kernel_bytes = fs::read(&rehearsal.kernel)
        .ok()
        .and_then(|file| init_size(&file));
    let mut estimate = Estimate {
        recommended_mib: 0,
        measured: None,
        not_measured_because: None,
        image_bytes: as_u64(prepared.bytes.len()),
        unpacked_bytes: prepared.unpacked_bytes(),
        modules_bytes: modules_bytes(&prepared.closure),
        kernel_bytes,
    };
    match measure(rehearsal, plan, tell) {
        Ok(measured) => {
            let others_mib = mib(measured.other_modules_bytes * MODULE_FACTOR);
            let enough_mib = measured.enough_mib + others_mib;
            estimate.recommended_mib = rounded(enough_mib + enough_mib / SPARE_PART);
            estimate.measured = Some(measured);
        }
        Err(why) => {
            estimate.recommended_mib = rounded(computed_mib(&estimate));
            estimate.not_measured_because = Some(why.to_string());
        }
    }
    Ok(estimate)
}

/// The sum of what is known and of what is usual.
fn computed_mib(estimate: &Estimate) -> u64 {
    // The kernel unpacks itself, and both images are there for a moment.
    mib(estimate.kernel_bytes.unwrap_or(64 << 20))
        + mib(estimate.image_bytes)
        + mib(estimate.unpacked_bytes)
        + mib(estimate.modules_bytes * MODULE_FACTOR)
        + KERNEL_RUNS_MIB
        + INIT_MIB
}

fn measure(
    rehearsal: &Rehearsal,
    plan: Plan,
    tell: &mut dyn FnMut(&str),
) -> Result<Measured, Mistakes> {
    let stage = Stage::set(rehearsal, plan)?;
    let (goal, stand_in) = stage
        .real
        .prepared
        .resolved
        .attempts
        .iter()
        .find_map(|goal| {
            let stand_in = stand_in::stands_for(goal, &stage.real.directives).ok()?;
            Some((goal, stand_in))
        })
        .ok_or_else(|| Mistake::new("nothing stands in for a target of this plan"))?;
    let mut enough_mib = rehearsal.crashkernel_mib.next_multiple_of(STEP_MIB);
    let mut try_with = |mib: u64| {
        tell(&format!("a crash with crashkernel={mib}M"));
        stage.run(goal, &stand_in, mib)
    };
    let mut rehearsed = try_with(enough_mib)?
        .map_err(|failure| Mistake::new(format!("with crashkernel={enough_mib}M: {failure}")))?;
    let (mut too_little_mib, mut too_little) = (LEAST_MIB, None);
    while enough_mib - too_little_mib > STEP_MIB {
        let middle = (too_little_mib + (enough_mib - too_little_mib) / 2) / STEP_MIB * STEP_MIB;
        match try_with(middle)? {
            Ok(saved) => (enough_mib, rehearsed) = (middle, saved),
            Err(failure) => {
                too_little_mib = middle;
                too_little = Some((middle, failure.why));
            }
        }
    }
    let other_modules_bytes = stage
        .real
        .prepared
        .closure
        .modules
        .iter()
        .filter(|module| !rehearsed.modules.contains(&module.name))
        .map(|module| as_u64(module.bytes.len()))
        .sum();
    Ok(Measured {
        enough_mib,
        too_little,
        init_peak_kib: rehearsed.init_peak_kib,
        other_modules_bytes,
        stand_in: stand_in.to_string(),
    })
}

/// How much memory the kernel wants in one piece while it unpacks itself and starts.
///
/// Source: Linux 6.12 `Documentation/arch/x86/boot.rst`, `init_size` at 0x260, of protocol 2.10 on.
fn init_size(kernel: &[u8]) -> Option<u64> {
    let at = |offset: usize| kernel.get(offset..offset + 4)?.try_into().ok();
    if kernel.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let version = u32::from_le_bytes(at(0x206)?) & 0xffff;
    (version >= 0x20a)
        .then(|| at(0x260).map(u32::from_le_bytes))
        .flatten()
        .map(u64::from)
}

fn modules_bytes(closure: &Closure) -> u64 {
    closure
        .modules
        .iter()
        .map(|module| as_u64(module.bytes.len()))
        .sum()
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Whole MiB, rounded up.
const fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

const fn rounded(mib: u64) -> u64 {
    mib.next_multiple_of(ROUND_MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_needs_to_start_stands_in_its_header() {
        let mut file = vec![0; 0x300];
        assert_eq!(init_size(&file), None);
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        file[0x260..0x264].copy_from_slice(&(40_u32 << 20).to_le_bytes());
        assert_eq!(init_size(&file), Some(40 << 20));
        file[0x206..0x208].copy_from_slice(&0x209_u16.to_le_bytes());
        assert_eq!(init_size(&file), None);
        assert_eq!(init_size(&file[..0x204]), None);
    }

    #[test]
    fn a_computed_reservation_is_the_sum_and_says_so() {
        let estimate = Estimate {
            recommended_mib: 0,
            measured: None,
            not_measured_because: None,
            image_bytes: 1 << 20,
            unpacked_bytes: (2 << 20) + 1,
            modules_bytes: 1 << 20,
            kernel_bytes: Some(40 << 20),
        };
        assert_eq!(computed_mib(&estimate), 40 + 1 + 3 + 2 + 40 + 12);
        assert_eq!((rounded(98), rounded(96)), (112, 96));
    }

    #[test]
    fn what_was_measured_is_said_to_people_and_to_programs() {
        let estimate = Estimate {
            recommended_mib: 96,
            measured: Some(Measured {
                enough_mib: 72,
                init_peak_kib: Some(4624),
                too_little: Some((64, "no memory".to_owned())),
                other_modules_bytes: 0,
                stand_in: "an empty disk".to_owned(),
            }),
            not_measured_because: None,
            image_bytes: 1 << 20,
            unpacked_bytes: 1 << 20,
            modules_bytes: 0,
            kernel_bytes: None,
        };
        let text = estimate.to_string();
        for part in [
            "recommended: crashkernel=96M\n",
            "72 MiB were enough in a virtual machine with an empty disk\n",
            " init's processes had 4624 KiB of that at most\n",
            " 64 MiB were not: no memory\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json = estimate.to_json();
        assert_eq!(json["measured"]["init_peak_kib"], 4624);
        assert_eq!(json["measured"]["too_little_mib"], 64);
    }
}
