//! The numbers and byte layouts of FastCGI 1.0, in one place. Pure: no input or output.
//!
//! Section numbers are those of the *FastCGI Specification*, version 1.0 (Open Market, 29 April 1996).

use std::fmt;

/// `FCGI_VERSION_1` (section 8).
pub const VERSION: u8 = 1;
/// Size of a record's header (section 3.3).
pub const HEADER_BYTES: usize = 8;
/// The longest content of a record that is written here: a multiple of eight, so that it needs no padding. A header
/// counts 16 bits (section 3.3).
pub const MAX_CONTENT_BYTES: usize = 65_528;
/// Records are aligned to multiples of this (section 3.3 recommends it).
pub const ALIGNMENT_BYTES: usize = 8;
/// The request id of management records (section 3.3).
pub const NULL_REQUEST_ID: u16 = 0;
/// `FCGI_KEEP_CONN`, a bit of the flags in `FCGI_BEGIN_REQUEST` (section 5.1).
pub const KEEP_CONNECTION: u8 = 1;
/// Content of `FCGI_BEGIN_REQUEST`, `FCGI_END_REQUEST` and `FCGI_UNKNOWN_TYPE` (sections 5.1, 5.5, 4.2).
pub const BODY_BYTES: usize = 8;

/// The types of records (section 8).
pub mod kind {
    /// `FCGI_BEGIN_REQUEST` (section 5.1).
    pub const BEGIN_REQUEST: u8 = 1;
    /// `FCGI_ABORT_REQUEST` (section 5.4).
    pub const ABORT_REQUEST: u8 = 2;
    /// `FCGI_END_REQUEST` (section 5.5).
    pub const END_REQUEST: u8 = 3;
    /// `FCGI_PARAMS` (section 5.2).
    pub const PARAMS: u8 = 4;
    /// `FCGI_STDIN` (section 5.3).
    pub const STDIN: u8 = 5;
    /// `FCGI_STDOUT` (section 5.3).
    pub const STDOUT: u8 = 6;
    /// `FCGI_STDERR` (section 5.3).
    pub const STDERR: u8 = 7;
    /// `FCGI_DATA` (section 5.3).
    pub const DATA: u8 = 8;
    /// `FCGI_GET_VALUES` (section 4.1).
    pub const GET_VALUES: u8 = 9;
    /// `FCGI_GET_VALUES_RESULT` (section 4.1).
    pub const GET_VALUES_RESULT: u8 = 10;
    /// `FCGI_UNKNOWN_TYPE` (section 4.2).
    pub const UNKNOWN_TYPE: u8 = 11;
}

/// What a web server wants of a request's application (section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Produces a response (section 6.2).
    Responder,
    /// Decides whether a request is allowed (section 6.3).
    Authorizer,
    /// Produces a response out of a request and a file (section 6.4).
    Filter,
}

impl Role {
    /// The role of a number (section 5.1); none if the specification has no such role.
    pub fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Responder),
            2 => Some(Self::Authorizer),
            3 => Some(Self::Filter),
            _ => None,
        }
    }
}

/// How a request ended, in the terms of the protocol (section 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolStatus {
    /// `FCGI_REQUEST_COMPLETE`.
    RequestComplete = 0,
    /// `FCGI_CANT_MPX_CONN`: this application takes one request at a time over a connection.
    CantMultiplex = 1,
    /// `FCGI_OVERLOADED`.
    Overloaded = 2,
    /// `FCGI_UNKNOWN_ROLE`.
    UnknownRole = 3,
}

/// A peer broke the protocol. Its connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// Another version than 1.
    Version(u8),
    /// A record that only applications send.
    Direction(u8),
    /// A record that belongs to a request, with the request id of management records.
    RequestId(u8),
    /// A record whose content has another length than the specification gives it.
    Length(u8),
    /// `FCGI_BEGIN_REQUEST` for a request that is in flight already.
    BegunTwice,
    /// Input before the end of the parameters.
    InputTooEarly,
    /// A name or value that is longer than what holds it.
    Pairs,
    /// More bytes of parameters than the limit, which is given.
    ParamsTooLong(usize),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(formatter, "FastCGI version {version} instead of 1"),
            Self::Direction(kind) => write!(formatter, "a record of type {kind}, which only applications send"),
            Self::RequestId(kind) => write!(formatter, "a record of type {kind} without a request id"),
            Self::Length(kind) => write!(formatter, "a record of type {kind} with a wrong length"),
            Self::BegunTwice => formatter.write_str("a request that begins twice"),
            Self::InputTooEarly => formatter.write_str("input before the end of the parameters"),
            Self::Pairs => formatter.write_str("a parameter that is longer than all of them"),
            Self::ParamsTooLong(limit) => write!(formatter, "more than {limit} bytes of parameters"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// The header of a record (section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// One of [`kind`], or a type that the specification does not have.
    pub kind: u8,
    /// The request; [`NULL_REQUEST_ID`]: the application as a whole.
    pub request_id: u16,
    /// Bytes of content that follow.
    pub content_bytes: u16,
    /// Bytes after that, which mean nothing.
    pub padding_bytes: u8,
}

impl Header {
    /// Reads a header.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, ProtocolError> {
        let [version, kind, id_high, id_low, content_high, content_low, padding_bytes, _reserved] = bytes;
        if version != VERSION {
            return Err(ProtocolError::Version(version));
        }
        Ok(Self {
            kind,
            request_id: u16::from_be_bytes([id_high, id_low]),
            content_bytes: u16::from_be_bytes([content_high, content_low]),
            padding_bytes,
        })
    }

    /// Writes a header.
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let [id_high, id_low] = self.request_id.to_be_bytes();
        let [content_high, content_low] = self.content_bytes.to_be_bytes();
        [VERSION, self.kind, id_high, id_low, content_high, content_low, self.padding_bytes, 0]
    }
}

/// The header of a record with this many bytes of content, up to [`MAX_CONTENT_BYTES`], padded.
pub fn header(kind: u8, request_id: u16, content_bytes: usize) -> Header {
    let content_bytes = content_bytes.min(MAX_CONTENT_BYTES);
    Header {
        kind,
        request_id,
        content_bytes: content_bytes as u16,
        padding_bytes: (content_bytes.next_multiple_of(ALIGNMENT_BYTES) - content_bytes) as u8,
    }
}

/// Appends a record; content beyond [`MAX_CONTENT_BYTES`] is left out.
pub fn push_record(out: &mut Vec<u8>, kind: u8, request_id: u16, content: &[u8]) {
    let header = header(kind, request_id, content.len());
    out.extend_from_slice(&header.encode());
    out.extend(content.iter().take(header.content_bytes.into()));
    out.resize(out.len() + usize::from(header.padding_bytes), 0);
}

/// Appends `FCGI_END_REQUEST` (section 5.5).
pub fn push_end_request(out: &mut Vec<u8>, request_id: u16, app_status: u32, status: ProtocolStatus) {
    let [a, b, c, d] = app_status.to_be_bytes();
    push_record(out, kind::END_REQUEST, request_id, &[a, b, c, d, status as u8, 0, 0, 0]);
}

/// Appends `FCGI_UNKNOWN_TYPE` (section 4.2).
pub fn push_unknown_type(out: &mut Vec<u8>, unknown: u8) {
    push_record(out, kind::UNKNOWN_TYPE, NULL_REQUEST_ID, &[unknown, 0, 0, 0, 0, 0, 0, 0]);
}

/// Appends a name-value pair (section 3.4). Lengths beyond 31 bits do not occur: callers pass short ones.
pub fn push_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for length in [name.len(), value.len()] {
        match u8::try_from(length) {
            Ok(short) if short < 0x80 => out.push(short),
            _ => out.extend_from_slice(&(length as u32 | 0x8000_0000).to_be_bytes()),
        }
    }
    out.extend_from_slice(name);
    out.extend_from_slice(value);
}

/// The name-value pairs in some bytes (section 3.4); after an error there are no more.
#[derive(Debug, Clone)]
pub struct Pairs<'a> {
    rest: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// Reads pairs.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn length(&mut self) -> Option<usize> {
        let (&first, rest) = self.rest.split_first()?;
        if first < 0x80 {
            self.rest = rest;
            return Some(first.into());
        }
        let (bytes, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        usize::try_from(u32::from_be_bytes(*bytes) & 0x7fff_ffff).ok()
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    fn pair(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let (name, value) = (self.length()?, self.length()?);
        Some((self.bytes(name)?, self.bytes(value)?))
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let pair = self.pair().ok_or(ProtocolError::Pairs);
        if pair.is_err() {
            self.rest = &[];
        }
        Some(pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_padded_to_eight_bytes() {
        for length in [0, 1, 7, 8, 9, 65_527, 65_528] {
            let mut out = Vec::new();
            push_record(&mut out, kind::STDOUT, 258, &vec![b'x'; length]);
            assert_eq!(out.len() % ALIGNMENT_BYTES, 0);
            let header = Header::decode(*out.first_chunk().unwrap()).unwrap();
            assert_eq!((header.kind, header.request_id, usize::from(header.content_bytes)), (6, 258, length));
            assert_eq!(out.len(), HEADER_BYTES + length + usize::from(header.padding_bytes));
        }
    }

    #[test]
    fn pairs_are_read_as_they_are_written() {
        let long = vec![b'v'; 70_000];
        let mut out = Vec::new();
        let pairs: [(&[u8], &[u8]); 4] = [(b"", b""), (b"A", b""), (b"caf\xe9", &long), (b"B", &[b'w'; 128])];
        for (name, value) in pairs {
            push_pair(&mut out, name, value);
        }
        assert_eq!(Pairs::new(&out).collect::<Result<Vec<_>, _>>().unwrap(), pairs);
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let lies: [&[u8]; 7] = [
            b"\x01",
            b"\x7f\x01XY",
            b"\x01\x7fXY",
            b"\x80",
            b"\xff\xff",
            b"\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\0\x80",
        ];
        for bytes in lies {
            assert_eq!(Pairs::new(bytes).collect::<Vec<_>>(), [Err(ProtocolError::Pairs)], "{bytes:?}");
        }
    }
}
