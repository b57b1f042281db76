//! Frames of WebSocket connections (RFC 6455, section 5.2), as a test at either end writes and reads them.

use anyhow::{Result, ensure};

/// First byte of a whole message or control frame, by its kind.
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;
/// The bit of the first byte that ends a message.
pub const FINAL: u8 = 0x80;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The bit of the second byte that says that the payload is masked.
const IS_MASKED: u8 = 0x80;

/// Returns a frame as a client sends it. `first`: its first byte.
#[must_use]
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    push_length(&mut frame, IS_MASKED, payload.len());
    frame.extend(MASK);
    let bytes = payload.iter().zip(MASK.iter().cycle());
    frame.extend(bytes.map(|(byte, mask)| byte ^ mask));
    frame
}

/// Returns a frame as a server sends it. `first`: its first byte.
#[must_use]
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    push_length(&mut frame, 0, payload.len());
    frame.extend(payload);
    frame
}

/// Reads the first frame of a server: its first byte, its payload, and how many bytes it has. `None` if it is not complete yet.
///
/// # Errors
/// It is masked.
pub fn read(bytes: &[u8]) -> Result<Option<(u8, &[u8], usize)>> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    ensure!(second & IS_MASKED == 0, "frames of a server have no mask");
    let head = match second {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let Some(length) = bytes.get(2..head) else {
        return Ok(None);
    };
    let length = match length {
        [] => usize::from(second),
        length => length
            .iter()
            .fold(0, |number, byte| number << 8 | usize::from(*byte)),
    };
    let payload = bytes.get(head..head.saturating_add(length));
    Ok(payload.map(|payload| (first, payload, head + length)))
}

fn push_length(frame: &mut Vec<u8>, is_masked: u8, length: usize) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) if length < 126 => frame.push(is_masked | length),
        (_, Ok(length)) => {
            frame.push(is_masked | 0x7e);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(is_masked | 0x7f);
            frame.extend((length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_read_as_they_were_written() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let frame = unmasked(TEXT, &payload);
            let expected = Some((TEXT, &payload[..], frame.len()));
            assert_eq!(read(&frame).unwrap(), expected);
            assert_eq!(read(&frame[..frame.len() - 1]).unwrap(), None);
            read(&masked(TEXT, &payload)).unwrap_err();
        }
    }

    #[test]
    fn a_client_masks_its_frames() {
        let payload = vec![b'a'; 300];
        let frame = masked(TEXT, &payload);
        assert_eq!(frame[..8], [&[0x81, 0xfe, 1, 44][..], &MASK].concat());
        let bytes = frame[8..].iter().zip(MASK.iter().cycle());
        let unmasked: Vec<u8> = bytes.map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(unmasked, payload);
    }
}
