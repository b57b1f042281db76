//! Packets of MQTT, as far as publishing needs them.

use anyhow::{Context, Result};

/// An answer to a published message has this many bytes in MQTT 3.1.1.
pub(crate) const ACKNOWLEDGEMENT_BYTES: u64 = 4;
/// An acceptance of a connection has this many bytes, the last of which is zero.
pub(crate) const ACCEPTED_BYTES: usize = 4;

/// Asks for a connection of MQTT 3.1.1 whose session ends with it.
pub(crate) fn connect() -> Vec<u8> {
    const CLEAN_SESSION: u8 = 2;
    let id = format!("bench-{:08x}", fastrand::u32(..));
    let mut packet = vec![0x10, u8::try_from(12 + id.len()).unwrap_or(u8::MAX)];
    packet.extend_from_slice(b"\0\x04MQTT\x04");
    packet.extend_from_slice(&[CLEAN_SESSION, 0, 60]);
    packet.extend_from_slice(&[0, u8::try_from(id.len()).unwrap_or(u8::MAX)]);
    packet.extend_from_slice(id.as_bytes());
    packet
}

/// Asks for the messages of a topic at QoS 0.
pub(crate) fn subscribe(topic: &str) -> Result<Vec<u8>> {
    const PACKET_ID: [u8; 2] = [0, 1];
    const QOS: u8 = 0;
    let mut packet = vec![0x82];
    write_length(&mut packet, PACKET_ID.len() + 2 + topic.len() + 1)?;
    packet.extend_from_slice(&PACKET_ID);
    write_text(&mut packet, topic)?;
    packet.push(QOS);
    Ok(packet)
}

/// The packet id of the message with this number.
pub(crate) fn packet_id(number: u64) -> Result<u16> {
    let id = u16::try_from(number % u64::from(u16::MAX)).context("a packet id")?;
    Ok(id.saturating_add(1))
}

/// A version of MQTT.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    V3,
    V5,
}

/// Appends a message at QoS 1.
pub(crate) fn write_publish(
    buffer: &mut Vec<u8>,
    version: Version,
    topic: &str,
    packet_id: u16,
    payload: &[u8],
) -> Result<()> {
    let properties: &[u8] = match version {
        Version::V3 => &[],
        Version::V5 => &[0],
    };
    buffer.push(0x32);
    let length = 2 + topic.len() + 2 + properties.len() + payload.len();
    write_length(buffer, length)?;
    write_text(buffer, topic)?;
    buffer.extend_from_slice(&packet_id.to_be_bytes());
    buffer.extend_from_slice(properties);
    buffer.extend_from_slice(payload);
    Ok(())
}

/// A packet that was received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    /// Kind and flags.
    pub(crate) head: u8,
    pub(crate) body: &'a [u8],
    /// Bytes of the whole packet.
    pub(crate) bytes: usize,
}

/// Reads the first packet; `None` if it is not complete yet.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Packet<'_>>> {
    let Some((&head, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some((length, length_bytes)) = read_length(rest)? else {
        return Ok(None);
    };
    let start = 1 + length_bytes;
    let packet = bytes.get(start..start + length).map(|body| Packet {
        head,
        body,
        bytes: start + length,
    });
    Ok(packet)
}

/// Reads a length of one to four bytes. Returns it and the number of its bytes.
pub(crate) fn read_length(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut length = 0;
    for (index, byte) in bytes.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    anyhow::ensure!(bytes.len() < 4, "a length of more than four bytes");
    Ok(None)
}

fn write_length(buffer: &mut Vec<u8>, mut length: usize) -> Result<()> {
    loop {
        let low = u8::try_from(length & 0x7f)?;
        length >>= 7;
        if length == 0 {
            buffer.push(low);
            return Ok(());
        }
        buffer.push(low | 0x80);
    }
}

fn write_text(buffer: &mut Vec<u8>, text: &str) -> Result<()> {
    buffer.extend_from_slice(&u16::try_from(text.len())?.to_be_bytes());
    buffer.extend_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
