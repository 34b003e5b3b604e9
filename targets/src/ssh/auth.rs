// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user shows that he has the key. Nothing else is tried: there is nobody to type a password.
//!
//! Source: RFC 4252 section 7.

use super::error::SshError;
use super::key_file::UserKey;
use super::message;
use super::stream::Stream;
use super::transport::Transport;
use super::wire::Writer;
use crate::text::Text;

/// The longest request: names, key and signature.
const REQUEST_BYTES: usize = 1024;
/// The most messages that a server may show before it decides.
const MOST_BANNERS: u32 = 64;

/// Becomes `user` on the server.
pub(crate) fn authenticate<S: Stream>(
    transport: &mut Transport<'_, S>,
    user: &str,
    key: &UserKey,
) -> Result<(), SshError> {
    let until = transport.until();
    transport.queue(64, |writer| {
        writer.u8(message::SERVICE_REQUEST);
        writer.string(b"ssh-userauth");
    })?;
    let payload = transport.next(until)?;
    if transport.kind(&payload) != message::SERVICE_ACCEPT {
        return Err(SshError::Protocol(
            "it does not accept that a user is to be named",
        ));
    }

    let session = transport.session().copied().unwrap_or_default();
    let too_long = SshError::TooLong("the user's name");
    let mut buf = [0; REQUEST_BYTES];
    let mut writer = Writer::new(&mut buf);
    // What is signed is the request, with the session in front.
    writer.string(&session);
    let front = writer.len().ok_or(too_long)?;
    write_request(&mut writer, user, key);
    let signed = writer.done().ok_or(too_long)?;
    let request = signed.get(front..).unwrap_or_default();
    transport.queue(REQUEST_BYTES, |writer| {
        writer.bytes(request);
        writer.string_of(|writer| key.sign(signed, writer));
    })?;
    for _ in 0..MOST_BANNERS {
        let payload = transport.next(until)?;
        match transport.kind(&payload) {
            message::USERAUTH_SUCCESS => {
                transport.authenticated();
                return Ok(());
            }
            message::USERAUTH_BANNER => {}
            message::USERAUTH_FAILURE => {
                let methods = transport.reader(&payload).string().unwrap_or_default();
                return Err(SshError::Denied(Text::new(methods)));
            }
            _ => {
                return Err(SshError::Protocol(
                    "a message out of place while the user is named",
                ));
            }
        }
    }
    Err(SshError::Protocol("it shows messages for ever"))
}

fn write_request(writer: &mut Writer<'_>, user: &str, key: &UserKey) {
    let public = key.public();
    writer.u8(message::USERAUTH_REQUEST);
    writer.string(user.as_bytes());
    writer.string(b"ssh-connection");
    writer.string(b"publickey");
    writer.bool(true);
    writer.string(public.algorithm().as_bytes());
    writer.string_of(|writer| public.write(writer));
}
