// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel's version, for the few things that only the version tells.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

/// The first three numbers of a release such as `6.1.0-56-cloud-amd64`.
///
/// A distribution takes changes back into its old kernels, so that what VMCOREINFO says always counts more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release(u32, u32, u32);

impl Release {
    /// The version of these numbers.
    pub(crate) const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self(major, minor, patch)
    }

    /// The version that a release begins with.
    pub(crate) fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.splitn(3, '.').map(|part| {
            let end = part
                .bytes()
                .position(|byte| !byte.is_ascii_digit())
                .unwrap_or(part.len());
            part.get(..end)?.parse().ok()
        });
        let major = numbers.next()??;
        let minor = numbers.next()??;
        Some(Self(major, minor, numbers.next().flatten().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        for (text, version) in [
            ("6.1.0-56-cloud-amd64", Some(Release(6, 1, 0))),
            ("2.6.32-754.el6.x86_64", Some(Release(2, 6, 32))),
            ("6.12-rc3", Some(Release(6, 12, 0))),
            ("5.10.", Some(Release(5, 10, 0))),
            ("6", None),
            ("six.1.0", None),
            ("99999999999.1.0", None),
            ("", None),
        ] {
            assert_eq!(Release::parse(text), version, "{text}");
        }
        assert!(Release::new(2, 6, 38) < Release::new(3, 0, 0));
        assert!(Release::new(4, 18, 0) > Release::new(4, 5, 300));
    }
}
