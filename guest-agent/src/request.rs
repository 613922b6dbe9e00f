//! What is to run: fields of tag (1 byte), length (2 bytes, big-endian) and value. Values are bytes, as the kernel takes them.
//!
//! `a` argument, `e` NAME=VALUE, `d` working directory, `t` terminal (rows and columns, 2 bytes each), `l` login shell.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::frames;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    pub directory: Option<OsString>,
    pub terminal: Option<(u16, u16)>,
    pub login_shell: bool,
}

impl Request {
    /// Returns the request, or why it is none.
    pub fn parse(mut rest: &[u8]) -> Result<Request, &'static str> {
        let mut request = Request::default();
        while let [tag, high, low, tail @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if length > tail.len() {
                return Err("a field is longer than the request");
            }
            let (value, following) = tail.split_at(length);
            rest = following;
            if value.contains(&0) && *tag != b't' {
                return Err("a text holds a zero byte");
            }
            let text = || OsString::from_vec(value.to_vec());
            match tag {
                b'a' => request.arguments.push(text()),
                b'e' => {
                    let at = value.iter().position(|byte| *byte == b'=').unwrap_or(0);
                    if at == 0 {
                        return Err("a variable is not NAME=VALUE");
                    }
                    let name = OsString::from_vec(value[..at].to_vec());
                    let content = OsString::from_vec(value[at + 1..].to_vec());
                    request.environment.push((name, content));
                }
                b'd' => request.directory = Some(text()),
                b't' => {
                    request.terminal =
                        Some(frames::size(value).ok_or("a terminal has rows and columns")?)
                }
                b'l' => request.login_shell = true,
                _ => return Err("this guest agent does not know a field of the request"),
            }
        }
        if !rest.is_empty() {
            return Err("the request ends within a field");
        }
        if request.arguments.first().map_or(true, |a| a.is_empty()) != request.login_shell {
            return Err("a request has a command or asks for the login shell");
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(tag: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
        bytes
    }

    #[test]
    fn a_whole_request() {
        let bytes = [
            field(b'a', b"ls"),
            field(b'a', b"-l \xff"),
            field(b'e', b"A=b=c"),
            field(b'd', b"/tmp"),
            field(b't', &[0, 24, 0, 80]),
        ]
        .concat();
        let request = Request::parse(&bytes).unwrap();
        assert_eq!(request.arguments.len(), 2);
        assert_eq!(request.environment, [("A".into(), "b=c".into())]);
        assert_eq!(request.directory, Some("/tmp".into()));
        assert_eq!(request.terminal, Some((24, 80)));
        assert!(Request::parse(&field(b'l', b"")).unwrap().login_shell);
    }

    #[test]
    fn what_is_none() {
        for bytes in [
            vec![],
            field(b'a', b""),
            field(b'a', b"a\0b"),
            field(b'z', b"x"),
            [field(b'a', b"ls"), field(b'e', b"novalue")].concat(),
            [field(b'a', b"ls"), field(b'e', b"=x")].concat(),
            [field(b'a', b"ls"), field(b't', b"x")].concat(),
            [field(b'a', b"ls"), field(b'l', b"")].concat(),
            vec![b'a', 0],
            vec![b'a', 0, 9, b'x'],
        ] {
            assert!(Request::parse(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..(seed % 40) {
                seed = seed
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                bytes.push(b"adelt\0\x01\x02=x"[(seed >> 33) as usize % 10]);
            }
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let _ = Request::parse(&bytes);
        }
    }
}
