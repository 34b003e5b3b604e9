// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a DHCP server answers.

/// The card that asked.
pub(crate) const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/// The number of its question.
pub(crate) const NUMBER: u32 = 0x1234_5678;

/// A server's packet, written from RFC 2131's figure 1 by offset.
pub(crate) fn packet(options: &[u8], file: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 240];
    body[0] = 2;
    body[1..4].copy_from_slice(&[1, 6, 0]);
    body[4..8].copy_from_slice(&NUMBER.to_be_bytes());
    body[16..20].copy_from_slice(&[10, 0, 2, 15]);
    body[28..34].copy_from_slice(&MAC);
    body[108..108 + file.len()].copy_from_slice(file);
    body[236..240].copy_from_slice(&[99, 130, 83, 99]);
    body.extend_from_slice(options);
    let udp_len = 8 + body.len();
    let mut packet = vec![
        0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 2, 2, 255, 255, 255, 255,
    ];
    let total = u16::try_from(20 + udp_len).unwrap();
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 67, 0, 68]);
    packet.extend_from_slice(&u16::try_from(udp_len).unwrap().to_be_bytes());
    packet.extend_from_slice(&[0xbe, 0xef]);
    packet.extend_from_slice(&body);
    packet
}

/// The options of an offer: router, mask, name servers, MTU.
pub(crate) const OFFERED: &[u8] = &[
    53, 1, 2, 0, 0, 54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0, 51, 4, 0, 1, 0x51, 0x80, 3, 4, 10,
    0, 2, 2, 6, 8, 10, 0, 2, 3, 1, 1, 1, 1, 26, 2, 5, 0xdc, 255, 1, 2, 3,
];
