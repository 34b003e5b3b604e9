// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads the capture kernel with `kexec_file_load(2)`.
