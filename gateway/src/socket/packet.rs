//! The packets that a client sends over a WebSocket: Engine.IO (protocol 4) with Socket.IO (protocol 5) inside. Pure.

use serde::Deserialize;
use serde_json::value::RawValue;

/// One packet.
#[derive(Debug)]
pub(super) enum ClientPacket<'a> {
    /// The answer to a ping, or a packet without meaning here.
    Ignored,
    /// The client ends the session.
    Close,
    /// The last packet of an upgrade: from now on the client uses this WebSocket.
    Upgrade,
    /// The first packet of an upgrade.
    Probe,
    /// The client joins this namespace, with this JSON text, which may be empty.
    Connect(&'a str, &'a str),
    /// The client leaves this namespace.
    Disconnect(&'a str),
    /// A reply to an event of the server. None of ours asks for one.
    Reply,
    /// An event.
    Event(ClientEvent<'a>),
    /// The beginning of an event with so many attachments, each of which is a binary message.
    BinaryEvent {
        event: ClientEvent<'a>,
        attachments: u32,
    },
}

/// An event of a client.
#[derive(Debug)]
pub(super) struct ClientEvent<'a> {
    pub(super) namespace: &'a str,
    /// The acknowledgement id under which the client expects a reply.
    pub(super) ack: Option<i64>,
    pub(super) name: String,
    /// The first argument; `None` without one.
    pub(super) argument: Option<&'a RawValue>,
}

/// The client broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidPacket;

/// Namespace of packets that name none.
pub(super) const MAIN: &str = "/";

impl<'a> ClientPacket<'a> {
    /// Reads a text message.
    pub(super) fn parse(message: &'a str) -> Result<Self, InvalidPacket> {
        let mut characters = message.chars();
        let kind = characters.next().ok_or(InvalidPacket)?;
        let rest = characters.as_str();
        match kind {
            '1' => Ok(Self::Close),
            '2' if rest == "probe" => Ok(Self::Probe),
            '2' | '3' | '6' => Ok(Self::Ignored),
            '4' => Self::parse_message(rest),
            '5' => Ok(Self::Upgrade),
            _ => Err(InvalidPacket),
        }
    }

    fn parse_message(message: &'a str) -> Result<Self, InvalidPacket> {
        let mut characters = message.chars();
        let kind = characters.next().ok_or(InvalidPacket)?;
        let mut rest = characters.as_str();
        let attachments = match kind {
            '5' | '6' => Some(split_attachments(&mut rest)?),
            _ => None,
        };
        let namespace = split_namespace(&mut rest);
        match (kind, attachments) {
            ('0', _) => Ok(Self::Connect(namespace, rest)),
            ('1', _) => Ok(Self::Disconnect(namespace)),
            ('2', _) => Ok(Self::Event(ClientEvent::parse(namespace, rest)?)),
            ('3', _) => Ok(Self::Reply),
            ('5', Some(attachments)) => Ok(Self::BinaryEvent {
                event: ClientEvent::parse(namespace, rest)?,
                attachments,
            }),
            _ => Err(InvalidPacket),
        }
    }
}

impl<'a> ClientEvent<'a> {
    /// Reads `[ack]["name",argument,…]`.
    fn parse(namespace: &'a str, text: &'a str) -> Result<Self, InvalidPacket> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (ack, values) = text.split_at(digits);
        let ack = match ack {
            "" => None,
            ack => Some(ack.parse().map_err(|_| InvalidPacket)?),
        };
        let values: Vec<&RawValue> = serde_json::from_str(values).map_err(|_| InvalidPacket)?;
        let name = values.first().ok_or(InvalidPacket)?;
        let name = String::deserialize(*name).map_err(|_| InvalidPacket)?;
        Ok(Self {
            namespace,
            ack,
            name,
            argument: values.get(1).copied(),
        })
    }
}

/// Takes `/name,` off the front.
fn split_namespace<'a>(text: &mut &'a str) -> &'a str {
    if !text.starts_with('/') {
        return MAIN;
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    *text = rest;
    // A query may follow the name.
    namespace.split('?').next().unwrap_or(namespace)
}

/// Takes the number of attachments and `-` off the front.
fn split_attachments(text: &mut &str) -> Result<u32, InvalidPacket> {
    let (count, rest) = text.split_once('-').ok_or(InvalidPacket)?;
    *text = rest;
    let is_number = count.bytes().all(|byte| byte.is_ascii_digit());
    let count = is_number.then(|| count.parse().ok()).flatten();
    count.ok_or(InvalidPacket)
}

#[cfg(test)]
mod tests;
