// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system call and the socket address that rustix does not have, and what the processor is asked for.
#![allow(
    unsafe_code,
    reason = "the only file of the crate with unsafe code in it"
)]

use crate::layer::Buffer;
use core::num::{NonZeroU32, NonZeroU64};
use rustix::fd::{AsFd, AsRawFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::ioctl::{NoArg, Opcode, Setter, Updater, ioctl};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, bind, socket_with};

/// The type of IPv4 packets on Ethernet, in the order of the wire.
const ETHERNET_IPV4: u16 = 0x0800_u16.to_be();

/// The address of a link itself, below IP: `struct sockaddr_ll`.
///
/// Source: packet(7); Linux 6.12 `include/uapi/linux/if_packet.h`.
#[repr(C)]
pub(crate) struct PacketAddress {
    family: u16,
    protocol: u16,
    index: i32,
    hardware: u16,
    packet: u8,
    address_len: u8,
    address: [u8; 8],
}

impl PacketAddress {
    fn new(index: u32, address_len: u8) -> Self {
        Self {
            family: AddressFamily::PACKET.as_raw(),
            protocol: ETHERNET_IPV4,
            index: i32::try_from(index).unwrap_or(0),
            hardware: 0,
            packet: 0,
            address_len,
            address: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
        }
    }

    /// Everybody on the link of this number.
    pub(crate) fn broadcast(index: u32) -> Self {
        Self::new(index, 6)
    }
}

// SAFETY: the pointer is to a `repr(C)` value without padding that lives until `f` returns, laid out as the kernel's
// `struct sockaddr_ll`, and the length is its size.
unsafe impl SocketAddrArg for PacketAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        const LEN: SocketAddrLen = 20;
        const _: () = assert!(size_of::<PacketAddress>() == 20);
        f(core::ptr::from_ref(self).cast(), LEN)
    }
}

/// A socket for whole IPv4 packets on the link of this number.
pub(crate) fn packet_socket(index: u32) -> Result<OwnedFd, Errno> {
    let protocol = NonZeroU32::new(ETHERNET_IPV4.into()).map(Protocol::from_raw);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, protocol)?;
    bind(&socket, &PacketAddress::new(index, 0))?;
    Ok(socket)
}

/// The calls of the device mapper. Source: Linux 6.12 `include/uapi/linux/dm-ioctl.h`.
#[derive(Clone, Copy)]
pub(crate) enum DmCall {
    /// `DM_DEV_CREATE`
    Create,
    /// `DM_DEV_REMOVE`
    Remove,
    /// `DM_DEV_SUSPEND`
    Suspend,
    /// `DM_TABLE_LOAD`
    LoadTable,
    /// `DM_TABLE_STATUS`
    TableStatus,
}

/// `_IOWR(0xfd, NUMBER, struct dm_ioctl)`, which has 312 bytes.
const fn dm_opcode(number: Opcode) -> Opcode {
    (3 << 30) | (312 << 16) | (0xfd << 8) | number
}

/// One call of the device mapper; what it answers is in the buffer.
pub(crate) fn dm_call(fd: impl AsFd, call: DmCall, buffer: &mut Buffer) -> Result<(), Errno> {
    // SAFETY: each opcode takes a `struct dm_ioctl`, reads and writes no more than the `data_size` in it, and the only
    // writer of that field keeps it within the buffer, which has the alignment of the struct and outlives the call.
    unsafe {
        match call {
            DmCall::Create => ioctl(fd, Updater::<{ dm_opcode(3) }, Buffer>::new(buffer)),
            DmCall::Remove => ioctl(fd, Updater::<{ dm_opcode(4) }, Buffer>::new(buffer)),
            DmCall::Suspend => ioctl(fd, Updater::<{ dm_opcode(6) }, Buffer>::new(buffer)),
            DmCall::LoadTable => ioctl(fd, Updater::<{ dm_opcode(9) }, Buffer>::new(buffer)),
            DmCall::TableStatus => ioctl(fd, Updater::<{ dm_opcode(12) }, Buffer>::new(buffer)),
        }
    }
}

/// `_IOW(9, NUMBER, …)` of md, and `_IO` where there are no bytes. Source: Linux 6.12 `include/uapi/linux/raid/md_u.h`.
const fn md_opcode(number: Opcode, bytes: Opcode) -> Opcode {
    let direction = if bytes == 0 { 0 } else { 1 << 30 };
    direction | (bytes << 16) | (9 << 8) | number
}

/// A device of an array, by its number.
#[derive(Clone, Copy)]
pub(crate) struct MdMember {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// Says that the superblocks of an array without members are of version 1.`minor`: `SET_ARRAY_INFO` with nothing else.
pub(crate) fn md_set_version(fd: impl AsFd, minor: u8) -> Result<(), Errno> {
    let mut info = [0_u32; 18];
    (info[0], info[1]) = (1, minor.into());
    // SAFETY: the opcode takes `mdu_array_info_t`, 18 words, which are there, and only reads them.
    unsafe { ioctl(fd, Setter::<{ md_opcode(0x23, 72) }, [u32; 18]>::new(info)) }
}

/// Adds a device, whose superblock says the rest: `ADD_NEW_DISK`.
pub(crate) fn md_add(fd: impl AsFd, member: MdMember) -> Result<(), Errno> {
    let info = [0, member.major, member.minor, 0, 0];
    // SAFETY: the opcode takes `mdu_disk_info_t`, 5 words, which are there, and only reads them.
    unsafe { ioctl(fd, Setter::<{ md_opcode(0x21, 20) }, [u32; 5]>::new(info)) }
}

/// Starts the array: `RUN_ARRAY`.
pub(crate) fn md_run(fd: impl AsFd) -> Result<(), Errno> {
    // SAFETY: the opcode takes `mdu_param_t`, 3 words, which are there; the kernel does not even read them.
    unsafe { ioctl(fd, Setter::<{ md_opcode(0x30, 12) }, [u32; 3]>::new([0; 3])) }
}

/// Stops an array that could not be started: `STOP_ARRAY`. There is nothing more to do when that fails.
pub(crate) fn md_stop(fd: impl AsFd) {
    // SAFETY: the opcode takes no argument.
    let _ = unsafe { ioctl(fd, NoArg::<{ md_opcode(0x32, 0) }>::new()) };
}

/// `SYNC_FILE_RANGE_WRITE`: begin to write out what is dirty in the range, and do not wait for it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const WRITE: usize = 2;
/// `SYNC_FILE_RANGE_WAIT_BEFORE`, `_WRITE` and `_WAIT_AFTER`: nothing of the range is dirty or under way afterwards.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const WRITE_AND_WAIT: usize = 7;

/// Asks the kernel to begin with writing a stretch of a file to the disk. It is advice: where it cannot be followed the
/// kernel writes in its own time, and says what went wrong when it is waited for.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) fn begin_write_out(fd: impl AsFd, start: u64, len: NonZeroU64) {
    let _ = file_range(fd, start, len, WRITE);
}

/// Waits until a stretch of a file is on its way out of the page cache.
///
/// # Errors
/// It could not be written: the kernel says so once, here or at the next sync. That it cannot wait is none.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) fn wait_for_write_out(fd: impl AsFd, start: u64, len: NonZeroU64) -> Result<(), Errno> {
    match file_range(fd, start, len, WRITE_AND_WAIT) {
        Err(Errno::INVAL | Errno::SPIPE | Errno::NOSYS | Errno::INTR) => Ok(()),
        result => result,
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn file_range(fd: impl AsFd, start: u64, len: NonZeroU64, flags: usize) -> Result<(), Errno> {
    let (Ok(fd), Ok(start), Ok(len)) = (
        usize::try_from(fd.as_fd().as_raw_fd()),
        usize::try_from(start),
        usize::try_from(len.get()),
    ) else {
        return Err(Errno::INVAL);
    };
    // SAFETY: sync_file_range takes four integers, reads and writes no memory of ours, and `fd` is open for as long as the
    // borrow that it came from.
    let result = unsafe { sync_file_range(fd, start, len, flags) };
    match i32::try_from(result) {
        Ok(0) => Ok(()),
        Ok(negative) => Err(Errno::from_raw_os_error(negative.saturating_neg())),
        Err(_) => Err(Errno::INVAL),
    }
}

/// Elsewhere the system call has other numbers or splits its arguments; the kernel writes in its own time.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn begin_write_out(_: impl AsFd, _: u64, _: NonZeroU64) {}

/// Elsewhere nobody waits before the sync at the end.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn wait_for_write_out(_: impl AsFd, _: u64, _: NonZeroU64) -> Result<(), Errno> {
    Ok(())
}

/// # Safety
/// The arguments are those of the system call; nothing else of the process is touched.
///
/// Source: Linux 6.12 `arch/x86/entry/syscalls/syscall_64.tbl`; System V ABI for AMD64, appendix A.2.1.
#[cfg(target_arch = "x86_64")]
unsafe fn sync_file_range(fd: usize, start: usize, len: usize, flags: usize) -> isize {
    let result: isize;
    // SAFETY: the kernel keeps all registers but rax, rcx and r11, and touches no memory of the process.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") 277_isize => result,
            in("rdi") fd,
            in("rsi") start,
            in("rdx") len,
            in("r10") flags,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack, preserves_flags),
        );
    }
    result
}

/// # Safety
/// As above.
///
/// Source: Linux 6.12 `include/uapi/asm-generic/unistd.h`; the kernel keeps every register but x0.
#[cfg(target_arch = "aarch64")]
unsafe fn sync_file_range(fd: usize, start: usize, len: usize, flags: usize) -> isize {
    let result: isize;
    // SAFETY: the kernel keeps all registers but x0, and touches no memory of the process.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") 84_usize,
            inlateout("x0") fd => result,
            in("x1") start,
            in("x2") len,
            in("x3") flags,
            options(nostack),
        );
    }
    result
}

/// The processor has instructions for AES and for the hash of GCM.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_aes() -> bool {
    // Source: Intel SDM volume 2A, CPUID leaf 1: ECX bits 1 (PCLMULQDQ) and 25 (AES).
    const BOTH: u32 = (1 << 1) | (1 << 25);
    core::arch::x86_64::__cpuid(1).ecx & BOTH == BOTH
}

/// Elsewhere nobody looks yet.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn has_aes() -> bool {
    false
}

/// Numbers of the processor's own generator; none where it has none, or where it does not deliver.
#[cfg(target_arch = "x86_64")]
pub(crate) fn processor_random() -> Option<[u64; 4]> {
    // Source: Intel SDM volume 2A, CPUID leaf 1: ECX bit 30.
    if core::arch::x86_64::__cpuid(1).ecx & (1 << 30) == 0 {
        return None;
    }
    let mut numbers = [0; 4];
    for number in &mut numbers {
        // Source: Intel's guide to the generator: ten tries tell a busy one from a broken one.
        // SAFETY: the processor has RDRAND, as its identification just said.
        (0..10).find(|_| unsafe { rdrand(number) })?;
    }
    // Some processors gave the same number again and again after a sleep.
    let [first, rest @ ..] = numbers;
    rest.iter()
        .any(|&number| number != first)
        .then_some(numbers)
}

/// # Safety
/// The processor has RDRAND.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "rdrand")]
unsafe fn rdrand(number: &mut u64) -> bool {
    core::arch::x86_64::_rdrand64_step(number) == 1
}

/// Elsewhere nobody looks yet.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn processor_random() -> Option<[u64; 4]> {
    None
}
