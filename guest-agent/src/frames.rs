//! Frames of the host's way in, on a byte stream: kind (1 byte), stream (4), length (2), payload. Numbers are big-endian.
//!
//! `src/nqrust/contract/guest.py` is the host's side. A zero byte where a frame begins is padding: the host fills up half a
//! frame of an earlier connection with it.

use std::io::{self, Read};

pub const VERSION: u8 = 1;
pub const HEADER: usize = 7;
pub const MAX_PAYLOAD: usize = 32 * 1024;
/// Bytes that either side may send on a stream before it got credit for more. Standard output and error share one window.
pub const WINDOW: usize = 256 * 1024;
pub const NONCE: usize = 16;

pub const HELLO: u8 = 1;
pub const WELCOME: u8 = 2;
pub const BOOT: u8 = 3;
pub const EXEC: u8 = 4;
pub const STARTED: u8 = 5;
pub const STDIN: u8 = 6;
pub const STDOUT: u8 = 7;
pub const STDERR: u8 = 8;
pub const CREDIT: u8 = 9;
pub const RESIZE: u8 = 10;
pub const SIGNAL: u8 = 11;
pub const EXIT: u8 = 12;
pub const ERROR: u8 = 13;
pub const CLOSE: u8 = 14;

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn encode(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    debug_assert!(kind != 0 && payload.len() <= MAX_PAYLOAD);
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.push(kind);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The next frame. An error of kind UnexpectedEof is the end of the connection, InvalidData a frame that is too long.
pub fn read(from: &mut impl Read) -> io::Result<Frame> {
    let mut header = [0u8; HEADER];
    while header[0] == 0 {
        from.read_exact(&mut header[..1])?;
    }
    from.read_exact(&mut header[1..])?;
    let stream = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    let length = usize::from(u16::from_be_bytes([header[5], header[6]]));
    if length > MAX_PAYLOAD {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a frame is too long",
        ));
    }
    let mut payload = vec![0u8; length];
    from.read_exact(&mut payload)?;
    Ok(Frame {
        kind: header[0],
        stream,
        payload,
    })
}

/// Two numbers of 16 bits: rows and columns.
pub fn size(payload: &[u8]) -> Option<(u16, u16)> {
    match payload {
        [a, b, c, d] => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
        _ => None,
    }
}

pub fn number(payload: &[u8]) -> Option<u32> {
    match payload {
        [a, b, c, d] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_with_padding_before_it() {
        let mut bytes = vec![0u8; 3];
        bytes.extend(encode(EXEC, 7, b"abc"));
        bytes.extend(encode(STDIN, u32::MAX, &vec![9u8; MAX_PAYLOAD]));
        let mut from = &bytes[..];
        let first = read(&mut from).unwrap();
        assert_eq!(
            (first.kind, first.stream, &first.payload[..]),
            (EXEC, 7, &b"abc"[..])
        );
        let second = read(&mut from).unwrap();
        assert_eq!(
            (second.stream, second.payload.len()),
            (u32::MAX, MAX_PAYLOAD)
        );
        assert_eq!(
            read(&mut from).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn too_long_and_half() {
        let mut long = encode(STDIN, 1, b"");
        long[5] = 0xff;
        assert_eq!(
            read(&mut &long[..]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        let whole = encode(STDIN, 1, b"abcd");
        for end in 0..whole.len() {
            assert_eq!(
                read(&mut &whole[..end]).unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof
            );
        }
    }

    #[test]
    fn padding_completes_half_a_frame_wherever_it_was_cut() {
        let whole = encode(STDIN, 1, &vec![5u8; MAX_PAYLOAD]);
        for end in [1, 2, 6, 7, 8, MAX_PAYLOAD, whole.len() - 1] {
            let mut bytes = whole[..end].to_vec();
            bytes.extend(vec![0u8; HEADER + MAX_PAYLOAD]);
            bytes.extend(encode(HELLO, 0, b"x"));
            let mut from = &bytes[..];
            assert_ne!(read(&mut from).unwrap().kind, HELLO);
            assert_eq!(read(&mut from).unwrap().kind, HELLO, "{end}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(size(&[0, 24, 0, 80]), Some((24, 80)));
        assert_eq!(size(&[0, 24, 0]), None);
        assert_eq!(number(&[0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[]), None);
    }
}
