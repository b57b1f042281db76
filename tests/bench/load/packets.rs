//! The packets of Engine.IO 4 and Socket.IO 5 that a server may send to a client.

use anyhow::{Result, bail};

/// What one packet means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// The Engine.IO session begins; a JSON object with its id.
    Open(&'a str),
    /// A ping, to be answered with [`PONG`].
    Ping,
    /// The answer to [`PROBE`].
    Probed,
    /// Nothing: it ends a poll.
    Noop,
    /// The namespace is joined.
    Connected,
    /// The answer to the request with this number; a JSON array.
    Answer(u32, &'a str),
    /// An event; a JSON array of its name and its arguments.
    Event(&'a str),
    /// The server ends the session.
    Closed,
}

pub(crate) const PONG: &str = "3";
pub(crate) const PROBE: &str = "2probe";
pub(crate) const UPGRADE: &str = "5";
pub(crate) const CONNECT: &str = "40";
/// A subscription to the rows of all devices.
pub(crate) const SUBSCRIBE_FLEET: &str = r#"420["subscribe:fleet",{}]"#;
/// Separates packets in the body of a poll.
pub(crate) const SEPARATOR: char = '\x1e';

/// Reads one packet.
pub(crate) fn read(text: &str) -> Result<Packet<'_>> {
    let packet = match text.as_bytes() {
        [b'4', b'2', ..] => Packet::Event(&text[2..]),
        [b'4', b'3', ..] => {
            let rest = &text[2..];
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            Packet::Answer(rest[..digits].parse()?, &rest[digits..])
        }
        b"2" => Packet::Ping,
        b"3probe" => Packet::Probed,
        b"6" => Packet::Noop,
        [b'0', ..] => Packet::Open(&text[1..]),
        [b'4', b'0', ..] => Packet::Connected,
        [b'1', ..] | [b'4', b'1', ..] => Packet::Closed,
        _ => bail!("the server sends the packet `{text}`"),
    };
    Ok(packet)
}

/// A subscription to this device, whose answer has this number.
pub(crate) fn subscribe(number: usize, serial: &str) -> String {
    format!(r#"42{number}["subscribe:device",{{"deviceId":"{serial}"}}]"#)
}

#[cfg(test)]
mod tests;
