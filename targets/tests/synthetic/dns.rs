// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a name server answers.

/// An answer to a question about a name of two labels, of which the first has three letters, by way of an alias. Written from
/// RFC 1035 section 4.1.
pub(crate) fn answered(question: &[u8]) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2] = 0x81;
    message[3] = 0x80;
    message[7] = 2;
    message.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'x', 0xc0, 16]);
    message.extend_from_slice(&[0xc0, 41, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 2, 2]);
    message
}
